"""The search over mock plates: nothing lost, killed equals undisturbed, one bad file costs nothing."""

import os
import pathlib

import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest

from configs import lya
from lensjax.core.errors import UserError
from lensjax.physics import grid
from lensjax.search import score, shards
from lensjax.search.restore import Scorer, make_scorer
from lensjax.surveys import catalogues
from lensjax.surveys.block import make_block
from lensjax.surveys.write import write_spec, write_spplate

WINDOW = (4000.0, 4050.0)
LOGLAM = grid.window(*WINDOW)
NUM = len(LOGLAM)


def write_survey(folder: pathlib.Path) -> None:
    """Two plates of 13 and 6 fibers, two single spectra, an empty file and one that is no FITS file."""
    rng = np.random.default_rng(0)
    for plate, num in ((4000, 13), (4001, 6)):
        flux = rng.normal(size=(num, NUM))
        ivar = np.ones((num, NUM))
        ivar[2] = 0  # a dead fiber
        table = {"z": rng.uniform(0.2, 0.8, num), "class": np.array(["GALAXY"] * (num - 1) + ["QSO"])}
        write_spplate(folder / f"spPlate-{plate}-55600.fits", LOGLAM, flux, ivar, table)
    for fiber in (1, 2):
        row = {"plate": 4002, "mjd": 55600, "fiberid": fiber, "z": 0.5, "class": "GALAXY"}
        write_spec(folder / f"spec-4002-55600-000{fiber}.fits", LOGLAM, rng.normal(size=NUM), np.ones(NUM), row)
    (folder / "spec-0001-55600-0001.fits").write_bytes(b"")
    (folder / "spec-4001-55600-0500.fits").write_text("no FITS file")


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    folder = tmp_path_factory.mktemp("survey")
    write_survey(folder)
    return folder


def config_of(folder, **search):
    config = lya.get_config("default")
    config.data.window = WINDOW
    config.vet.enabled = False  # test_vet.py
    config.search.update(
        {"input": str(folder), "batch_size": 4, "shard_rows": 8, "queue": 2, "report_hits": 0, **search}
    )
    return config.lock()


def brightest_pixel(fail_at: int | None = None, identity: str = "brightest") -> Scorer:
    """A scorer that one can check by eye. It dies like a killed process at its `fail_at`-th batch."""
    calls = []

    def predict(batch):
        calls.append(batch["z"].shape)
        assert set(calls) == {(4,)}  # one shape, compiled once
        if len(calls) == fail_at:
            raise KeyboardInterrupt
        snr = jnp.max(batch["flux"], axis=1)
        wave = jnp.asarray(10**LOGLAM, jnp.float32)[jnp.argmax(batch["flux"], axis=1)]
        return {"logit": snr, "score": 1 / (1 + jnp.exp(-snr)), "snr": snr, "wave": wave}

    return Scorer(predict, LOGLAM, identity, {0: ""})


def read(workdir):
    return pq.read_table(workdir / "scores.parquet").to_pydict()


@pytest.fixture(scope="module")
def undisturbed(survey, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    counts = score.search(config_of(survey), workdir, brightest_pixel())
    return workdir, counts


def test_a_file_is_done_when_it_is_scored_not_when_it_is_read(survey, tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        score.search(config_of(survey), tmp_path, brightest_pixel(fail_at=6))  # the last batch, all files are read
    assert "file 6/6" not in capsys.readouterr().err
    score.search(config_of(survey), tmp_path, brightest_pixel())
    assert "search: file 6/6" in capsys.readouterr().err


def test_nothing_but_the_input_makes_a_search_another(survey, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config, files = config_of(survey), score.find_files(str(survey))
    before = score.fingerprint(config, files, brightest_pixel())
    (tmp_path / "runs").mkdir()
    assert score.fingerprint(config, files, brightest_pixel()) == before
    assert score.fingerprint(config_of(survey, batch_size=8), files, brightest_pixel()) != before


def test_what_another_scorer_left_unfinished_is_not_gone_on_with(survey, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        score.search(config_of(survey), tmp_path, brightest_pixel(fail_at=6))
    other = brightest_pixel(identity="another")
    half = other._replace(predict=lambda batch: other.predict(batch) | {"score": jnp.full(4, 0.5)})
    score.search(config_of(survey), tmp_path, half)
    found = np.array(read(tmp_path)["score"])
    assert np.all(found[~np.isnan(found)] == 0.5)


def test_new_redshifts_or_another_catalogue_make_a_search_another(tmp_path):
    write_survey(tmp_path)
    best = tmp_path / "spZbest-4000-55600.fits"
    files, seen = score.find_files(str(tmp_path)), []
    for _ in range(2):
        seen += [
            score.fingerprint(config_of(tmp_path, catalogue=name), files, brightest_pixel()) for name in ("", str(best))
        ]
        os.utime(best, (1, 1))
    assert len(set(seen)) == 4


def test_why_an_object_is_left_out_is_not_written_over_by_the_filter():
    known = {"z": 0.5, "status": np.array(["ok", "zwarning", "ok"])}
    flux = np.ones((3, NUM), np.float32)
    block, out = (
        make_block(flux, flux, flux, flux < 0, known, LOGLAM),
        {name: np.ones(3) for name in ("score", "wave", "snr")},
    )
    columns = score._columns(
        block, np.array([True, False, True]), out | {"status": np.array([1, 1, 0])}, {0: "", 1: "many"}
    )
    assert columns["status"].tolist() == ["many", "zwarning", "ok"]


def test_hits_are_judged_by_the_config_of_the_weights(survey, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(score, "vet", lambda config, workdir: seen.append(config.data.window))
    config = config_of(survey).copy_and_resolve_references()
    config.vet.enabled = True
    theirs = config.copy_and_resolve_references()
    theirs.data.window = (4010.0, 4040.0)
    score.search(config, tmp_path, brightest_pixel()._replace(config=theirs))
    assert seen == [(4010.0, 4040.0)]


def test_every_object_has_a_row_in_order_and_every_good_one_a_score(undisturbed, survey):
    workdir, counts = undisturbed
    table = read(workdir)
    assert counts == {"rows": 23, "scored": 19, "hits": sum(table["selected"]), "problems": 4}  # all scores are high
    names = [pathlib.Path(f).name for f in table["file"]]
    assert names == sorted(names) and names.count("spPlate-4000-55600.fits") == 13
    assert [r for r, n in zip(table["row"], names, strict=True) if n.startswith("spPlate-4000")] == list(range(13))
    missing = {(n, r) for n, r, s in zip(names, table["row"], table["score"], strict=True) if np.isnan(s)}
    assert missing == {
        ("spPlate-4000-55600.fits", 2),
        ("spPlate-4001-55600.fits", 2),
        ("spec-0001-55600-0001.fits", 0),
        ("spec-4001-55600-0500.fits", 0),
    }
    assert not (workdir / "scores").exists()


def test_scores_belong_to_their_spectra_and_statuses_say_why(undisturbed, survey):
    from lensjax.surveys import read_block

    table = read(undisturbed[0])
    flux = np.concatenate([read_block(f, LOGLAM).flux for f in dict.fromkeys(table["file"])])
    scored = ~np.isnan(table["score"])
    np.testing.assert_allclose(np.array(table["snr"])[scored], flux.max(1)[scored], rtol=1e-6)
    np.testing.assert_allclose(np.array(table["wave"])[scored], 10 ** LOGLAM[flux.argmax(1)][scored], rtol=1e-6)
    rows = list(zip(table["class"], table["z"], table["selected"], table["status"], scored, strict=True))
    assert all(chosen == (kind == "GALAXY" and z > 0.3 and good) for kind, z, chosen, _, good in rows)
    assert all((status == "ok") == chosen for _, _, chosen, status, _ in rows)
    assert any("z is not above 0.3" in status and good for *_, status, good in rows)
    assert sum("empty file" in status for _, _, _, status, _ in rows) == 1


def test_columns_have_units_and_descriptions(undisturbed):
    schema = pq.read_schema(undisturbed[0] / "scores.parquet")
    assert schema.names == list(shards.COLUMNS)
    assert schema.field("wave").metadata[b"unit"] == b"Angstrom"
    assert all(schema.field(name).metadata[b"description"] for name in schema.names)


@pytest.mark.parametrize("fail_at", [1, 3, 4, 6])
def test_killed_and_resumed_equals_undisturbed(survey, undisturbed, tmp_path, capsys, fail_at):
    with pytest.raises(KeyboardInterrupt):
        score.search(config_of(survey), tmp_path, brightest_pixel(fail_at))
    assert not (tmp_path / "scores.parquet").exists()
    kept = list((tmp_path / "scores").glob("part-*.parquet"))
    (tmp_path / "scores").mkdir(exist_ok=True)
    (tmp_path / "scores" / ".part-00009.1.tmp.parquet").write_bytes(b"half a shard")
    (tmp_path / ".scores.1.tmp.parquet").write_bytes(b"half a table")
    calls = []
    scorer = brightest_pixel()
    counting = scorer._replace(predict=lambda batch: (calls.append(1), scorer.predict(batch))[1])
    score.search(config_of(survey, readers=1, queue=5), tmp_path, counting)
    assert (tmp_path / "scores.parquet").read_bytes() == (undisturbed[0] / "scores.parquet").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["scores.parquet"]
    assert "anew" not in capsys.readouterr().err
    assert len(calls) == 6 - 2 * len(kept)  # what was in whole shards is not scored again


def test_finished_search_is_recognised_and_a_changed_one_starts_anew(survey, tmp_path, capsys):
    score.search(config_of(survey), tmp_path, brightest_pixel())
    before = (tmp_path / "scores.parquet").stat().st_mtime_ns
    score.search(config_of(survey, threshold=0.9), tmp_path, brightest_pixel(fail_at=1))  # would raise if it scored
    assert (tmp_path / "scores.parquet").stat().st_mtime_ns == before
    assert "anew" not in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        score.search(config_of(survey), tmp_path, brightest_pixel(fail_at=1, identity="other weights"))
    assert "starting anew" in capsys.readouterr().err
    assert (tmp_path / "scores.parquet").stat().st_mtime_ns == before  # the old table stays until the new one is whole


def test_only_shards_of_ours_are_removed(tmp_path):
    """`scores` is a name that a folder of the user's may have."""
    (tmp_path / "scores").mkdir()
    for name in ("team.csv", "part-00003.parquet", ".part-00001.9-9.tmp.parquet", "notes.parquet"):
        (tmp_path / "scores" / name).write_bytes(b"x")
    found = shards.Shards(tmp_path, "f")
    assert found.replaced and found.position == (0, 0)
    assert sorted(path.name for path in (tmp_path / "scores").iterdir()) == ["notes.parquet", "team.csv"]
    found.finish()
    assert sorted(path.name for path in (tmp_path / "scores").iterdir()) == ["notes.parquet", "team.csv"]


def test_no_catalogue_of_another_search_stays_beside_the_scores(survey, tmp_path):
    config = config_of(survey)
    score.search(config, tmp_path, brightest_pixel())
    made = [tmp_path / "candidates.fits", tmp_path / "hits.parquet", tmp_path / "vetting.json"]
    made[0].touch(), made[2].touch()
    for identity, there in ((None, True), ("other weights", False)):
        search_of = shards.read_metadata(tmp_path / "scores.parquet")["fingerprint"]
        catalogues.write_parquet(
            catalogues.make_table({"a": [1]}, {"SEARCH": search_of}, {"a": ("", "", "a")}), made[1]
        )
        scorer = brightest_pixel(**({"identity": identity} if identity else {}))
        score.search(config, tmp_path, scorer)
        assert [path.exists() for path in made] == [there] * 3


def test_changed_input_and_a_redshift_file_that_came_later_start_anew(tmp_path):
    (folder := tmp_path / "survey").mkdir()
    write_survey(folder)
    hidden = (folder / "spZbest-4000-55600.fits").rename(tmp_path / "elsewhere.fits")
    score.search(config_of(folder), tmp_path / "run", brightest_pixel())
    first = read(tmp_path / "run")
    hidden.rename(folder / "spZbest-4000-55600.fits")
    (folder / "spec-4002-55600-0001.fits").unlink()
    score.search(config_of(folder), tmp_path / "run", brightest_pixel())
    second = read(tmp_path / "run")
    assert len(second["z"]) == len(first["z"]) - 1
    assert np.isnan(first["z"]).sum() == np.isnan(second["z"]).sum() + 13


def test_catalogue_decides_what_is_selected(survey, tmp_path):
    config = config_of(survey, catalogue=str(survey / "spZbest-4000-55600.fits"))
    score.search(config, tmp_path, brightest_pixel())
    table = read(tmp_path)
    status = {(p, f): s for p, f, s in zip(table["plate"], table["fiberid"], table["status"], strict=True)}
    assert status[4001, 1] == "not in the catalogue" and not np.isnan(table["score"][table["plate"].index(4001)])


def test_matched_filter_searches_with_four_devices_and_no_weights(survey, tmp_path, capsys):
    counts = score.search(config_of(survey, scorer="matched_filter"), tmp_path)
    assert counts["scored"] == 19 and "scores.parquet: 23 objects" in capsys.readouterr().out


def test_a_survey_of_which_nothing_is_selected_says_why(tmp_path, capsys):
    (folder := tmp_path / "survey").mkdir()
    write_survey(folder)
    for path in folder.iterdir():
        if not path.name.startswith("spPlate-4000"):
            path.unlink()
    score.search(config_of(folder), tmp_path / "run", brightest_pixel())
    assert "no object is selected, most often because: no spZbest file beside" in capsys.readouterr().err
    assert not any(read(tmp_path / "run")["selected"])


def test_wrong_scorer_and_missing_weights_are_one_sentence(survey, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="expected one of network, matched_filter"):
        make_scorer(config_of(survey, scorer="matchedfilter"), tmp_path)
    monkeypatch.setattr("lensjax.search.restore.RELEASED", tmp_path)
    with pytest.raises(UserError, match="train first"):
        make_scorer(config_of(survey), tmp_path)


def test_readers_stay_ahead_by_no_more_than_the_queue():
    started = []
    blocks = score.read_ahead(range(20), lambda i: started.append(i) or i, readers=2, queue=3)
    taken = []
    for item in blocks:
        taken.append(item)
        assert len(started) <= len(taken) + 3
    assert taken == list(range(20))


def test_another_precision_is_another_search():
    config = lya.get_config("smoke")
    scorer = Scorer(lambda batch: {}, LOGLAM, "a", {}, config)
    marks = set()
    for dtype in ("float32", "bfloat16"):
        config.model.dtype = dtype
        marks.add(score.fingerprint(config, [], scorer))
    assert len(marks) == 2
