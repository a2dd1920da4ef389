"""Real quasars labelled by a catalogue of Mg II absorbers, as training arrays (Zhao et al. 2019, section 2.1)."""

from typing import Any

import numpy as np

from lensjax.core.errors import UserError
from lensjax.physics import grid
from lensjax.surveys import absorbers, files

DRAWS = 5  # of the negatives: the paper's bootstrap
TRAIN_SHARE = 0.8  # 4:1
SPLITS = ("random", "survey")
FLUX = ("flux", "ivar", "wdisp")

Arrays = dict[str, np.ndarray]


def load_absorbers(config: Any) -> tuple[Arrays, Arrays]:
    """(train, test) arrays of the spectra of config.data.absorbers, (N, ...) float32, named as `sims.mgii` names them.

    Every positive, and as many negatives, a random draw; see `choose` and `surveys.absorbers.label_block`. The files
    are read twice: for who is what, then for those that are chosen, so that memory is that of the sample alone.
    Unreadable spectra are left out. UserError for settings, catalogues and samples that cannot be used.
    """
    settings, loglam = config.data.absorbers, grid.window(*config.data.window)
    if settings.split not in SPLITS or not 0 <= settings.draw < DRAWS:
        raise UserError(
            f"config.data.absorbers has split {settings.split!r} and draw {settings.draw}: expected one of {SPLITS}, "
            f"0 to {DRAWS - 1}"
        )
    if not settings.spectra:
        raise UserError("config.data.absorbers.spectra is empty: give a file, folder, glob or list of spectra")
    catalogue = absorbers.read_absorbers(settings.catalogue)
    paths = [path for path, _ in files.find_files(settings.spectra)]
    sample = survey(paths, catalogue, loglam)
    if not sample["positive"].any() or sample["positive"].all():
        raise UserError(
            f"{settings.spectra} has {len(sample['positive'])} quasars to learn from, {sample['positive'].sum()} of "
            f"them with an absorber of {settings.catalogue}: expected some with and some without; check that both are "
            "of one survey"
        )
    train, test = choose(sample["positive"], sample["early"], config.seed, settings.draw, settings.split)
    first, second = (read_sample(paths, catalogue, loglam, sample, rows) for rows in (train, test))
    return first, second


def survey(paths: list[str], catalogue: Arrays, loglam: np.ndarray) -> Arrays:
    """Usable spectra of the files: file (place in `paths`), row (place in the file), positive and early (SDSS-I/II)."""
    parts = []
    for number, path in enumerate(paths):
        block = files.read_block(path, loglam, quasars=True)
        _, positive, usable = absorbers.label_block(block, catalogue, loglam)
        rows = np.flatnonzero(usable)
        early = block.table["survey"][rows] == "SDSS"
        parts.append({"file": np.full(len(rows), number), "row": rows, "positive": positive[rows], "early": early})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def choose(positive: np.ndarray, early: np.ndarray, seed: int, draw: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows to test on, shuffled: a pure function of the seed and the draw.

    All positives, and in each part as many negatives, or all that there are. positive, early: bool (N,). split:
    "random", 4:1 of either class, or "survey", early ones to train on and later ones to test on. UserError where a part
    lacks a class.
    """
    random, parts = np.random.default_rng([seed, draw]), ([], [])
    shuffled = [random.permutation(np.flatnonzero(kind)) for kind in (positive, ~positive)]
    for part, rows in zip(parts, zip(*(_halves(rows, early, split) for rows in shuffled), strict=True), strict=True):
        with_line, without = rows
        if not len(with_line) or not len(without):
            raise UserError(
                f"config.data.absorbers.split {split!r} leaves {len(with_line)} quasars with and {len(without)} "
                f"without absorbers to {'test' if parts[0] else 'train'} on: give more spectra, or the other split"
            )
        part.extend(random.permutation(np.concatenate([with_line, without[: len(with_line)]])))
    return np.array(parts[0]), np.array(parts[1])


def _halves(rows: np.ndarray, early: np.ndarray, split: str) -> tuple[np.ndarray, np.ndarray]:
    if split == "survey":
        return rows[early[rows]], rows[~early[rows]]
    number = round(TRAIN_SHARE * len(rows))
    return rows[:number], rows[number:]


def read_sample(paths: list[str], catalogue: Arrays, loglam: np.ndarray, sample: Arrays, rows: np.ndarray) -> Arrays:
    """Spectra and truth of the `rows` of a sample, in that order; each file is read once."""
    out: Arrays = {}
    for number in np.unique(sample["file"][rows]):
        place = np.flatnonzero(sample["file"][rows] == number)
        block = files.read_block(paths[number], loglam, quasars=True)
        truth, _, _ = absorbers.label_block(block, catalogue, loglam)
        for name, values in {**truth, **{name: block.batch()[name] for name in FLUX}}.items():
            if name not in out:
                out[name] = np.empty((len(rows), *values.shape[1:]), np.float32)
            out[name][place] = values[sample["row"][rows[place]]]
    return out
