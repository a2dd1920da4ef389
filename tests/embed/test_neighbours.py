"""From a folder of embeddings to neighbours.npz: rows of the objects' table, whichever engine and route."""

import json

import numpy as np
import pytest

from configs import ssl
from lensjax.core.errors import UserError
from lensjax.embed import bands, store
from lensjax.embed.neighbours import find_neighbours

RNG = np.random.default_rng(1)
COUNT, LOST = 150, (7, 99)  # one without embedding, one without magnitude


@pytest.fixture(scope="module")
def vectors():
    return RNG.normal(size=(COUNT, 6)).astype(np.float32), RNG.uniform(17, 20, COUNT)


@pytest.fixture
def workdir(tmp_path, vectors):
    values, mag = vectors[0].copy(), vectors[1]
    values[LOST[0]] = np.nan
    flux = 10 ** (0.4 * (22.5 - mag))
    flux[LOST[1]] = -1
    chunks = store.Chunks(tmp_path / store.FOLDER, COUNT, 64, "x")
    for i in chunks.missing():
        chunks.write(i, values[list(chunks.span(i))])
    chunks.finish({"flux": np.stack([flux] * 3, 1)}, {})
    return tmp_path


def settings(**changes):
    config = ssl.get_config("smoke")
    config.neighbours.update(changes)
    return config


def load(path):
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


def expected(vectors, k, window):
    values, mag = vectors
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    similarity = unit @ unit.T
    similarity[np.abs(mag[:, None] - mag) > window] = -np.inf
    np.fill_diagonal(similarity, -np.inf)
    similarity[:, list(LOST)] = -np.inf
    order = np.argsort(-similarity, axis=1)[:, :k]
    return np.where(np.isfinite(np.take_along_axis(similarity, order, 1)), order, -1)


@pytest.mark.parametrize("changes", [{}, {"memory": 0.0}, {"engine": "faiss"}])
def test_all_against_all(workdir, vectors, changes):
    out = load(find_neighbours(settings(window=0.4, **changes), workdir))
    assert set(range(COUNT)) - set(out["query"]) == set(LOST)
    np.testing.assert_array_equal(out["neighbours"], expected(vectors, 5, 0.4)[out["query"]])
    finite = np.isfinite(out["similarity"])
    np.testing.assert_array_equal(finite, out["neighbours"] >= 0)
    assert np.all(np.diff(np.where(finite, out["similarity"], -2), axis=1) <= 0)
    assert not (workdir / "neighbours.work").exists()
    assert json.loads(str(out["settings"]))["window"] == 0.4


def test_on_demand_in_the_order_asked_for(workdir, vectors):
    out = load(find_neighbours(settings(queries=(140, 3, 77, 3), window=0.0), workdir))
    np.testing.assert_array_equal(out["query"], [140, 3, 77])
    everyone = expected((vectors[0], np.zeros(COUNT)), 6, 0.4)
    for got, row in zip(out["neighbours"], (140, 3, 77), strict=True):
        assert set(got) - {LOST[1]} <= set(everyone[row])  # without a window magnitudes do not matter


def test_on_demand_inside_windows_reads_only_these(workdir, vectors, capsys):
    out = load(find_neighbours(settings(queries=(3, 50), window=0.4), workdir))
    np.testing.assert_array_equal(out["neighbours"], expected(vectors, 5, 0.4)[[3, 50]])
    near = np.abs(vectors[1] - vectors[1][[3, 50], None]).min(0) <= 0.4
    near[list(LOST)] = False
    assert f"of {near.sum()} compared" in capsys.readouterr().out


def test_many_tiles(workdir, vectors, monkeypatch):
    monkeypatch.setattr(bands, "TILE", 16)
    out = load(find_neighbours(settings(window=0.4), workdir))
    np.testing.assert_array_equal(out["neighbours"], expected(vectors, 5, 0.4)[out["query"]])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"queries": (150,)}, "rows 0 to 149"),
        ({"queries": (1.5,)}, "expected rows of the objects, whole numbers"),
        ({"queries": ("a",)}, "expected rows of the objects, whole numbers"),
        ({"queries": (7,)}, "no embedding or no magnitude"),
        ({"band": "i"}, "no column mag_i"),
        ({"engine": "annoy"}, "bands, faiss"),
    ],
)
def test_what_is_not_there_is_said(workdir, changes, said):
    with pytest.raises(UserError, match=said):
        find_neighbours(settings(**changes), workdir)
    assert not (workdir / "neighbours.work").exists()


def test_without_any_magnitude_the_way_out_is_said(tmp_path):
    chunks = store.Chunks(tmp_path / store.FOLDER, 8, 8, "x")
    chunks.write(0, RNG.normal(size=(8, 3)))
    chunks.finish({"flux": np.full((8, 3), np.nan)}, {})
    with pytest.raises(UserError, match=r"--config\.neighbours\.window=0"):
        find_neighbours(settings(), tmp_path)
    assert load(find_neighbours(settings(window=0.0), tmp_path))["neighbours"].min() >= 0
    chunks.write(0, np.full((8, 3), np.nan))
    with pytest.raises(UserError, match=r"has an embedding: its objects\.parquet says why"):
        find_neighbours(settings(window=0.0), tmp_path)


def test_embeddings_come_first(tmp_path):
    with pytest.raises(UserError, match="--mode=embed"):
        find_neighbours(settings(), tmp_path)
