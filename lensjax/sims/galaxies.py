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
    u, g = draw(key, 14)
    re = between(law.re, u[0])
    x, y = polar(annulus(law.impact, u[1]) * theta_e, u[2])
    q, zero = between(law.axis_ratio, u[3]), jnp.zeros(())
    place = re * jnp.stack([g[4:6] * jnp.sqrt(1 / q), g[6:8] * jnp.sqrt(q)]) * 0.7
    shape = Shape(
        x, y, re, between(law.n, u[8]), q, jnp.pi * u[9], zero, zero + 1, zero, zero, zero, zero, zero,
        law.clumps * u[10], between(law.clump_radius, u[11]), *place,
    )  # fmt: skip
    gr, rz = normal(law.gr, g[12]), normal(law.rz, g[13])
    return shape, {"gr": gr, "rz": rz, "mag": between(law.mag, jax.random.uniform(jax.random.fold_in(key, 1)))}


def draw_lookalike(key, sim, kind) -> tuple[Galaxies, Shape, jax.Array]:
    """Bulge, the shape around it, and the shape's flux (3,), of a ring, spiral, merger or edge-on galaxy."""
    law = sim.lookalike
    u, g = draw(key, 27)
    mag = counts(law.mag, 0.3, u[0])
    colours = [blue_colours(gr, sim.field.rz, *g[i : i + 2]) for gr, i in ((law.disc_gr, 1), (law.bulge_gr, 3))]
    disc, bulge = (grz(mag + rz, gr, rz) for gr, rz in colours)
    share = jnp.where(kind == MERGER, 1 - between(law.tail, u[5]), between(law.bulge, u[5]))
    share = jnp.where(kind == RING, 0.25 + share, share)
    size = 10 ** (-0.1 * (mag - law.mag[1]))  # the bright ones are near
    re = between(law.re, u[6]) * size ** jnp.where(kind == MERGER, 0.0, 1.0)
    ring = between(law.ring, u[7])
    spiral = kind == SPIRAL
    q = jnp.where(kind == EDGE, between(law.edge_ratio, u[8]), between(law.axis_ratio, u[8]))
    q = jnp.where(kind == MERGER, 0.6 * q**2, q)  # a tail is long
    phi = jnp.pi * u[9]
    place = re * jnp.stack([g[10:12] * jnp.sqrt(1 / q), g[12:14] * jnp.sqrt(q)]) * 0.7
    zero = jnp.zeros(())
    shape = Shape(
        jnp.where(kind == MERGER, 0.5 * re * g[14], 0.0), jnp.where(kind == MERGER, 0.5 * re * g[15], 0.0),
        re, zero + 1.0, q, phi, jnp.where(kind == RING, ring, 0.0), ring * between(law.ring_width, u[16]),
        jnp.where(spiral, between(law.arms, u[17]), 0.0), jnp.where(u[18] < 0.75, 2.0, 4.0),
        2 / jnp.tan(between(law.pitch, u[19])) * jnp.where(u[20] < 0.5, -1.0, 1.0), 2 * jnp.pi * u[21],
        jnp.where(kind == MERGER, between(law.bend, u[22]), 0.0), 0.3 * u[23] * (kind != RING), 0.12 * re, *place,
    )  # fmt: skip
    small = jnp.where(kind == MERGER, 0.6, 0.3) * re
    bulge_q = jnp.where(kind == EDGE, between((0.5, 0.8), u[24]), jnp.sqrt(q))
    core = Galaxies(zero, zero, small, between((1.0, 3.0), u[25]), *ellipticity(bulge_q, phi), share * bulge)
    return core, shape, (1 - share) * disc


def draw_companions(key, sim, kind, central) -> Galaxies:
    """Members of the group of a red galaxy; of a merger the other half, of a blend blue galaxies in place of the first.

    central: redshift, mag, gr, rz of the red galaxy.
    """
    field, look = sim.field, sim.lookalike
    num = field.members
    u, g = draw(key, 12, num)
    v = jax.random.uniform(jax.random.fold_in(key, 1), (2,))
    taken = (u[0] < v[0]) & (v[1] < field.group_rate) & (kind != STAR)
    taken &= (kind == LENS) | (kind == RED) | (kind == BLEND)
    mag = central["mag"] + between(field.member_mag, jnp.sqrt(u[1]))
    red = grz(mag + central["rz"], central["gr"] + 0.06 * g[2] - 0.08, jnp.full(num, central["rz"]) - 0.04)
    x, y = polar(jnp.maximum(field.group_radius * jnp.sqrt(-2 * jnp.log(u[3])), 1.2), u[4])
    re = sim.deflector.re * 0.7 * 10 ** (-0.15 * (mag - sim.deflector.re_mag)) * jnp.exp(0.3 * g[5])

    blue = grz(between(look.companion_mag, u[6]), *blue_colours(sim.source.gr, field.rz, g[7], g[8]))
    half = grz(counts(look.mag, 0.3, u[9]) + 0.6, *blue_colours(look.bulge_gr, field.rz, g[7], g[8]))
    slot = np.arange(num)
    mine = ((kind == BLEND) & (slot < 3) & ((slot == 0) | (u[10] < 0.5))) | ((kind == MERGER) & (slot == 0))
    near_x, near_y = polar(between(look.companion, u[9]), u[4])
    near_re = jnp.where(kind == MERGER, 0.9, between((0.2, 0.6), u[5]))
    flux = jnp.where(mine[:, None], jnp.where(kind == MERGER, half, blue), red * taken[:, None])
    return Galaxies(
        jnp.where(mine, near_x, x), jnp.where(mine, near_y, y), jnp.where(mine, near_re, jnp.clip(re, 0.15, 1.2)),
        jnp.where(mine, 1.2, 3.0), *ellipticity(between((0.4, 1.0), u[11]), jnp.pi * u[2]), flux,
    )  # fmt: skip


def draw_field(key, sim, half: float) -> Galaxies:
    """Unrelated galaxies within `half` arcsec of the centre along either axis."""
    field = sim.field
    u, g = draw(key, 9, field.galaxies)
    mag = counts(field.mag, field.slope, u[0])
    flux = grz(mag, *blue_colours(field.gr, field.rz, g[1], g[2])) * (u[3] < field.galaxy_rate)[:, None]
    re = field.re * 10 ** (-0.1 * (mag - 23.0)) * jnp.exp(field.re_scatter * g[4])
    x, y = (between((-half, half), u[i]) for i in (5, 6))
    shape = ellipticity(between((0.3, 1.0), u[7]), jnp.pi * u[8])
    return Galaxies(x, y, re, jnp.ones_like(x), *shape, flux)


def draw_stars(key, sim, half: float, central) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x, y (N,), flux (N, 3) of stars on the stellar locus; the first is in the centre where `central`."""
    field = sim.field
    u, g = draw(key, 6, field.stars)
    first = (np.arange(field.stars) == 0) & central
    gr = jnp.interp(u[0], np.array(field.star_rank, np.float32), np.array(field.star_gr, np.float32)) + 0.04 * g[1]
    rz = jnp.interp(u[0], np.array(field.star_rank, np.float32), np.array(field.star_rz, np.float32)) + 0.03 * g[5]
    mag = jnp.where(first, between(sim.lookalike.star_mag, u[2]) + rz, counts(field.star_mag, 0.15, u[2]))
    taken = first | (u[5] < field.star_rate)
    x, y = (jnp.where(first, 0.0, between((-half, half), u[i])) for i in (3, 4))
    return x, y, grz(mag, gr, rz) * taken[:, None]


def draw_kind(key, sim) -> jax.Array:
    """LENS with probability lens_fraction, else one of the other kinds by their weights."""
    u = jax.random.uniform(key, (2,))
    return jnp.where(u[0] < sim.lens_fraction, LENS, RED + choose(sim.kinds, u[1]))
