"""report.html: what a search found, on one page that needs no other file and no network."""

import collections
import datetime
import itertools
import json
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

import lensjax
from lensjax.core.files import write_text
from lensjax.physics import grid
from lensjax.search import page, systems
from lensjax.search.candidates import read_vetted
from lensjax.search.tally import tally
from lensjax.surveys import read_block

PAGE_NAME, FIGURES_NAME = "report.html", "figures"


class Spectrum(NamedTuple):
    """One hit: flux, ivar, template fit (NaN where the templates end) and lens-line mask, (P,) each."""

    flux: np.ndarray
    ivar: np.ndarray
    fit: np.ndarray
    masked: np.ndarray


def write_report(config: Any, table: pathlib.Path, identity: str, date: str = "") -> pathlib.Path | None:
    """Write report.html beside `table`, the scores.parquet of a finished search; returns its path.

    config: of the search; needs search, data.window and sim.continuum. identity: of the scorer (its weights).
    After a vetting the page shows candidates in place of hits, and figures/NAME.pdf hold the first report_figures.
    date: of the search, now if empty; nothing else on the page changes from run to run.
    With config.search.report_hits 0 there is no page: an older one is removed, and None returned.
    """
    path = table.with_name(PAGE_NAME)
    if config.search.report_hits < 1:
        path.unlink(missing_ok=True)
        return None
    window = tuple(config.data.window)
    system = systems.of(config)
    total, view = tally(table, config.search.threshold, config.search.report_hits, window, system.CONTROL), system.view
    vetted = read_vetted(config, path.parent, identity, view.read_spectra)
    spectra = [] if vetted else read_spectra(config, total.best)
    if vetted:
        limit = config.search.report_figures
        names = distinct([view.label(row) for row in vetted.rows[:limit]])
        chosen = vetted.rows[:limit], vetted.spectra[:limit]
        view.write_pdfs(path.with_name(FIGURES_NAME), names, *chosen, vetted.loglam)
    date = date or datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    settings = provenance(config, identity, date)
    text = page.render(total, spectra, grid.window(*window), config.search.threshold, settings, vetted, view)
    # ASCII alone, so that neither the locale nor a file name of broken bytes can spoil the page
    write_text(path, text.encode("ascii", "xmlcharrefreplace").decode())
    return path


def distinct(names: list[str]) -> list[str]:
    """The names, a repeated one with _2, _3, ... behind it: an object may have been observed several times."""
    before = collections.Counter()
    out = []
    for name in names:
        before[name] += 1
        out.append(name if before[name] == 1 else f"{name}_{before[name]}")
    return out


def provenance(config: Any, identity: str, date: str) -> dict[str, str]:
    """What it takes to make the page again: label -> value."""
    search = config.search
    network = search.scorer == "network"
    return {
        "date": date,
        "lensjax": lensjax.__version__,
        "config": f"{config.system}:{config.variant}",
        "search.input": search.input,
        "search.catalogue": search.catalogue or "none: the redshift in each file",
        "search.scorer": search.scorer,
        "weights, SHA-256" if network else "filter": identity,
        "search.threshold": f"{search.threshold:g}",
        "data.window": " to ".join(f"{x:g}" for x in config.data.window) + " Å, vacuum",
        "select": ", ".join(f"{name} {json.dumps(value)}" for name, value in sorted(config.select.to_dict().items())),
    }


def read_spectra(config: Any, hits: list[dict[str, Any]]) -> list[Spectrum | str]:
    """The spectrum of each hit, read again from its file, or a sentence for one that is no longer there."""
    loglam = grid.window(*config.data.window)
    found: dict[int, Any] = {}
    order = sorted(range(len(hits)), key=lambda i: hits[i]["file"])
    for path, group in itertools.groupby(order, key=lambda i: hits[i]["file"]):
        found.update(_read_rows(path, {i: hits[i]["row"] for i in group}, loglam))
    fit = systems.of(config).view.make_fit(config, loglam) if hits else None
    for i, arrays in found.items():
        if fit and not isinstance(arrays, str):
            place = np.float32(grid.pixel(hits[i]["wave"], loglam))
            flux, ivar = arrays
            model, masked = jax.device_get(fit(flux, ivar, np.float32(hits[i]["z"]), place))
            found[i] = Spectrum(flux, ivar, model, masked)
    return [found[i] for i in range(len(hits))]


def _read_rows(path: str, rows: dict[int, int], loglam: np.ndarray) -> dict[int, Any]:
    """{key: row in the file} -> {key: (flux, ivar), or a sentence}. The rest of the file is let go."""
    block = read_block(path, loglam)
    places = {int(row): place for place, row in enumerate(block.table["row"])}
    out: dict[int, Any] = {}
    for key, row in rows.items():
        place = places.get(row, 0 if len(places) == 1 else None)
        if place is None:
            out[key] = "This spectrum can no longer be shown: the file has changed since the search."
        elif not block.has_data[place] or int(block.table["row"][place]) != row:
            reason = block.table["status"][place] or "the file has changed since the search"
            out[key] = f"This spectrum can no longer be shown: {reason}."
        else:
            out[key] = (block.flux[place].copy(), block.ivar[place].copy())
    return out
