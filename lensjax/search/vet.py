"""From scores.parquet to candidates: hits are read again, measured and cut, and every object is told what took it."""

import itertools
import json
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import lensjax
from lensjax.core.files import replacing, write_text
from lensjax.physics import grid
from lensjax.search import calibration, catalogue, control, grading, match, select, shards
from lensjax.search.columns import nothing_measured
from lensjax.search.measure import make_measure
from lensjax.search.spectra import Columns, read_hits

HITS_NAME, FUNNEL_NAME = "hits.parquet", "vetting.json"
NEEDED = ("file", "row", "plate", "mjd", "fiberid", "targetid", "ra", "dec", "z", "sky")
NEEDED += ("selected", "score", "wave", "snr")
BATCH = 65_536  # rows of scores.parquet in memory at a time


def vet(config: Any, workdir: str | pathlib.Path) -> dict[str, Any]:
    """Vet the hits of workdir/scores.parquet; write candidates.*, hits.parquet, vetting.json, and the column `cut`.

    Hits are selected objects with score > config.search.threshold; sky fibers above it go through the same as the
    control sample. Idempotent; nothing is scored again. Each file is replaced whole, vetting.json last.

    Returns what vetting.json holds: see `control.summarise`.
    """
    folder = pathlib.Path(workdir)
    scores = folder / shards.TABLE_NAME
    hits, counts = collect(scores, config.search.threshold)
    scored = shards.read_metadata(scores)
    hits |= {
        "posterior": calibration.posterior(hits["score"], config),
        "probability": calibration.find_probability(hits["score"], folder, scored.get("scorer", "")),
    }
    columns = describe(select.apply(measure(config, hits), config.vet), config)
    summary = control.summarise(columns, counts, config)
    meta = provenance(config, scored, summary)
    with replacing(folder / HITS_NAME) as temporary:
        catalogue.write_parquet(catalogue.make_table(columns, meta), temporary)
    chosen = columns["cut"] == select.CANDIDATE
    order = np.lexsort((-columns["fit_snr"][chosen], columns["grade"][chosen]))
    candidates = {name: values[chosen][order] for name, values in columns.items()}
    paths = catalogue.write_candidates(folder, catalogue.make_table(candidates, meta))
    shards.write_cuts(scores, columns["index"], columns["cut"])
    write_text(folder / FUNNEL_NAME, json.dumps(summary, indent=1) + "\n")
    print(f"{paths[0]}: {control.sentence(summary)}")
    return summary


def collect(path: pathlib.Path, threshold: float) -> tuple[Columns, dict[str, int]]:
    """Hits of a scores.parquet, galaxies and sky fibers, with their row as `index`; and how many were scored."""
    parts, start, counts = [], 0, {"galaxies": 0, "sky_fibers": 0}
    with pq.ParquetFile(path) as table:
        batches = table.iter_batches(BATCH, columns=list(NEEDED))
        nothing = pa.RecordBatch.from_pylist([], table.schema_arrow)  # so that there are columns without rows
        for batch in itertools.chain([nothing], batches):
            rows = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in NEEDED}
            scored = ~np.isnan(rows["score"])
            rows["sky"] = rows["sky"] & ~rows["selected"]
            counts["galaxies"] += int((rows["selected"] & scored).sum())
            counts["sky_fibers"] += int((rows["sky"] & scored).sum())
            chosen = np.flatnonzero((rows["selected"] | rows["sky"]) & (rows["score"] > threshold))
            parts.append({name: values[chosen] for name, values in rows.items()} | {"index": chosen + start})
            start += len(scored)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, counts


def measure(config: Any, hits: Columns) -> Columns:
    """The hits with all that `make_measure` finds, (M,) columns; NaN where a spectrum is gone.

    `wave` becomes that of the fitted line, `hit_wave` the scorer's; z becomes z_lens too.
    """
    if not len(hits["wave"]):
        return {**hits, "hit_wave": hits["wave"], "z_lens": hits["z"], **nothing_measured()}
    both = np.array([config.vet.window, config.data.window])
    loglam = grid.window(both.min(), both.max())
    measure_chunk = make_measure(config, loglam)
    parts = [measure_chunk(chunk, hits) for chunk in read_hits(hits, loglam, config.vet.chunk)]
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    for name, values in found.items():
        if values.dtype.kind == "f":
            found[name] = np.where(found["readable"], values, np.nan)
    return {**hits, "hit_wave": hits["wave"], "z_lens": hits["z"], **found}


def describe(columns: Columns, config: Any) -> Columns:
    """The columns with name, theta_e, known, known_distance, doubts and grade."""
    name = np.array([catalogue.iau_name(*place) for place in zip(columns["ra"], columns["dec"], strict=True)], np.str_)
    known, distance = match.known_lenses(columns["ra"], columns["dec"], config.vet)
    radius = match.einstein_radius(columns["z_lens"], columns["z_source"], config.vet.velocity_dispersion)
    columns = {**columns, "name": name, "known": known, "known_distance": distance, "theta_e": radius}
    doubts, grade = grading.grade(columns, config.vet)
    return {**columns, "doubts": doubts, "grade": grade}


def provenance(config: Any, scored: dict[str, Any], summary: dict[str, Any]) -> dict[str, Any]:
    """What it takes to make the table again, and its funnel: keys that FITS allows -> text or number."""
    settings = {name: config[name].to_dict() for name in ("vet", "search", "select", "data", "sim")}
    text = json.dumps({"system": config.system, "variant": config.variant, **settings}, sort_keys=True)
    false = summary["false_candidates"]
    known = {"N_FALSE": false["expected"], "FALSE_LO": false["lower"], "FALSE_HI": false["upper"]}
    return {
        "CREATOR": f"lensjax {lensjax.__version__}",
        "SCORER": config.search.scorer,
        "WEIGHTS": scored.get("scorer", ""),
        "SEARCH": scored.get("fingerprint", ""),
        "CONFIG": text,
        "N_GAL": summary["galaxies"],
        "N_SKY": summary["sky_fibers"],
        "N_HITS": summary["hits"],
        "N_CAND": summary["candidates"],
        **{name: value for name, value in known.items() if value is not None},
    }
