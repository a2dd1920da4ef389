"""The released weights on real spectra: none is lost, and nothing is found where there is nothing."""

import pathlib

import jax
import numpy as np
import pytest

from configs import lya
from lensjax.core.checkpoint import WEIGHTS_NAME
from lensjax.physics import grid
from lensjax.search.restore import RELEASED, Scorer, make_scorer
from lensjax.search.score import search
from lensjax.surveys import find_files, read_block, select

FOLDERS = ("boss_galaxies", "boss_sky", "boss_stars", "sdss_legacy", "desi")
# Emission lines of the object itself: real, if not what the search is for. File -> vacuum wavelength, Angstrom.
REAL_LINES = {  # Hgamma, of a starburst galaxy at z = 0.042 and of a star-forming one at z = 0.126
    "spec-2356-53786-0499.fits": 4524.9,
    "spec-1997-53442-0041.fits": 4890.2,
}


@pytest.fixture(scope="module")
def scorer(tmp_path_factory) -> Scorer:
    """The released network; skips where the checkout has none."""
    if not (RELEASED / "lya" / WEIGHTS_NAME).is_file():
        pytest.skip("no released weights in weights/lya: nothing to check on real spectra")
    return make_scorer(config(), tmp_path_factory.mktemp("no-checkpoints"))


def config():
    settings = lya.get_config()
    settings.search.batch_size = 16
    return settings


@pytest.fixture(scope="module")
def rows(real_data, scorer) -> list[dict]:
    """One row per real spectrum of FOLDERS: who it is, score and wavelength."""
    out = []
    for folder in FOLDERS:
        for path, _ in find_files(str(real_data / folder)):
            block = read_block(path, scorer.loglam)
            scores = jax.device_get(scorer.predict(padded(block.batch(), 16)))
            out += [
                {
                    "file": pathlib.Path(path).name,
                    "folder": folder,
                    "class": str(block.table["class"][i]),
                    "sky": bool(block.table["sky"][i]),
                    "selected": bool(select(block.table, config().select)[0][i]),
                    "score": float(scores["score"][i]),
                    "wave": float(scores["wave"][i]),
                }
                for i in range(len(block.z))
            ]
    return out


def padded(batch: dict[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """The batch with its first rows again, up to `size` rows."""
    return {name: x[np.arange(size) % len(x)] for name, x in batch.items()}


def test_every_real_file_gets_a_row_and_a_score(real_data, scorer, tmp_path):
    import pyarrow.parquet as pq

    settings = config()
    settings.search.input = str(real_data / "boss_galaxies")
    counts = search(settings, tmp_path, scorer)
    table = pq.read_table(tmp_path / "scores.parquet").to_pydict()
    files = {path for path, _ in find_files(settings.search.input)}
    assert {str(path) for path in files} == set(table["file"]) and len(files) == counts["rows"]
    assert counts["problems"] == 0 and np.isfinite(table["score"]).all()
    assert sum(table["selected"]) == 11  # the twelfth is a sky fiber


def test_all_scores_are_probabilities_and_all_waves_lie_in_the_window(rows, scorer):
    score, wave = (np.array([row[name] for row in rows]) for name in ("score", "wave"))
    lo, hi = grid.wave(scorer.loglam[[0, -1]])
    assert len(rows) >= 29 and ((score >= 0) & (score <= 1)).all()
    assert ((wave > lo - 1) & (wave < hi + 1)).all()


@pytest.mark.parametrize("sample", ["selected", "other galaxies", "sky", "stars"])
def test_nothing_is_found_in_real_spectra_but_real_lines(rows, sample):
    member = {
        "selected": lambda row: row["selected"],
        "other galaxies": lambda row: row["class"] == "GALAXY" and not row["selected"] and not row["sky"],
        "sky": lambda row: row["sky"],
        "stars": lambda row: row["class"] == "STAR" and not row["sky"],
    }[sample]
    members = [row for row in rows if member(row)]
    hits = [row for row in members if row["score"] > 0.5]
    real = [row for row in hits if abs(row["wave"] - REAL_LINES.get(row["file"], 0.0)) < 4.0]
    assert members
    assert hits == real
