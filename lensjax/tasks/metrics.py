"""How good a list of scores is, in the names of the field. numpy, outside jit.

score, label (N,): higher is more line-like; label 1 has a line. Rates that have no objects to count are nan.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, SupportsFloat

import numpy as np
from scipy import optimize, stats

ONE = 1 - 1e-9  # object without a line, but for rounding: false-positive rates that mean fewer are not told


class Curve(NamedTuple):
    """A ROC curve from (0, 0) to (1, 1): false-positive rate and completeness of `score >= threshold`."""

    fpr: np.ndarray
    completeness: np.ndarray
    threshold: np.ndarray


def make_metrics(config: Any) -> Callable[[dict, dict], dict[str, float]]:
    """metrics(predicted, truth) of a test split: `binary_metrics` of dicts with score (N,) and label (N,)."""
    threshold, gamma = config.evaluate.threshold, config.loss.gamma
    return lambda predicted, truth: binary_metrics(predicted["score"], truth["label"], threshold, gamma)


def binary_metrics(
    score: np.ndarray, label: np.ndarray, threshold: float = 0.5, gamma: float = 2.0
) -> dict[str, float]:
    """Metrics of probabilities `score` in 0..1, candidates being those above `threshold`.

    accuracy; purity (precision; Li et al. 2018 call it accuracy); completeness (recall); fpr, the false-positive rate;
    false_positives_per_100k objects without a line; loss, the mean focal loss; roc_auc; average_precision.
    """
    score, label = _checked(score, label)
    hit = score > threshold
    fpr = ratio(np.count_nonzero(hit & ~label), np.count_nonzero(~label))
    return {
        "loss": focal_loss(score, label, gamma),
        "accuracy": float(np.mean(hit == label)),
        "purity": ratio(np.count_nonzero(hit & label), np.count_nonzero(hit)),
        "completeness": ratio(np.count_nonzero(hit & label), np.count_nonzero(label)),
        "fpr": fpr,
        "false_positives_per_100k": 1e5 * fpr,
        "roc_auc": roc_auc(score, label),
        "average_precision": average_precision(score, label),
    }


def focal_loss(score: np.ndarray, label: np.ndarray, gamma: float = 2.0) -> float:
    """Mean focal loss of probabilities, as `losses.focal` of their logits; 0 and 1 count as 1e-7 and 1 - 1e-7."""
    score, label = _checked(score, label)
    right = np.clip(np.where(label, score, 1.0 - score), 1e-7, 1.0 - 1e-7)
    return float(np.mean(-((1.0 - right) ** gamma) * np.log(right)))


def calibration_error(score: np.ndarray, label: np.ndarray, bins: int = 15) -> float:
    """Mean distance between score and share of lines, over `bins` bins of equally many (Guo et al. 2017, eq. 3)."""
    score, label = _checked(score, label)
    order = np.argsort(score, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(len(p) * abs(score[p].mean() - label[p].mean()) for p in parts) / len(score))


def fit_temperature(logit: np.ndarray, label: np.ndarray) -> float:
    """The number to divide logits (N,) by so that they are probabilities of label (N,): least cross-entropy."""
    logit, label = np.asarray(logit, np.float64), np.asarray(label) > 0.5

    def entropy(log_temperature: float) -> float:
        x = np.where(label, logit, -logit) / np.exp(log_temperature)
        return float(np.mean(np.logaddexp(0.0, -x)))

    best: Any = optimize.minimize_scalar(entropy, bounds=(-4, 4), method="bounded")
    return float(np.exp(best.x))


def roc_curve(score: np.ndarray, label: np.ndarray) -> Curve:
    """The ROC curve, one point a distinct score; the first threshold is infinite."""
    score, label = _checked(score, label)
    order = np.argsort(-score, kind="stable")
    score, label = score[order], label[order]
    last = np.append(np.flatnonzero(score[1:] != score[:-1]), len(score) - 1)  # ties move together
    found = np.concatenate([[0], np.cumsum(label)[last]])
    false = np.concatenate([[0], np.cumsum(~label)[last]])
    with np.errstate(invalid="ignore"):
        return Curve(false / np.count_nonzero(~label), found / np.count_nonzero(label), np.append(np.inf, score[last]))


def roc_auc(score: np.ndarray, label: np.ndarray) -> float:
    """Probability that an object with a line scores above one without; ties count half."""
    curve = roc_curve(score, label)
    return float(np.trapezoid(curve.completeness, curve.fpr))


def average_precision(score: np.ndarray, label: np.ndarray) -> float:
    """Purity averaged over the steps of completeness: sum (c_k - c_{k-1}) purity_k."""
    score, label = _checked(score, label)
    if not label.any():
        return float("nan")
    curve = roc_curve(score, label)
    found, false = curve.completeness * label.sum(), curve.fpr * (~label).sum() if not label.all() else 0.0
    purity = (found / np.maximum(found + false, 1.0))[1:]
    return float(np.sum(np.diff(curve.completeness) * purity))


def threshold_at_fpr(score: np.ndarray, label: np.ndarray, fpr: float) -> float:
    """The lowest cut `score > cut` that lets at most a fraction `fpr` of the objects without a line through.

    The cut is one of their scores: with n of them it is the (floor(fpr n) + 1)-th largest, so the rate is never
    exceeded, ties included. -inf where every one may pass.
    """
    score, label = _checked(score, label)
    negative = np.sort(score[~label])[::-1]
    allowed = int(np.floor(fpr * len(negative) + 1e-9))
    return float(negative[allowed]) if allowed < len(negative) else -np.inf


def completeness_at_fpr(score: np.ndarray, label: np.ndarray, fpr: float) -> float:
    """Completeness above `threshold_at_fpr`: nothing is interpolated between the objects that were seen."""
    score, label = _checked(score, label)
    return ratio(np.count_nonzero(score[label] > threshold_at_fpr(score, label, fpr)), np.count_nonzero(label))


def binomial_interval(found: np.ndarray, total: np.ndarray, level: float = 0.6827) -> tuple[np.ndarray, np.ndarray]:
    """(lower, upper) of a rate `found / total`: the Jeffreys interval, Beta(found + 1/2, total - found + 1/2).

    Equal tails, except that the lower end is 0 with nothing found and the upper 1 with all (Brown, Cai & DasGupta
    2001, eq. 8-9). (0, 1) where total is 0. Shapes broadcast.
    """
    found, total = np.broadcast_arrays(np.asarray(found, float), np.asarray(total, float))
    tail = 0.5 * (1.0 - level)
    lower = np.where(found > 0, stats.beta.ppf(tail, found + 0.5, total - found + 0.5), 0.0)
    upper = np.where(found < total, stats.beta.ppf(1.0 - tail, found + 0.5, total - found + 0.5), 1.0)
    return lower, np.where(total > 0, upper, 1.0)


def completeness_map(
    found: np.ndarray, snr: np.ndarray, wave: np.ndarray, snr_edges: np.ndarray, wave_edges: np.ndarray
) -> dict[str, np.ndarray]:
    """Completeness in bins of true S/N (rows) and wavelength in Angstrom (columns), over objects that have a line.

    found (N,) bool, snr, wave (N,). Bins are [lo, hi), the last one closed. Returns arrays (rows, columns):
    completeness (nan where total is 0), lower, upper (68 % Jeffreys), found, total.
    """
    bins = [np.asarray(snr_edges, float), np.asarray(wave_edges, float)]
    found = np.asarray(found, bool)
    total = np.histogram2d(snr, wave, bins)[0]
    hits = np.histogram2d(np.asarray(snr)[found], np.asarray(wave)[found], bins)[0]
    lower, upper = binomial_interval(hits, total)
    rate = np.divide(hits, total, out=np.full_like(hits, np.nan), where=total > 0)
    return {"completeness": rate, "lower": lower, "upper": upper, "found": hits.astype(int), "total": total.astype(int)}


def ratio(part: SupportsFloat, whole: SupportsFloat) -> float:
    """part / whole, nan where whole is 0."""
    return float(part) / float(whole) if whole else float("nan")


def _checked(score: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 scores and bool labels of one length; ValueError for NaN scores, which would sort anywhere."""
    score, label = np.asarray(score, np.float64), np.asarray(label) > 0.5
    if score.shape != label.shape or score.ndim != 1:
        raise ValueError(f"scores of shape {score.shape} with labels of shape {label.shape}: both must be (N,)")
    if np.isnan(score).any():
        raise ValueError(f"{np.isnan(score).sum()} of {len(score)} scores are NaN: drop those objects first")
    return score, label
