"""Quasar continua: members of a library, smoothed, at any redshift (Zhao et al. 2019, section 2.2).

Three sources, one form, as for galaxies: the shipped library, a pipeline's eigenspectra (`spEigenQSO-*.fits`), or the
user's own quasars, decomposed by iterative principal components, and drawn in bins of 0.2 in redshift.
"""

import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.physics import grid
from lensjax.sims import continua

SHIPPED = pathlib.Path(__file__).parent / "quasars.npz"
BIN = 0.2  # redshift: a mock is made of the user's quasars in the same bin
FARTHEST = 8.0  # redshift, of the last bin
BRIGHT = (4800.0, 5000.0)  # A observed, where mock quasars are scaled to their mean flux
MIXED = 0.15  # of a mock quasar is a second member


class Quasars(NamedTuple):
    """A library on the device: vectors (K, M) in the rest frame from loglam0 on, coefficients (N, K) of its members.

    members: (B, 2) first of the members that a redshift bin draws from, and their number.
    """

    loglam0: float
    vectors: jax.Array
    coefficients: jax.Array
    members: jax.Array


def read_library(source: str) -> continua.Library:
    """The library called `source`: "shipped", an .npz of `continua.save_library`, or eigenspectra in FITS."""
    return continua.read_library(source, SHIPPED)


def make_quasars(library: continua.Library) -> Quasars:
    """The library as arrays of the device."""
    arrays = (library.vectors, library.coefficients)
    centres = np.arange(BIN / 2, FARTHEST, BIN)
    members = jnp.asarray(continua.nearby(library, centres, BIN))
    return Quasars(library.loglam0, *(jnp.asarray(x, jnp.float32) for x in arrays), members=members)


def draw_continuum(key: jax.Array, quasars: Quasars, z: jax.Array, loglam: np.ndarray) -> jax.Array:
    """A quasar at redshift z, mean flux 1 over BRIGHT: (P,) on the window `loglam` (P,), positive.

    Two members, MIXED: a kernel-density estimate inside the hull of the library.
    """
    row = jnp.clip((z / BIN).astype(jnp.int32), 0, len(quasars.members) - 1)
    members = continua.draw_members(key, quasars.members[row])
    coefficients = jnp.array([1 - MIXED, MIXED]) @ quasars.coefficients[members]
    start = (float(loglam[0]) - quasars.loglam0) / grid.STEP - jnp.log10(1 + z) / grid.STEP
    whole = jnp.floor(start)
    rest = jnp.pad(coefficients @ quasars.vectors, (len(loglam), len(loglam)), mode="edge")
    first = whole.astype(jnp.int32) + len(loglam)
    spectrum = continua.between(jax.lax.dynamic_slice(rest, (first,), (len(loglam) + 1,)), start - whole)
    wave = grid.wave(loglam)
    norm = (wave > BRIGHT[0]) & (wave < BRIGHT[1])
    norm = norm if norm.any() else np.ones_like(norm)
    level = jnp.sum(jnp.where(norm, spectrum, 0.0)) / norm.sum()
    return jnp.maximum(spectrum / jnp.maximum(level, 1e-6), 1e-3)
