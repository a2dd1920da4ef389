"""Injection and recovery: lines of known flux and shape in the user's own spectra, through the whole search.

What is random depends on the seed and on the number of the line alone, so that a killed run goes on to the same end.
"""

import hashlib
import json
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import special

import lensjax
from lensjax.core.errors import UserError
from lensjax.core.files import replacing
from lensjax.core.journal import Progress
from lensjax.physics import grid
from lensjax.search import calibration, completeness, inject_figures, score, select, shards, systems
from lensjax.search.report import write_report
from lensjax.search.restore import Scorer, make_scorer
from lensjax.search.spectra import Chunk, Columns, wide_window
from lensjax.search.vet import HITS_NAME, changed, check_settings, vet
from lensjax.surveys import Block, concatenate, find_files

LINES_NAME, MAP_NAME, FOLDER_NAME = "injected.parquet", "completeness.fits", "injected"
MOST_FILES = 50  # that galaxies to inject into are spread over
ROUNDING = 1e-3  # of an S/N that was asked for
STREAM = 11  # of the seed: no line is one that a network was trained on


def inject(config: Any, workdir: str | pathlib.Path, scorer: Scorer | None = None) -> dict[str, Any]:
    """Inject config.inject.lines lines into galaxies of config.search.input; write what the search makes of them.

    Writes injected.parquet (one row a line), completeness.fits, calibration.json, and completeness.pdf, .png and
    reliability.pdf, .png; where the workdir has a vetted search by the same weights and settings, its candidates.* and
    page get their probabilities. A finished run of the same input, weights and settings is recognised and not
    repeated; a killed one goes on behind its last chunk of lines.

    scorer: stands in for the one that the config names. Returns the calibration with completeness as a whole.
    Raises UserError for input without a galaxy that the search selects.
    """
    folder = pathlib.Path(workdir)
    check_settings(config)
    scorer = scorer or make_scorer(config, workdir)
    config = scorer.config or config
    files = find_files(config.search.input)
    mark = fingerprint(config, files, scorer, folder)
    injection = systems.of(config).injection
    lines = _read_lines(folder / LINES_NAME, mark)
    if lines is None:
        hosts, sky = read_hosts(config, [path for path, _ in files])
        lines = _run(config, folder, mark, scorer, hosts, sky)
    meta = {"SCORER": config.search.scorer, "WEIGHTS": scorer.identity[:64], "THRESH": config.search.threshold}
    meta |= {"N_LINES": len(lines["wave"]), "VETTED": bool(config.vet.enabled)}
    text = json.dumps({name: config[name].to_dict() for name in ("inject", "vet", "search")}, sort_keys=True)
    meta |= {"CREATOR": f"lensjax {lensjax.__version__}", "CONFIG": text}
    path = completeness.write_completeness(folder / MAP_NAME, lines, config.inject, meta, injection)
    known = calibrate(config, folder, scorer, lines)
    inject_figures.write_figures(folder, lines, completeness.make_edges(config.inject), known, injection)
    rate = float(np.mean(lines["found"]))
    print(f"{path}: {len(lines['wave'])} lines injected, {100 * rate:.1f} % found")
    if config.vet.enabled and known["spectra"] == shards.TABLE_NAME and (folder / HITS_NAME).is_file():
        if other := changed(config, folder):
            print(
                f"inject: the candidates in {folder} are of another {', '.join(other)}: they get their probabilities "
                "by --mode=search with the settings of their search",
                file=sys.stderr,
            )
        else:
            vet(config, folder)
            write_report(config, folder / shards.TABLE_NAME, scorer.identity)
    return {**known, "completeness": rate}


def fingerprint(config: Any, files: list[tuple[str, str]], scorer: Scorer, folder: pathlib.Path) -> str:
    """SHA-256 of what the lines and their fate depend on: the search's own, config.inject, the cuts, crowded hits."""
    text = json.dumps([config.inject.to_dict(), config.vet.to_dict(), config.search.threshold, config.seed])
    total = hashlib.sha256(f"{score.fingerprint(config, files, scorer)}{text}".encode())
    crowd = _read_crowd(folder / HITS_NAME, systems.of(config).view.REDSHIFT) if config.vet.enabled else None
    for name in ("wave", "z", "sky", "flags"):  # not the probabilities, which an injection brings
        total.update(np.ascontiguousarray(crowd[name]).tobytes() if crowd else b"")
    return total.hexdigest()


def read_hosts(config: Any, paths: list[str]) -> tuple[Block, Block]:
    """Up to config.inject.hosts galaxies that the search selects and, where they are a control sample, sky fibers.

    From files in random order, over config.vet.window, and of one file no more than a MOST_FILES-th of them where there
    are as many files: a plate has one sky and one seeing. Reading ends when there are enough galaxies: memory does not
    grow with the survey.
    """
    order = np.random.default_rng([config.seed, STREAM])
    read = score.make_read(config, wide_window(config), score.load_catalogue(config))
    most = -(-config.inject.hosts // min(len(paths), MOST_FILES))
    parts: dict[str, list[Block]] = {"hosts": [], "sky": []}
    for path in order.permutation(paths):
        block, selected = read(str(path))
        sky = block.table["sky"] & block.has_data & ~selected & systems.of(config).CONTROL
        for name, rows in (("hosts", selected), ("sky", sky)):
            room = config.inject.hosts - sum(len(part.z) for part in parts[name])
            chosen = order.permutation(np.flatnonzero(rows))[: min(room, most)]
            if len(chosen) or not parts[name]:
                parts[name].append(block.take(np.sort(chosen)))
        if sum(len(part.z) for part in parts["hosts"]) >= config.inject.hosts:
            break
    hosts, sky = (concatenate(parts[name]) for name in ("hosts", "sky"))
    if not len(hosts.z):
        raise UserError(
            f"{config.search.input} has no galaxy that config.select accepts: choose other input or widen that."
        )
    return hosts, sky


def _run(config: Any, folder: pathlib.Path, mark: str, scorer: Scorer, hosts: Block, sky: Block) -> Columns:
    """All lines, chunk by chunk, each a file of its own until the last is there; also the hosts' own scores."""
    size = config.search.batch_size
    number = -(-config.inject.lines // size)
    store = folder / FOLDER_NAME
    recover = make_recovery(config, folder, scorer, hosts)
    progress = Progress(number, 0, "inject")
    for i in range(number):
        path = store / f"part-{i:05d}.parquet"
        if _read_lines(path, mark) is None:
            rows = np.arange(i * size, min((i + 1) * size, config.inject.lines))
            _write_lines(path, recover(rows), mark)
        progress.advance()
    progress.close()
    parts = [_read_lines(store / f"part-{i:05d}.parquet", mark) for i in range(number)]
    lines = {name: np.concatenate([part[name] for part in parts if part is not None]) for name in parts[0] or {}}
    if not len(lines["wave"]):
        raise UserError(
            f"none of {len(hosts.z)} spectra of {config.search.input} has a good pixel for a line: give others."
        )
    write_control(config, folder, scorer, hosts, sky)
    _write_lines(folder / LINES_NAME, lines, mark)
    shards.clear(store)
    return lines


def make_recovery(config: Any, folder: pathlib.Path, scorer: Scorer, hosts: Block) -> Callable[[np.ndarray], Columns]:
    """recover(numbers (n,) of lines) -> columns (m,): the injection's TRUTH, host, score, hit_wave, hit, cut, found.

    m < n where a host has no room for a line.
    """
    loglam = scorer.loglam
    wide = wide_window(config)
    first = grid.index0(loglam) - grid.index0(wide)
    inside = slice(first, first + len(loglam))
    draw = systems.of(config).injection.make_inject(config, loglam)
    vetting = make_vetting(config, folder, wide)
    key = jax.random.fold_in(jax.random.key(config.seed), STREAM)
    low, high = config.inject.snr

    def recover(numbers: np.ndarray) -> Columns:
        rng = [np.random.default_rng([config.seed, STREAM, n]) for n in numbers.tolist()]
        host = np.array([r.integers(len(hosts.z)) for r in rng])
        snr = np.array([r.uniform(low, high) for r in rng], np.float32)
        picked = hosts.take(host)
        batch = {n: x[:, inside] if x.ndim == 2 else x for n, x in picked.batch().items()}
        size = config.search.batch_size
        keys = jax.vmap(lambda n: jax.random.fold_in(key, n))(np.resize(numbers, size))
        lit, truth = jax.device_get(draw(keys, score.pad(batch, size), np.resize(snr, size)))
        num = len(numbers)
        out = {name: np.asarray(x)[:num] for name, x in jax.device_get(scorer.predict(lit)).items()}
        truth = {name: np.asarray(x)[:num] for name, x in truth.items()}
        out |= nearest_line(out, truth["wave"])
        near = np.abs(np.log10(out["wave"] / truth["wave"])) <= config.inject.near * grid.STEP
        hit = (out["score"] > config.search.threshold) & near
        flux, ivar = picked.flux.copy(), picked.ivar.copy()
        flux[:, inside], ivar[:, inside] = np.asarray(lit["flux"])[:num], np.asarray(lit["ivar"])[:num]
        cut = np.full(num, "", "U16")
        cut[hit] = vetting(picked._replace(flux=flux, ivar=ivar).take(hit), out["wave"][hit], out["score"][hit])
        found = hit & ((cut == select.CONTROL) if config.vet.enabled else True)
        fate = {"score": out["score"], "hit_wave": out["wave"], "hit": hit, "cut": cut, "found": found}
        possible = truth.pop("possible")
        return {name: values[possible] for name, values in {**truth, "host": host, **fate}.items()}

    return recover


def nearest_line(out: Columns, wave: np.ndarray) -> Columns:
    """wave and score (n,), of several lines those of the one nearest to `wave` (n,), A. out: of a prediction."""
    if "waves" not in out:
        return {name: out[name] for name in ("wave", "score")}
    scores = special.expit(out["logits"].astype(np.float64)).astype(np.float32)
    best = np.abs(np.log(out["waves"] / wave[:, None])).argmin(1)[:, None]
    chosen = {"wave": out["waves"], "score": scores}
    return {name: np.take_along_axis(values, best, axis=1)[:, 0] for name, values in chosen.items()}


def make_vetting(config: Any, folder: pathlib.Path, loglam: np.ndarray) -> Callable[..., np.ndarray]:
    """vetting(spectra (n), wave (n,) and score (n,) of their hits) -> name (n,) of the cut that takes each, or control.

    The crowds are those of the search's own hits, where `folder` has them: lines are judged as sky fibers are, by
    crowds that they do not add to. Neighbouring fibers are not looked at. Without config.vet.enabled nothing is cut.
    """
    if not config.vet.enabled:
        return lambda block, wave, scores: np.full(len(wave), "")
    system = systems.of(config)
    measure = system.make_measure(config, loglam)
    crowd = _read_crowd(folder / HITS_NAME, system.view.REDSHIFT)

    def vetting(block: Block, wave: np.ndarray, scores: np.ndarray) -> np.ndarray:
        cuts = [np.zeros(0, "U16")]
        for rows in _pieces(len(wave), config.vet.chunk):
            part = block.take(rows)
            num = len(part.z)
            beside = np.zeros((num, 2, len(loglam)), np.float32)
            chunk = Chunk(np.arange(num), part.flux, part.ivar, part.wdisp, np.ones(num, bool), beside, beside)
            hits = {"wave": wave[rows].astype(np.float64), "z": part.z.astype(np.float64)}
            columns = {**measure(chunk, hits), "z": hits["z"], "sky": np.ones(num, bool)}
            columns |= {name: part.table[name] for name in ("file", "row", "ra", "dec")}
            columns["posterior"] = calibration.posterior(scores[rows], config)
            if crowd is not None:
                columns = {
                    name: np.concatenate([values, crowd[name]]) for name, values in columns.items() if name in crowd
                }
            cuts.append(select.apply(columns, config.vet, system.CUTS)["cut"][:num])
        return np.concatenate(cuts)

    return vetting


def _pieces(number: int, size: int) -> Iterator[slice]:
    for start in range(0, number, size):
        yield slice(start, min(start + size, number))


def _read_crowd(path: pathlib.Path, redshift: str) -> Columns | None:
    """The measured hits of the search, as `select.apply` takes them; `redshift` is their column of it."""
    if not path.is_file():
        return None
    table = pq.read_table(path)
    columns = {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}
    return {**columns, "z": columns[redshift], "readable": np.isfinite(columns["wave"])}


CONTROL_NAME = "injected_control.parquet"


def write_control(config: Any, folder: pathlib.Path, scorer: Scorer, hosts: Block, sky: Block) -> None:
    """Scores of the hosts and the sky fibers as they are, for the calibration where no search is in `folder`."""
    first = grid.index0(scorer.loglam) - grid.index0(wide_window(config))
    inside = slice(first, first + len(scorer.loglam))
    scores, size = [], config.search.batch_size
    block = concatenate([hosts, sky])
    for rows in _pieces(len(block.z), size):
        batch = {n: x[rows, inside] if x.ndim == 2 else x[rows] for n, x in block.batch().items()}
        num = len(batch["z"])
        scores.append(np.asarray(jax.device_get(scorer.predict(score.pad(batch, size))["score"]))[:num])
    label = np.arange(len(block.z)) >= len(hosts.z)
    with replacing(folder / CONTROL_NAME) as temporary:
        pq.write_table(pa.table({"score": np.concatenate(scores), "sky": label, "selected": ~label}), temporary)


def calibrate(config: Any, folder: pathlib.Path, scorer: Scorer, lines: Columns) -> dict[str, Any]:
    """Fit the calibration to every other score, judge it by those between, and write calibration.json.

    Spectra as they are come from the search's table where `folder` has one by this scorer, else from the hosts. Those
    that the vetting knows to have another line are left out: they are neither noise nor what is looked for. Where more
    of the rest are candidates than config.inject.line_rate, the calibration is of no weights, so that nothing uses it.
    Nor do lines count whose S/N is beyond config.inject.snr: a system may inject by other measures.
    """
    table = folder / shards.TABLE_NAME
    searched = shards.read_metadata(table).get("scorer") == scorer.identity
    wanted = ["score", "sky", "selected", *(["cut"] if searched else [])]
    rows = pq.read_table(table if searched else folder / CONTROL_NAME, columns=wanted)
    values, sky, selected = (rows.column(name).to_numpy(zero_copy_only=False) for name in ("score", "sky", "selected"))
    scored, candidate = np.isfinite(values), np.zeros(len(values), bool)
    if searched:
        cut = rows.column("cut").to_numpy(zero_copy_only=False).astype(np.str_)
        scored &= ~np.isin(cut, select.OTHER_LINES)
        candidate = cut == select.CANDIDATE
    low, high = config.inject.snr
    inside = (lines["snr"] > low * (1 - ROUNDING)) & (lines["snr"] < high * (1 + ROUNDING))
    found, galaxies = lines["score"][inside], values[scored & selected]
    blank = values[scored & sky & ~selected & systems.of(config).CONTROL]
    order = np.random.default_rng([config.seed, STREAM])
    found, galaxies, blank = (order.permutation(sample) for sample in (found, galaxies, blank))
    share = float(np.mean(candidate[scored & selected])) if len(galaxies) else 0.0
    known = calibration.fit_calibration(found[::2], galaxies[::2], blank[::2], config.inject.line_rate)
    edges = np.asarray(config.inject.reliability_edges)
    known["reliability"] = calibration.reliability(found[1::2], galaxies[1::2], blank[1::2], known, edges)
    known |= {"scorer": scorer.identity, "spectra": shards.TABLE_NAME if searched else CONTROL_NAME}
    if share > config.inject.line_rate:  # the fit took lines for noise
        known["scorer"] = ""
        print(
            f"inject: {share:.1%} of the spectra that were searched are candidates, more than have lines by "
            f"config.inject.line_rate, {config.inject.line_rate:.1%}: no probability is given; raise that, or see the "
            "column posterior",
            file=sys.stderr,
        )
    calibration.write_calibration(folder, known)
    return known


def _write_lines(path: pathlib.Path, lines: Columns, mark: str) -> None:
    table = pa.table(lines).replace_schema_metadata({"lensjax": json.dumps({"fingerprint": mark})})
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def _read_lines(path: pathlib.Path, mark: str) -> Columns | None:
    """The lines of a table of this run; None where there is none."""
    if shards.read_metadata(path).get("fingerprint") != mark:
        return None
    table = pq.read_table(path)
    return {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}
