"""Purity and precision in a survey where few objects are lenses, from a test set where many are."""

from typing import Any

import numpy as np

LEVELS = (0.16, 0.84)  # of the errors
POINTS = 60  # of the purity-completeness curve


def summarise(score: np.ndarray, label: np.ndarray, settings: Any, seed: int) -> dict[str, Any]:
    """Each with its value, and lower and upper end of its 68 % interval by bootstrap within the classes.

    score (N,); label (N,) bool. settings: base_rate (lenses among the objects), survey (objects), inspected (numbers
    of best objects that are looked at), fpr (rates), resamples. Returns roc_auc; at_fpr, the completeness at each of
    the rates, whose interval holds the scatter of the threshold; precision of each number inspected; and curves: purity
    and fpr at each completeness.
    """
    order = np.argsort(-score, kind="stable")
    lens, ties = label[order], np.append(np.diff(score[order]) != 0, True)
    rng, completeness = np.random.default_rng(seed), np.linspace(0, 1, POINTS + 1)[1:]
    draws = [measure(np.ones(len(lens)), lens, ties, completeness, settings)]
    for _ in range(settings.resamples):
        draws.append(measure(resample(rng, lens), lens, ties, completeness, settings))
    areas, founds, precisions, purities, rates = (np.stack(parts) for parts in zip(*draws, strict=True))
    precision = {str(n): interval(precisions[:, i]) for i, n in enumerate(settings.inspected)}
    curve = {"purity": interval(purities), "fpr": interval(rates), "completeness": completeness.tolist()}
    about = {"base_rate": settings.base_rate, "objects": settings.survey}
    at_fpr = {f"{fpr:g}": interval(founds[:, i]) for i, fpr in enumerate(settings.fpr)}
    return {**about, "roc_auc": interval(areas), "at_fpr": at_fpr, "precision": precision, "curve": curve}


def resample(rng: np.random.Generator, lens: np.ndarray) -> np.ndarray:
    """How often each object (N,) is drawn: with repetition, as many of either class as there are."""
    times = np.zeros(len(lens))
    for rows in (np.flatnonzero(lens), np.flatnonzero(~lens)):
        times[rows] = np.bincount(rng.integers(0, len(rows), len(rows)), minlength=len(rows))
    return times


def measure(
    times: np.ndarray, lens: np.ndarray, ties: np.ndarray, completeness: np.ndarray, settings: Any
) -> tuple[np.ndarray, ...]:
    """(roc_auc (), completeness (F,) at the rates settings.fpr, precision (I,), purity (P,), fpr (P,)) of objects best
    first, each counted `times` (N,).

    lens (N,) bool; ties (N,): False where the next object has the same score.
    """
    found, false = rates(times, lens, ties)
    area = np.trapezoid(found, false)
    within = np.searchsorted(false, np.array(settings.fpr) + 1e-12, "right") - 1  # the last cut that keeps the rate
    of_lenses, of_others = settings.base_rate * found, (1 - settings.base_rate) * false
    wanted = np.array(settings.inspected) / settings.survey
    inside = np.interp(wanted, of_lenses + of_others, of_lenses)
    place = np.searchsorted(found, completeness - 1e-12)
    purity = of_lenses[place] / (of_lenses[place] + of_others[place])
    return np.asarray(area), found[within], inside / wanted, purity, false[place]


def rates(times: np.ndarray, lens: np.ndarray, ties: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(completeness, false-positive rate) after each distinct score, from (0, 0) to (1, 1)."""
    found, false = (np.append(0.0, np.cumsum(times * here)[ties]) for here in (lens, ~lens))
    return found / found[-1], false / false[-1]


def interval(draws: np.ndarray) -> dict[str, Any]:
    """value, the first of draws (R, ...), which is the sample's, and lower and upper of the others; lists if (R, P)."""
    low, high = np.quantile(draws[1:], LEVELS, axis=0) if len(draws) > 1 else (draws[0], draws[0])
    return {"value": draws[0].tolist(), "lower": low.tolist(), "upper": high.tolist()}
