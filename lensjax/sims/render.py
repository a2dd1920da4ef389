"""Draw galaxies on a canvas: surface brightness of one scene, in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import i0e

from lensjax.physics import lensing
from lensjax.sims import canvas as canvases
from lensjax.sims.canvas import Canvas
from lensjax.sims.galaxies import Galaxies, Mass, Shape

FADE = 0.2  # share of a stamp's half width over which it fades out
WIDEST = 0.4  # arcsec, of the Gaussians that make up for it
INNER = 72  # pixels, of the central square that the shape is drawn on: 9.4" each way
SOFTENING = 0.5  # samples: no profile is steeper in its centre; see `core`


def sersic_map(galaxy: Galaxies, x, y, pitch) -> jax.Array:
    """Surface brightness of one galaxy of unit flux, without its `core`, at x, y arcsec from its centre.

    pitch: arcsec between samples.
    """
    radius = lensing.elliptical_radius(x, y, galaxy.e1, galaxy.e2)
    return lensing.sersic(jnp.sqrt(radius**2 + (SOFTENING * pitch) ** 2), galaxy.re, galaxy.n)


def core(canvas: Canvas, group: Galaxies) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """x, y (N,), flux (N, 3) and Gaussian width (N,), arcsec, of what `sersic_map` leaves out of N galaxies.

    With e added to the radius in quadrature, a profile of unit flux lacks exactly the flux F within e, and in the
    integral of r^2 exactly e^2 (1 - F), and what the flux within e has. A Gaussian gives both back: to a PSF much
    wider than e it is the same.
    """
    softening = SOFTENING * pitch(canvas)
    share = lensing.sersic_enclosed(softening, group.re, group.n)
    width = jnp.minimum(softening * jnp.sqrt((1 - share) / (2 * share)), WIDEST)
    return group.x, group.y, share[:, None] * group.flux, width


def pitch(canvas: Canvas) -> np.float32:
    """Arcsec between the samples of a canvas."""
    return canvas.centres[1] - canvas.centres[0]


def draw_bulge(canvas: Canvas, galaxy: Galaxies) -> jax.Array:
    """Surface brightness (M, M) of one galaxy, of unit flux, on the whole canvas."""
    x, y = canvas.centres[None, :] - galaxy.x, canvas.centres[:, None] - galaxy.y
    return sersic_map(galaxy, x, y, pitch(canvas))


def draw_galaxies(canvas: Canvas, *groups: tuple[Galaxies, int]) -> jax.Array:
    """Surface brightness (3, M, M) of groups of galaxies, each galaxy on a stamp of the group's number of pixels."""
    maps = jnp.zeros((3, *2 * canvas.centres.shape))
    for group, pixels in groups:
        maps = add_galaxies(canvas, maps, group, pixels)
    return maps


def add_galaxies(canvas: Canvas, maps: jax.Array, group: Galaxies, pixels: int) -> jax.Array:
    """Maps (3, M, M) with N galaxies added, each on a stamp of so many pixels a side, at whose edge it fades out."""
    samples = pixels * canvas.step
    starts, dx, dy = canvases.window(canvas, group.x, group.y, samples)
    light = jax.vmap(sersic_map, (0, 0, 0, None))(group, dx, dy, pitch(canvas))
    half = samples * pitch(canvas) / 2
    light = light * _fade(dx / half) * _fade(dy / half)
    return canvases.paste(maps, light, group.flux, starts)


def _fade(distance) -> jax.Array:
    """1 inside, falling smoothly to 0 where |distance| is 1."""
    t = jnp.clip((1 - jnp.abs(distance)) / FADE, 0.0, 1.0)
    return t * t * (3 - 2 * t)


def draw_shape(canvas: Canvas, centre, shape: Shape, mass: Mass, lensed) -> jax.Array:
    """Transform (m, m // 2 + 1) of a shape of unit flux, less what lies beyond the central INNER pixels.

    Where `lensed`, it is seen through the mass at `centre` (x, y).
    """
    axis = canvas.inner(INNER)
    x, y = axis[None, :] - centre[0], axis[:, None] - centre[1]
    mass = jax.tree.map(lambda value: jnp.where(lensed, value, 0.0), mass)
    sie = lensing.sie_deflection(x, y, mass.theta_e, mass.e1, mass.e2)
    shear = lensing.shear_deflection(x, y, mass.gamma1, mass.gamma2)
    light = shape_map(shape, x - sie[0] - shear[0], y - sie[1] - shear[1])
    edge = _fade(axis / axis[-1])
    return canvases.inner_spectrum(canvas, light * edge[None, :] * edge[:, None], axis)


def shape_map(shape: Shape, x, y) -> jax.Array:
    """Surface brightness, of unit flux, at x, y arcsec from the origin that shape.x, shape.y are measured from."""
    u, v = lensing.rotate(x - shape.x, y - shape.y, jnp.cos(shape.phi), jnp.sin(shape.phi))
    v = v - shape.bend * u**2
    clumps = _clumps(shape, u, v)
    u, v = u * jnp.sqrt(shape.q), v / jnp.sqrt(shape.q)
    radius = jnp.maximum(jnp.sqrt(u**2 + v**2), 1e-4)
    smooth = jnp.where(shape.ring > 0, _ring(shape, radius), lensing.sersic(radius, shape.re, shape.n))
    return (1 - shape.clumps) * smooth * _arms(shape, u / radius, v / radius, radius) + shape.clumps * clumps


def _ring(shape: Shape, radius) -> jax.Array:
    """Gaussian annulus of unit flux; the formula of the flux holds to 0.1 % for widths below 0.3 of the radius."""
    flux = np.float32((2 * np.pi) ** 1.5) * jnp.maximum(shape.ring, 1e-3) * shape.width
    return jnp.exp(-0.5 * ((radius - shape.ring) / shape.width) ** 2) / flux


def _arms(shape: Shape, cos, sin, radius) -> jax.Array:
    """Contrast of logarithmic arms, von Mises in phase, of mean 1 along any circle; 1 where there are none."""
    cos, sin = cos**2 - sin**2, 2 * cos * sin  # of twice the angle
    four = shape.number == 4
    cos, sin = jnp.where(four, cos**2 - sin**2, cos), jnp.where(four, 2 * cos * sin, sin)
    turn = shape.winding * jnp.log(radius / shape.re) + shape.phase
    wave = cos * jnp.cos(turn) + sin * jnp.sin(turn)
    return jnp.exp(shape.arms * (wave - 1)) / i0e(shape.arms)


def _clumps(shape: Shape, u, v) -> jax.Array:
    """Two Gaussian clumps that share unit flux."""
    width = shape.clump
    each = [jnp.exp(-0.5 * ((u - shape.clump_x[i]) ** 2 + (v - shape.clump_y[i]) ** 2) / width**2) for i in range(2)]
    return (each[0] + each[1]) / (4 * np.float32(np.pi) * width**2)
