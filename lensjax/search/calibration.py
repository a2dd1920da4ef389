"""From a score to the probability of a line: injected lines against spectra as they are, at a stated rate of lines.

Injected lines have scores of density f1, spectra without a line f0; log(f1 / f0) is taken as a rising straight line in
the logit of the score. Galaxies are unlabelled: a share `rate` of them has a line. Sky fibers have none.
"""

import json
import pathlib
from typing import Any

import numpy as np
from scipy import optimize, special

from lensjax.core.files import write_text
from lensjax.tasks.metrics import binomial_interval

CALIBRATION_NAME = "calibration.json"
MOST = 1 - 2.0**-24  # the largest float32 below 1: scores of 1 count as this


def logit(score: np.ndarray) -> np.ndarray:
    """log(score / (1 - score)) (N,) of float32 scores, finite at 0 and 1."""
    score = np.clip(np.asarray(score, np.float64), 1 - MOST, MOST)
    return np.log(score) - np.log1p(-score)


def fit_calibration(lines: np.ndarray, galaxies: np.ndarray, sky: np.ndarray, rate: float) -> dict[str, Any]:
    """Maximum-likelihood offset and slope of log(f1 / f0), with what they were fitted to, as JSON.

    lines: (L,) scores of spectra with an injected line. galaxies: (G,), a share `rate` of them with a line. sky: (S,).
    The ratio is not trusted beyond 2 (G + S), which is what one false hit among half as many would show.
    """
    x1, xg, x0 = (logit(values) for values in (lines, galaxies, sky))
    found, rest = max(len(x1), 1), max(len(xg) + len(x0), 1)

    def loss(params: np.ndarray) -> float:
        g1, gg, g0 = (params[0] + params[1] * x for x in (x1, xg, x0))
        mixed = np.log1p(-rate), np.log(rate)
        # f1 / galaxies = e^g / (1 - rate + rate e^g); the odds of having been injected are that, at equal weights
        odds1, odds = (g - np.logaddexp(mixed[0], mixed[1] + g) for g in (g1, gg))
        total = np.sum(np.logaddexp(0, -odds1)) / found
        return total + (np.sum(np.logaddexp(0, odds)) + np.sum(np.logaddexp(0, g0))) / rest

    best = optimize.minimize(loss, np.array([0.0, 1.0]), bounds=[(-50, 50), (0, 10)], method="L-BFGS-B")
    counts = {"lines": len(x1), "galaxies": len(xg), "sky_fibers": len(x0)}
    most = float(np.log(2 * rest))
    return {"offset": float(best.x[0]), "slope": float(best.x[1]), "most": most, "rate": rate, **counts}


def probability(score: np.ndarray, calibration: dict[str, Any]) -> np.ndarray:
    """Probability (N,) that a spectrum with this score (N,) has a line, by a `fit_calibration`; NaN for a NaN."""
    ratio = calibration["offset"] + calibration["slope"] * logit(score)
    return special.expit(np.minimum(ratio, calibration["most"]) + special.logit(calibration["rate"]))


def reliability(
    lines: np.ndarray, galaxies: np.ndarray, sky: np.ndarray, calibration: dict[str, Any], edges: np.ndarray
) -> dict[str, list]:
    """Predicted against observed share of lines, in bins of the predicted probability, on scores kept from the fit.

    edges: (B + 1,) probabilities. Returns lists (B,) predicted (mean of the bin), observed, lower, upper (68 %, from
    the number of spectra in the bin), number; None where the bin has no spectrum of either sort.
    """
    rate = calibration["rate"]
    p1, pg, p0 = (probability(values, calibration) for values in (lines, galaxies, sky))
    (n1, s1), (ng, sg), (n0, s0) = ([np.histogram(p, edges, weights=w)[0] for w in (None, p)] for p in (p1, pg, p0))
    weight = rate / max(len(p1), 1)
    # galaxies without a line: those of the bin less the lines that they hold by the rate
    share = np.maximum(1 - weight * len(pg) * n1 / np.maximum(ng, 1e-30), 0.0)
    others = share * ng + (1 - rate) * n0
    expected = weight * (len(pg) + len(p0)) * n1
    number = expected + others
    safe = np.where(number > 0, number, 1.0)
    observed = expected / safe
    predicted = (share * sg + (1 - rate) * s0 + weight * (len(pg) + len(p0)) * s1) / safe
    low, high = binomial_interval(expected, number)  # of numbers that need not be whole: the ends hold the rate
    columns = {"predicted": predicted, "observed": observed, "lower": np.minimum(low, observed)}
    columns["upper"] = np.maximum(high, observed)
    out = {name: [float(v) if n > 0 else None for v, n in zip(x, number, strict=True)] for name, x in columns.items()}
    return out | {"number": [float(v) for v in number]}


def posterior(score: np.ndarray, config: Any) -> np.ndarray:
    """Probability (N,) of a line by the network's score (N,) alone, where config.inject.line_rate of the galaxies have
    one; NaN for a scorer that is no network.

    The focal loss is least not at the probability but at a score q whose odds are L'(1 - q) / L'(q), L(q) = -(1 -
    q)^gamma log q (Charoenphakdee et al. 2021, theorem 11); a score at config.search.temperature is a probability
    already, and so is one that was taught odds alone. These are of spectra of which config.sim.line_fraction have a
    line (of twins half, of taught odds config.loss.prior), and turn into the survey's by the ratio of the two odds.
    """
    x = logit(score)
    if config.search.scorer != "network":
        return np.full(len(x), np.nan)
    taught = config.loss.get("teach_weight", 0.0) and not config.loss.get("focal_weight", 1.0)
    focal = not (config.search.temperature or taught)
    odds = np.log(_slope(-x, config.loss.gamma)) - np.log(_slope(x, config.loss.gamma)) if focal else x
    trained = config.sim.get("line_fraction") or config.sim.absorber_fraction
    if config.data.get("twins", False):
        trained = 0.5
    if taught:
        trained = config.loss.prior
    shift = special.logit(config.inject.line_rate) - special.logit(trained)
    return special.expit(odds + shift)


def _slope(x: np.ndarray, gamma: float) -> np.ndarray:
    """-dL/dq of the focal loss at q = expit(x), (N,)."""
    q, rest = special.expit(x), special.expit(-x)
    return rest**gamma / q - gamma * rest ** (gamma - 1) * special.log_expit(x)


def find_probability(score: np.ndarray, folder: pathlib.Path, scorer: str) -> np.ndarray:
    """`probability` (N,) by the calibration.json in `folder`; NaN without one of these weights."""
    known = read_calibration(folder, scorer)
    return probability(score, known) if known else np.full(len(score), np.nan)


def write_calibration(folder: pathlib.Path, calibration: dict[str, Any]) -> pathlib.Path:
    """Write calibration.json into `folder`; returns its path."""
    path = folder / CALIBRATION_NAME
    write_text(path, json.dumps(calibration, indent=1) + "\n")
    return path


def read_calibration(folder: pathlib.Path, scorer: str) -> dict[str, Any] | None:
    """What `write_calibration` left in `folder`; None without one, or with that of other weights than `scorer`."""
    path = pathlib.Path(folder) / CALIBRATION_NAME
    if not path.is_file():
        return None
    known = json.loads(path.read_text())
    return known if known.get("scorer") == scorer else None
