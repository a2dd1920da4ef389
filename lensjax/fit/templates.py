"""Continuum of a galaxy: templates at the known redshift plus a low polynomial, by closed-form least squares."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.physics import filters, grid

NUM_POLYNOMIALS = 3
RIDGE = 1e-6  # of the unit diagonal: keeps float32 elimination safe when two columns are all but parallel


class Basis(NamedTuple):
    """Rest-frame templates on the log-lambda grid.

    Attributes:
        loglam0: log10 vacuum Angstrom of the first pixel; a float, or a traced scalar.
        vectors: (K, M) float32, any scale; grid step `grid.STEP`.
    """

    loglam0: float | jax.Array
    vectors: np.ndarray | jax.Array


class Place(NamedTuple):
    """Where the first observed pixel lies on the grid of a basis: `whole` () pixels and `fraction` () of the next."""

    whole: jax.Array
    fraction: jax.Array


def place(basis: Basis, loglam0_window: float, z: jax.Array) -> Place:
    """The place of log10 wavelength `loglam0_window` for a redshift z (): a redshift is a shift in log lambda."""
    position = (loglam0_window - basis.loglam0) / grid.STEP - jnp.log10(1.0 + z) / grid.STEP
    whole = jnp.floor(position)
    return Place(whole.astype(jnp.int32), (position - whole).astype(jnp.float32))


def reached(length: int, where: Place, num: int) -> jax.Array:
    """True (num,) in the observed pixels that lie between two of the `length` pixels of a basis."""
    pixel = where.whole + jnp.arange(num)
    return (pixel >= 0) & (pixel + 1 < length)


def shift_basis(basis: Basis, loglam0_window: float, num: int, z: jax.Array) -> jax.Array:
    """Templates of a galaxy at redshift z, on `num` pixels of the observed grid that start at `loglam0_window`.

    A redshift is a shift in log lambda: two neighbouring integer shifts, linearly interpolated.

    Args:
        basis: rest-frame templates.
        loglam0_window: log10 vacuum Angstrom of the first observed pixel.
        num: number of observed pixels P.
        z: () redshift.

    Returns:
        (K, P) float32; 0 in the pixels that the templates do not reach.
    """
    return observe(jnp.asarray(basis.vectors), place(basis, loglam0_window, z), num)


def observe(values: jax.Array, where: Place, num: int) -> jax.Array:
    """values (..., M) on the grid of the basis, as seen in `num` observed pixels: (..., num), 0 beyond the basis."""
    m = values.shape[-1]
    padded = filters.lengthen(values, num, num)  # so that no slice below is ever clamped halfway
    first = jnp.clip(where.whole, -num, m - 1) + num
    piece = jax.lax.dynamic_slice_in_dim(padded, first, num + 1, axis=-1)
    mixed = piece[..., :-1] * (1 - where.fraction) + piece[..., 1:] * where.fraction
    return jnp.where(reached(m, where, num), mixed, 0.0)


def coarser(basis: Basis, where: Place, size: int) -> tuple[jax.Array, Place]:
    """Means (K, M // size) of the templates over `size` pixels, and the place of the first `size` observed ones."""
    vectors = jnp.asarray(basis.vectors)
    means = filters.rebin(vectors[:, : vectors.shape[1] // size * size], size) / size
    return means, Place(where.whole // size, (where.whole % size + where.fraction) / size)


def equations_at_rest(
    flux: jax.Array, ivar: jax.Array, basis: Basis, where: Place, size: int = 1
) -> tuple[jax.Array, jax.Array]:
    """Normal equations of `fit_templates` for templates at a redshift, without the templates at that redshift.

    Instead of K templates to the observed grid, two vectors are moved to that of the templates, where the products of
    templates are the same for all spectra, so that a batch of normal equations is one matrix product. The products
    are interpolated between pixels, not the templates: for templates that are smooth over a pixel the same.

    Args:
        flux, ivar: (P,), any unit u and u^-2; ivar 0 = not fitted.
        basis: K templates.
        where: the place of the first observed pixel.
        size: pixels that are summed first, for templates that are smooth over so many: the product is so many times
            smaller.

    Returns:
        gram (K, K), sum of ivar times two templates, and moment (K,), sum of ivar times flux and a template.
    """
    weight = jnp.where(reached(basis.vectors.shape[1], where, len(flux)), ivar, 0.0)
    sums = jnp.stack([filters.rebin(x, size) for x in (weight, weight * flux)])
    vectors, where = coarser(basis, where, size)
    (k, m), num = vectors.shape, sums.shape[1]
    padded = filters.lengthen(sums, m, m)
    start = m - jnp.clip(where.whole, -num, m - 1)
    piece = jax.lax.dynamic_slice_in_dim(padded, start - 1, m + 1, axis=-1)
    weight, moment = piece[:, 1:] * (1 - where.fraction) + piece[:, :-1] * where.fraction
    row, column = np.tril_indices(k)
    with jax.default_matmul_precision("highest"):
        lower = (vectors[row] * vectors[column]) @ weight
        moment = vectors @ moment
    both = np.zeros((k, k), int)
    both[row, column] = both[column, row] = np.arange(len(row))
    return lower[both], moment


def polynomials(num: int) -> np.ndarray:
    """Legendre polynomials 0, 1, 2 over `num` pixels mapped on [-1, 1]: (NUM_POLYNOMIALS, num) float32."""
    return np.polynomial.legendre.legvander(np.linspace(-1, 1, num), NUM_POLYNOMIALS - 1).T.astype(np.float32)


def make_design(basis: Basis, loglam0_window: float, num: int, z: jax.Array) -> jax.Array:
    """Columns of the continuum fit at redshift z: the shifted templates, then the polynomials, (K+3, P)."""
    return jnp.concatenate([shift_basis(basis, loglam0_window, num, z), polynomials(num)])


def solve_small(matrix: list[list[jax.Array]], vector: list[jax.Array]) -> list[jax.Array]:
    """Solves a symmetric positive-definite system of a few unknowns, unrolled (Gauss elimination, no pivots).

    Scalars instead of a matrix: under vmap each becomes a vector over the batch and the whole solve fuses into a
    handful of loops, where `jnp.linalg.solve` calls LAPACK once per spectrum.

    Args:
        matrix: K lists of K scalars; only the lower triangle (i >= j) is read.
        vector: K scalars.

    Returns:
        K scalars.
    """
    n = len(vector)
    lower = [list(row) for row in matrix]
    right = list(vector)
    for j in range(n):
        pivot = 1.0 / lower[j][j]
        ratio = [lower[i][j] * pivot for i in range(j + 1, n)]
        for i in range(j + 1, n):
            right[i] = right[i] - ratio[i - j - 1] * right[j]
            for k in range(j + 1, i + 1):
                lower[i][k] = lower[i][k] - ratio[i - j - 1] * lower[k][j]
    solution = right
    for i in reversed(range(n)):
        known = sum((lower[k][i] * solution[k] for k in range(i + 1, n)), jnp.zeros_like(right[i]))
        solution[i] = (right[i] - known) / lower[i][i]
    return solution


def fit_templates(
    flux: jax.Array, ivar: jax.Array, design: jax.Array, width: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Weighted linear least squares of `design` to one spectrum, in closed form.

    Columns are scaled to unit weighted length before the normal equations, which get a ridge of 1e-6.
    A free column takes about 1/P of the S/N^2 per pixel of any line with it; one held by a prior takes less.

    Args:
        flux: (P,).
        ivar: (P,) weights; 0 = not fitted.
        design: (K, P) columns, see `make_design`.
        width: (K,) standard deviations of a Gaussian prior on the coefficients, centred on zero; inf, or None, is free.

    Returns:
        model (P,) in the unit of flux, 0 where all ivar is 0; chi2 () = sum ivar (flux - model)^2.
    """
    with jax.default_matmul_precision("highest"):
        weighted = design * ivar[None]
        model = solve(weighted @ design.T, weighted @ flux, width) @ design
    return model, jnp.sum(ivar * (flux - model) ** 2)


def solve(gram: jax.Array, moment: jax.Array, width: jax.Array | None = None) -> jax.Array:
    """Coefficients (K,) that solve gram (K, K) x = moment (K,), with the prior `width` (K,) of `fit_templates`."""
    k = len(moment)
    if width is not None:
        gram = gram + jnp.diag(width**-2.0)
    norm = jnp.diagonal(gram)
    scale = jnp.where(norm > 0, 1.0 / jnp.sqrt(jnp.where(norm > 0, norm, 1.0)), 0.0)
    gram = gram * scale[:, None] * scale[None, :]
    # A column without weight has an empty row: 1 on its diagonal gives it coefficient 0.
    diagonal = jnp.where(norm > 0, 1.0 + RIDGE, 1.0)
    rows = [[diagonal[i] if i == j else gram[i, j] for j in range(i + 1)] for i in range(k)]
    return jnp.stack(solve_small(rows, [moment[i] * scale[i] for i in range(k)])) * scale
