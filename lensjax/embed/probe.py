"""Linear probe: workdir/embeddings and labels in, workdir/probe out (Stein et al. 2022, sections 3.3 and 4.2).

For every ratio of non-lenses to lenses in training, and every random split, a classifier is fitted; the best ratio's
classifiers then rank all objects together.
"""

import json
import pathlib
import sys
from typing import Any

import numpy as np

from lensjax.core.errors import UserError
from lensjax.core.files import replacing, write_text
from lensjax.data.cutouts import places
from lensjax.embed import linear
from lensjax.embed.probe_figures import draw_probe
from lensjax.embed.store import Embeddings
from lensjax.surveys import known
from lensjax.surveys.catalogues import read_table
from lensjax.surveys.labels import match_lenses
from lensjax.tasks.metrics import average_precision, roc_auc

FOLDER, SUMMARY = "probe", "probe.json"
MEANING = {"row": "whole numbers from 0", "label": "1 for a lens, 0 for none"}


def probe(config: Any, workdir: str | pathlib.Path) -> dict[str, Any]:
    """Fit, choose and rank; prints one line about it.

    Writes classifiers.npz (weight (S, D), bias (S,) of the best ratio), ranked.parquet (row, score, label and the
    columns of the objects' table, best first), probe.png (Figures 4 and 5), and last, as the sign that these belong
    together, probe.json (scores by ratio and split).
    Images of one galaxy, with and without an arc, are on one side of a split (data/cutouts.py). Returns what is in
    probe.json. Raises UserError for labels with fewer than 4 lenses or 4 others.
    """
    settings, embeddings = config.probe, Embeddings(workdir)
    place = places(embeddings.objects(), embeddings.rows)
    label = _labels(settings, embeddings, place)
    results, probes, curves = [], {}, {}
    for ratio in settings.ratios:
        for seed in range(settings.splits):
            result, chosen, curve = _fit_split(embeddings, label, place, ratio, settings, config.seed + seed)
            results.append(result)
            probes.setdefault(ratio, []).append(chosen)
            curves.setdefault(ratio, []).append(curve)
    best = max(settings.ratios, key=lambda ratio: _mean(results, ratio, "true_positives"))
    folder = pathlib.Path(workdir) / FOLDER
    folder.mkdir(exist_ok=True)
    (folder / SUMMARY).unlink(missing_ok=True)  # a run that is killed from here on leaves files of two probes
    with replacing(folder / "classifiers.npz") as temporary:
        weight, bias = (np.stack(values) for values in zip(*probes[best], strict=True))
        arrays: dict[str, Any] = {"weight": weight, "bias": bias, "ratio": np.array(best)}
        np.savez(temporary, **arrays)
    count = _rank(folder / "ranked.parquet", embeddings, probes[best], label)
    draw_probe(folder / "probe.png", results, curves, best)
    summary = {"best_ratio": best, "fingerprint": embeddings.about["fingerprint"], "splits": results}
    summary |= {
        name: _mean(results, best, name) for name in ("roc_auc", "average_precision", "precision", "completeness")
    }
    write_text(folder / SUMMARY, json.dumps(summary, indent=2))
    print(
        f"{folder}: {count} objects ranked; best ratio 1:{best}, ROC AUC {summary['roc_auc']:.4f}, "
        f"{summary['completeness']:.0%} of the lenses in the top {results[0]['top']} of {results[0]['valid']}"
    )
    return summary


def _fit_split(
    embeddings: Embeddings, label: np.ndarray, place: np.ndarray, ratio: int, settings: Any, seed: int
) -> tuple:
    """(scores on the validation set, the chosen classifier, its completeness curve) of one ratio and split."""
    rows = linear.split(label, ratio, settings.valid_ratio, settings.valid_fraction, seed, place)
    probes = linear.fit(embeddings.take(rows.train), label[rows.train], settings.iterations, settings.l2)
    vectors, truth = embeddings.take(rows.valid), label[rows.valid]
    top = max(min(settings.top, int(settings.top_fraction * len(truth))), 1)
    iteration, chosen = linear.select(probes, vectors, truth, top)
    score = chosen.logit(vectors)
    found = linear.true_positives(score, truth, top)
    result = {
        "ratio": ratio,
        "seed": seed,
        "train": len(rows.train),
        "train_lenses": int(label[rows.train].sum()),
        "valid": len(truth),
        "valid_lenses": int(truth.sum()),
        "iteration": iteration + 1,
        "top": top,
        "true_positives": found,
        "precision": found / top,
        "completeness": found / int(truth.sum()),
        "roc_auc": roc_auc(score, truth),
        "average_precision": average_precision(score, truth),
    }
    return result, chosen, linear.inspected_curve(score, truth)


def _mean(results: list[dict[str, Any]], ratio: int, name: str) -> float:
    return float(np.mean([result[name] for result in results if result["ratio"] == ratio]))


def _labels(settings: Any, embeddings: Embeddings, place: np.ndarray) -> np.ndarray:
    """(N,) 1 lens, 0 not, -1 unknown or without an embedding; UserError for too few of either at different places."""
    if settings.labels:
        label = _read_labels(settings.labels, embeddings)
    else:
        label = np.asarray(embeddings.objects(["label"])["label"], np.float64)
    label = np.where(np.isin(label, (0, 1)), label, -1).astype(np.int64)
    for rows, vectors in embeddings.pieces():
        label[rows] = np.where(np.isfinite(vectors).all(1), label[rows], -1)
    for value, name in ((1, "lenses"), (0, "non-lenses")):
        count = len(np.unique(place[label == value]))
        if count < 4:
            raise UserError(
                f"the labels have {count} {name} with embeddings at different places, where 4 at least are needed: "
                "give more in config.probe.labels."
            )
    return label


def _read_labels(path: str, embeddings: Embeddings) -> np.ndarray:
    """(N,) of a table in any format that astropy reads: with columns row and label, or a list of lenses, their
    places as `known.find_places` knows them.

    Rows that the table does not have, or without a label, are -1. Of a list, the nearest object to each lens is 1,
    others within a cutout of it, and those without a place, -1, the rest 0 (surveys/labels.py); lenses without a place
    are left out, and counted on stderr. UserError for a table that cannot be used.
    """
    if not pathlib.Path(path).is_file():
        raise UserError(f"no table of labels at {path}: give a file with the columns row and label, or ra and dec.")
    table = read_table(path, "the table of labels")
    columns = {name.lower(): table[name] for name in table.colnames}
    if {"row", "label"} <= set(columns):
        row, label = (_numbers(path, name, columns[name]) for name in ("row", "label"))
        return _by_row(path, row, label, embeddings.rows)
    ra, dec = known.find_places(table)
    there = np.isfinite(ra)
    if not there.any():
        raise UserError(
            f"{path} has the columns {', '.join(columns)} and {len(table)} rows, none with a place in the sky: row and "
            "label are needed, or ra and dec, in degrees or as 14:43:20.7 and +33:42:12."
        )
    if not there.all():
        print(f"{path}: {(~there).sum()} lenses without coordinates are left out", file=sys.stderr)
    objects = embeddings.objects(["ra", "dec"])
    found = match_lenses(objects["ra"], objects["dec"], ra[there], dec[there])
    return np.where(found.is_lens, 1.0, np.where(found.is_negative, 0.0, -1.0))


def _numbers(path: str, name: str, column: Any) -> np.ndarray:
    """float64 (n,) of a column of numbers, NaN where it is empty; UserError for any other."""
    values = np.ma.asarray(column)
    if values.ndim != 1 or values.dtype.kind not in "biuf":
        shown = repr(values.tolist()[0]) if values.size else "nothing"
        raise UserError(f"the column {name} of {path} holds {shown}: expected {MEANING[name]}; convert it to numbers.")
    return np.ma.filled(values.astype(np.float64), np.nan)


def _by_row(path: str, row: np.ndarray, values: np.ndarray, rows: int) -> np.ndarray:
    bad = ~((row >= 0) & (row < rows) & (row == np.round(row)))
    if bad.any():
        raise UserError(f"{path} has the row {row[bad][0]:g}, and the objects 0 to {rows - 1}: mend its rows.")
    label = np.full(rows, -1.0)
    label[row.astype(np.int64)] = values
    return label


def is_current(folder: pathlib.Path, embeddings: Embeddings) -> bool:
    """Whether the probe in `folder` is there, whole, and of these embeddings."""
    about = folder / SUMMARY
    return about.is_file() and json.loads(about.read_text())["fingerprint"] == embeddings.about["fingerprint"]


def _rank(path: pathlib.Path, embeddings: Embeddings, probes: list[linear.Probe], label: np.ndarray) -> int:
    """Write the objects that have an embedding, best first by the classifiers' mean probability; returns how many."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    score = np.full(embeddings.rows, np.nan, np.float32)
    for rows, vectors in embeddings.pieces():
        score[rows] = linear.probability(probes, vectors)
    order = np.argsort(-score, kind="stable")[: int(np.isfinite(score).sum())]
    columns = {name: values[order] for name, values in embeddings.objects().items() if name not in ("label", "score")}
    with replacing(path) as temporary:
        ranked = {"object": order, "score": score[order], "label": label[order], **columns}
        pq.write_table(pa.table({name: pa.array(values) for name, values in ranked.items()}), temporary)
    return len(order)
