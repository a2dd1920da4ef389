"""Images as the network is given them: fluxes span four decades, activations should span one."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lensjax.core.errors import UserError
from lensjax.surveys import viewer

DARK = 1e-6  # least intensity: the colours' limit there is finite


def make_stretch(settings: Any) -> Callable[[jax.Array], jax.Array]:
    """stretch(image (..., B) nanomaggies a pixel) -> (..., B) of order one.

    settings: config.model.stretch. "asinh" keeps every band and every flux; "rgb" is what people look at in the
    viewer, clipped to 0..1, and needs three bands. Raises UserError for another name.
    """
    if settings.name == "asinh":
        return lambda image: asinh(image, settings.softening, settings.divisor)
    if settings.name == "rgb":
        return viewer_rgb
    raise UserError(f"config.model.stretch.name is {settings.name!r}: expected 'asinh' or 'rgb'.")


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
    """(1, ..., 1, B) of one value a band."""
    return jnp.asarray(values, image.dtype).reshape((1,) * (image.ndim - 1) + (-1,))
