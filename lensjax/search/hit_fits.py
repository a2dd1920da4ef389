"""The foreground galaxy under a hit, as the page of a search without vetting shows it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.fit import templates
from lensjax.physics import grid
from lensjax.search import matched_filter
from lensjax.sims.lya import lens_mask, masked_lines

LINE_HALF_WIDTH = 10  # pixels around the line that the fit leaves out, so that it cannot follow the line


def make_fit(config: Any, loglam: np.ndarray) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """fit(flux (P,), ivar (P,), z, pixel of the line) -> (template fit (P,), lens-line mask of the scorer (P,))."""
    basis = matched_filter.load_basis(config)
    settings = config.search.matched_filter
    num = len(loglam)

    @jax.jit
    def fit(flux: jax.Array, ivar: jax.Array, z: jax.Array, place: jax.Array) -> tuple[jax.Array, jax.Array]:
        if config.search.scorer == "matched_filter":
            masked = matched_filter.mask_lines(z, loglam, settings.mask_pixels)
        else:
            masked = lens_mask(jnp.asarray(grid.wave(loglam), jnp.float32), z, masked_lines(config))
        design = templates.make_design(basis, float(loglam[0]), num, z)
        reached = jnp.any(design[: len(basis.vectors)] != 0, axis=0)
        near = jnp.abs(jnp.arange(num) - place) <= LINE_HALF_WIDTH
        model, _ = templates.fit_templates(flux, jnp.where(masked | near | ~reached, 0.0, ivar), design)
        return jnp.where(reached, model, jnp.nan), masked

    return fit
