"""Mock g, r, z cutouts of strong lenses and of what looks like them, with the truth of each.

`make_simulator(config)` returns `simulate(key)`: one cutout, a pure function of the key; the caller vmaps. A lens is a
singular isothermal ellipsoid with external shear before a clumpy Sersic galaxy, and a red Sersic galaxy in front;
every fainter thing around it, and every other kind of object, is drawn by the same laws with and without an arc.
One rendering serves all kinds: a bulge on the whole canvas, and a shape (source, disc, ring, tail) at mapped places.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.physics import bands, psf
from lensjax.sims import canvas as canvases
from lensjax.sims import galaxies, render
from lensjax.sims.canvas import Canvas
from lensjax.sims.draws import between, draw, grz, lognormal
from lensjax.sims.galaxies import Galaxies, Mass, Shape


def make_simulator(config) -> Callable[[jax.Array], dict[str, jax.Array]]:
    """One-example simulator of `config.sim` for images of `config.data.size` pixels.

    Returns `simulate(key)` -> dict of float32: image (S, S, 3) nanomaggies a pixel in g, r, z, 0.262" pixels, rows
    along y; psfsize (3,) FWHM in arcsec; noise (3,) nanomaggies a pixel of empty sky; ebv () E(B-V); mag (3,) of the
    central galaxy, without its arc, as the catalogue has it; label (1 lens), kind (index in `galaxies.KINDS`).
    Truth, 0 unless it is a lens: theta_e, source_x, source_y (arcsec from the deflector), source_re, source_mag (r,
    unlensed, before dust), magnification (of its flux), arc_snr (best band), lens_e1, lens_e2, gamma1, gamma2; z_lens,
    the redshift of a red galaxy; centre_x, centre_y, where the object is, arcsec from the image's centre. For the
    oracle: clean (S, S, 3), the image without noise.
    """
    sim = config.sim
    canvas = canvases.make_canvas(config.data.size, sim.supersample, sim.margin)
    sky = jnp.asarray(bands.flux(np.asarray(sim.sky)) * bands.PIXEL**2, jnp.float32)

    def simulate(key: jax.Array) -> dict[str, jax.Array]:
        keys = jax.random.split(key, 5)
        seeing = draw_conditions(keys[0], sim)
        scene, truth = draw_scene(keys[1], sim, canvas.size * bands.PIXEL / 2)
        others, shape = observe(canvas, scene, seeing, sim.psf_shape)
        u = jax.random.uniform(keys[2])
        boost, snr = brighten(u, canvas, shape, scene.shape_flux, seeing["noise"], sim.source.min_snr)
        flux = scene.shape_flux * jnp.where(scene.lens, boost, 1.0)
        clean = canvases.blur(canvas, others + flux[:, None, None] * shape)
        magnification = shape[0, 0, 0].real / bands.transmission(seeing["ebv"])[0]
        found = {"magnification": magnification, "arc_snr": snr, "boost": 2.5 * jnp.log10(boost)}
        truth |= {name: jnp.where(scene.lens, value, 0.0) for name, value in found.items()}
        # of other shapes than a lens's this is the share that is drawn: a large disc ends where its map does
        truth["flux"] -= jnp.where(scene.lens, 0.0, scene.shape_flux * (1 - magnification))
        level = sim.sky_error * seeing["noise"] * jax.random.normal(keys[3], (3,))
        image = canvases.add_noise(keys[4], clean, seeing["noise"], sky) + level[:, None, None]
        truth["source_mag"] -= truth.pop("boost")
        truth["mag"] = bands.mag(truth.pop("flux") * bands.transmission(seeing["ebv"]))
        images = {"image": jnp.moveaxis(image, 0, -1), "clean": jnp.moveaxis(clean, 0, -1)}
        return images | seeing | truth

    return simulate


class Scene(NamedTuple):
    """One field of view: what render and canvas need to know.

    centre: x, y of the central galaxy, arcsec. bulge: it. shape, shape_flux (3,): the lensed source where `lens`, else
    what goes with the bulge; mass: what it is lensed by. companions, field: other galaxies, with the pixels of their
    stamps; stars: x, y (N,), flux (N, 3).
    """

    lens: jax.Array
    centre: jax.Array
    bulge: Galaxies
    mass: Mass
    shape: Shape
    shape_flux: jax.Array
    companions: tuple[Galaxies, int]
    field: tuple[Galaxies, int]
    stars: tuple[jax.Array, jax.Array, jax.Array]


def draw_conditions(key, sim) -> dict[str, jax.Array]:
    """psfsize (3,) FWHM in arcsec, noise (3,) nanomaggies a pixel, ebv ()."""
    _, g = draw(key, 7)
    return {
        "psfsize": lognormal(sim.psf, g[:3]) * np.float32(bands.PIXEL * bands.FWHM),
        "noise": lognormal(sim.noise, g[3:6]),
        "ebv": lognormal(sim.ebv, g[6]),
    }


def draw_scene(key, sim, half: float) -> tuple[Scene, dict[str, jax.Array]]:
    """A field of view that reaches `half` arcsec each way, and its truth; flux (3,) is the central galaxy's."""
    keys = jax.random.split(key, 8)
    kind = galaxies.draw_kind(keys[0], sim)
    lens, star = kind == galaxies.LENS, kind == galaxies.STAR
    red = lens | (kind == galaxies.RED) | (kind == galaxies.BLEND)
    centre = between((-sim.offset, sim.offset), jax.random.uniform(keys[1], (2,)))
    deflector, mass, central = galaxies.draw_deflector(keys[2], sim)
    source, light = galaxies.draw_source(keys[3], sim, mass.theta_e)
    core, around, disc = galaxies.draw_lookalike(keys[4], sim, kind)

    bulge = jax.tree.map(lambda a, b: jnp.where(red, a, b), deflector, core)
    bulge = bulge._replace(x=centre[0], y=centre[1], flux=jnp.where(star, 0.0, bulge.flux))
    disc = jnp.where(red | star, 0.0, disc)
    companions = galaxies.draw_companions(keys[5], sim, kind, central)
    companions = companions._replace(x=companions.x + centre[0], y=companions.y + centre[1])
    stars = galaxies.draw_stars(keys[6], sim, half, star)
    scene = Scene(
        lens, centre, bulge, mass, jax.tree.map(lambda a, b: jnp.where(lens, a, b), source, around),
        jnp.where(lens, grz(light["mag"], light["gr"], light["rz"]), disc), (companions, sim.field.member_stamp),
        (galaxies.draw_field(keys[7], sim, half), sim.field.stamp), stars,
    )  # fmt: skip
    truth = {
        "theta_e": mass.theta_e, "lens_e1": mass.e1, "lens_e2": mass.e2, "gamma1": mass.gamma1, "gamma2": mass.gamma2,
        "source_x": source.x, "source_y": source.y, "source_re": source.re, "source_mag": light["mag"],
    }  # fmt: skip
    truth = {name: jnp.where(lens, value, 0.0) for name, value in truth.items()}
    truth |= {"label": lens.astype(jnp.float32), "kind": kind.astype(jnp.float32)}
    centre_x, centre_y = jnp.where(star, 0.0, centre)  # where a central star is
    truth |= {"centre_x": centre_x, "centre_y": centre_y, "z_lens": jnp.where(red, central["redshift"], 0.0)}
    return scene, truth | {"flux": jnp.where(star, stars[2][0], bulge.flux + disc)}


def observe(canvas: Canvas, scene: Scene, seeing, psf_shape: str) -> tuple[jax.Array, jax.Array]:
    """Spectra (3, m, m // 2 + 1), blurred and reddened: of all but the shape, and of a shape of unit flux."""
    blurring = psf.transfer(psf_shape, seeing["psfsize"][:, None, None], canvas.frequency[None])
    response = blurring * bands.transmission(seeing["ebv"])[:, None, None]
    others = canvases.spectrum(canvas, render.draw_galaxies(canvas, scene.companions, scene.field))
    middle = canvases.spectrum(canvas, render.draw_bulge(canvas, scene.bulge))
    groups = (jax.tree.map(lambda value: value[None], scene.bulge), scene.companions[0], scene.field[0])
    points = [(*scene.stars, jnp.zeros_like(scene.stars[0])), *(render.core(canvas, group) for group in groups)]
    others += canvases.points(canvas, *(jnp.concatenate(parts) for parts in zip(*points, strict=True)))
    others += scene.bulge.flux[:, None, None] * middle[None]
    shape = render.draw_shape(canvas, scene.centre, scene.shape, scene.mass, scene.lens)
    return others * response, shape[None] * response


def brighten(
    u, canvas: Canvas, arc: jax.Array, flux: jax.Array, noise: jax.Array, limits
) -> tuple[jax.Array, jax.Array]:
    """Factor, at least 1, that makes an arc one that can be found, and its signal-to-noise ratio with it.

    The ratio is that of a matched filter in the best band; u, a uniform number, draws the least one from `limits`.
    arc: blurred spectra (3, m, m // 2 + 1) of unit flux; flux (3,); noise (3,), nanomaggies a pixel.
    """
    snr = jnp.max(flux * jnp.sqrt(canvases.power(canvas, arc)) / noise)
    boost = jnp.maximum(between(limits, u) / snr, 1.0)
    return boost, snr * boost
