"""Scores of many absorbers in a spectrum -> purity and completeness of absorbers. Plain numpy."""

import itertools
from typing import Any

import numpy as np

from lensjax.evaluate.summary import Scored, fraction
from lensjax.physics import grid, lines

OWN_PIXELS = 5.0  # an absorber placed within this is the true one: 345 km/s
LEAST_EW, LEAST_SNR = 0.3, 3.0  # A at rest, S/N of the doublet: of what has to be found
EW_EDGES = (0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0)
Z_EDGES = (0.35, 0.6, 0.9, 1.2, 1.5, 1.8, 2.1, 2.3)


def match(waves: np.ndarray, logits: np.ndarray, z_abs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which true absorber each told one is: slot (N, K), -1 for none; and which told one each true is, (N, S), or -1.

    waves (N, K) A of 2796, logits (N, K); z_abs (N, S), 0 in an empty slot. The best told one within OWN_PIXELS has it.
    """
    true = lines.MGII[0] * (1 + z_abs)
    apart = np.abs(np.log10(np.maximum(waves, 1.0)[:, :, None] / true[:, None, :])) / grid.STEP
    near = (apart <= OWN_PIXELS) & (z_abs > 0)[:, None, :] & np.isfinite(logits)[:, :, None]
    found = np.where(near.any(1), np.where(near, logits[:, :, None], -np.inf).argmax(1), -1)
    slot = np.where(near.any(2), np.where(near, apart, np.inf).argmin(2), -1)
    return slot, found


def summarise(scored: Scored, purity: float, cut: float) -> dict[str, Any]:
    """Purity and completeness of absorbers at the logit `cut`, and completeness at a purity.

    scored: waves, logits (N, K); truth z_abs, ew_2796, absorber_snr (N, S). Completeness is of absorbers with W2796 >
    LEAST_EW and S/N > LEAST_SNR; a weaker one that is found is no false one, and counts for nothing. Velocities: of
    those found at the purity.
    """
    slot, found = match(scored["waves"], scored["logits"], scored["z_abs"])
    there = scored["z_abs"] > 0
    wanted = there & (scored["ew_2796"] > LEAST_EW) & (scored["absorber_snr"] > LEAST_SNR)
    rows = np.arange(len(slot))[:, None]
    value = np.where(found >= 0, scored["logits"][rows, found], -np.inf)  # of each true absorber
    false = scored["logits"][(slot < 0) & np.isfinite(scored["logits"])]
    at = cut_at_purity(value[wanted], false, purity)
    truth = {"z": scored["z_abs"], "z_told": scored["waves"][rows, found] / lines.MGII[0] - 1}
    error = ((truth["z_told"] - truth["z"]) / (1 + truth["z"]))[wanted & (value > at)]
    return {
        "number": int(wanted.sum()),
        "purity_wanted": purity,
        "at_purity": {"cut": at, **_rates(value, false, wanted, at)} if np.isfinite(at) else None,
        "at_threshold": {"cut": cut, **_rates(value, false, wanted, cut)},
        "dz_rms": float(np.sqrt(np.mean(error**2))) if error.size else None,
        "dz_median_absolute": float(np.median(np.abs(error))) if error.size else None,
        "by_ew": _binned(scored["ew_2796"], value > at, wanted, EW_EDGES),
        "by_z": _binned(scored["z_abs"], value > at, wanted, Z_EDGES),
    }


def cut_at_purity(value: np.ndarray, false: np.ndarray, purity: float) -> float:
    """The lowest logit above which at least `purity` of what is told is true; infinite where there is none.

    value: (M,) of the true absorbers, -inf if not found. false: (F,) of what is told where there is none.
    """
    logits = np.concatenate([value[np.isfinite(value)], false])
    true = np.concatenate([np.ones(int(np.isfinite(value).sum()), bool), np.zeros(len(false), bool)])
    order = np.argsort(-logits, kind="stable")
    good = np.cumsum(true[order]) / np.arange(1, len(order) + 1) >= purity
    if not good.any():
        return float("inf")
    last = np.flatnonzero(good)[-1]
    return float(logits[order[last + 1]]) if last + 1 < len(order) else float(logits.min()) - 1


def _rates(value: np.ndarray, false: np.ndarray, wanted: np.ndarray, cut: float) -> dict[str, Any]:
    right, wrong = int((value[wanted] > cut).sum()), int((false > cut).sum())
    return {"completeness": fraction(right, int(wanted.sum())), "purity": fraction(right, right + wrong)}


def _binned(values: np.ndarray, found: np.ndarray, wanted: np.ndarray, edges: tuple[float, ...]) -> dict[str, Any]:
    """Completeness in bins of a truth, [value, low, high] each."""
    cells = []
    for low, high in itertools.pairwise(edges):
        inside = wanted & (values >= low) & (values < high)
        cells.append(fraction(int((found & inside).sum()), int(inside.sum())))
    return {"edges": list(edges), "completeness": cells}
