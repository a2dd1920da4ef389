"""The funnel of a vetting, and what the sky fibers say about the false hits that are left in it."""

from typing import Any

import numpy as np
from scipy import special

from lensjax.search import select
from lensjax.search.spectra import Columns

ONE_SIGMA = (0.158655, 0.841345)


def expected_false(passed: int, sky_fibers: int, galaxies: int) -> dict[str, float | None]:
    """False candidates expected among `galaxies`, if they err as often as sky fibers: rate x number.

    The rate is passed / sky_fibers; its interval, 68 %, is that of Jeffreys' prior for a Poisson mean, Gamma(passed +
    1/2). Returns expected, lower, upper; None where there is no sky fiber.
    """
    if not sky_fibers:
        return {"expected": None, "lower": None, "upper": None}
    scale = galaxies / sky_fibers
    lower, upper = (float(special.gammaincinv(passed + 0.5, q)) * scale for q in ONE_SIGMA)
    return {"expected": passed * scale, "lower": lower if passed else 0.0, "upper": upper}


def count_cuts(cut: np.ndarray, settings: Any) -> dict[str, int]:
    """How many rows each cut took, in their order, by its name; the last is of those that none took."""
    names = [*select.ALWAYS, *(name for name in settings.cuts if name not in select.ALWAYS)]
    return {name: int(np.sum(cut == name)) for name in names}


def summarise(
    columns: Columns, counts: dict[str, int], config: Any, known: dict[str, select.Cut] = select.CUTS
) -> dict[str, Any]:
    """The funnel as JSON: galaxies, sky_fibers scored; for either hits, taken (by each cut) and left; false hits.

    Hits are lines, of hit_objects objects. known: all cuts of the system. Of a system without a control sample there
    are no sky fibers.
    """
    sky, cut = columns["sky"], columns["cut"]
    left = {"candidates": int(np.sum(cut == select.CANDIDATE)), "controls": int(np.sum(cut == select.CONTROL))}
    hits = {"hits": int(np.sum(~sky)), "sky_hits": int(np.sum(sky))}
    return {
        **counts,
        **hits,
        "hit_objects": len(np.unique(columns["index"][~sky])),
        "taken": count_cuts(cut[~sky], config.vet),
        "sky_taken": count_cuts(cut[sky], config.vet),
        "reasons": {name: known[name].reason for name in count_cuts(cut, config.vet)},
        **left,
        "false_candidates": expected_false(left["controls"], counts["sky_fibers"], counts["galaxies"]),
        "false_hits": expected_false(hits["sky_hits"], counts["sky_fibers"], counts["galaxies"]),
        "threshold": config.search.threshold,
    }


def sentence(summary: dict[str, Any]) -> str:
    """The funnel in one line."""
    taken = ", ".join(f"{name} {number}" for name, number in summary["taken"].items() if number)
    false = summary["false_candidates"]
    if false["expected"] is None:
        known = "no control sample tells how many are false"
    else:
        known = (
            f"false ones to expect: {false['expected']:.1f} ({false['lower']:.1f} to {false['upper']:.1f}, 68 %), by "
            f"{summary['controls']} of {summary['sky_fibers']} sky fibers"
        )
    hits = f"{summary['hits']} hits"
    if summary["hit_objects"] < summary["hits"]:
        hits += f" in {summary['hit_objects']} objects"
    return f"{summary['candidates']} candidates of {hits} (cut: {taken or 'none'}); {known}"
