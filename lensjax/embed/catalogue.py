"""The ranked list as a catalogue: ranked.fits, .ecsv, .vot and .parquet, with a link to look at each object."""

import json
import pathlib
from typing import Any

import numpy as np

import lensjax
from lensjax.core.errors import UserError
from lensjax.embed.neighbours import as_rows, normalise
from lensjax.embed.probe import FOLDER, is_current
from lensjax.embed.store import Embeddings
from lensjax.surveys import known
from lensjax.surveys.catalogues import make_table, write_table

Columns = dict[str, np.ndarray]
STEM = "ranked"
COLUMNS = {
    "rank": ("", "meta.record", "place in the list, from 1"),
    "name": ("", "meta.id;meta.main", "JHHMMSS.ss+DDMMSS.s, truncated J2000 coordinates"),
    "ra": ("deg", "pos.eq.ra;meta.main", "right ascension, J2000"),
    "dec": ("deg", "pos.eq.dec;meta.main", "declination, J2000"),
    "score": (
        "",
        "stat.probability",
        "of the linear probe, 0 to 1; before --mode=probe, of the network of lens, else NaN",
    ),
    "similarity": ("", "stat.value", "largest cosine to an object of config.catalogue.queries; NaN without any"),
    "query": ("", "meta.id.cross", "row of that object; -1 without any"),
    "label": ("", "meta.code.class", "1 known as a lens, 0 known as none, -1 neither"),
    "known": ("", "meta.id.cross", "nearest entry of config.catalogue.known within known_radius"),
    "known_distance": ("arcsec", "pos.angDistance", "distance of that entry"),
    "mag_g": ("mag", "phot.mag;em.opt.B", "AB magnitude in g"),
    "mag_r": ("mag", "phot.mag;em.opt.R", "AB magnitude in r"),
    "mag_z": ("mag", "phot.mag;em.opt.I", "AB magnitude in z"),
    "z_phot": ("", "src.redshift.phot", "photometric redshift of the survey"),
    "z_spec": ("", "src.redshift", "spectroscopic redshift of the survey; NaN if none"),
    "viewer": ("", "meta.ref.url", "the place in the Legacy Surveys' viewer; empty without coordinates"),
    "object": ("", "meta.record", "row of embeddings/objects.parquet"),
    "file": ("", "meta.id;meta.file", "file of the cutout"),
    "row": ("", "meta.record", "row in that file"),
}


def export(config: Any, workdir: str | pathlib.Path) -> pathlib.Path:
    """Write the config.catalogue.num best objects of workdir, by the probe's score or by similarity; prints one line.

    config.catalogue: sort ("score" or "similarity"), queries (rows of the objects' table), known and known_radius (a
    table of known lenses), viewer (a link with {ra} and {dec}). Returns the path of the FITS file. Raises UserError
    for rows that do not exist, and for a sort of which there are no values.
    """
    settings, embeddings = config.catalogue, Embeddings(workdir)
    objects = embeddings.objects()
    columns = {**objects, **compare(embeddings, settings.queries), "object": np.arange(embeddings.rows)}
    columns |= read_scores(pathlib.Path(workdir) / FOLDER, embeddings, objects)
    best = _best(columns, settings)
    columns = {name: values[best] for name, values in columns.items()}
    columns |= identify(columns, settings) | {"rank": np.arange(1, len(best) + 1)}
    meta = provenance(config, workdir, embeddings)
    meta |= {"SORT": settings.sort, "QUERIES": json.dumps(list(settings.queries))}
    paths = write_table(pathlib.Path(workdir), STEM, make_table(columns, meta, COLUMNS))
    print(f"{paths[0]}: {len(best)} of {embeddings.rows} objects, by {settings.sort}")
    return paths[0]


def provenance(config: Any, workdir: str | pathlib.Path, embeddings: Embeddings) -> dict[str, Any]:
    """What it takes to make a table of these objects again: keys that FITS allows -> text or number."""
    scored = "network" if config.system == "lens" else "none"
    return {
        "CREATOR": f"lensjax {lensjax.__version__}",
        "OBJECTS": embeddings.rows,
        "WEIGHTS": embeddings.about["weights"],
        "SCORE": "probe" if is_current(pathlib.Path(workdir) / FOLDER, embeddings) else scored,
        "CONFIG": json.dumps(config.catalogue.to_dict(), sort_keys=True),
    }


def compare(embeddings: Embeddings, queries: tuple[int, ...]) -> Columns:
    """similarity, query (N,): the largest cosine to one of these rows, and which; NaN and -1 without any."""
    similarity, query = np.full(embeddings.rows, np.nan, np.float32), np.full(embeddings.rows, -1)
    if not queries:
        return {"similarity": similarity, "query": query}
    asked = as_rows("catalogue", queries)
    if asked.min() < 0 or asked.max() >= embeddings.rows:
        raise UserError(
            f"config.catalogue.queries has rows {asked.min()} to {asked.max()}, and there are rows 0 to "
            f"{embeddings.rows - 1}."
        )
    wanted = embeddings.take(asked)
    if not np.isfinite(wanted).all():
        raise UserError("an object of config.catalogue.queries has no embedding: ask for another row.")
    similarity, nearest = most_similar(embeddings, wanted)
    return {"similarity": similarity, "query": asked[nearest]}


def most_similar(embeddings: Embeddings, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(cosine to the most similar of vectors wanted (K, D), its number), (N,) each; NaN, 0 without an embedding."""
    similarity, nearest = np.empty(embeddings.rows, np.float32), np.empty(embeddings.rows, np.int64)
    directions = normalise(wanted).T
    for rows, vectors in embeddings.pieces():
        length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        cosine = vectors @ directions / np.maximum(length, 1e-12)[:, None]
        similarity[rows], nearest[rows] = cosine.max(1), cosine.argmax(1)
    return similarity, nearest


def read_scores(folder: pathlib.Path, embeddings: Embeddings, objects: Columns) -> Columns:
    """score and label (N,) as the probe left them; where it ranked nothing, or other embeddings, those of the objects.

    NaN and -1 where these have none.
    """
    import pyarrow.parquet as pq

    score = np.array(objects.get("score", np.full(embeddings.rows, np.nan)), np.float32)
    label = np.asarray(objects.get("label", np.full(embeddings.rows, -1)))
    if is_current(folder, embeddings):
        ranked = pq.read_table(folder / "ranked.parquet", columns=["object", "score", "label"])
        rows, values, known = (ranked.column(name).to_numpy() for name in ("object", "score", "label"))
        score[rows] = values
        label = np.full(embeddings.rows, -1)
        label[rows] = known
    return {"score": score, "label": label.astype(np.int64)}


def _best(columns: Columns, settings: Any) -> np.ndarray:
    """Rows of the best objects, best first."""
    if settings.sort not in ("score", "similarity"):
        raise UserError(f"config.catalogue.sort is {settings.sort!r}: expected 'score' or 'similarity'.")
    key = columns[settings.sort]
    order = np.argsort(-key, kind="stable")[: int(np.isfinite(key).sum())]
    if not len(order):
        missing = {
            "score": "run --mode=probe first, or embed with configs/lens.py",
            "similarity": "name rows in config.catalogue.queries",
        }
        raise UserError(f"there is nothing to sort by {settings.sort}: {missing[settings.sort]}.")
    return order[: settings.num]


def identify(columns: Columns, settings: Any) -> Columns:
    """ra, dec, name, viewer, known, known_distance (n,) of objects; NaN and empty without coordinates.

    columns: object, and ra and dec in degrees where there are any. settings: config.catalogue.
    """
    count = len(columns["object"])
    ra, dec = (np.asarray(columns.get(name, np.full(count, np.nan)), np.float64) for name in ("ra", "dec"))
    return {"ra": ra, "dec": dec, **known.identify(ra, dec, settings)}
