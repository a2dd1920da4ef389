"""From scores.parquet to candidates: hits are read again, measured and cut, and every object is told what took it."""

import contextlib
import itertools
import json
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import lensjax
from lensjax.core.files import replacing, write_text
from lensjax.core.journal import Progress
from lensjax.search import calibration, control, select, shards, systems
from lensjax.search.spectra import Columns, read_hits, wide_window
from lensjax.surveys import catalogues, known

HITS_NAME, FUNNEL_NAME = "hits.parquet", "vetting.json"
NEEDED = ("file", "row", "survey", "plate", "mjd", "fiberid", "targetid", "ra", "dec", "z", "zwarning", "class")
NEEDED += ("subclass", "sky", "selected", "score", "wave", "snr", "waves", "line_scores")
DECISIVE = ("input", "catalogue", "scorer", "threshold")  # of config.search: for which objects are candidates
BATCH = 65_536  # rows of scores.parquet in memory at a time


def vet(config: Any, workdir: str | pathlib.Path) -> dict[str, Any]:
    """Vet the hits of workdir/scores.parquet; write candidates.*, hits.parquet, vetting.json, and the column `cut`.

    Hits are selected objects with score > config.search.threshold; where they are a control sample, sky fibers above it
    go through the same. Idempotent; nothing is scored again. Each file is replaced whole, vetting.json last.

    Returns what vetting.json holds: see `control.summarise`.
    """
    folder = pathlib.Path(workdir)
    scores = folder / shards.TABLE_NAME
    system = systems.of(config)
    hits, counts = collect(scores, config.search.threshold, system.CONTROL)
    scored = shards.read_metadata(scores)
    hits |= {
        "posterior": calibration.posterior(hits["score"], config),
        "probability": calibration.find_probability(hits["score"], folder, scored.get("scorer", "")),
    }
    columns = system.describe(select.apply(measure(config, hits), config.vet, system.CUTS), config)
    columns["repeat"] = select.count_repeats(columns)
    summary = control.summarise(columns, counts, config, system.CUTS)
    meta = provenance(config, scored, summary)
    with replacing(folder / HITS_NAME) as temporary:
        catalogues.write_parquet(catalogues.make_table(columns, meta, system.COLUMNS), temporary)
    chosen = columns["cut"] == select.CANDIDATE
    candidates = {name: values[chosen] for name, values in columns.items()}
    order = system.order(candidates)
    candidates = {name: values[order] for name, values in candidates.items()}
    paths = catalogues.write_table(folder, "candidates", catalogues.make_table(candidates, meta, system.COLUMNS))
    shards.write_cuts(scores, *first_cut(columns["index"], columns["cut"]))
    write_text(folder / FUNNEL_NAME, json.dumps(summary, indent=1) + "\n")
    print(f"{paths[0]}: {control.sentence(summary)}")
    return summary


def check_settings(config: Any) -> None:
    """UserError for what would stop `vet` after hours of scoring: an unknown cut, a bad link, a bad table."""
    if config.vet.enabled:
        select.check(config.vet, systems.of(config).CUTS)
        known.check_known(config.vet)


def changed(config: Any, folder: pathlib.Path) -> list[str]:
    """Names of the settings in which the vetting in `folder` differs from `config`."""
    made = json.loads(shards.read_metadata(folder / HITS_NAME).get("CONFIG", "{}"))
    now = json.loads(_settings(config))
    pairs = [(f"search.{name}", made.get("search", {}).get(name), now["search"][name]) for name in DECISIVE]
    pairs += [(name, made.get(name), now[name]) for name in ("vet", "select", "inject.line_rate")]
    return [f"config.{name}" for name, old, new in pairs if old != new]


def forget(workdir: str | pathlib.Path) -> None:
    """Remove what `vet` made of another scores.parquet than the one that is there."""
    folder = pathlib.Path(workdir)
    made_of = shards.read_metadata(folder / HITS_NAME).get("SEARCH")
    if made_of == shards.read_metadata(folder / shards.TABLE_NAME).get("fingerprint"):
        return
    for path in (*folder.glob("candidates.*"), folder / HITS_NAME, folder / FUNNEL_NAME):
        path.unlink(missing_ok=True)


def collect(path: pathlib.Path, threshold: float, control: bool = True) -> tuple[Columns, dict[str, int]]:
    """Hits of a scores.parquet, with their row as `index`, and how many were scored; sky fibers only as a `control`."""
    parts, start, counts = [], 0, {"galaxies": 0, "sky_fibers": 0}
    with pq.ParquetFile(path) as table:
        batches = table.iter_batches(BATCH, columns=list(NEEDED))
        nothing = pa.RecordBatch.from_pylist([], table.schema_arrow)  # so that there are columns without rows
        for batch in itertools.chain([nothing], batches):
            rows = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in NEEDED}
            scored = ~np.isnan(rows["score"])
            rows["sky"] = rows["sky"] & ~rows["selected"] & control
            counts["galaxies"] += int((rows["selected"] & scored).sum())
            counts["sky_fibers"] += int((rows["sky"] & scored).sum())
            chosen = np.flatnonzero((rows["selected"] | rows["sky"]) & (rows["score"] > threshold))
            kept = {name: values[chosen] for name, values in rows.items()} | {"index": chosen + start}
            parts.append(spread(kept, threshold))
            start += len(scored)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, counts


def spread(rows: Columns, threshold: float) -> Columns:
    """Objects that are hits -> lines: one row for the best, and for each other line of its list above the threshold.

    rows: (N,) columns; waves and line_scores hold a list each, best first, or an empty one. Returns the others, (M,),
    with the score of the line, which of the best one may be below that of the object.
    """
    told = {"wave": rows["waves"], "score": rows["line_scores"]}
    above = [np.asarray(scores) > threshold for scores in told["score"]]
    extra = [np.flatnonzero(chosen[1:]) + 1 for chosen in above]
    number = [1 + len(more) for more in extra]
    hits = {name: np.repeat(x, number) for name, x in rows.items() if name not in ("waves", "line_scores")}
    first = np.cumsum([0, *number[:-1]])[: len(number)]
    for name, lists in told.items():
        for start, values, more in zip(first, lists, extra, strict=True):
            hits[name][start + 1 : start + 1 + len(more)] = np.asarray(values)[more]
            hits[name][start : start + 1] = np.asarray(values)[:1] if len(values) else hits[name][start : start + 1]
    return hits


def first_cut(index: np.ndarray, cut: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What becomes of each object (K,): candidate, or control, if one of its lines does, else the cut of its best.

    index, cut: (M,) of lines, those of an object one behind the other and best first.
    """
    kept = np.isin(cut, (select.CANDIDATE, select.CONTROL))
    order = np.lexsort((~kept, index))  # stable: the best first
    objects, first = np.unique(index[order], return_index=True)
    return objects, cut[order][first]


def measure(config: Any, hits: Columns) -> Columns:
    """The hits with all that `make_measure` finds, (M,) columns; NaN where a spectrum is gone.

    `wave` becomes that of the fitted line, `hit_wave` the scorer's.
    """
    system = systems.of(config)
    if not len(hits["wave"]):
        return {**hits, "hit_wave": hits["wave"], **system.nothing_measured()}
    loglam = wide_window(config)
    measure_chunk = system.make_measure(config, loglam)
    parts, progress = [], Progress(len(hits["wave"]), 0, "vetting", unit="hit")
    with contextlib.closing(progress):
        for chunk in read_hits(hits, loglam, config.vet.chunk):
            parts.append(measure_chunk(chunk, hits))
            progress.advance(len(parts[-1]["readable"]))
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    for name, values in found.items():  # types as in `nothing_measured`, whatever each was computed in
        if values.dtype.kind == "f":
            found[name] = np.where(found["readable"], values, np.nan).astype(float)
        elif values.dtype.kind in "iu":
            found[name] = values.astype(int)
    return {**hits, "hit_wave": hits["wave"], **found}


def provenance(config: Any, scored: dict[str, Any], summary: dict[str, Any]) -> dict[str, Any]:
    """What it takes to make the table again, and its funnel: keys that FITS allows -> text or number."""
    false = summary["false_candidates"]
    known = {"N_FALSE": false["expected"], "FALSE_LO": false["lower"], "FALSE_HI": false["upper"]}
    return {
        "CREATOR": f"lensjax {lensjax.__version__}",
        "SCORER": config.search.scorer,
        "WEIGHTS": scored.get("scorer", ""),
        "SEARCH": scored.get("fingerprint", ""),
        "CONFIG": _settings(config),
        "N_GAL": summary["galaxies"],
        "N_SKY": summary["sky_fibers"],
        "N_HITS": summary["hits"],
        "N_CAND": summary["candidates"],
        **{name: value for name, value in known.items() if value is not None},
    }


def _settings(config: Any) -> str:
    """The parts of the config that a vetting depends on, JSON."""
    settings = {name: config[name].to_dict() for name in ("vet", "search", "select", "data", "sim")}
    settings |= {"system": config.system, "variant": config.variant, "inject.line_rate": config.inject.line_rate}
    return json.dumps(settings, sort_keys=True)
