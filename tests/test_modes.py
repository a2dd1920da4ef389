"""The wiring of the modes, and the mock plate."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from configs import common, lens, lya, ssl
from lensjax import modes
from lensjax.core import settings
from lensjax.core.errors import UserError
from lensjax.evaluate import evaluate
from lensjax.search import restore
from lensjax.surveys.cutouts import open_cutouts, write_cutouts


def smoke():
    config = common.smoke(lya.get_config("default"))
    config.data.window = (4000.0, 4100.0)
    return config.lock()


@pytest.mark.parametrize("mode, sentence", [("trian", "did you mean train"), ("xyzzy", "expected one of train, build")])
def test_unknown_mode_names_the_nearest_or_all(mode, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        modes.run(mode, smoke(), tmp_path)


def test_a_workdir_that_is_none_and_numbers_out_of_range_are_refused(tmp_path):
    (tmp_path / "file").touch()
    for workdir, sentence in (("", "--workdir is empty"), (tmp_path / "file", "--workdir is a file: give a folder")):
        with pytest.raises(UserError, match=sentence):
            modes.run("search", smoke(), workdir)
    config = smoke().unlock()
    config.train.eval_every = 0
    with pytest.raises(UserError, match=r"config\.train\.eval_every is 0: expected at least 1"):
        modes.run("train", config, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_tilde_is_the_home_in_every_setting_and_in_the_workdir(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    seen = []
    monkeypatch.setitem(modes.MODES, "search", lambda *given: seen.append(given))
    config = smoke().unlock()
    config.search.catalogue = "~/spAll.fits"
    config.search.ensemble = ("~/one", "two~")
    modes.run("search", config.lock(), "~/runs")
    ((given, folder),) = seen
    assert (given.search.catalogue, folder) == (f"{tmp_path}/spAll.fits", tmp_path / "runs")
    assert given.search.ensemble == (f"{tmp_path}/one", "two~") and given.is_locked
    assert {**settings.flatten(given.to_dict()), "search.catalogue": 0, "search.ensemble": 0} == {
        **settings.flatten(smoke().to_dict()),
        "search.catalogue": 0,
        "search.ensemble": 0,
    }
    plain = smoke()
    modes.run("search", plain, tmp_path)
    assert seen[1][0] is plain


def test_a_second_process_does_not_write_the_same_files(tmp_path, monkeypatch):
    monkeypatch.setitem(modes.MODES, "inject", lambda config, workdir: modes.run("search", config, workdir))
    monkeypatch.setitem(modes.MODES, "train", lambda config, workdir: modes.run("evaluate", config, workdir))
    monkeypatch.setitem(modes.MODES, "evaluate", lambda config, workdir: done.append(workdir))
    done = []
    with pytest.raises(UserError, match=f"another process runs --mode=search in {tmp_path}: wait"):
        modes.run("inject", smoke(), tmp_path)
    modes.run("train", smoke(), tmp_path)  # may be looked at while it goes on
    assert done == [tmp_path] and not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["mock", "probe", "neighbours"])
def test_a_mode_that_writes_bit_by_bit_is_alone(mode, tmp_path, monkeypatch):
    config = smoke() if mode == "mock" else ssl.get_config("smoke")
    monkeypatch.setitem(modes.MODES, mode, lambda config, workdir: modes.run("again", config, workdir))
    monkeypatch.setitem(modes.MODES, "again", lambda config, workdir: None)
    monkeypatch.setitem(modes.EXCLUSIVE, "again", modes.EXCLUSIVE[mode])
    with pytest.raises(UserError, match=f"another process runs --mode={mode} in "):
        modes.run(mode, config, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_workdir_that_cannot_be_made_gets_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"new cannot be written .*: give another --workdir"):
        modes.run("search", smoke(), tmp_path / "file" / "new")


def test_weights_of_another_window_are_not_evaluated_as_these(tmp_path):
    for name in ("lya_redshift", "mgii"):
        with pytest.raises(UserError, match=rf"was trained as configs/{name[:3]}\w*\.py:\w+ on \("):
            evaluate(lya.get_config(), restore.RELEASED / name)


def test_modes_of_other_systems_are_refused(tmp_path):
    with pytest.raises(UserError, match="--mode=embed is not of the system 'lya'"):
        modes.run("embed", smoke(), tmp_path)
    with pytest.raises(UserError, match=r"--mode=search is not of the system 'ssl', whose modes are .*embed"):
        modes.run("search", ssl.get_config("smoke"), tmp_path)
    with pytest.raises(UserError, match="--mode=evaluate is not of the system 'ssl'"):
        modes.run("evaluate", ssl.get_config("smoke"), tmp_path)
    with pytest.raises(UserError, match=r"--mode=convert is not of the system 'lens', whose modes are .*evaluate"):
        modes.run("convert", lens.get_config("smoke"), tmp_path)


def test_mock_plate_is_found_and_scored(tmp_path, capsys):
    config = smoke()
    modes.MODES["mock"](config, tmp_path)
    truth = pq.read_table(tmp_path / "mock" / "truth.parquet").to_pydict()
    assert len(truth["label"]) == config.mock.fibers and 0 < sum(truth["label"]) < config.mock.fibers
    config.search.update({"input": str(tmp_path / "mock"), "scorer": "matched_filter"})
    modes.MODES["search"](config, tmp_path)
    scores = pq.read_table(tmp_path / "scores.parquet").to_pydict()
    assert scores["fiberid"] == truth["fiberid"] and all(scores["selected"])
    printed = capsys.readouterr().out
    assert f"{config.mock.fibers} objects, {config.mock.fibers} scored" in printed
    hits = [s > config.search.threshold for s in scores["score"]]
    assert [bool(cut) for cut in scores["cut"]] == hits and "unreadable" not in scores["cut"]
    found = Table.read(tmp_path / "candidates.fits")
    assert f"candidates.fits: {len(found)} candidates of {sum(hits)} hits" in printed


def test_inject_of_images_writes_the_galaxies_with_and_without_an_arc(tmp_path, capsys):
    config = ssl.get_config("smoke")
    images = np.random.default_rng(0).normal(0, 0.004, (3, 40, 40, 3)).astype(np.float32)
    write_cutouts(tmp_path / "survey.h5", images, {"ra": np.arange(3.0), "dec": np.zeros(3)})
    config.embed.input = str(tmp_path / "survey.h5")
    for name in ("completeness.fits", "completeness.png"):
        (tmp_path / name).write_text("around other galaxies")
    modes.run("inject", config.lock(), tmp_path)
    assert len(open_cutouts(tmp_path / "injected.hdf5")) == 6
    assert "3 galaxies, each with and without an arc" in capsys.readouterr().out
    assert not list(tmp_path.glob("completeness.*"))  # there is no finder yet


def test_fetch_of_images_wants_positions(tmp_path):
    with pytest.raises(UserError, match=r"nothing to fetch: set config\.fetch_cutouts\.list"):
        modes.run("fetch", ssl.get_config("smoke").lock(), tmp_path)
