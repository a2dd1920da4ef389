"""From a table of scores to candidates: every object is told what took it, nothing is scored again, killed = whole."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from configs import lya
from lensjax.physics import grid
from lensjax.search import calibration, emitters, shards, vet
from lensjax.search.columns import COLUMNS
from lensjax.search.shards import schema
from lensjax.surveys import catalogues
from lensjax.surveys.write import write_spplate

WINDOW = (4000.0, 4100.0)
LOGLAM = grid.window(*WINDOW)
NUM = 12
FILES = [*(f"candidates.{suffix}" for suffix in ("ecsv", "fits", "parquet", "vot")), "hits.parquet", "vetting.json"]


def config_of(cuts=("noise", "oii"), **search):
    config = lya.get_config("default")
    config.data.window = WINDOW
    config.vet.update({"window": (3950.0, 4150.0), "chunk": 3, "cuts": cuts})
    config.search.update({"report_hits": 0, **search})
    return config.lock()


def write_run(folder):
    """A plate of 12, the last three on the sky; scores of 0.9 but for three; noise that grows with the fiber."""
    plate = folder / "spPlate-4000-55600.fits"
    ivar = np.repeat(1 / (0.3 * np.arange(1.0, NUM + 1))[:, None] ** 2, len(LOGLAM), axis=1)
    objtype = np.where(np.arange(NUM) < 9, "GALAXY", "SKY")
    table = {"z": np.linspace(0.4, 0.6, NUM), "class": "GALAXY", "objtype": objtype}
    write_spplate(plate, LOGLAM, np.ones((NUM, len(LOGLAM))), ivar, table)
    usual = {
        "file": str(plate),
        "survey": "BOSS",
        "plate": 4000,
        "mjd": 55600,
        "targetid": -1,
        "ra": 180.0,
        "dec": -0.5,
    }
    usual |= {"zwarning": 0, "class": "GALAXY", "subclass": "", "wave": 4050.0, "snr": 8.0}
    usual |= {"kind": 0.7, "z_source": 2.33, "status": "ok", "cut": "", "waves": [], "line_scores": []}
    rows = []
    for i in range(NUM):
        sky = bool(objtype[i] == "SKY")
        own = {"row": i, "fiberid": i + 1, "z": table["z"][i], "sky": sky, "selected": not sky and i != 1}
        rows.append({**usual, **own, "score": 0.2 if i in (0, 4, 11) else 0.9})
    columns = {name: [row[name] for row in rows] for name in shards.COLUMNS}
    pq.write_table(
        pa.table(columns, schema=schema({"fingerprint": "f", "scorer": "c0ffee"})), folder / "scores.parquet"
    )
    return plate


def fake_measure(config, loglam):
    """Measurements that one can check by eye: the noise is that of the spectrum, every third fiber is [OII]."""

    def measure(chunk, hits):
        assert len(chunk.rows) <= config.vet.chunk and chunk.flux.shape[1] == len(loglam)
        num = len(chunk.rows)
        middle = chunk.ivar[:, len(loglam) // 2]
        columns = {name: np.ones(num) for name in COLUMNS if COLUMNS[name][0] and name not in (*hits, "hit_wave")}
        columns |= dict.fromkeys(("oii_odds", "nearby_odds", "snr_hbeta", "snr_oiii", "snr_halpha"), np.full(num, -1.0))
        columns |= dict.fromkeys(("num_hits", "fit_status"), np.zeros(num, int))
        columns |= dict.fromkeys(
            ("bad_fraction", "pixel_fraction", "fit_snr", "neighbour_ratio", "neighbour_snr", "alpha"),
            np.full(num, 0.5),
        )
        columns |= {
            "alpha_lower": np.full(num, 0.1),
            "contrast": np.ones(num),
            "noise_scale": np.ones(num),
            "z_source": np.full(num, 2.3),
        }
        columns["oii_odds"] = np.where(hits["fiberid"][chunk.rows] % 3 == 0, 1.0, -1.0)
        noise = 1 / np.sqrt(np.where(middle > 0, middle, 1.0))
        return {**columns, "wave": np.full(num, 4050.0), "noise": noise, "readable": chunk.readable}

    return measure


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(emitters, "make_measure", fake_measure)
    write_run(tmp_path)
    return tmp_path


def cuts_of(folder):
    return pq.read_table(folder / "scores.parquet")["cut"].to_pylist()


def contents(folder):
    return {name: (folder / name).read_bytes() for name in [*FILES, "scores.parquet"]}


def test_every_object_is_told_which_cut_took_it(run, capsys):
    summary = vet.vet(config_of(), run)
    expected = ["", "", "oii", "candidate", "", "oii", "noise", "noise", "noise", "noise", "noise", ""]
    assert cuts_of(run) == expected
    assert summary["taken"] == {"unreadable": 0, "noise": 3, "oii": 2} and summary["sky_taken"]["noise"] == 2
    assert (summary["galaxies"], summary["hits"], summary["sky_fibers"], summary["sky_hits"]) == (8, 6, 3, 2)
    assert json.loads((run / "vetting.json").read_text()) == summary
    printed = capsys.readouterr().out
    assert "candidates.fits: 1 candidates of 6 hits (cut: noise 3, oii 2)" in printed and "0 of 3 sky fibers" in printed
    table = Table.read(run / "candidates.fits")
    assert table["fiberid"].tolist() == [4] and table["index"].tolist() == [3] and table.meta["WEIGHTS"] == "c0ffee"
    hits = pq.read_table(run / "hits.parquet").to_pydict()
    assert hits["cut"] == [name for name in expected if name] and hits["fiberid"] == [3, 4, 6, 7, 8, 9, 10, 11]


def test_sky_fibers_that_pass_predict_the_false_candidates(run):
    summary = vet.vet(config_of(cuts=("oii",)), run)
    assert summary["controls"] == 2 and cuts_of(run)[9:] == ["control", "control", ""]
    assert summary["false_candidates"]["expected"] == pytest.approx(2 / 3 * 8)
    assert Table.read(run / "candidates.ecsv").meta["N_FALSE"] == pytest.approx(2 / 3 * 8)


def test_vetting_twice_changes_nothing_and_other_cuts_change_what_they_should(run):
    vet.vet(config_of(), run)
    first, stamp = contents(run), (run / "scores.parquet").stat().st_mtime_ns
    vet.vet(config_of(), run)
    assert contents(run) == first and (run / "scores.parquet").stat().st_mtime_ns == stamp
    vet.vet(config_of(cuts=("noise",)), run)
    assert cuts_of(run).count("candidate") == 3
    before, after = (
        pq.read_table(pa.BufferReader(x)) for x in (first["scores.parquet"], contents(run)["scores.parquet"])
    )
    assert before.drop(["cut"]).equals(after.drop(["cut"])) and before.schema.names == after.schema.names
    kept = shards.read_metadata(run / "scores.parquet")
    assert (kept["fingerprint"], kept["scorer"]) == ("f", "c0ffee")  # a search still knows its own table


@pytest.mark.parametrize("place", ["_write_ecsv", "write_parquet", "scores"])
def test_killed_anywhere_every_file_is_the_old_whole_one_or_the_new(run, monkeypatch, place):
    vet.vet(config_of(cuts=("noise",)), run)
    old = contents(run)

    def die(*arguments, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if place == "scores":
            patch.setattr(shards.pq.ParquetWriter, "write_table", die)
        elif place == "write_parquet":
            patch.setattr(catalogues, place, die)
        else:
            patch.setitem(catalogues.WRITERS, place.removeprefix("_write_"), die)
        with pytest.raises(KeyboardInterrupt):
            vet.vet(config_of(), run)
    torn = contents(run)
    vet.vet(config_of(), run)
    new = contents(run)
    assert all(torn[name] in (old[name], new[name]) for name in torn)
    assert torn["vetting.json"] == old["vetting.json"] != new["vetting.json"]
    assert sorted(p.name for p in run.iterdir() if p.suffix != ".fits" or p.name.startswith("cand")) == sorted(new)


def test_probabilities_are_of_a_calibration_of_these_weights(run):
    known = {"offset": 1.0, "slope": 2.0, "most": 9.0, "rate": 0.01, "scorer": "c0ffee"}

    def probability(table):
        vet.vet(config_of(), run)
        return pq.read_table(run / f"{table}.parquet")["probability"].to_numpy()

    assert np.isnan(probability("candidates")).all()
    calibration.write_calibration(run, known)
    np.testing.assert_allclose(probability("candidates"), 1 / (1 + 99 * np.exp(-1 - 2 * np.log(9))), rtol=1e-5)
    assert len(probability("hits")) == 8 and np.isfinite(probability("hits")).all()
    calibration.write_calibration(run, known | {"scorer": "other weights"})
    assert np.isnan(probability("hits")).all()


def test_a_spectrum_that_is_gone_costs_its_own_row(run):
    (run / "spPlate-4000-55600.fits").unlink()
    vet.vet(config_of(), run)
    assert cuts_of(run)[2:4] == ["unreadable"] * 2
    hits = pq.read_table(run / "hits.parquet")
    assert np.isnan(hits["flux"].to_numpy()).all() and np.isfinite(hits["hit_wave"].to_numpy()).all()
    assert len(Table.read(run / "candidates.vot")) == 0


def test_no_hits_leave_empty_tables_with_all_columns(tmp_path):
    write_run(tmp_path)
    summary = vet.vet(config_of(threshold=0.99), tmp_path)  # with the true measurements: none is asked for
    assert (summary["hits"], summary["candidates"], set(cuts_of(tmp_path))) == (0, 0, {""})
    for suffix in ("fits", "ecsv", "vot"):
        table = Table.read(tmp_path / f"candidates.{suffix}")
        assert len(table) == 0 and table.colnames == list(COLUMNS)
    empty = pq.read_table(tmp_path / "hits.parquet")
    assert empty.column_names == list(COLUMNS)
    vet.vet(config_of(), tmp_path)  # so that the tables of several searches can be joined
    assert pq.read_table(tmp_path / "hits.parquet").schema.types == empty.schema.types


def test_a_table_from_before_there_were_cuts_gets_the_column(run):
    path = run / "scores.parquet"
    pq.write_table(pq.read_table(path).drop(["cut"]), path)
    vet.vet(config_of(), run)
    assert cuts_of(run)[3] == "candidate" and pq.read_schema(path).names == list(shards.COLUMNS)


def test_hits_keep_their_place_in_a_table_that_is_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(vet, "BATCH", 2)
    columns = {name: np.zeros(6) for name in vet.NEEDED} | {n: [[]] * 6 for n in ("waves", "line_scores")}
    columns |= {"score": np.array([0.9, 0.5, np.nan, 0.2, 0.7, 0.8]), "selected": np.arange(6) != 4}
    columns |= {"sky": np.arange(6) >= 4}  # the last is an object in a fiber that was meant for the sky
    pq.write_table(pa.table(columns), tmp_path / "scores.parquet")
    hits, counts = vet.collect(tmp_path / "scores.parquet", 0.5)
    assert hits["index"].tolist() == [0, 4, 5] and hits["sky"].tolist() == [False, True, False]
    assert counts == {"galaxies": 4, "sky_fibers": 1}


def test_cuts_are_written_on_their_rows_in_every_part_of_the_table(tmp_path):
    write_run(tmp_path)
    path = tmp_path / "scores.parquet"
    pq.write_table(pq.read_table(path), path, row_group_size=5)
    shards.write_cuts(path, np.array([1, 4, 5, 11]), np.array(["a", "b", "c", "d"]))
    assert cuts_of(tmp_path) == ["", "a", "", "", "b", "c", "", "", "", "", "", "d"]
