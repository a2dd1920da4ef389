"""Images as the network is given them: fluxes span four decades, activations should span one."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.core.errors import UserError
from lensjax.physics.bands import PIXEL
from lensjax.surveys import viewer

DARK = 1e-6  # least intensity: the colours' limit there is finite
APERTURE = 1.0  # arcsec: where the colour of the central galaxy is measured


def make_stretch(settings: Any) -> Callable[[jax.Array], jax.Array]:
    """stretch(image (..., B) nanomaggies a pixel) -> (..., B) of order one.

    settings: config.model.stretch. "asinh" keeps every band and every flux; "difference" is it and, as further planes,
    `difference` of the bands; "rgb" is what people look at in the viewer, clipped to 0..1, and needs three bands.
    The last two take images (..., H, W, B). Raises UserError for another name.
    """
    if settings.name == "asinh":
        return lambda image: asinh(image, settings.softening, settings.divisor)
    if settings.name == "difference":
        return lambda image: with_difference(image, settings.softening, settings.divisor)
    if settings.name == "rgb":
        return viewer_rgb
    raise UserError(f"config.model.stretch.name is {settings.name!r}: expected 'asinh', 'difference' or 'rgb'.")


def channels(settings: Any, bands: int) -> int:
    """Planes that the network is given of an image of so many bands."""
    return 2 * bands - 1 if settings.name == "difference" else bands


def with_difference(image: jax.Array, softening: Sequence[float], divisor: float) -> jax.Array:
    """asinh of an image (..., H, W, B), and of `difference`: (..., H, W, 2 B - 1)."""
    planes = jnp.concatenate([image, difference(image)], axis=-1)
    return asinh(planes, (*softening, *softening[:-1]), divisor)


def difference(image: jax.Array) -> jax.Array:
    """Every band but the last less the last, scaled to the colour of the object in the centre: (..., H, W, B - 1).

    f_b - a_b f_last, a_b the ratio of the fluxes within 1 arcsec of the centre of an image (..., H, W, B): the light
    of a galaxy of one colour goes, whatever its shape, and what has another colour, as arcs have, stays (Gavazzi et
    al. 2014, eq. 1). A ratio is held between 0 and 2.
    """
    axes = ((np.arange(size) - (size - 1) / 2) * PIXEL for size in image.shape[-3:-1])
    radius = np.hypot(*np.meshgrid(*axes, indexing="ij"))
    flux = jnp.einsum("...hwb,hw->...b", image, (radius < APERTURE).astype(np.float32))
    ratio = jnp.clip(flux[..., :-1] / jnp.maximum(flux[..., -1:], DARK), 0.0, 2.0)
    return image[..., :-1] - ratio[..., None, None, :] * image[..., -1:]


def asinh(image: jax.Array, softening: Sequence[float], divisor: float) -> jax.Array:
    """arcsinh(flux / softening_b) / divisor (Lupton et al. 1999): linear in the noise, logarithmic in the galaxies."""
    return jnp.arcsinh(image / _bands(softening, image)) / divisor


def viewer_rgb(image: jax.Array) -> jax.Array:
    """Red, green, blue in 0..1 of bands g, r, z (..., 3), as surveys/viewer.py, on the device."""
    shown = image * _bands(viewer.SCALES, image) + viewer.OFFSET
    intensity = jnp.maximum(jnp.maximum(shown, 0.0).mean(axis=-1, keepdims=True), DARK)
    ratio = jnp.arcsinh(viewer.SOFTENING * intensity) / (math.sqrt(viewer.SOFTENING) * intensity)
    return jnp.clip(shown * ratio, 0.0, 1.0)[..., ::-1]


def _bands(values: Sequence[float], image: jax.Array) -> jax.Array:
    """(1, ..., 1, B) of one value a band; UserError for values of other bands than the image's."""
    if len(values) != image.shape[-1]:
        raise UserError(
            f"config.model.stretch has values of {len(values)} bands for images of {image.shape[-1]}: give one a band."
        )
    return jnp.asarray(values, image.dtype).reshape((1,) * (image.ndim - 1) + (-1,))
