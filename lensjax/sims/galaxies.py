"""Draws of mock galaxies: red ones with what their mass does, look-alikes, and the field around. One object a call.

All positions and lengths are arcsec, fluxes nanomaggies in g, r, z before dust. `sim` is config.sim.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.physics.lensing import ellipticity
from lensjax.sims.draws import annulus, between, blue_colours, choose, counts, draw, grz, normal, polar

LENS, RED, RING, SPIRAL, MERGER, EDGE, BLEND, STAR = range(8)
CLUMP_SPREAD = 0.7  # of the effective radius: scatter of the clumps about the centre
NEAR = 3  # most blue galaxies of a blend
KINDS = ("lens", "red galaxy", "ring", "spiral", "merger", "edge-on", "blend", "star")


class Galaxies(NamedTuple):
    """Sersic galaxies: () or (N,) each, flux (..., 3)."""

    x: jax.Array
    y: jax.Array
    re: jax.Array
    n: jax.Array
    e1: jax.Array
    e2: jax.Array
    flux: jax.Array


class Mass(NamedTuple):
    """Singular isothermal ellipsoid and external shear of a deflector."""

    theta_e: jax.Array
    e1: jax.Array
    e2: jax.Array
    gamma1: jax.Array
    gamma2: jax.Array


class Shape(NamedTuple):
    """What is drawn beside the bulge: a lensed source in its own plane, or a disc, a ring, a tail; scalars.

    q, phi: axis ratio and position angle. ring, width: radius, 0 for none, and thickness. arms, number, winding, phase:
    concentration, count, d phase / d ln radius and start of spiral arms. bend: curvature of a tail, per arcsec.
    clumps: share of the light in two clumps of `clump` arcsec at clump_x, clump_y (2,), along the axes.
    """

    x: jax.Array
    y: jax.Array
    re: jax.Array
    n: jax.Array
    q: jax.Array
    phi: jax.Array
    ring: jax.Array
    width: jax.Array
    arms: jax.Array
    number: jax.Array
    winding: jax.Array
    phase: jax.Array
    bend: jax.Array
    clumps: jax.Array
    clump: jax.Array
    clump_x: jax.Array
    clump_y: jax.Array


def draw_deflector(key, sim) -> tuple[Galaxies, Mass, dict[str, jax.Array]]:
    """A red galaxy at the origin, its mass, and what its surroundings depend on: redshift, mag_z, gr, rz."""
    law = sim.deflector
    u, g = draw(key, 14)
    redshift = jnp.clip(normal((law.redshift_mean, law.redshift_scatter), g[0]), *law.redshift)
    at = np.asarray(law.sequence_redshift, np.float32)
    gr, rz, mag = (
        jnp.interp(redshift, at, np.asarray(law[f"sequence_{name}"], np.float32)) for name in ("gr", "rz", "z")
    )
    gr, rz = gr + law.colour_scatter * g[1], rz + law.colour_scatter * g[2]
    mag = jnp.clip(mag + law.mag_scatter * g[3], *law.mag)
    bright = 10 ** (-0.1 * (mag - law.re_mag))
    re = law.re * bright**2 * jnp.exp(law.re_scatter * g[4])
    theta_e = jnp.clip(law.theta_e_median * bright * jnp.exp(law.theta_e_scatter * g[5]), *law.theta_e)
    q, phi = between(law.axis_ratio, u[6]), jnp.pi * u[7]
    light = ellipticity(q, phi)
    mass_q = jnp.clip(q + law.mass_light[0] * g[8], *law.axis_ratio)
    mass = ellipticity(mass_q, phi + law.mass_light[1] * g[9])
    shear = polar(law.shear * jnp.sqrt(-2 * jnp.log(u[10])), u[11])
    zero = jnp.zeros(())
    galaxy = Galaxies(zero, zero, re, between(law.n, u[12]), *light, grz(mag + rz, gr, rz))
    return galaxy, Mass(theta_e, *mass, *shear), {"redshift": redshift, "mag": mag, "gr": gr, "rz": rz}


def draw_source(key, sim, theta_e) -> tuple[Shape, dict[str, jax.Array]]:
    """A galaxy behind the deflector, found through its arc, and its r magnitude and colours; unlensed."""
    law = sim.source
    u, g = draw(key, 15)
    re = between(law.re, u[0])
    x, y = polar(annulus(law.impact, u[1]) * theta_e, u[2])
    q, zero = between(law.axis_ratio, u[3]), jnp.zeros(())
    clump_x, clump_y = CLUMP_SPREAD * re * g[4:6] / jnp.sqrt(q), CLUMP_SPREAD * re * g[6:8] * jnp.sqrt(q)
    shape = Shape(
        x, y, re, between(law.n, u[8]), q, jnp.pi * u[9], zero, zero + 1, zero, zero, zero, zero, zero,
        law.clumps * u[10], between(law.clump_radius, u[11]), clump_x, clump_y,
    )  # fmt: skip
    gr, rz = normal(law.gr, g[12]), normal(law.rz, g[13])
    return shape, {"gr": gr, "rz": rz, "mag": between(law.mag, u[14])}


def draw_lookalike(key, sim, kind) -> tuple[Galaxies, Shape, jax.Array]:
    """Bulge, the shape around it, and the shape's flux (3,), of a ring, spiral, merger or edge-on galaxy."""
    law, merger = sim.lookalike, kind == MERGER
    keys = jax.random.split(key)
    u, g = draw(keys[0], 13)
    mag = counts(law.mag, law.slope, u[0])
    colours = [blue_colours(gr, sim.field.rz, *g[i : i + 2]) for gr, i in ((law.disc_gr, 1), (law.bulge_gr, 3))]
    disc, bulge = (grz(mag + rz, gr, rz) for gr, rz in colours)
    share = jnp.where(merger, 1 - between(law.tail, u[5]), between(law.bulge, u[5]))
    share = jnp.where(kind == RING, share + law.ring_bulge, share)
    near = 10 ** (-0.1 * (mag - law.mag[1]))  # the bright ones are near, and large
    re = between(law.re, u[6]) * jnp.where(merger, 1.0, near)
    q = between(law.axis_ratio, u[7])
    q = jnp.where(kind == EDGE, between(law.edge_ratio, u[7]), jnp.where(merger, between(law.tail_ratio, u[7]), q))
    phi = jnp.pi * u[8]
    shape = draw_pattern(keys[1], law, kind, re)._replace(
        x=jnp.where(merger, law.tail_offset * re * g[9], 0.0), y=jnp.where(merger, law.tail_offset * re * g[10], 0.0),
        re=re, n=jnp.ones(()), q=q, phi=phi,
    )  # fmt: skip
    bulge_re = jnp.where(merger, law.nucleus_re, law.bulge_re) * re
    bulge_q = jnp.where(kind == EDGE, between(law.edge_bulge_ratio, u[11]), jnp.sqrt(q))
    zero = jnp.zeros(())
    core = Galaxies(zero, zero, bulge_re, between(law.bulge_n, u[12]), *ellipticity(bulge_q, phi), share * bulge)
    return core, shape, (1 - share) * disc


def draw_pattern(key, law, kind, re) -> Shape:
    """Ring, arms, bend or clumps of a look-alike of that effective radius; its profile and place are left at 0."""
    u, g = draw(key, 12)
    zero, spiral = jnp.zeros(()), kind == SPIRAL
    ring = between(law.ring, u[0])
    turn = jnp.where(u[1] < 0.5, -1.0, 1.0)  # either sense, as often
    number = jnp.where(u[2] < law.two_arms, 2.0, 4.0)
    return Shape(
        zero, zero, zero, zero, zero, zero,
        ring=jnp.where(kind == RING, ring, 0.0), width=ring * between(law.ring_width, u[3]),
        arms=jnp.where(spiral, between(law.arms, u[4]), 0.0), number=number,
        winding=turn * 2 / jnp.tan(between(law.pitch, u[5])), phase=2 * jnp.pi * u[6],
        bend=jnp.where(kind == MERGER, between(law.bend, u[7]), 0.0),
        clumps=jnp.where(kind == RING, 0.0, law.clumps * u[8]), clump=law.clump_radius * re,
        clump_x=CLUMP_SPREAD * re * g[8:10], clump_y=CLUMP_SPREAD * re * g[10:12],
    )  # fmt: skip


def draw_companions(key, sim, kind, central) -> Galaxies:
    """Members of the group of a red galaxy; of a merger the other half, of a blend blue galaxies in place of the first.

    central: redshift, mag, gr, rz of the red galaxy.
    """
    keys = jax.random.split(key)
    members = draw_members(keys[0], sim, central)
    grouped = (kind == LENS) | (kind == RED) | (kind == BLEND)
    members = members._replace(flux=members.flux * grouped)
    near, second = draw_near(keys[1], sim, kind == MERGER)
    place = np.arange(sim.field.members)
    taken = ((kind == BLEND) & (place < NEAR) & ((place == 0) | second)) | ((kind == MERGER) & (place == 0))
    return jax.tree.map(lambda a, b: jnp.where(taken.reshape(-1, *[1] * (a.ndim - 1)), a, b), near, members)


def draw_members(key, sim, central) -> Galaxies:
    """Red galaxies around the central one, of which a random share is there, or none."""
    field, law = sim.field, sim.deflector
    num = field.members
    keys = jax.random.split(key)
    u, g = draw(keys[0], 8, num)
    richness = jax.random.uniform(keys[1], (2,))
    there = (u[0] < richness[0]) & (richness[1] < field.group_rate)
    step = between(field.member_mag, jnp.sqrt(u[1]))
    gr = central["gr"] - field.member_slope * step + law.colour_scatter * g[2]  # the red sequence is tilted
    flux = grz(central["mag"] + step + central["rz"], gr, jnp.full(num, central["rz"])) * there[:, None]
    x, y = polar(jnp.maximum(field.group_radius * jnp.sqrt(-2 * jnp.log(u[3])), field.member_distance), u[4])
    re = law.re * 10 ** (-0.15 * (central["mag"] + step - law.re_mag)) * jnp.exp(law.re_scatter * g[5])
    shape = ellipticity(between(law.axis_ratio, u[6]), jnp.pi * u[7])
    return Galaxies(x, y, jnp.clip(re, *field.member_re), jnp.full(num, field.member_n), *shape, flux)


def draw_near(key, sim, merger) -> tuple[Galaxies, jax.Array]:
    """Galaxies close to the centre: blue ones, or where `merger` as bright as it; bool (N,) of even odds."""
    field, law = sim.field, sim.lookalike
    num = field.members
    u, g = draw(key, 9, num)
    blue = grz(between(law.companion_mag, u[0]), *blue_colours(sim.source.gr, field.rz, g[1], g[2]))
    half = grz(counts(law.mag, law.slope, u[0]), *blue_colours(law.bulge_gr, field.rz, g[1], g[2]))
    x, y = polar(between(law.companion, u[3]), u[4])
    re = jnp.where(merger, law.nucleus_re, between(law.companion_re, u[5]))
    shape = ellipticity(between(field.axis_ratio, u[6]), jnp.pi * u[7])
    return Galaxies(x, y, re, jnp.ones(num), *shape, jnp.where(merger, half, blue)), u[8] < 0.5


def draw_field(key, sim, half: float) -> Galaxies:
    """Unrelated galaxies within `half` arcsec of the centre along either axis."""
    field = sim.field
    u, g = draw(key, 9, field.galaxies)
    mag = counts(field.mag, field.slope, u[0])
    flux = grz(mag, *blue_colours(field.gr, field.rz, g[1], g[2])) * (u[3] < field.galaxy_rate)[:, None]
    re = field.re * 10 ** (-0.1 * (mag - field.re_mag)) * jnp.exp(field.re_scatter * g[4])
    x, y = (between((-half, half), u[i]) for i in (5, 6))
    shape = ellipticity(between(field.axis_ratio, u[7]), jnp.pi * u[8])
    return Galaxies(x, y, re, jnp.ones_like(x), *shape, flux)


def draw_stars(key, sim, half: float, central) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x, y (N,), flux (N, 3) of stars on the stellar locus; the first is in the centre where `central`."""
    field = sim.field
    u, g = draw(key, 7, field.stars)
    first = (np.arange(field.stars) == 0) & central
    rank, *locus = (np.asarray(values, np.float32) for values in (field.star_rank, field.star_gr, field.star_rz))
    gr, rz = (
        jnp.interp(u[0], rank, colour) + field.star_scatter * noise
        for colour, noise in zip(locus, (g[1], g[5]), strict=True)
    )
    mag = jnp.where(first, between(sim.lookalike.star_mag, u[2]) + rz, counts(field.star_mag, field.star_slope, u[2]))
    taken = first | (u[6] < field.star_rate)
    x, y = (jnp.where(first, 0.0, between((-half, half), u[i])) for i in (3, 4))
    return x, y, grz(mag, gr, rz) * taken[:, None]


def draw_kind(key, sim) -> jax.Array:
    """LENS with probability lens_fraction, else one of the other kinds by their weights."""
    u = jax.random.uniform(key, (2,))
    return jnp.where(u[0] < sim.lens_fraction, LENS, RED + choose(sim.kinds, u[1]))
