"""Measures Mg II absorbers: both lines of the doublet on a local continuum, by batched least squares.

What is fitted is in `doublet`: W of either line, redshift, width and a quadratic, over 40 pixels (2800 km/s) each way.
Pixels that belong to neighbouring absorbers, or to cosmic rays, are found by their residuals and left out of a second
fit. Other lines of the same gas, and the false doublets that they make, are in `metals`; what to think of it all in
`absorber_flags`.

The equivalent widths of a catalogue are those of the fit, `ew_2796` and `ew_2803`. `ew_2796_sum` and `ew_2803_sum` add
the residuals between the model and the data, pixel by pixel: they hold for lines of any shape, with a larger error.
"""

import functools

import numpy as np

from lensjax.fit import doublet, staged
from lensjax.fit.doublet import SEPARATION
from lensjax.fit.lya import cut
from lensjax.fit.skewnormal import PIXEL_VARIANCE
from lensjax.physics import grid, lines

MIDDLE = float(np.sqrt(lines.MGII[0] * lines.MGII[1]))  # of the doublet in log wavelength, A
ANGSTROM = tuple(wave * np.log(10) * grid.STEP for wave in lines.MGII)  # rest-frame width of a pixel at either line
LSF_SIGMA = 1.0  # pixels, where none is given
CORE = 2.5  # standard deviations each way of a line that belong to it, and one pixel
LOW, HIGH, SPIKE = 4.0, 4.0, 6.0  # residuals, in sigma, that are left out: absorption and emission beside, spike inside
WIDEN = 2  # pixels each way of an outlier that are left out with it
PASSES = 2  # of looking for outliers
SUM = 3.0  # standard deviations each way of a line that the direct sum covers
Columns = dict[str, np.ndarray]


def fit_doublets(
    flux: np.ndarray,
    ivar: np.ndarray,
    z: np.ndarray,
    loglam: np.ndarray,
    wdisp: np.ndarray | None = None,
    continuum: np.ndarray | None = None,
    half: int = doublet.HALF_WIDTH,
) -> Columns:
    """Measure one absorber in each of N spectra.

    Args:
        flux: (N, P) flux density, any unit.
        ivar: (N, P) inverse variance; 0 = bad pixel.
        z: (N,) first guess of its redshift, within 400 km/s.
        loglam: (P,) grid, log10 vacuum Angstrom.
        wdisp: (N, P) sigma of the line-spread function, pixels; None = 1.
        continuum: (N, P) of the quasar, which the local quadratic then multiplies; None = the quadratic alone.
        half: pixels fitted each way of the guess.

    Returns:
        (N,) arrays; X_err is one sigma; equivalent widths and widths are in Angstrom in the absorber's frame:

        z_abs, z_abs_err: redshift.
        ew_2796, ew_2796_err, ew_2803, ew_2803_err: equivalent widths, positive = absorption. For catalogues.
        ew_2796_sum, ew_2796_sum_err, ...: by direct integration.
        ratio, ratio_err: ew_2796 / ew_2803; 2 for thin, 1 for saturated gas; infinite where 2803 is not positive.
        fwhm, fwhm_err: of the line 2796 without the line-spread function (of the light it takes, not of its optical
            depth); fwhm_err is an upper limit where unresolved.
        snr, snr_2796, snr_2803: W over its error, of the doublet (both, with their covariance) and of either line.
        level: continuum at the doublet, unit of flux. sigma: standard deviation of 2803 as observed, pixels.
        good_2796, good_2803: share of the line's profile that falls on good pixels, 0..1.
        masked: pixels left out as outliers. sky_noise: error at the lines over the median error around them.
        scale: factor on the errors above, 1 unless chi2 is more than two sigma above what noise gives.
        chi2, dof: of the fit.
        status: 0 good, 1 a parameter at its bound, 2 not converged, 3 too few good pixels, or no light (nothing is
            meaningful).

    Raises:
        ValueError: shapes that do not fit together.
    """
    flux, ivar, z = np.asarray(flux), np.asarray(ivar), np.asarray(z, np.float64)
    if flux.shape != ivar.shape or flux.shape != (len(z), len(loglam)):
        raise ValueError(f"flux {flux.shape}, ivar {ivar.shape}: expected ({len(z)}, {len(loglam)}) of both")
    position = grid.pixel(MIDDLE * (1 + z), loglam)
    y, weight, unit = normalise(flux, ivar, position, continuum, half)
    nearest = np.clip(np.rint(position).astype(int), 0, len(loglam) - 1)
    lsf = np.full(len(z), LSF_SIGMA) if wdisp is None else np.asarray(wdisp, np.float64)[np.arange(len(z)), nearest]
    return measure(y, weight, np.asarray(loglam)[0] + np.rint(position) * grid.STEP, lsf, unit)


def normalise(flux, ivar, position, continuum, half: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels around `position`, batch last: flux over the continuum (P, N), inverse variance, unit of the flux (N,).

    Without a continuum, over the median of |flux|. 0 where bad or without continuum.
    """
    y, weight = cut(flux, position, half), cut(ivar, position, half)
    if continuum is None:
        middle = _median(np.abs(y), weight > 0)
        under = np.broadcast_to(np.where(middle > 0, middle, 1.0), y.shape)
    else:
        under = cut(continuum, position, half)
    good = (weight > 0) & (under > 0) & np.isfinite(under)
    safe = np.where(good, under, 1.0)
    return np.where(good, y / safe, 0.0), np.where(good, weight * safe**2, 0.0), under[half]


def measure(y: np.ndarray, ivar: np.ndarray, centre: np.ndarray, lsf: np.ndarray, unit: np.ndarray) -> Columns:
    """`fit_doublets` for (P, N) pixels already cut out, batch last.

    Args:
        y: (P, N) flux density of order one, P odd. ivar: (P, N).
        centre: (N,) loglam of the middle pixel. lsf: (N,) sigma of the line-spread function, pixels.
        unit: (N,) what y was divided by there.
    """
    half = len(y) // 2
    solution, used = solve(y, ivar)
    full, continuum = doublet.values(solution.params, half)
    excess = solution.chi2 / np.maximum(solution.dof, 1) - 2 * np.sqrt(2 / np.maximum(solution.dof, 1))
    scale = np.sqrt(np.maximum(excess, 1.0))
    spread = solution.covariance * scale**2
    ews, mean, log_width = solution.params[:2], solution.params[2], solution.params[3]
    sigma = np.sqrt(np.stack([doublet.shape(ew, np.exp(2 * log_width))[0] for ew in ews]))
    with np.errstate(invalid="ignore", divide="ignore"):
        z_abs = 10 ** (centre + mean * grid.STEP) / MIDDLE - 1
        dark = (continuum[half] <= 0) | ~np.isfinite(ews).all(0)
        out = {"z_abs": z_abs, "z_abs_err": (1 + z_abs) * np.log(10) * grid.STEP * np.sqrt(spread[2, 2])}
        out |= _width_columns(ews, spread) | _fwhm_columns(ews[0], log_width, spread, lsf)
        out |= _sum_columns(y - full, used, continuum, ews, mean, sigma, spread[4, 4], scale)
        out |= _coverage_columns(ivar, used, mean, sigma)
    middle = np.clip(np.rint(np.nan_to_num(mean)), -half, half).astype(int) + half
    out |= {"level": continuum[middle, np.arange(len(middle))] * unit, "sigma": sigma[1], "scale": scale}
    out |= {"chi2": solution.chi2, "dof": solution.dof}
    for name in out:
        if name.endswith("_err"):
            out[name] = np.where(np.isnan(out[name]), np.inf, out[name])
    return out | {"status": np.where(dark, staged.NO_DATA, solution.status)}


def solve(y: np.ndarray, ivar: np.ndarray, stretch: float = 1.0) -> tuple[staged.Solution, np.ndarray]:
    """The fit without outliers, and the inverse variances (P, N) it used; stretch: see `doublet.abscissa`."""
    half = len(y) // 2
    problem = doublet.problem(half, stretch)
    solution, used = staged.solve(problem, y, ivar), np.array(ivar)
    changed = np.arange(y.shape[1])
    for _ in range(PASSES):
        model = doublet.values(solution.params[:, changed], half, stretch)[0]
        bad = outliers(y[:, changed] - model, ivar[:, changed], solution.params[:, changed], stretch)
        bad &= used[:, changed] > 0
        changed, bad = changed[bad.any(0)], bad[:, bad.any(0)]
        if not len(changed):
            break
        used[:, changed] = np.where(bad, 0, used[:, changed])
        again = staged.solve(problem, y[:, changed], used[:, changed])
        for whole, part in zip(solution, again, strict=True):
            whole[..., changed] = part
    return solution, used


def outliers(residual: np.ndarray, ivar: np.ndarray, params: np.ndarray, stretch: float = 1.0) -> np.ndarray:
    """Pixels (P, N) of neighbouring absorbers, emission or spikes: True.

    Outside the two lines, what is LOW sigma too low, alone or as a mean of three pixels, or HIGH sigma too high, and
    the pixels beside; inside, what is SPIKE sigma too high. Sigma is the stated one, or that of the residuals outside
    the lines if larger.
    """
    x = doublet.abscissa(len(residual) // 2, stretch)[:, None]
    inside = np.zeros(residual.shape, bool)
    for ew, place in zip(params[:2], doublet.PLACES, strict=True):
        sigma = np.sqrt(doublet.shape(ew, np.exp(2 * params[3]))[0])
        inside |= np.abs(x - params[2] - place) < CORE * sigma + stretch
    pull = residual * np.sqrt(ivar)
    scatter = _median(np.abs(pull), ~inside & (ivar > 0)) / 0.6745
    pull = pull / np.maximum(scatter, 1.0)
    padded = np.pad(np.where(inside, 0, pull), ((1, 1), (0, 0)))
    smooth = (padded[:-2] + padded[1:-1] + padded[2:]) / np.sqrt(3)
    wrong = ~inside & ((pull > HIGH) | (pull < -LOW) | (smooth < -LOW))
    wide = np.pad(wrong, ((WIDEN, WIDEN), (0, 0)))
    wide = functools.reduce(np.logical_or, [wide[i : i + len(wrong)] for i in range(2 * WIDEN + 1)])
    return (wide & ~inside) | (inside & (pull > SPIKE))


def _median(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Median (N,) of those of `values` (P, N) that are `counted`; 0 where none is."""
    ordered = np.sort(np.where(counted, values, np.inf), axis=0)
    number = counted.sum(0)
    columns = np.arange(values.shape[1])
    low, high = (
        ordered[place // 2, columns] for place in (np.maximum(number - 1, 0), np.minimum(number, 2 * number - 2))
    )
    return np.where(number > 0, 0.5 * (low + high), 0.0)


def _width_columns(ews: np.ndarray, spread: np.ndarray) -> Columns:
    """Equivalent widths, their ratio, and what they are in units of their errors."""
    error = np.sqrt([spread[0, 0], spread[1, 1]])
    blue, red = ews
    ratio = blue / np.where(red > 0, red, np.nan)
    of_ratio = spread[0, 0] - 2 * ratio * spread[0, 1] + ratio**2 * spread[1, 1]
    determinant = spread[0, 0] * spread[1, 1] - spread[0, 1] ** 2
    square = blue**2 * spread[1, 1] - 2 * blue * red * spread[0, 1] + red**2 * spread[0, 0]
    out = {"snr": np.nan_to_num(np.sqrt(np.maximum(square / determinant, 0)))}
    for i, name in enumerate(("2796", "2803")):
        out |= {f"ew_{name}": ews[i] * ANGSTROM[i], f"ew_{name}_err": error[i] * ANGSTROM[i]}
        out[f"snr_{name}"] = np.nan_to_num(ews[i] / error[i])
    scale = ANGSTROM[0] / ANGSTROM[1]
    out["ratio"] = np.where(red > 0, ratio * scale, np.inf)
    return out | {"ratio_err": np.sqrt(of_ratio) / red * scale}


def _fwhm(ew, log_width, lsf) -> tuple[np.ndarray, np.ndarray]:
    """FWHM of the blue line without the line-spread function, pixels, and its variance, which may be negative."""
    own = doublet.shape(ew, np.exp(2 * log_width))[0] - lsf**2 - PIXEL_VARIANCE
    deviation = np.sqrt(np.maximum(own, 1e-6))
    return deviation * np.interp(ew / deviation, *doublet.fwhm_table()), own


def _fwhm_columns(ew, log_width, spread, lsf) -> Columns:
    steps = 0.1 * np.sqrt([spread[0, 0], spread[3, 3]])
    steps = np.minimum(np.nan_to_num(steps, nan=1.0, posinf=1.0), [[1.0], [0.1]])
    slopes, variances = [], []
    for i in range(2):
        step = [steps[j] * (i == j) for j in range(2)]
        low, high = (_fwhm(ew + s * step[0], log_width + s * step[1], lsf) for s in (-1, 1))
        slopes.append((high[0] - low[0]) / (2 * np.maximum(steps[i], 1e-12)))
        variances.append((high[1] - low[1]) / (2 * np.maximum(steps[i], 1e-12)))

    def error(by_ew, by_width):
        square = by_ew**2 * spread[0, 0] + 2 * by_ew * by_width * spread[0, 3] + by_width**2 * spread[3, 3]
        return np.sqrt(np.maximum(square, 0))

    fwhm, own = _fwhm(ew, log_width, lsf)
    uncertain = error(*variances)  # of the variance: what an unresolved line could have
    limit = 2.355 * np.sqrt(np.maximum(own, 0) + uncertain)
    out = {"fwhm": np.where(own > 0, fwhm, 0.0), "fwhm_err": np.where(own > uncertain, error(*slopes), limit)}
    return {name: values * ANGSTROM[0] for name, values in out.items()}


def _sum_columns(residual, used, continuum, ews, mean, sigma, level_variance, scale) -> Columns:
    """Direct integration: the model's W, and what the data lack besides in that line's half of the doublet."""
    half = len(residual) // 2
    x = np.arange(-half, half + 1)[:, None] - mean
    safe = np.where(continuum > 0, continuum, np.inf)
    lost = np.where(used > 0, -residual / safe, 0.0)
    variance = np.where(used > 0, 1 / (np.where(used > 0, used, 1.0) * safe**2), 0.0)
    out = {}
    for i, (name, side) in enumerate((("2796", -1), ("2803", 1))):
        near = (side * x >= 0) & (np.abs(x - side * 0.5 * SEPARATION) <= SUM * sigma[i] + 0.5)
        level_error = near.sum(0) * np.sqrt(level_variance) / np.maximum(continuum[half], 1e-6) / scale
        error = np.sqrt((near * variance).sum(0) + level_error**2) * scale
        out[f"ew_{name}_sum"] = (ews[i] + (near * lost).sum(0)) * ANGSTROM[i]
        out[f"ew_{name}_sum_err"] = error * ANGSTROM[i]
    return out


def _coverage_columns(ivar, used, mean, sigma) -> Columns:
    """How much of either line is seen, how many pixels were left out, how noisy the lines are beside the rest."""
    half = len(ivar) // 2
    x = np.arange(-half, half + 1)[:, None] - mean
    out: Columns = {"masked": ((ivar > 0) & (used == 0)).sum(0)}
    noise = np.where(ivar > 0, 1 / np.sqrt(np.where(ivar > 0, ivar, 1.0)), 0.0)
    usual = _median(noise, ivar > 0)
    worst = np.ones(len(mean))
    for i, (name, side) in enumerate((("2796", -1), ("2803", 1))):
        profile = np.exp(-0.5 * ((x - side * 0.5 * SEPARATION) / sigma[i]) ** 2)
        seen = (profile * (used > 0)).sum(0)
        out[f"good_{name}"] = seen / np.maximum(profile.sum(0), 1e-6)
        here = (profile * noise).sum(0) / np.maximum((profile * (ivar > 0)).sum(0), 1e-6)
        worst = np.maximum(worst, here / np.where(usual > 0, usual, np.inf))
    return out | {"sky_noise": worst}
