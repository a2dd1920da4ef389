"""The linear probe: the optimum of its loss, splits that do not touch, a ranking with the lenses on top."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression

from configs import ssl
from lensjax.core.errors import UserError
from lensjax.embed import linear, store
from lensjax.embed import probe as module
from lensjax.embed.completeness import has_finder
from lensjax.embed.probe import is_current, probe

RNG = np.random.default_rng(2)
COUNT = 400
LABEL = (np.arange(COUNT) % 10 == 0).astype(int)
VECTORS = RNG.normal(size=(COUNT, 5)).astype(np.float32) * 3 + 10
VECTORS[:, 2] += 9 * LABEL


def test_the_fit_is_the_optimum_of_scikit_learns():
    x = (VECTORS - VECTORS.mean(0)) / VECTORS.std(0)
    oracle = LogisticRegression(C=1 / (0.01 * COUNT), tol=1e-8, max_iter=1000).fit(x, LABEL)
    ours = linear.fit(VECTORS, LABEL, 40, l2=0.01)[-1]
    np.testing.assert_allclose(ours.logit(VECTORS), oracle.decision_function(x), atol=0.02)


def test_separable_classes_stay_finite():
    probes = linear.fit(VECTORS + 100 * LABEL[:, None], LABEL, 40)
    assert len(probes) >= 1
    assert linear.true_positives(probes[-1].logit(VECTORS + 100 * LABEL[:, None]), LABEL, 40) == 40


def test_the_chosen_iteration_has_most_lenses_on_top():
    bad, good = linear.Probe(np.eye(5)[0], np.zeros(())), linear.Probe(np.eye(5)[2], np.zeros(()))
    assert linear.select([bad, good, good], VECTORS, LABEL, 40)[0] == 1


@pytest.mark.parametrize("ratio", [1, 4, 1000, np.inf])
def test_splits_have_their_ratio_and_no_object_twice(ratio):
    label = np.concatenate([LABEL, np.full(20, -1)])
    split = linear.split(label, ratio, 3, 0.25, seed=1)
    everything = np.concatenate(split)
    assert len(set(everything)) == len(everything) and label[everything].min() == 0
    assert (label[split.train] == 1).sum() == 30 and (label[split.valid] == 1).sum() == 10
    assert (label[split.train] == 0).sum() == min(30 * ratio, 270)
    assert (label[split.valid] == 0).sum() == 30
    same, other = (linear.split(label, ratio, 3, 0.25, seed=s) for s in (1, 2))
    np.testing.assert_array_equal(same.train, split.train)
    assert set(other.valid) != set(split.valid)


def test_a_galaxy_with_and_without_an_arc_is_on_one_side_of_a_split():
    """As --mode=inject writes them, beside other non-lenses, and a lens that is there three times."""
    label = np.concatenate([np.tile([0, 1], 40), np.zeros(200, int), np.ones(3, int)])
    place = np.concatenate([np.repeat(np.arange(40), 2), np.arange(40, 240), np.full(3, 240)])
    for seed in range(5):
        split = linear.split(label, 1000, 1000, 0.25, seed, place)
        assert not set(place[split.train]) & set(place[split.valid])
        assert sorted(np.concatenate(split)) == list(range(len(label)))
        assert len(set(place[split.valid][label[split.valid] == 1])) == 10
        assert (label[split.valid] == 0).sum() == 60 and len(set(place[split.valid]) & set(range(40, 240))) > 40


def test_the_mode_knows_the_images_of_one_galaxy(workdir, monkeypatch):
    def look(label, ratio, valid_ratio, fraction, seed, place):
        seen.append(place)
        return split(label, ratio, valid_ratio, fraction, seed, place)

    split, seen = linear.split, []
    monkeypatch.setattr(linear, "split", look)
    table = {"ra": np.arange(COUNT) // 2 / 10, "dec": np.zeros(COUNT), "label": LABEL.astype(np.float32)}
    store.write_objects(workdir / store.FOLDER / store.OBJECTS, table)
    probe(settings(ratios=(1,), splits=1, iterations=3), workdir)
    assert np.array_equal(seen[0], np.arange(COUNT) // 2)


def test_curve_and_true_positives():
    inspected, completeness = linear.inspected_curve(np.array([3.0, 1.0, 2.0, 0.0]), np.array([1, 1, 0, 0]))
    np.testing.assert_array_equal(inspected, [1, 2, 3, 4])
    np.testing.assert_array_equal(completeness, [0.5, 0.5, 1, 1])
    assert linear.true_positives(np.array([3.0, 1.0, 2.0, 0.0]), np.array([1, 1, 0, 0]), 2) == 1


@pytest.fixture
def workdir(tmp_path):
    values = VECTORS.copy()
    values[3] = np.nan
    chunks = store.Chunks(tmp_path / store.FOLDER, COUNT, 128, "x")
    for i in chunks.missing():
        chunks.write(i, values[list(chunks.span(i))])
    position = {"ra": np.arange(COUNT) / 10, "dec": np.zeros(COUNT)}
    position["ra"][7], position["dec"][8] = np.nan, -999
    chunks.finish({"label": LABEL.astype(np.float32), **position}, {})
    return tmp_path


def settings(**changes):
    config = ssl.get_config("smoke")
    config.probe.update(changes)
    return config


def test_the_mode_ranks_lenses_first(workdir):
    summary = probe(settings(ratios=(1, 5), splits=2, iterations=20, top=30), workdir)
    assert summary["roc_auc"] > 0.9
    assert len(summary["splits"]) == 4
    assert json.loads((workdir / "probe/probe.json").read_text())["best_ratio"] in (1, 5)
    ranked = pq.read_table(workdir / "probe/ranked.parquet").to_pydict()
    assert len(ranked["score"]) == COUNT - 1 and 3 not in ranked["object"]
    assert np.all(np.diff(ranked["score"]) <= 0)
    assert np.mean(ranked["label"][:20]) > 0.6
    place = np.array(ranked["object"]) / 10
    np.testing.assert_allclose(ranked["ra"], np.where(place == 0.7, np.nan, place))
    with np.load(workdir / "probe/classifiers.npz") as stored:
        assert stored["weight"].shape == (2, 5)
    assert (workdir / "probe/probe.png").stat().st_size > 1000


def test_a_run_that_is_killed_between_its_files_leaves_no_probe_that_counts(workdir, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    given = settings(ratios=(1,), splits=1, iterations=3)
    probe(given, workdir)
    assert is_current(workdir / "probe", store.Embeddings(workdir)) and has_finder(given, workdir)
    monkeypatch.setattr(module, "_rank", stop)
    with pytest.raises(KeyboardInterrupt):
        probe(settings(ratios=(5,), splits=1, iterations=3), workdir)
    assert not is_current(workdir / "probe", store.Embeddings(workdir)) and not has_finder(given, workdir)


def test_labels_of_the_users_own(workdir, tmp_path):
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"row": np.arange(0, COUNT, 2), "label": LABEL[::2]}), path)
    probe(settings(labels=str(path), iterations=5), workdir)
    ranked = pq.read_table(workdir / "probe/ranked.parquet").to_pydict()
    known = dict(zip(ranked["object"], ranked["label"], strict=True))
    assert known[1] == -1 and known[10] == 1 and known[12] == 0


def test_a_list_of_lenses_on_the_sky(workdir, tmp_path):
    """The nearest object is the lens; what else is within 25 arcsec, or has no place, is left out."""
    path = tmp_path / "lenses.parquet"
    pq.write_table(pa.table({"RA": np.arange(10, 200, 10) / 10 + 1e-4, "DEC": np.zeros(19)}), path)
    probe(settings(labels=str(path), iterations=5), workdir)
    ranked = pq.read_table(workdir / "probe/ranked.parquet").to_pydict()
    known = dict(zip(ranked["object"], ranked["label"], strict=True))
    assert [known[i] for i in (10, 11, 190, 200)] == [1, 0, 1, 0]
    assert known[7] == known[8] == -1  # who knows where they are?


def test_bad_labels_are_refused(workdir, tmp_path):
    with pytest.raises(UserError, match="no table of labels"):
        probe(settings(labels=str(tmp_path / "nothing.fits")), workdir)
    path = tmp_path / "labels.parquet"
    for columns, said in (
        ({"row": [1, 2], "label": [1, 0]}, "1 lenses with embeddings"),
        ({"object": [1]}, "row and label are needed"),
        ({"row": [900], "label": [1]}, "objects 0 to 399"),
        ({"row": [1.5], "label": [1]}, "the row 1.5, and"),
    ):
        pq.write_table(pa.table(columns), path)
        with pytest.raises(UserError, match=said):
            probe(settings(labels=str(path)), workdir)


def test_empty_cells_are_unknown_and_lenses_without_a_place_left_out(workdir, tmp_path, capsys):
    path = tmp_path / "labels.csv"
    given = [f"{row},{'' if row in (10, 12) else LABEL[row]}\n" for row in range(0, COUNT, 2)]
    path.write_text("row,label\n" + "".join(given))
    probe(settings(labels=str(path), iterations=5, ratios=(1,), splits=1), workdir)
    ranked = pq.read_table(workdir / "probe/ranked.parquet").to_pydict()
    known = dict(zip(ranked["object"], ranked["label"], strict=True))
    assert [known[i] for i in (10, 12, 20, 22)] == [-1, -1, 1, 0]
    places = [f"{ra / 10},0.0\n" for ra in range(10, 200, 10)]
    path.write_text("RAJ2000,DEJ2000\n" + "".join(places[1:]) + "0:04:00,+0:00:00\n,0.0\n,\n1.0,-999\n")
    probe(settings(labels=str(path), iterations=5, ratios=(1,), splits=1), workdir)
    ranked = pq.read_table(workdir / "probe/ranked.parquet").to_pydict()
    known = dict(zip(ranked["object"], ranked["label"], strict=True))
    assert known[0] == 0 and known[10] == 1  # object 0 is at 0, 0
    assert f"{path}: 3 lenses without coordinates are left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("row,label\n1,lens\n", "column label of .* holds 'lens': expected 1 for a lens"),
        ("row,label\none,1\n", "column row of .* holds 'one': expected whole numbers"),
        ("ra,dec\n15.5,south\n", "1 rows, none with a place in the sky: row and label are needed"),
    ],
)
def test_labels_in_words_are_one_sentence(workdir, tmp_path, text, said):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        probe(settings(labels=str(tmp_path / "labels.csv")), workdir)


def test_a_table_of_labels_that_cannot_be_read_is_one_sentence(workdir, tmp_path):
    (tmp_path / "labels.fits").write_text("hello")
    with pytest.raises(UserError, match=r"labels\.fits cannot be read"):
        probe(settings(labels=str(tmp_path / "labels.fits")), workdir)
