"""Galaxy continua: six eigenvectors in each redshift bin of 0.0025 (Li et al. 2018, section 3.2).

Three sources, one form. A *library* is a set of rest-frame spectra, written as eigenvectors and coefficients:
the shipped passive galaxies, a pipeline's eigenspectra (`spEigenGal-*.fits`), or the user's own galaxies
(`decompose`). In every redshift bin the library, cut to the observed window, is decomposed once more, and its six
first eigenvectors with the coefficients of its members make the mock galaxies of that bin.
"""

import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.core.errors import UserError
from lensjax.physics import grid

BIN = 0.0025  # redshift, Li et al. 2018
PASSIVE = pathlib.Path(__file__).parent / "passive.npz"
NORM = (4800.0, 5000.0)  # A observed, where mock continua are scaled to their mean flux


class Library(NamedTuple):
    """Rest-frame spectra as `coefficients @ vectors` on the log-wavelength grid that starts at `loglam0`."""

    loglam0: float
    vectors: np.ndarray  # (K, M)
    coefficients: np.ndarray  # (N, K)


class Continua(NamedTuple):
    """Eigenvectors (B, K, P) and member coefficients (B, N, K) of B redshift bins; `z0` is the first bin's edge."""

    z0: float
    basis: jax.Array
    coefficients: jax.Array


def read_library(source: str) -> Library:
    """The library called `source`: "passive", an .npz that `save_library` wrote, or a pipeline's eigenspectra FITS."""
    path = PASSIVE if source == "passive" else pathlib.Path(source)
    if not path.is_file():
        raise UserError(
            f"config.sim.continuum is {source!r}, which is no file: give 'passive', a continua.npz or spEigenGal-*.fits"
        )
    if path.suffix == ".npz":
        with np.load(path) as stored:
            return Library(float(stored["loglam0"]), stored["vectors"], stored["coefficients"])
    return _read_eigenspectra(path)


def save_library(path: pathlib.Path, library: Library) -> None:
    """Writes `library` as an .npz that `read_library` reads."""
    np.savez_compressed(path, **library._asdict())


def _read_eigenspectra(path: pathlib.Path) -> Library:
    """Pipeline eigenspectra, with the coefficients that fit the shipped galaxies to them by least squares."""
    from astropy.io import fits

    with fits.open(path) as hdus:
        vectors = np.asarray(hdus[0].data, np.float32)
        loglam0 = float(hdus[0].header["COEFF0"])
    passive = read_library("passive")
    overlap = slice(max(0, round((loglam0 - passive.loglam0) / grid.STEP)), None)
    own = shift(passive, overlap, vectors, loglam0)
    spectra = passive.coefficients @ passive.vectors[:, overlap]
    coefficients = np.linalg.lstsq(own.T, spectra.T, rcond=None)[0].T
    return Library(loglam0, vectors, coefficients.astype(np.float32))


def shift(target: Library, pixels: slice, vectors: np.ndarray, loglam0: float) -> np.ndarray:
    """`vectors` (K, M) of a grid from `loglam0`, interpolated to the `pixels` of the grid of `target`."""
    loglam = target.loglam0 + grid.STEP * np.arange(target.vectors.shape[1])[pixels]
    return interpolate(vectors, (loglam - loglam0) / grid.STEP)


def interpolate(vectors: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Rows of `vectors` (K, M) at fractional pixels `x` (P,), linear, edges held. Returns (K, P)."""
    return np.stack([np.interp(x, np.arange(vectors.shape[1]), row) for row in vectors])


def decompose(flux: np.ndarray, ivar: np.ndarray, num_vectors: int = 10, iterations: int = 20) -> np.ndarray:
    """Eigenvectors (K, M) of rest-frame spectra with gaps, by weighted alternating least squares.

    The expectation-maximisation principal components of Bailey (2012, PASP 124, 1015).

    Args:
        flux: rest-frame spectra (N, M) on one grid, scaled to like level.
        ivar: inverse variances (N, M), zero where there is no datum.
    """
    weight = np.asarray(ivar, float)
    vectors = np.linalg.svd(np.where(weight > 0, flux, 0.0), full_matrices=False)[2][:num_vectors]
    for _ in range(iterations):
        coefficients = _weighted_solve(vectors, flux, weight)
        vectors = _weighted_solve(coefficients.T, np.asarray(flux).T, weight.T).T
        vectors = np.linalg.qr(vectors.T)[0].T
    return vectors


def _weighted_solve(design: np.ndarray, data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """For every row of `data` (N, M): the c (K,) that minimises sum weight (data - c design)^2; returns (N, K)."""
    normal = np.einsum("km,nm,lm->nkl", design, weight, design, optimize=True)
    normal += 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(len(design)) + 1e-30 * np.eye(len(design))
    return np.linalg.solve(normal, np.einsum("km,nm->nk", design, weight * data, optimize=True)[..., None])[..., 0]


def make_continua(library: Library, loglam: np.ndarray, redshift: tuple[float, float], num_vectors: int) -> Continua:
    """Eigenvectors and coefficients of every bin of 0.0025 in `redshift`, on the observed window `loglam` (P,).

    Members are scaled to a mean flux of 1 over 4800-5000 A observed, so that a draw is one number times a shape.
    """
    count = max(1, round((redshift[1] - redshift[0]) / BIN))
    wave = 10**loglam
    norm = (wave > NORM[0]) & (wave < NORM[1])
    norm = norm if norm.any() else np.ones_like(norm)
    basis, coefficients = [], []
    for z in redshift[0] + BIN * (np.arange(count) + 0.5):
        x = (loglam - np.log10(1 + z) - library.loglam0) / grid.STEP
        q, r = np.linalg.qr(interpolate(library.vectors, x).T)  # (P, K), (K, K)
        members = library.coefficients @ r.T
        members = members / (members @ q[norm].mean(0))[:, None]
        axes = np.linalg.svd(members, full_matrices=False)[2][:num_vectors]
        basis.append(axes @ q.T)
        coefficients.append(members @ axes.T)
    as_array = lambda rows: jnp.asarray(np.stack(rows), jnp.float32)
    return Continua(redshift[0], as_array(basis), as_array(coefficients))


def draw_continuum(key: jax.Array, continua: Continua, z: jax.Array) -> jax.Array:
    """A galaxy of mean flux 1 over 4800-5000 A at redshift `z`, shape (P,): a member's coefficients, smoothed.

    The smoothing moves a draw a tenth of the way to a second member: a kernel-density estimate that stays inside
    the hull of the library.
    """
    row = jnp.clip(((z - continua.z0) / BIN).astype(jnp.int32), 0, continua.basis.shape[0] - 1)
    first, second = jax.random.randint(key, (2,), 0, continua.coefficients.shape[1])
    coefficients = 0.9 * continua.coefficients[row, first] + 0.1 * continua.coefficients[row, second]
    return coefficients @ continua.basis[row]
