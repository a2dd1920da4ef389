"""Lensed sources put around real galaxies: the image stays the survey's own, the arc alone is a simulation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.physics import bands, psf
from lensjax.sims import canvas as canvases
from lensjax.sims import galaxies, render
from lensjax.sims.draws import grz
from lensjax.sims.lenses import brighten

WINDOW = 1.5  # arcsec: of the light whose shape is measured
TRUTH = ("theta_e", "source_x", "source_y", "source_re", "source_mag", "magnification", "arc_snr")
TRUTH += ("lens_e1", "lens_e2", "gamma1", "gamma2")


def make_arcs(sim, size: int) -> Callable[..., dict[str, jax.Array]]:
    """arcs(key, image, psfsize, noise, ebv) -> image with an arc, by the laws of `sim` (config.sim).

    image: (size, size, 3) nanomaggies in g, r, z, the galaxy in its centre. psfsize: (3,) FWHM, arcsec; noise: (3,)
    nanomaggies a pixel; ebv: () E(B-V) of the dust before the galaxy. The mass's Einstein radius and shear are drawn by
    sim.deflector; its ellipticity is that of the galaxy's light, measured in the image. The arc is dimmed by the dust
    and blurred by the PSF, and gets photon noise of its own; the rest of the noise is in the image. Returns image and
    the truth, scalars named in TRUTH.
    """
    canvas = canvases.make_canvas(size, sim.supersample, sim.margin)
    sky = jnp.asarray(bands.flux(np.asarray(sim.sky)) * bands.PIXEL**2, jnp.float32)

    def arcs(
        key: jax.Array, image: jax.Array, psfsize: jax.Array, noise: jax.Array, ebv: jax.Array
    ) -> dict[str, jax.Array]:
        keys = jax.random.split(key, 4)
        _, mass, _ = galaxies.draw_deflector(keys[0], sim)
        e1, e2 = measure_ellipticity(image[..., -1], psfsize[-1], sim.deflector.axis_ratio[0])
        mass = mass._replace(e1=e1, e2=e2)
        source, light = galaxies.draw_source(keys[1], sim, mass.theta_e)
        unit = render.draw_shape(canvas, jnp.zeros(2), source, mass, True)
        blurring = psf.transfer(sim.psf_shape, psfsize[:, None, None], canvas.frequency[None])
        arc = unit[None] * blurring
        flux = grz(light["mag"], light["gr"], light["rz"]) * bands.transmission(ebv)
        boost, snr = brighten(jax.random.uniform(keys[2]), canvas, arc, flux, noise, sim.source.min_snr)
        light_map = canvases.blur(canvas, arc * (flux * boost)[:, None, None])
        photons = noise[:, None, None] * jnp.sqrt(jnp.maximum(light_map, 0) / sky[:, None, None])
        added = light_map + photons * jax.random.normal(keys[3], light_map.shape)
        truth = (mass.theta_e, source.x, source.y, source.re, light["mag"] - 2.5 * jnp.log10(boost), unit[0, 0].real)
        truth += (snr, mass.e1, mass.e2, mass.gamma1, mass.gamma2)
        return {"image": image + jnp.moveaxis(added, 0, -1), **dict(zip(TRUTH, truth, strict=True))}

    return arcs


def measure_ellipticity(plane: jax.Array, psfsize: jax.Array, least_ratio: float) -> tuple[jax.Array, jax.Array]:
    """(e1, e2) of the light in the centre of an image (S, S), from moments under a Gaussian window of 1.5 arcsec.

    The window's and the PSF's own shares are taken out, as for Gaussians; axis ratios end at least_ratio.
    """
    axis = (np.arange(plane.shape[0]) - (plane.shape[0] - 1) / 2).astype(np.float32) * np.float32(bands.PIXEL)
    x, y = axis[None, :], axis[:, None]
    window = np.exp(-0.5 * (x**2 + y**2) / WINDOW**2).astype(np.float32)
    weight = jnp.maximum(plane, 0) * window
    total = jnp.maximum(weight.sum(), 1e-9)
    xx, yy, xy = ((weight * product).sum() / total for product in (x * x, y * y, x * y))
    observed = jnp.array([[xx, xy], [xy, yy]]) + 1e-4 * np.eye(2, dtype=np.float32)
    eye = np.eye(2, dtype=np.float32)
    inverse = jnp.linalg.inv(observed) - eye / np.float32(WINDOW**2)
    spread, axes = jnp.linalg.eigh(inverse)
    variance = 1 / jnp.maximum(spread, 0.05) - (psfsize / np.float32(bands.FWHM)) ** 2
    major, minor = (jnp.maximum(v, 0.02) for v in (variance[0], variance[1]))
    ratio = jnp.clip(jnp.sqrt(minor / major), least_ratio, 1.0)
    c = (1 - ratio) / (1 + ratio)
    cos, sin = axes[0, 0], axes[1, 0]
    return c * (cos**2 - sin**2), c * 2 * cos * sin
