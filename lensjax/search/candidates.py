"""What the page shows of a vetted search: its tables read back, and each candidate's spectrum with the fitted lines."""

import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq

from lensjax.fit import lya, skewnormal, staged
from lensjax.physics import grid
from lensjax.search.calibration import find_probability
from lensjax.search.measure import make_subtraction
from lensjax.search.spectra import Columns, read_hits, wide_window
from lensjax.search.vet import FUNNEL_NAME, HITS_NAME
from lensjax.sims.lya import lens_mask, masked_lines

Row = dict[str, Any]


class Vetted(NamedTuple):
    """A vetting: vetting.json; rows of the first candidates; hits, (M,) columns of galaxies; the strongest that were
    cut; spectra of the candidates, as the system shows them, or a sentence each; loglam (P,) of these."""

    summary: dict[str, Any]
    rows: list[Row]
    hits: Columns
    lost: list[Row]
    spectra: list[Any]
    loglam: np.ndarray


class Candidate(NamedTuple):
    """One candidate on the wide window.

    flux, ivar: (P,) as in the file. model: (P,) the galaxy. masked: (P,) bool, lines of the galaxy. near: (41,) pixels
    around the line, perhaps beyond the ends. residual, error: (41,) without the galaxy; NaN for a bad pixel. skewed,
    symmetric: (41,) best fits.
    """

    flux: np.ndarray
    ivar: np.ndarray
    model: np.ndarray
    masked: np.ndarray
    near: np.ndarray
    residual: np.ndarray
    error: np.ndarray
    skewed: np.ndarray
    symmetric: np.ndarray


def object_name(row: Row) -> str:
    """plate-mjd-fiber, or the target's number, or file and row."""
    if row["plate"] >= 0:
        return f"{row['plate']}-{row['mjd']}-{row['fiberid']:04d}"
    if row["targetid"] > 0:
        return str(row["targetid"])
    return f"{pathlib.PurePath(row['file']).name}, row {row['row']}"


def read_vetted(config: Any, folder: pathlib.Path, scorer: str, read_spectra: Callable[..., list]) -> Vetted | None:
    """The vetting in `folder`, with the first config.search.report_hits candidates; None where there is none.

    read_spectra: (config, columns of the candidates, loglam) -> what is shown of each, or a sentence.
    scorer: identity of the weights; with a calibration.json of the same, each row has a `probability`, else NaN.
    """
    paths = [folder / name for name in (FUNNEL_NAME, HITS_NAME, "candidates.parquet")]
    if not (config.vet.enabled and all(path.is_file() for path in paths)):
        return None
    hits, chosen = (pq.read_table(path).to_pydict() for path in paths[1:])
    hits, chosen = ({name: np.array(values) for name, values in table.items()} for table in (hits, chosen))
    hits = {name: values[~hits["sky"].astype(bool)] for name, values in hits.items()}
    for table in (hits, chosen):
        table["probability"] = find_probability(table["score"].astype(float), folder, scorer)
    limit = config.search.report_hits
    best = {name: values[:limit] for name, values in chosen.items()}
    lost = np.flatnonzero(hits["cut"] != "candidate") if len(hits["cut"]) else np.zeros(0, int)
    lost = lost[np.argsort(-hits["score"][lost], kind="stable")][:limit]
    loglam = wide_window(config)
    spectra = read_spectra(config, best, loglam)
    return Vetted(
        json.loads(paths[0].read_text()),
        _rows(best),
        hits,
        _rows({k: v[lost] for k, v in hits.items()}),
        spectra,
        loglam,
    )


def _rows(columns: Columns) -> list[Row]:
    number = len(columns["score"])
    return [{name: values[i].item() for name, values in columns.items()} for i in range(number)]


def read_spectra(config: Any, chosen: Columns, loglam: np.ndarray) -> list[Any]:
    """The Candidates of the rows (M,) of a candidates table, in their order; a sentence for one that is gone."""
    number = len(chosen["score"])
    found: list[Any] = ["This spectrum can no longer be shown: its file has changed since the search."] * number
    if not number:
        return found
    order = np.lexsort((chosen["row"], chosen["file"]))
    columns = {name: values[order] for name, values in chosen.items()}
    subtract, wave = jax.jit(jax.vmap(make_subtraction(config, loglam))), jnp.float32(grid.wave(loglam))
    for chunk in read_hits(columns, loglam, config.vet.chunk):
        z = columns["z_lens"][chunk.rows].astype(np.float32)
        place = grid.pixel(columns["hit_wave"][chunk.rows], loglam).astype(np.float32)
        out = jax.device_get(subtract(chunk.flux, chunk.ivar, z, place))
        fits = _fit_lines(out["residual"], out["ivar"], out["position"])
        masked = jax.device_get(jax.vmap(lambda z: lens_mask(wave, z, masked_lines(config)))(z))
        for i, row in enumerate(chunk.rows):
            if chunk.readable[i]:
                spectrum = (chunk.flux[i], chunk.ivar[i], out["model"][i], masked[i])
                found[order[row]] = Candidate(*spectrum, *(column[i] for column in fits))
    return found


def _fit_lines(residual: np.ndarray, ivar: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, ...]:
    """near, residual, error, skewed and symmetric of Candidate, (N, 41) each."""
    y, weight = lya.cut(residual, position), lya.cut(ivar, position)
    y = np.where(weight > 0, y, 0)
    x = np.arange(-lya.HALF_WIDTH, lya.HALF_WIDTH + 1)
    models = []
    for skewed in (True, False):
        params = np.asarray(staged.solve(lya.problem(skewed=skewed), y, weight).params, np.float32)
        curve = jax.vmap(lambda p: skewnormal.line(tuple(p))(jnp.asarray(x, jnp.float32))[0])
        models.append(np.asarray(curve(params.T)))
    bad = weight <= 0
    error = np.where(bad, np.nan, 1 / np.sqrt(np.where(bad, 1, weight)))
    return position[:, None].astype(int) + x, np.where(bad, np.nan, y).T, error.T, *models
