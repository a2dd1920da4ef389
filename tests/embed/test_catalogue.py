"""The ranked list: its order, its similarities, its links, and that four formats hold the same."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io.votable import ucd
from astropy.table import Table

from configs import ssl
from lensjax.core.errors import UserError
from lensjax.embed import catalogue, store

COUNT, LOST = 40, 5
RNG = np.random.default_rng(4)
VECTORS = RNG.normal(size=(COUNT, 6)).astype(np.float32)
RA, DEC = RNG.uniform(0, 360, COUNT), RNG.uniform(-30, 30, COUNT)
SCORE = RNG.uniform(size=COUNT).astype(np.float32)


@pytest.fixture
def workdir(tmp_path):
    values, ra = VECTORS.copy(), RA.copy()
    values[LOST], ra[7] = np.nan, np.nan
    chunks = store.Chunks(tmp_path / store.FOLDER, COUNT, 16, "mine")
    for i in chunks.missing():
        chunks.write(i, values[list(chunks.span(i))])
    chunks.finish({"ra": ra, "dec": DEC, "file": np.full(COUNT, "a.h5"), "row": np.arange(COUNT)}, {"weights": "w"})
    return tmp_path


def probed(workdir, fingerprint="mine"):
    folder = workdir / "probe"
    folder.mkdir()
    order = np.argsort(-SCORE)
    pq.write_table(pa.table({"object": order, "score": SCORE[order], "label": order % 2}), folder / "ranked.parquet")
    (folder / "probe.json").write_text(json.dumps({"fingerprint": fingerprint}))


def config(**changes):
    settings = ssl.get_config("smoke")
    settings.catalogue.update(changes)
    return settings


def test_by_score_with_names_links_and_known_lenses(workdir):
    probed(workdir)
    best = int(np.argmax(SCORE))
    Table({"name": ["Horseshoe"], "ra": [RA[best]], "dec": [DEC[best] + 1 / 3600]}).write(workdir / "known.csv")
    catalogue.export(config(num=10, known=str(workdir / "known.csv")), workdir)
    table = Table.read(workdir / "ranked.fits")
    assert table["object"].tolist() == np.argsort(-SCORE)[:10].tolist()
    np.testing.assert_array_equal(table["rank"], np.arange(1, 11))
    first = table[0]
    assert first["known"] == "Horseshoe" and first["known_distance"] == pytest.approx(1.0, rel=1e-3)
    assert f"ra={RA[best]:.5f}&dec={DEC[best]:.5f}" in first["viewer"] and first["viewer"].startswith("https://")
    assert np.ma.getmaskarray(table["similarity"]).all() and (table["query"] == -1).all()
    assert np.ma.getmaskarray(table["known"])[1:].all()


def test_by_similarity_to_the_nearest_query(workdir):
    catalogue.export(config(sort="similarity", queries=(3, 11), num=100), workdir)
    table = Table.read(workdir / "ranked.fits")
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    cosine = unit @ unit[[3, 11]].T
    rows = np.asarray(table["object"])
    assert len(rows) == COUNT - 1 and LOST not in rows
    np.testing.assert_allclose(table["similarity"], cosine.max(1)[rows], atol=1e-6)
    np.testing.assert_array_equal(table["query"], np.array([3, 11])[cosine.argmax(1)][rows])
    assert set(rows[:2]) == {3, 11}
    lost = table[rows == 7][0]
    assert all(lost[name] is np.ma.masked for name in ("viewer", "name", "ra"))  # how astropy reads empty and NaN


def test_four_formats_hold_the_same_and_say_what_it_is(workdir):
    probed(workdir)
    catalogue.export(config(num=4), workdir)
    fits, *others = (Table.read(workdir / f"ranked.{suffix}") for suffix in ("fits", "ecsv", "vot", "parquet"))
    for other in others:
        assert other.colnames == fits.colnames
        assert [str(x) for x in other["name"]] == [str(x) for x in fits["name"]]
        np.testing.assert_allclose(np.asarray(other["score"], float), np.asarray(fits["score"], float))
    for _, word, text in catalogue.COLUMNS.values():
        assert text and ucd.check_ucd(word, check_controlled_vocabulary=True)


def test_scores_of_other_embeddings_do_not_count(workdir):
    probed(workdir, "old")
    with pytest.raises(UserError, match="nothing to sort by score: run --mode=probe first"):
        catalogue.export(config(), workdir)


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"sort": "beauty"}, "'score' or 'similarity'"),
        ({"sort": "similarity"}, "name rows in config.catalogue.queries"),
        ({"sort": "similarity", "queries": (COUNT,)}, "rows 0 to 39"),
        ({"sort": "similarity", "queries": ("a",)}, "expected rows of the objects"),
        ({"sort": "similarity", "queries": (1.5,)}, "expected rows of the objects"),
        ({"sort": "similarity", "queries": (LOST,)}, "has no embedding"),
    ],
)
def test_what_cannot_be_listed_is_said_in_a_sentence(workdir, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        catalogue.export(config(**changes), workdir)


def test_text_beyond_ascii_is_exact_but_in_fits(workdir):
    probed(workdir)
    best = int(np.argmax(SCORE))
    known = Table({"name": ["Müller 1"], "ra": [RA[best]], "dec": [DEC[best]]})
    known.write(workdir / "known.ecsv", format="ascii.ecsv")
    catalogue.export(config(num=3, known=str(workdir / "known.ecsv")), workdir)
    found = {suffix: Table.read(workdir / f"ranked.{suffix}") for suffix in ("fits", "ecsv", "vot", "parquet")}
    assert [str(table["known"][0]) for table in found.values()] == ["M?ller 1"] + ["Müller 1"] * 3
    assert found["fits"]["known"].description == catalogue.COLUMNS["known"][2]
