"""Scores and truth -> the numbers of evaluation.json. Plain numpy: no network, no simulator.

Every fraction is [value, low, high] with its 68 % Jeffreys interval; null where nothing was counted.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lensjax.physics import grid
from lensjax.tasks import metrics

# Of one scorer: logit, wave (N,) and the truth label, snr, true_wave (N,); wavelengths in Angstrom.
Scored = Mapping[str, np.ndarray]

FAINT = 8.0  # matched-filter S/N that parts faint lines from bright ones
POSITION_PIXELS = 3.0  # a line placed within this is in the right place
SNR_EDGES = np.arange(4.0, 20.1, 1.0)
MAP_SNR_EDGES = np.arange(4.0, 20.1, 2.0)
WAVE_BINS = 8  # of the map
HISTOGRAM_BINS = 60
ROC_POINTS = 100


def fraction(hits: int, number: int) -> list[float | None]:
    """[value, low, high] of hits out of number."""
    if not number:
        return [None, None, None]
    low, high = metrics.binomial_interval(np.array(hits), np.array(number))
    return [hits / number, float(low), float(high)]


def share(chosen: np.ndarray) -> list[float | None]:
    """[value, low, high] of the True in (N,)."""
    return fraction(int(chosen.sum()), chosen.size)


def summarise(
    scored: Scored, fprs: tuple[float, ...], cut: float, window: tuple[float, float] = (3800.0, 5000.0)
) -> dict[str, Any]:
    """All numbers of one scorer on one set of mocks.

    Args:
      scored: see `Scored`.
      fprs: false-positive rates at which completeness is compared.
      cut: the logit at which the scorer calls a line, as it comes.
      window: of the search, Angstrom: the completeness map divides it.
    """
    return {
        "roc_auc": metrics.roc_auc(scored["logit"], scored["label"]),
        "average_precision": metrics.average_precision(scored["logit"], scored["label"]),
        "at_threshold": at_threshold(scored, cut),
        "at_fpr": {f"{fpr:g}": at_fpr(scored, fpr, window) for fpr in fprs},
        "position": position(scored, cut),
        "roc": roc(scored),
        "histogram": histogram(scored, cut),
    }


def at_threshold(scored: Scored, cut: float) -> dict[str, Any]:
    """Purity, completeness, accuracy, and false positives per 100,000 spectra without a line."""
    truth, chosen = scored["label"] > 0.5, scored["logit"] > cut
    rate = share(chosen[~truth])
    return {
        "purity": share(truth[chosen]),
        "completeness": share(chosen[truth]),
        "accuracy": share(chosen == truth),
        "false_positives_per_100000": [None if value is None else 1e5 * value for value in rate],
    }


def at_fpr(scored: Scored, fpr: float, window: tuple[float, float]) -> dict[str, Any]:
    """Completeness where at most the share `fpr` of the spectra without a line score higher.

    A low rate is set by few spectra: `cut_uncertainty` holds the completeness at the cuts that one standard deviation
    fewer or more false positives would set.
    """
    logit, truth = scored["logit"], scored["label"] > 0.5
    cut = metrics.threshold_at_fpr(logit, truth, fpr)
    wobble = np.sqrt(fpr / max((~truth).sum(), 1))
    others = [metrics.completeness_at_fpr(logit, truth, max(fpr + sign * wobble, 0.0)) for sign in (-1, 1)]
    found = logit > cut
    return {
        "cut": cut,
        "false_positives": int((found & ~truth).sum()),
        "false_positive_rate": share(found[~truth]),
        "completeness": share(found[truth]),
        "cut_uncertainty": others,
        "completeness_faint": share(found[truth & (scored["snr"] < FAINT)]),
        "completeness_bright": share(found[truth & (scored["snr"] >= FAINT)]),
        "by_snr": by_snr(scored, cut),
        "by_snr_wave": by_snr_wave(scored, cut, window),
    }


def by_snr(scored: Scored, cut: float) -> dict[str, list]:
    """Completeness in bins of the line's true S/N."""
    lines = scored["label"] > 0.5
    whole = np.array([0.0, np.inf])
    rates = metrics.completeness_map(
        scored["logit"][lines] > cut, scored["snr"][lines], scored["true_wave"][lines], SNR_EDGES, whole
    )
    return {"edges": SNR_EDGES.tolist()} | {name: listed(values[:, 0]) for name, values in rates.items()}


def by_snr_wave(scored: Scored, cut: float, window: tuple[float, float]) -> dict[str, list]:
    """Completeness in cells of the line's true S/N (rows) and wavelength (columns)."""
    lines, wave_edges = scored["label"] > 0.5, np.linspace(*window, WAVE_BINS + 1)
    rates = metrics.completeness_map(
        scored["logit"][lines] > cut, scored["snr"][lines], scored["true_wave"][lines], MAP_SNR_EDGES, wave_edges
    )
    edges = {"snr_edges": MAP_SNR_EDGES.tolist(), "wave_edges": wave_edges.tolist()}
    return edges | {name: listed(values) for name, values in rates.items()}


def listed(values: np.ndarray) -> list:
    """Nested lists, with None for nan: JSON has no nan."""
    out = values.astype(object)
    out[~np.isfinite(values)] = None
    return out.tolist()


def position(scored: Scored, cut: float) -> dict[str, Any]:
    """How well the wavelength of the bright lines that were found is known."""
    found = (scored["label"] > 0.5) & (scored["snr"] > FAINT) & (scored["logit"] > cut)
    pixels = np.log10(scored["wave"][found] / scored["true_wave"][found]) / grid.STEP
    near = np.abs(pixels) <= POSITION_PIXELS
    rms = float(np.sqrt(np.mean(pixels[near] ** 2))) if near.any() else None
    return {"number": int(found.sum()), "within_3_pixels": share(near), "rms_pixels": rms}


def roc(scored: Scored) -> dict[str, list[float]]:
    """The ROC curve at rates evenly spaced in the logarithm, from one false positive to all."""
    curve = metrics.roc_curve(scored["logit"], scored["label"])
    number = max(int((scored["label"] <= 0.5).sum()), 1)
    rates = np.geomspace(1 / number, 1.0, ROC_POINTS)
    at = np.searchsorted(curve.fpr, rates * (1 + 1e-9), side="right") - 1
    return {"fpr": rates.tolist(), "completeness": curve.completeness[at].tolist()}


def histogram(scored: Scored, cut: float) -> dict[str, Any]:
    """Counts of the logit with and without a line; the highest thousandth is in the last bin."""
    low, high = np.quantile(scored["logit"], [0.0, 0.999])
    edges = np.linspace(low, max(high, low + 1e-3), HISTOGRAM_BINS + 1)
    inside = np.clip(scored["logit"], edges[0], edges[-1])
    truth = scored["label"] > 0.5
    counts = {name: np.histogram(inside[chosen], edges)[0].tolist() for name, chosen in
              (("lines", truth), ("without", ~truth))}  # fmt: skip
    return {"cut": float(cut), "edges": edges.tolist(), **counts}
