"""How good a trained lens finder is, on mocks or labelled cutouts it has not seen, reweighted to a survey's base rate.

A test set in which one object in ten thousand is a lens would be all non-lenses. So lenses are over-represented in it,
and each object stands for as many of a survey as there are: purity and precision follow from the rates of the two
classes, and their errors from resampling each class.
"""

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import config_dict

from lensjax.core.errors import UserError
from lensjax.core.files import write_text
from lensjax.core.journal import Progress
from lensjax.data.cutouts import check_bands, wanted_bands
from lensjax.embed.encoder import make_encoder
from lensjax.embed.mocks import MockSource
from lensjax.evaluate import base_rate, lens_figures
from lensjax.sims.galaxies import KINDS
from lensjax.surveys.cutouts import open_cutouts
from lensjax.tasks import metrics

SEED = 2022  # of the mocks, added to the config's: none was trained on
Scored = dict[str, np.ndarray]


def evaluate_lenses(config: Any, workdir: str | os.PathLike) -> dict[str, Any]:
    """Score the objects of config.evaluate with the weights of `workdir`, else the released ones; returns the summary.

    Writes evaluation.json and evaluation.png, and prints a line. Raises UserError where there are no weights, or
    the cutouts of config.evaluate.input have no labels of both classes.
    """
    encoder = make_encoder(config, pathlib.Path(workdir), output="logit")
    scored = score_objects(encoder.config, encoder.embed)
    summary = {"input": config.evaluate.input or "mocks", **summarise(scored, config.evaluate, config.seed)}
    folder = pathlib.Path(workdir)
    write_text(folder / "evaluation.json", json.dumps(summary, indent=1, allow_nan=False))
    lens_figures.draw(folder / "evaluation.png", summary)
    print(one_line(summary))
    return summary


def score_objects(config: Any, predict: Callable[[np.ndarray], Any]) -> Scored:
    """logit, label (N,) and, of mocks, kind (N,), of the labelled objects with a finite image.

    predict: image (n, H, H, B) -> logit (n,).
    """
    source, size, parts = open_source(config), config.embed.batch_size, []
    progress = Progress(-(-len(source) // size), 0, "evaluate")
    for start in range(0, len(source), size):
        images = source.read(np.arange(start, min(start + size, len(source))))
        good = np.isfinite(images).all(axis=(1, 2, 3))
        batch = np.zeros((size, *images.shape[1:]), np.float32)
        batch[: len(images)] = np.where(good[:, None, None, None], images, 0)
        parts.append(np.where(good, np.asarray(predict(batch))[: len(images)], np.nan))
        progress.advance()
    progress.close()
    table = source.table()
    logit, label = np.concatenate(parts), np.asarray(table["label"])
    keep = np.isfinite(logit) & np.isin(label, (0, 1))
    scored = {"logit": logit[keep], "label": label[keep].astype(np.float32)}
    return scored | ({"kind": np.asarray(table["kind"])[keep].astype(int)} if "kind" in table else {})


def open_source(config: Any) -> Any:
    """The cutouts of config.evaluate.input, or mocks that neither training nor embedding has drawn."""
    if config.evaluate.input:
        source = open_cutouts(config.evaluate.input, config.augment.size, bands=wanted_bands(config))
        check_bands(source, config)
        return source
    mocks: Any = config_dict.ConfigDict(config.to_dict())
    mocks.seed = config.seed + SEED
    mocks.embed.update({name: config.evaluate[name] for name in ("num", "lens_fraction")})
    return MockSource(mocks)


def summarise(scored: Scored, settings: Any, seed: int) -> dict[str, Any]:
    """What evaluation.json holds. settings: config.evaluate. UserError without two objects of either class."""
    score, label = scored["logit"].astype(np.float64), scored["label"] > 0.5
    lenses, others = int(label.sum()), int((~label).sum())
    if min(lenses, others) < 2:
        raise UserError(
            f"there are {lenses} lenses and {others} others to evaluate with, by the column label, 1 a lens, 0 none: "
            "give two of either at least."
        )
    probability = 1 / (1 + np.exp(-np.clip(score, -80, 80)))
    plain = metrics.binary_metrics(probability, scored["label"], settings.threshold, 0.0)
    summary = {
        "lenses": lenses,
        "others": others,
        "plain": {k: v if np.isfinite(v) else None for k, v in plain.items()},
    }
    survey = base_rate.summarise(score, label, settings, seed)
    summary["at_fpr"] = {fpr: at_fpr(found, float(fpr), lenses, others) for fpr, found in survey.pop("at_fpr").items()}
    summary["survey"] = told(survey, others)
    if "kind" in scored:
        cut = metrics.threshold_at_fpr(score, label, max(settings.fpr))
        summary["taken_for_lenses"] = {
            name: metrics.ratio((score[here] > cut).sum(), here.sum())
            for number, name in enumerate(KINDS)
            if (here := scored["kind"] == number).any()
        }
    return summary


def at_fpr(found: dict[str, float], fpr: float, lenses: int, others: int) -> dict[str, Any] | None:
    """Share of the lenses found, with its 68 % interval; None where the others are too few to tell the rate.

    found: value, lower and upper of the bootstrap, in which the threshold moves with the few others above it. Where it
    is narrower than the Jeffreys interval of the lenses, as with none of them found, the latter counts.
    """
    if others * fpr < metrics.ONE:
        return None
    lower, upper = metrics.binomial_interval(np.array(round(found["value"] * lenses)), np.array(lenses))
    ends = {"lower": min(found["lower"], float(lower)), "upper": max(found["upper"], float(upper))}
    return {"completeness": found["value"], **ends}


def told(survey: dict[str, Any], others: int) -> dict[str, Any]:
    """The summary of `base_rate`, None where fewer than one of the `others` non-lenses is above the cut.

    Those are the precision of so few best objects that their false-positive rate is below one non-lens of the test set,
    and the beginning of the curve of purity, which would be 1 there whatever the network is worth.
    """
    share = {number: int(number) / survey["objects"] for number in survey["precision"]}
    false = {n: share[n] * (1 - survey["precision"][n]["value"]) / (1 - survey["base_rate"]) for n in share}
    precision = {n: found if false[n] * others >= metrics.ONE else None for n, found in survey["precision"].items()}
    seen = np.array(survey["curve"]["fpr"]["value"]) * others >= metrics.ONE
    purity = {
        name: [value if here else None for value, here in zip(values, seen, strict=True)]
        for name, values in survey["curve"]["purity"].items()
    }
    return {**survey, "precision": precision, "curve": {**survey["curve"], "purity": purity}}


def one_line(summary: dict[str, Any]) -> str:
    """What the reader wants to know first."""
    area = summary["survey"]["roc_auc"]
    parts = [f"{summary['lenses']} lenses, {summary['others']} others: ROC AUC {area['value']:.4f}"]
    for fpr, found in summary["at_fpr"].items():
        if found:
            parts.append(f"{found['completeness']:.1%} found at a false-positive rate of {float(fpr):g}")
    for number, precision in summary["survey"]["precision"].items():
        if precision:
            share = f"{precision['value']:.1%} ({precision['lower']:.1%} to {precision['upper']:.1%})"
            parts.append(f"of the best {number} of a survey {share} are lenses")
    return ", ".join(parts)
