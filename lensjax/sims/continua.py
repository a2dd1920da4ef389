"""Galaxy continua: six eigenvectors in each redshift bin of 0.0025 (Li et al. 2018, section 3.2).

Three sources, one form. A *library* is a set of rest-frame spectra, written as eigenvectors and coefficients:
the shipped passive galaxies, a pipeline's eigenspectra (`spEigenGal-*.fits`), or the user's own objects
(`build_library`), each of which is drawn near its own redshift alone. In every redshift bin the library, cut to the
observed window, is decomposed once more, and its six first eigenvectors with the coefficients of its members make the
mock galaxies of that bin.
"""

import pathlib
import zipfile
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from lensjax.core.errors import UserError
from lensjax.core.files import replacing
from lensjax.physics import grid

BIN = 0.0025  # redshift, Li et al. 2018
NEAR = 0.1  # redshift: a mock is made of members of the library no farther from it than half of that, ...
LEAST = 30  # ... or of the nearest, so many
SHIPPED = ("passive", "shipped")  # names of the library that is shipped
PASSIVE = pathlib.Path(__file__).parent / "passive.npz"
NORM = (4800.0, 5000.0)  # A observed, where mock continua are scaled to their mean flux
# Of a library that is built: error of a spectrum beside its noise, in units of its flux; standard deviations at which a
# pixel is left out, and the share of spectra that may lose one pixel; rounds of that; spectra of the first guess;
# rounds in which the levels of the spectra are found; rounds for the coefficients' prior, while the vectors change and
# at the end, and the scatter that it begins with.
FLOOR, OUTLIER, MOST_WILD, ROUNDS, START = 0.02, 5.0, 0.3, 3, 500
SCALINGS, FEW_ROUNDS, MANY_ROUNDS, SCATTER = 30, 5, 30, 0.3


class Library(NamedTuple):
    """Rest-frame spectra as `coefficients @ vectors` on the log-wavelength grid that starts at `loglam0`."""

    loglam0: float
    vectors: np.ndarray  # (K, M)
    coefficients: np.ndarray  # (N, K)
    z: np.ndarray = np.zeros(0, np.float32)  # (N,), rising: at which a member was seen; (0,) where it has no redshift


class Continua(NamedTuple):
    """Everything a draw needs, small enough to be a constant of the compiled program. B bins, N members, K vectors."""

    z0: float  # lower edge of the first bin
    start: jax.Array  # (B,) fractional pixel of `vectors` that falls on the first observed pixel
    vectors: jax.Array  # (K, M + 1) rest frame
    coefficients: jax.Array  # (N, K)
    scale: jax.Array  # (B, N) brings a member to mean flux 1 over 4800-5000 A
    project: jax.Array  # (B, K, K) keeps of coefficients what the bin's first eigenvectors hold
    members: jax.Array  # (B, 2) first of the members that a bin draws from, and their number


def read_library(source: str, shipped: pathlib.Path = PASSIVE) -> Library:
    """The library called `source`: "passive" or "shipped", an .npz that `save_library` wrote, or a pipeline's FITS.

    shipped: what those two names stand for, and what eigenspectra without coefficients get theirs from.
    """
    path = shipped if source in SHIPPED else pathlib.Path(source)
    if not path.is_file():
        raise UserError(
            f"config.sim.continuum is {source!r}, which is no file: give 'shipped', a continua.npz or spEigen*.fits"
        )
    try:
        if path.suffix != ".npz":
            return _read_eigenspectra(path, read_library("shipped", shipped))
        with path.open("rb") as stream, np.load(stream) as stored:
            arrays = (np.asarray(stored[name], np.float32) for name in Library._fields[1:] if name in stored)
            return Library(float(stored["loglam0"]), *arrays)
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(
            f"config.sim.continuum is {source!r}, which holds no continua ({error}): give 'shipped', a continua.npz "
            "that --mode=continua wrote, or the pipeline's spEigen*.fits"
        ) from None


def save_library(path: pathlib.Path, library: Library) -> None:
    """Writes `library` as an .npz that `read_library` reads, whole or not at all."""
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **library._asdict())


def _read_eigenspectra(path: pathlib.Path, shipped: Library) -> Library:
    """Pipeline eigenspectra, with the coefficients that fit the shipped spectra to them by least squares."""
    from astropy.io import fits

    with fits.open(path) as hdus:
        primary: Any = hdus[0]
        vectors, loglam0 = np.asarray(primary.data, np.float32), float(primary.header["COEFF0"])
    overlap = slice(max(0, round((loglam0 - shipped.loglam0) / grid.STEP)), None)
    own = shift(shipped, overlap, vectors, loglam0)
    spectra = shipped.coefficients @ shipped.vectors[:, overlap]
    coefficients = np.linalg.lstsq(own.T, spectra.T, rcond=None)[0].T
    return Library(loglam0, vectors, coefficients.astype(np.float32))


def shift(target: Library, pixels: slice, vectors: np.ndarray, loglam0: float) -> np.ndarray:
    """`vectors` (K, M) of a grid from `loglam0`, interpolated to the `pixels` of the grid of `target`."""
    loglam = target.loglam0 + grid.STEP * np.arange(target.vectors.shape[1])[pixels]
    return interpolate(vectors, (loglam - loglam0) / grid.STEP)


def interpolate(vectors: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Rows of `vectors` (K, M) at fractional pixels `x` (P,), linear, edges held. Returns (K, P)."""
    return np.stack([np.interp(x, np.arange(vectors.shape[1]), row) for row in vectors])


def principal(library: Library, num: int, rest: tuple[float, float] = (2000.0, 3850.0)) -> np.ndarray:
    """Mean spectrum of the library, then the principal axes of its scatter: (num, M), rest frame, flux per unit mean.

    Members are scaled to a mean flux of 1 over `rest`, Angstrom: what a search from 3800 A sees of most galaxies. An
    axis is as long as the members' standard deviation along it, so that in a galaxy of mean flux f its coefficient
    is f times a number of order one: a prior for fits.

    Raises:
        UserError: the library has fewer than `num` vectors.
    """
    if num > len(library.vectors):
        own = len(library.vectors)
        raise UserError(
            f"the continuum library has {own} vectors, fewer than {num}: set --config.model.templates={own}."
        )
    wave = grid.wave(library.loglam0 + grid.STEP * np.arange(library.vectors.shape[1]))
    window = library.vectors[:, (wave >= rest[0]) & (wave <= rest[1])].astype(np.float64)
    level = library.coefficients @ window.mean(1)
    usual = (level > np.median(level) / 3) & (level < np.median(level) * 3)  # not what is known of a small part alone
    members = library.coefficients[usual] / level[usual, None]
    root: Any = np.linalg.qr(window.T, mode="r")  # (K, K): lengths and angles of the spectra, at their rank
    mean, (_, values, axes) = members.mean(0), np.linalg.svd((members - members.mean(0)) @ root.T, full_matrices=False)
    coefficients = np.linalg.lstsq(root, axes[: num - 1].T, rcond=None)[0].T
    length = values[: num - 1, None] / np.sqrt(len(members))
    return np.concatenate([mean[None], length * coefficients]) @ library.vectors


def build_library(
    flux: np.ndarray, ivar: np.ndarray, loglam: np.ndarray, z: np.ndarray, num_vectors: int, smooth: float = 0.0
) -> Library:
    """Library of observed spectra: iterative principal components in the rest frame, gaps left out (`decompose`).

    Spectra are shifted by whole pixels and scaled to a mean of 1. Pixels that `num_vectors` components miss by more
    than OUTLIER standard deviations (absorbers, cosmic rays, sky residuals) are left out, and all is done again, ROUNDS
    times. The ends that fewer than twice `num_vectors` spectra reach are cut off. Memory is some 40 N M bytes.

    Args:
        flux, ivar: (N, P) observed, ivar 0 where there is no datum.
        loglam: (P,) log10 A.
        z: (N,).
        smooth: pixels, as in `decompose`.
    """
    order = np.argsort(z, kind="stable")
    shift = np.round(np.log10(1 + z[order]) / grid.STEP).astype(int)
    rest, weight = np.zeros((2, len(z), len(loglam) + np.ptp(shift)))
    for i, (row, start) in enumerate(zip(order, shift.max() - shift, strict=True)):
        level = max(np.sum(flux[row] * ivar[row]) / max(np.sum(ivar[row]), 1e-30), 1e-30)
        here = slice(start, start + len(loglam))
        rest[i, here] = flux[row] / level
        weight[i, here] = ivar[row] / (1 / level**2 + ivar[row] * FLOOR**2)
    reached = np.flatnonzero((weight > 0).sum(0) >= 2 * num_vectors)
    kept = slice(reached[0], reached[-1] + 1)
    rest, weight = rest[:, kept], weight[:, kept]
    mean, scale = composite(rest, weight)
    rest, weight = rest / scale[:, None], weight * scale[:, None] ** 2
    wild = np.zeros(rest.shape, bool)
    for _ in range(ROUNDS):
        trusted = np.where(wild, 0.0, weight)
        vectors = decompose(rest, trusted, num_vectors, smooth=smooth, mean=mean)
        coefficients = shrunk_solve(vectors, rest, trusted, vectors @ mean, MANY_ROUNDS)
        wild = np.abs(rest - coefficients @ vectors) * np.sqrt(weight) > OUTLIER
        wild &= wild.sum(0) < MOST_WILD * (weight > 0).sum(0)
    loglam0 = (grid.index0(loglam) - shift.max() + kept.start) * grid.STEP
    return Library(loglam0, *(np.asarray(x, np.float32) for x in (vectors, coefficients, z[order])))


def composite(flux: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean spectrum (M,) of spectra with gaps, and the factor (N,) of each that brings the mean to its level.

    Spectra that have no pixel in common are set beside each other through those between. flux, weight: (N, M).
    """
    scale = np.ones(len(flux))
    for _ in range(SCALINGS):
        total = scale**2 @ weight
        mean = np.where(total > 0, scale @ (weight * flux), 0.0) / np.where(total > 0, total, 1.0)
        mean /= np.abs(mean).mean()
        power = weight @ mean**2
        scale = np.maximum((weight * flux) @ mean, 0.0) / np.where(power > 0, power, 1.0) + 1e-30
    return mean, scale


def decompose(
    flux: np.ndarray,
    ivar: np.ndarray,
    num_vectors: int = 10,
    iterations: int = 20,
    smooth: float = 0.0,
    mean: np.ndarray | None = None,
) -> np.ndarray:
    """Eigenvectors (K, M) of rest-frame spectra with gaps, by weighted alternating least squares.

    The expectation-maximisation principal components of Bailey (2012, PASP 124, 1015).

    Args:
        flux: rest-frame spectra (N, M) on one grid, scaled to like level.
        ivar: inverse variances (N, M), zero where there is no datum.
        smooth: pixels, standard deviation of a Gaussian: a pixel of the vectors is fitted to those around it.
        mean: (M,) mean spectrum, about which spectra that show little of it are held (`shrunk_solve`); None: nowhere.
    """
    weight = np.asarray(ivar, float)
    some = slice(None, None, -(-len(flux) // START))
    vectors = np.linalg.svd(np.where(weight[some] > 0, flux[some], 0.0), full_matrices=False)[2][:num_vectors]
    for _ in range(iterations):
        if mean is None:
            coefficients = weighted_solve(vectors, flux, weight)
        else:
            coefficients = shrunk_solve(vectors, flux, weight, vectors @ mean, FEW_ROUNDS)
        vectors = weighted_solve(coefficients.T, np.asarray(flux).T, weight.T, smooth).T
        vectors = np.linalg.qr(vectors.T)[0].T
    return vectors


def weighted_solve(design: np.ndarray, data: np.ndarray, weight: np.ndarray, smooth: float = 0.0) -> np.ndarray:
    """For every row of `data` (N, M): the c (K,) that minimises sum weight (data - c design)^2; returns (N, K).

    smooth: rows, standard deviation of a Gaussian with which the rows around are weighted in; 0: none.
    """
    equations = normal_equations(design, data, weight)
    if smooth:
        equations = tuple(ndimage.gaussian_filter1d(x, smooth, axis=0, mode="nearest") for x in equations)
    return _solve(*equations)


def shrunk_solve(
    design: np.ndarray, data: np.ndarray, weight: np.ndarray, middle: np.ndarray, rounds: int
) -> np.ndarray:
    """As `weighted_solve`, under the Gaussian that the coefficients of all rows are drawn from, found by EM.

    A row of `data` that shows a part of the M pixels says little of some of its coefficients: without that prior they
    could be anything. middle: (K,) first guess of the mean. rounds: of the EM.
    """
    normal, right = normal_equations(design, data, weight)
    coefficients, unit = np.zeros_like(right), np.eye(len(design))
    cover = SCATTER**2 * np.mean(middle**2) * unit
    for _ in range(rounds):
        inverse = np.linalg.inv(cover + 1e-12 * np.trace(cover) * unit)
        errors = np.linalg.inv(normal + inverse)
        coefficients = np.einsum("nkl,nl->nk", errors, right + inverse @ middle)
        middle = coefficients.mean(0)
        cover = errors.mean(0) + np.cov(coefficients.T, bias=True).reshape(cover.shape)
    return coefficients


def normal_equations(design: np.ndarray, data: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those of `weighted_solve`: (N, K, K) and (N, K)."""
    normal = np.einsum("km,nm,lm->nkl", design, weight, design, optimize=True)
    return normal, np.einsum("km,nm->nk", design, weight * data, optimize=True)


def _solve(normal: np.ndarray, right: np.ndarray) -> np.ndarray:
    ridge = 1e-9 * np.trace(normal, axis1=1, axis2=2) + 1e-30
    return np.linalg.solve(normal + ridge[:, None, None] * np.eye(right.shape[1]), right[..., None])[..., 0]


def make_continua(library: Library, loglam: np.ndarray, redshift: tuple[float, float], num_vectors: int) -> Continua:
    """Principal components of the library in every bin of 0.0025 in `redshift`, on the observed window `loglam` (P,).

    UserError where the library does not reach the ends of the window at all of these redshifts.

    Members are scaled to a mean flux of 1 over 4800-5000 A observed, so that a draw is one number times a shape. The
    components are kept as projections: y = c L are coordinates in an orthonormal basis (L L^T the Gram matrix of the
    vectors in the window), and y W^T W keeps the first `num_vectors` axes W of the members' scatter.
    """
    count = max(1, round((redshift[1] - redshift[0]) / BIN))
    centres = redshift[0] + BIN * (np.arange(count) + 0.5)
    start = (loglam[0] - np.log10(1 + centres) - library.loglam0) / grid.STEP
    if start.min() < 0 or start.max() + len(loglam) > library.vectors.shape[1]:
        low, high = reach(library, loglam)
        window = f"{10 ** loglam[0]:.0f} to {10 ** loglam[-1]:.0f} A"
        if low >= high:
            raise UserError(f"the continua reach from {window} at no redshift: narrow config.data.window.")
        raise UserError(
            f"the continua reach from {window} at redshifts {low:.3f} to {high:.3f}, and mocks of {redshift[0]:g} to "
            f"{redshift[1]:g} are asked for: narrow config.sim.redshift."
        )
    wave = 10**loglam
    norm = (wave > NORM[0]) & (wave < NORM[1])
    norm = norm if norm.any() else np.ones_like(norm)
    scale, project = [], []
    for first in start:
        window = interpolate(library.vectors, first + np.arange(len(loglam)))
        lower = np.linalg.cholesky(window @ window.T + 1e-9 * np.trace(window @ window.T) * np.eye(len(window)))
        factor = 1 / (library.coefficients @ window[:, norm].mean(1))
        members = (library.coefficients * factor[:, None]) @ lower
        axes = np.linalg.eigh(members.T @ members)[1][:, ::-1][:, :num_vectors]
        scale.append(factor)
        project.append(lower @ axes @ axes.T @ np.linalg.inv(lower))
    vectors = np.pad(library.vectors, ((0, 0), (0, 1)), mode="edge")
    arrays = (start, vectors, library.coefficients, np.stack(scale), np.stack(project))
    members = jnp.asarray(nearby(library, centres, NEAR))
    return Continua(float(redshift[0]), *(jnp.asarray(array, jnp.float32) for array in arrays), members=members)


def reach(library: Library, loglam: np.ndarray) -> tuple[float, float]:
    """Least and largest redshift at which the library covers the whole observed window `loglam` (P,)."""
    last = library.loglam0 + grid.STEP * (library.vectors.shape[1] - 1)
    return float(10 ** (loglam[-1] - last)) - 1, float(10 ** (loglam[0] - library.loglam0)) - 1


def nearby(library: Library, centres: np.ndarray, width: float) -> np.ndarray:
    """Members that mocks around the redshifts `centres` (B,) are made of: the first, and how many; (B, 2) int32.

    Those within half of `width`, or the nearest LEAST; all, of a library without redshifts.
    """
    num = len(library.coefficients)
    if not len(library.z):
        return np.tile(np.array([0, num], np.int32), (len(centres), 1))
    first, last = (np.searchsorted(library.z, centres + sign * width / 2) for sign in (-1, 1))
    least = min(LEAST, num)
    distance = np.abs(library.z[None] - centres[:, None])
    nearest = np.sort(np.argsort(distance, axis=1, kind="stable")[:, :least], axis=1)[:, 0]
    few = last - first < least
    return np.stack([np.where(few, nearest, first), np.where(few, least, last - first)], axis=1).astype(np.int32)


def draw_members(key: jax.Array, members: jax.Array) -> jax.Array:
    """Two of the members (first, number) of `nearby`, (2,) int32."""
    return members[0] + jax.random.randint(key, (2,), 0, members[1])


def snap(continua: Continua, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The bin that holds `z`, and the redshift of its centre, at which its eigenvectors were made; scalars."""
    row = jnp.clip(((z - continua.z0) / BIN).astype(jnp.int32), 0, continua.start.shape[0] - 1)
    return row, continua.z0 + BIN * (row + 0.5)


def draw_continuum(key: jax.Array, continua: Continua, row: jax.Array, num_pixels: int) -> jax.Array:
    """A galaxy of bin `row`, mean flux 1 over 4800-5000 A, shape (num_pixels,): a member's coefficients, smoothed.

    The smoothing moves a draw a tenth of the way to a second member: a kernel-density estimate that stays inside
    the hull of the library.
    """
    members = draw_members(key, continua.members[row])
    weight = jnp.array([0.9, 0.1]) * continua.scale[row, members]
    coefficients = (weight @ continua.coefficients[members]) @ continua.project[row]
    whole = jnp.floor(continua.start[row])
    first = (jnp.int32(0), whole.astype(jnp.int32))
    piece = jax.lax.dynamic_slice(continua.vectors, first, (coefficients.shape[0], num_pixels + 1))
    return between(coefficients @ piece, continua.start[row] - whole)


def between(values: jax.Array, fraction: jax.Array) -> jax.Array:
    """values (P + 1,) at `fraction` of the way from each to the next: (P,)."""
    return (1 - fraction) * values[:-1] + fraction * values[1:]
