"""The other lines that a galaxy would show if a line were not Lyman-alpha: measured all at once, and weighed.

A line of a nearer galaxy comes with others: [OII] with Hbeta, [OIII] and Halpha, and those with [OII]. Each is
measured where the redshift puts it, and held against what star-forming galaxies show, with the errors of that place: an
absence counts as much as a presence, and a line without data counts for nothing.
"""

from typing import Any

import numpy as np

from lensjax.fit.lya import ANGSTROM_PER_PIXEL, HALF_WIDTH, cut
from lensjax.fit.skewnormal import PIXEL_VARIANCE
from lensjax.physics import grid, lines

Columns = dict[str, np.ndarray]
OIII_RATIO = 2.98  # 5008 over 4960 (Storey & Zeippen 2000, MNRAS 312, 813)
STRONG = {"oii": (lines.OII,), "hbeta": (lines.HBETA,), "oiii": lines.OIII, "halpha": (lines.HALPHA,)}
OF_OII = ("hbeta", "oiii", "halpha")
# What a line of 3800-5000 A may be in a galaxy so near that its [OII] is missed, and which lines prove it.
NEARBY = (
    (lines.HGAMMA, ("oii", "hbeta", "oiii", "halpha")),
    (lines.HBETA, ("oii", "oiii", "halpha")),
    (lines.OIII[0], ("oii", "hbeta", "halpha")),
)
LEAST_ODDS = -9.0  # where no such galaxy has the line
LOWEST_Z = -0.001  # of a galaxy: 300 km/s towards us
WIDE_ERROR = 10.0  # errors of the few pixels that no noise model describes, in units of the stated ones
NODES = np.linspace(-3.5, 3.5, 71)  # of the integral over a line's prior, in its standard deviations


def fit_profile(y: np.ndarray, ivar: np.ndarray, offset: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, ...]:
    """Gaussian of known place and width on a free constant, by closed-form least squares.

    Args:
        y, ivar: (P, N) pixels around a place, batch last, P odd; ivar 0 = bad pixel.
        offset: (N,) pixels from the middle one to the line. sigma: (N,) its standard deviation, pixels.

    Returns:
        flux (N,) in the unit of y x pixel, and its error; 0 and infinite where no good pixel is under the profile.
    """
    half = len(y) // 2
    variance = np.asarray(sigma) ** 2 + PIXEL_VARIANCE
    x = np.arange(-half, half + 1)[:, None] - offset
    profile = np.exp(-0.5 * x**2 / variance) / np.sqrt(2 * np.pi * variance)
    total = np.maximum(ivar.sum(0), 1e-30)
    centred = profile - (ivar * profile).sum(0) / total
    square = (ivar * centred**2).sum(0)
    clear = 1 / (2 * np.sqrt(np.pi * variance))  # sum of profile^2: at least a third of it must be seen
    seen = square > 0.3 * clear * total / np.maximum((ivar > 0).sum(0), 1)
    safe = np.where(seen, square, 1.0)
    return np.where(seen, (ivar * centred * y).sum(0) / safe, 0.0), np.where(seen, 1 / np.sqrt(safe), np.inf)


def measure_companions(
    flux: np.ndarray, ivar: np.ndarray, z: np.ndarray, sigma: np.ndarray, loglam: np.ndarray, names=OF_OII
) -> Columns:
    """Fluxes of the lines `names` of STRONG at redshift z (N,), of width sigma (N,) pixels.

    [OIII] is 4960 and 5008 together, as flux of 5008. Errors are widened where pixels scatter more than they say.

    Args:
        flux: (N, P) the whole spectrum without the foreground galaxy. ivar: (N, P), 0 = bad or not to be trusted.
        loglam: (P,).

    Returns:
        (N,) arrays flux_X, flux_X_err (1e-17 erg/s/cm2; the error infinite where there are no data) and snr_X.
    """
    out = {}
    for name in names:
        parts = [_measure(flux, ivar, (1 + z) * rest, sigma, loglam) for rest in STRONG[name]]
        if name == "oiii":
            parts[0] = (OIII_RATIO * parts[0][0], OIII_RATIO * parts[0][1])
        weight = sum((error**-2.0 for _, error in parts), np.zeros(len(z)))
        seen = weight > 0
        safe = np.where(seen, weight, 1.0)
        best = np.where(seen, sum((f * error**-2.0 for f, error in parts), np.zeros(len(z))) / safe, 0.0)
        error = np.where(seen, safe**-0.5, np.inf)
        out |= {f"flux_{name}": best, f"flux_{name}_err": error, f"snr_{name}": best / error}
    return out


def _measure(flux, ivar, wave: np.ndarray, sigma: np.ndarray, loglam: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flux of one line at wave (N,) and its error, 1e-17 erg/s/cm2."""
    place = grid.pixel(wave, loglam)
    wide, weight = cut(flux, place, 3 * HALF_WIDTH), cut(ivar, place, 3 * HALF_WIDTH)
    weight = weight / np.maximum(_scatter(wide, weight), 1.0) ** 2
    near = slice(2 * HALF_WIDTH, -2 * HALF_WIDTH)
    best, error = fit_profile(np.where(weight > 0, wide, 0)[near], weight[near], place - np.rint(place), sigma)
    pixel = wave * ANGSTROM_PER_PIXEL
    return best * pixel, error * pixel


def _scatter(y: np.ndarray, ivar: np.ndarray) -> np.ndarray:
    """Scatter (N,) of (P, N) pixels over their errors, by the median of |pull|; 1 where no pixel is good."""
    good = ivar > 0
    order = np.sort(np.where(good, np.abs(y) * np.sqrt(ivar), np.inf), axis=0)
    middle = np.take_along_axis(order, np.minimum(good.sum(0) // 2, len(order) - 1)[None], axis=0)[0]
    return np.where(np.isfinite(middle), 1.4826 * middle, 1.0)


def weigh(columns: Columns, flux: np.ndarray, ratios: Any, outliers: float) -> np.ndarray:
    """log10 of the Bayes factor that companions give to a line of known flux being what is assumed.

    Each is its likelihood over a lognormal prior of its flux relative to the line's, over that of no flux; in both, a
    fraction of all places have ten times the stated error. One place alone, which a cosmic ray may have hit, proves no
    more than 1/outliers.

    Args:
        columns: of `measure_companions`. flux: (N,) of the line, 1e-17 erg/s/cm2.
        ratios: name -> (median of the companion's flux over the line's, scatter in dex).
        outliers: that fraction.

    Returns:
        (N,) log10 odds; 0 where nothing can be said.
    """
    total = np.zeros(len(flux))
    prior = np.exp(-0.5 * NODES**2)[:, None] / np.exp(-0.5 * NODES**2).sum()
    for name, (median, scatter) in ratios.items():
        error = columns[f"flux_{name}_err"]
        seen = np.isfinite(error) & (flux > 0)
        pull = np.where(seen, columns[f"snr_{name}"], 0.0)
        unit = np.where(seen, flux / np.where(seen, error, 1.0), 0.0)
        expected = 10 ** (np.log10(median) + scatter * NODES)[:, None] * unit
        line = (prior * _likelihood(pull - expected, outliers)).sum(0)
        odds = np.minimum(np.log10(line / _likelihood(pull, outliers)), -np.log10(outliers))
        total += np.where(seen, odds, 0.0)
    return total


def _likelihood(pull: np.ndarray, outliers: float) -> np.ndarray:
    """Of a pull under Gaussian errors, a fraction of which are wider than stated; up to a constant, never 0."""
    wide = np.exp(-0.5 * (pull / WIDE_ERROR) ** 2) / WIDE_ERROR
    return (1 - outliers) * np.exp(-0.5 * pull**2) + outliers * wide + 1e-12


def oii_odds(columns: Columns, chi2: np.ndarray, settings: Any) -> np.ndarray:
    """log10 of the odds (N,) that the spectrum gives to [OII] over a single line: doublet and companions.

    The doublet's are half the difference of chi2, and bounded, as no real line is exactly either profile.

    Args:
        columns: of `oii.fit_doublet` and `measure_companions`. chi2: (N,) of the skew normal.
        settings: config.vet.oii: ratios, outliers, doublet_limit.
    """
    half = np.nan_to_num((chi2 - columns["oii_chi2"]) / (2 * np.log(10)))
    doublet = np.clip(half, -settings.doublet_limit, settings.doublet_limit)
    return doublet + weigh(columns, columns["oii_flux"], dict(settings.ratios), settings.outliers)


def nearby_odds(flux, ivar, line: Columns, loglam: np.ndarray, settings: Any) -> np.ndarray:
    """log10 of the odds (N,) that the line is Hgamma, Hbeta or [OIII] of a very near galaxy: the best of the three.

    Args:
        flux, ivar: (N, P) as of `measure_companions`. line: columns wave (A), flux and sigma (km/s).
        settings: config.vet.oii: nearby (prior of all ratios), outliers.
    """
    best = np.full(len(line["wave"]), -np.inf)
    sigma = np.clip(line["sigma"] / grid.PIXEL_KMS, 1.0, 3.0)
    for rest, names in NEARBY:
        z = line["wave"] / rest - 1
        found = measure_companions(flux, ivar, z, sigma, loglam, names)
        odds = weigh(found, line["flux"], dict.fromkeys(names, settings.nearby), settings.outliers)
        best = np.maximum(best, np.where(z > LOWEST_Z, odds, -np.inf))
    return np.where(np.isfinite(best), best, LEAST_ODDS)
