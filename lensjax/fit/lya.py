"""Measures a Lyman-alpha line: skew normal integrated over pixels, plus a constant (Li et al. 2018, section 4).

The five parameters of the paper are fitted over 20 pixels each way, as Shu et al. (2016, ApJ 833, 264) do, and again
with a symmetric profile. `alpha` is the shape of the observed profile, as in the tables of Li, Shu and Cao: the
line-spread function is not removed from it (`profiles.blur` puts it into a model). It is, from `fwhm`.

Flux, level and wavelength are corrected for the bias of least squares at finite S/N (`levenberg.bias`); the shape's
interval is that of `interval`: calibrated, not parabolic.
"""

import functools

import jax.numpy as jnp
import numpy as np

from lensjax.fit import interval, levenberg, skewnormal, staged
from lensjax.fit.levenberg import Data
from lensjax.physics import grid, lines

HALF_WIDTH = 20  # pixels fitted each way from the hit
MAX_OFFSET = 10.0  # pixels between the hit and the mean of the line
WIDTHS = (0.5, 10.0)  # standard deviation of the observed profile, pixels
MAX_BIAS = 0.2  # of the error: beyond it the expansion in the noise has broken down
ANGSTROM_PER_PIXEL = np.log(10) * grid.STEP  # relative to the wavelength
LSF_SIGMA = 1.05  # pixels, median of BOSS over 3800-5000 A, where none is given


def problem(skewed: bool = True, half: int = HALF_WIDTH) -> staged.Problem:
    """The fit as `staged.solve` takes it; flux in (unit of the data) x pixels, the rest as in `skewnormal`."""
    steepest = float(skewnormal.skewness(skewnormal.MAX_ALPHA)) if skewed else 0.0
    lower = (-1e6, -1e6, -MAX_OFFSET, float(np.log(WIDTHS[0])), -steepest)
    upper = (1e6, 1e6, MAX_OFFSET, float(np.log(WIDTHS[1])), steepest)
    x = tuple(map(float, range(-half, half + 1)))
    second = skewnormal.second if skewed else None
    return staged.Problem(skewnormal.line, skewnormal.start, lower, upper, x, second)


def cut(values: np.ndarray, position: np.ndarray, half: int = HALF_WIDTH) -> np.ndarray:
    """Pixels (2 half + 1, N), batch last, around the pixel nearest to `position` (N,) of `values` (N, P); else 0."""
    places = np.rint(position).astype(int) + np.arange(-half, half + 1)[:, None]
    inside = (places >= 0) & (places < values.shape[1])
    picked = values[np.arange(len(values)), np.clip(places, 0, values.shape[1] - 1)]
    return np.where(inside, picked, 0).astype(np.float32)


def fit_lines(
    flux: np.ndarray,
    ivar: np.ndarray,
    position: np.ndarray,
    loglam: np.ndarray,
    wdisp: np.ndarray | None = None,
    continuum: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Measure one line in each of N spectra.

    Args:
        flux: (N, P) flux density, 1e-17 erg/s/cm2/A, with or without the foreground galaxy.
        ivar: (N, P) inverse variance; 0 = bad pixel.
        position: (N,) fractional pixel of each hit, within ten pixels of the line.
        loglam: (P,) grid of the window, log10 vacuum Angstrom.
        wdisp: (N, P) sigma of the line-spread function, pixels; None = 1.05.
        continuum: (N, P) what was subtracted from flux, if anything: it counts in the equivalent width.

    Returns:
        (N,) arrays; X_err is one sigma, X_lower and X_upper bound 68 %:

        flux, flux_err: of the line, 1e-17 erg/s/cm2.
        level, level_err: the constant, 1e-17 erg/s/cm2/A.
        wave, wave_err: of the mean of the profile, vacuum Angstrom.
        z_source, z_source_err: wave / 1215.67 - 1.
        sigma, sigma_err: standard deviation of the observed profile, km/s.
        fwhm, fwhm_err: full width at half maximum without the line-spread function, km/s; 0 where unresolved.
        alpha, alpha_err, alpha_lower, alpha_upper: shape of the observed profile, within +-25, where an end means that
            the data set no limit; positive = red tail. alpha_err is half the interval.
        skewness, ...: standardised third moment, within +-0.995, a function of alpha alone, as is
        a_lambda, ...: (red - peak) / (peak - blue) at 10 % of the peak (Rhoads et al. 2003, AJ 125, 1006); 1 = even.
        ew, ew_err: flux over (level + continuum), observed-frame Angstrom; infinite where that is not positive.
        snr: of the fitted profile, flux over its error if all else were known.
        chi2, dof: of the fit; delta_chi2: by how much a symmetric profile is worse.
        status: 0 good, 1 a parameter at its bound, 2 not converged, 3 too few good pixels (nothing is meaningful).

    Raises:
        ValueError: shapes that do not fit together.
    """
    flux, ivar, position = np.asarray(flux), np.asarray(ivar), np.asarray(position, np.float64)
    if flux.shape != ivar.shape or flux.shape != (len(position), len(loglam)):
        raise ValueError(f"flux {flux.shape}, ivar {ivar.shape}: expected ({len(position)}, {len(loglam)}) of both")
    y, weight = cut(flux, position), cut(ivar, position)
    y = np.where(weight > 0, y, 0)  # what a bad pixel holds may not be finite
    num = len(position)
    rows, nearest = np.arange(num), np.clip(np.rint(position).astype(int), 0, len(loglam) - 1)
    sigma = np.full(num, LSF_SIGMA) if wdisp is None else np.asarray(wdisp)[rows, nearest]
    under = np.zeros(num) if continuum is None else np.asarray(continuum)[rows, nearest]
    centre = np.asarray(loglam)[0] + np.rint(position) * grid.STEP
    return measure(y, weight, centre, sigma, under)


def measure(y: np.ndarray, ivar: np.ndarray, centre: np.ndarray, lsf: np.ndarray, continuum: np.ndarray) -> dict:
    """`fit_lines` for (P, N) pixels already cut out, batch last.

    Args:
        y: (P, N) flux density, P odd.
        ivar: (P, N).
        centre: (N,) loglam of the middle pixel.
        lsf: (N,) sigma of the line-spread function, pixels.
        continuum: (N,) level that was subtracted.
    """
    half = len(y) // 2
    skewed = problem(half=half)
    solution = staged.solve(skewed, y, ivar)
    symmetric = staged.solve(problem(skewed=False, half=half), y, ivar)
    snr = solution.params[0] * np.sqrt(solution.information[0, 0])
    error = np.sqrt(np.diagonal(solution.covariance).T)
    ends = staged.in_chunks(interval.ends(skewed), (solution.params, error[-1], snr, y, ivar))
    with np.errstate(invalid="ignore"):  # infinite errors of what has no data
        out = _line_columns(solution, _correction(skewed, solution, error, y, ivar), error, centre, continuum)
        out |= _width_columns(solution, error, lsf) | _shape_columns(solution.params[-1], *ends)
        out |= {"snr": snr, "chi2": solution.chi2, "dof": solution.dof, "delta_chi2": symmetric.chi2 - solution.chi2}
    for name in out:
        if name.endswith("_err"):
            out[name] = np.where(np.isnan(out[name]), np.inf, out[name])
    return out | {"status": solution.status}


@functools.cache
def _biases(skewed: staged.Problem):
    def one(params, spread, y, ivar):
        data = Data(jnp.asarray(skewed.x, y.dtype), y, ivar)
        return jnp.stack(levenberg.bias(skewed.model, tuple(params), data, tuple(tuple(row) for row in spread)))

    return staged.batched(one)


def _correction(skewed: staged.Problem, solution: staged.Solution, error, y, ivar) -> np.ndarray:
    """What to take from the parameters (K, N) for their bias; nothing where the mean is not known to the line's width,
    as with bad pixels on one flank: no expansion about it holds there."""
    bias = staged.in_chunks(_biases(skewed), (solution.params, solution.covariance, y, ivar))[0]
    known = np.isfinite(error) & (error[2] < np.exp(solution.params[3]))
    limit = np.where(known, MAX_BIAS * error, 0.0)
    return np.clip(np.nan_to_num(bias, nan=0.0, posinf=0.0, neginf=0.0), -limit, limit)


def _line_columns(solution: staged.Solution, bias, error, centre, continuum) -> dict[str, np.ndarray]:
    """Flux, level, wavelength, redshift, equivalent width."""
    flux, level, mean = (solution.params - bias)[:3]
    wave = 10 ** (centre + mean * grid.STEP)
    wave_err = error[2] * wave * ANGSTROM_PER_PIXEL
    pixel = 10**centre * ANGSTROM_PER_PIXEL  # Angstrom: the profile is of unit sum over pixels
    under = level + continuum
    safe = np.where(under > 0, under, 1.0)
    ratio = flux / safe
    both = solution.covariance[0, 0] - 2 * ratio * solution.covariance[0, 1] + ratio**2 * solution.covariance[1, 1]
    ew_err = np.sqrt(np.maximum(both, 0)) / safe * pixel
    return {
        "flux": flux * pixel,
        "flux_err": error[0] * pixel,
        "level": level,
        "level_err": error[1],
        "wave": wave,
        "wave_err": wave_err,
        "z_source": wave / lines.LYA - 1,
        "z_source_err": wave_err / lines.LYA,
        "ew": np.where(under > 0, ratio * pixel, np.inf),
        "ew_err": np.where(under > 0, ew_err, np.inf),
    }


@functools.cache
def _shape_table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By arcsinh(alpha): FWHM over standard deviation, and A_lambda; from the density of scipy on a fine mesh."""
    from scipy.stats import skewnorm

    places = np.linspace(0, np.arcsinh(4 * skewnormal.MAX_ALPHA), 200)
    x = np.linspace(-6, 6, 24001)
    widths, asymmetries = [], []
    for alpha in np.sinh(places):
        density = skewnorm.pdf(x, alpha)
        peak = density.argmax()

        def crossings(level, density=density, peak=peak):
            blue = np.interp(level, density[: peak + 1] / density[peak], x[: peak + 1])
            return blue, np.interp(-level, -density[peak:] / density[peak], x[peak:])

        blue, red = crossings(0.5)
        widths.append((red - blue) / skewnorm.std(alpha))
        blue, red = crossings(0.1)
        asymmetries.append((red - x[peak]) / (x[peak] - blue))
    return places, np.array(widths), np.array(asymmetries)


def _fwhm(log_width, gamma, lsf, least) -> np.ndarray:
    """FWHM in km/s without the line-spread function; variances subtract, third moments stay; `least` variance left."""
    places, widths, _ = _shape_table()
    variance = np.maximum(np.exp(2 * log_width) - lsf**2, least)
    own = gamma * (np.exp(2 * log_width) / np.maximum(variance, 1e-6)) ** 1.5
    own = np.clip(own, -0.995, 0.995)  # noise may skew a line more than its own width allows
    ratio = np.interp(np.arcsinh(np.abs(skewnormal.shape(own))), places, widths)
    return ratio * np.sqrt(variance) * grid.PIXEL_KMS


def _width_columns(solution: staged.Solution, error, lsf) -> dict[str, np.ndarray]:
    """Standard deviation of the observed profile; FWHM without the line-spread function."""
    log_width, gamma = solution.params[3:]
    width = np.exp(log_width)
    spread = np.minimum(np.nan_to_num(error[3:], posinf=1e3), [[1.0], [0.5]])
    least = width**2 * spread[0]  # error of half the variance: what an unresolved line could have
    slopes = []
    for i in range(2):
        step = 0.1 * spread[i] * (np.arange(2)[:, None] == i)
        ends = [np.clip(gamma + s * step[1], -0.9948, 0.9948) for s in (-1, 1)]
        low, high = (_fwhm(log_width + s * step[0], e, lsf, least) for s, e in zip((-1, 1), ends, strict=True))
        run = ends[1] - ends[0] if i else 2 * step[0]
        slopes.append((high - low) / np.maximum(run, 1e-12))
    c = solution.covariance[3:, 3:]
    variance = slopes[0] ** 2 * c[0, 0] + 2 * slopes[0] * slopes[1] * c[0, 1] + slopes[1] ** 2 * c[1, 1]
    unresolved = 2.355 * np.sqrt(least) * grid.PIXEL_KMS
    resolved = width**2 - lsf**2 > least
    return {
        "sigma": width * grid.PIXEL_KMS,
        "sigma_err": width * error[3] * grid.PIXEL_KMS,
        "fwhm": np.where(width > lsf, _fwhm(log_width, gamma, lsf, 0.0), 0.0),
        "fwhm_err": np.where(resolved, np.sqrt(np.maximum(variance, 0)), unresolved),
    }


def _shape_columns(gamma, lower, upper) -> dict[str, np.ndarray]:
    """alpha, third moment and A_lambda, functions of one another, so that one interval serves the three."""
    places, _, asymmetries = _shape_table()

    def a_lambda(alpha):
        one_side = np.interp(np.arcsinh(np.abs(alpha)), places, asymmetries)
        return np.where(alpha >= 0, one_side, 1 / one_side)

    out = {}
    three = [np.clip(skewnormal.shape(g), -skewnormal.MAX_ALPHA, skewnormal.MAX_ALPHA) for g in (gamma, lower, upper)]
    for name, of in (("alpha", lambda a: a), ("skewness", skewnormal.skewness), ("a_lambda", a_lambda)):
        best, low, high = map(of, three)
        out |= {name: best, f"{name}_err": (high - low) / 2, f"{name}_lower": low, f"{name}_upper": high}
    return out
