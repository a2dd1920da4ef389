"""Quasar continua: members of a library, smoothed, at any redshift (Zhao et al. 2019, section 2.2).

Three sources, one form, as for galaxies: the shipped library, a pipeline's eigenspectra (`spEigenQSO-*.fits`), or the
user's own quasars, decomposed by iterative principal components.
"""

import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.physics import grid
from lensjax.sims import continua

SHIPPED = pathlib.Path(__file__).parent / "quasars.npz"
NUM_VECTORS = 20
BRIGHT = (4800.0, 5000.0)  # A observed, where mock quasars are scaled to their mean flux
MIXED = 0.15  # of a mock quasar is a second member


class Quasars(NamedTuple):
    """A library on the device: vectors (K, M) in the rest frame from loglam0 on, coefficients (N, K) of its members."""

    loglam0: float
    vectors: jax.Array
    coefficients: jax.Array


def read_library(source: str) -> continua.Library:
    """The library called `source`: "shipped", an .npz of `continua.save_library`, or eigenspectra in FITS."""
    return continua.read_library(source, SHIPPED)


def principal(library: continua.Library, num: int, rest: tuple[float, float]) -> np.ndarray:
    """As `continua.principal`: the mean quasar and the first axes of the scatter over `rest` (A), (num, M)."""
    return continua.principal(library, num, rest)


def build_library(flux: np.ndarray, ivar: np.ndarray, loglam: np.ndarray, z: np.ndarray) -> continua.Library:
    """Library of the user's quasars: NUM_VECTORS iterative principal components of their rest-frame spectra.

    flux, ivar: (N, P) observed, ivar 0 where there is no datum. loglam: (P,) log10 A. z: (N,). Spectra are shifted by
    whole pixels and scaled to a mean of 1. Gaps are no data (`continua.decompose`).
    """
    shift = np.round(np.log10(1 + z) / grid.STEP).astype(int)
    first = grid.index0(loglam) - shift.max()
    length = len(loglam) + shift.max() - shift.min()
    rest, weight = np.zeros((len(z), length)), np.zeros((len(z), length))
    for i, start in enumerate(shift.max() - shift):
        level = np.sum(flux[i] * ivar[i]) / max(np.sum(ivar[i]), 1e-30)
        level = level if level > 0 else 1.0
        rest[i, start : start + len(loglam)] = flux[i] / level
        weight[i, start : start + len(loglam)] = ivar[i] * level**2
    num = min(NUM_VECTORS, len(z))
    vectors = continua.decompose(rest, weight, num)
    coefficients = continua.weighted_solve(vectors, rest, weight)
    return continua.Library(first * grid.STEP, vectors.astype(np.float32), coefficients.astype(np.float32))


def make_quasars(library: continua.Library) -> Quasars:
    """The library as arrays of the device."""
    arrays = (library.vectors, library.coefficients)
    return Quasars(library.loglam0, *(jnp.asarray(x, jnp.float32) for x in arrays))


def draw_continuum(key: jax.Array, quasars: Quasars, z: jax.Array, loglam: np.ndarray) -> jax.Array:
    """A quasar at redshift z, mean flux 1 over BRIGHT: (P,) on the window `loglam` (P,), positive.

    Two members, MIXED: a kernel-density estimate inside the hull of the library.
    """
    members = jax.random.randint(key, (2,), 0, quasars.coefficients.shape[0])
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
