"""Downloads, against a server that fails in every way a real one does."""

import collections
import csv
import errno
import http.server
import os
import pathlib
import sys
import threading
import types

import numpy as np
import pytest
from astropy.table import Table

from configs import common
from lensjax.core.errors import UserError
from lensjax.surveys import fetch, fits, write_spec
from tests.surveys import mocks


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` for the file names in `files`; `faults` maps a name to the answers it gives first."""

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.faults, self.paths = content, {}, collections.defaultdict(list)
        self.lock = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        name = self.path.rsplit("/", 1)[-1]
        with self.server.lock:
            self.server.paths[name].append(self.path)
            fault = self.server.faults[name].pop(0) if self.server.faults.get(name) else 200
        body = self.server.content
        self.send_response(fault if isinstance(fault, int) else 200)
        if fault != "silent":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == 200:
            self.wfile.write(body)
        elif fault in ("cut", "silent"):  # fewer bytes than announced; or no announcement and a cut file
            self.wfile.write(body[: len(body) // 2])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    path = tmp_path / "whole.fits"
    flux, ivar, _, _ = mocks.spectra(1)
    write_spec(path, mocks.LOGLAM, flux[0], ivar[0], {"plate": 4055, "mjd": 55359, "fiberid": 1, "z": 0.4})
    with Server(path.read_bytes()) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def config(server, tmp_path):
    config = common.spectra()
    config.fetch.base_url = f"http://127.0.0.1:{server.server_port}/sas/dr17/"
    config.fetch.update(dict(backoff=0.001, retries=3, timeout=5.0, list=str(tmp_path / "list.txt")))
    return config


def run(config, tmp_path, lines):
    (tmp_path / "list.txt").write_text("\n".join(lines))
    with fetch.fetch(config, tmp_path / "work").open() as stream:
        return {int(row["fiberid"]): row["status"] for row in csv.DictReader(stream)}


def spec(fiber):
    return f"spec-4055-55359-{fiber:04d}.fits"


def test_faults_are_retried_and_every_object_gets_a_row(server, config, tmp_path):
    faults = {2: [500, 503], 3: ["cut"], 4: ["silent", 500], 5: [404], 6: [500] * 9, 7: [403]}
    server.faults = {spec(fiber): answers for fiber, answers in faults.items()}
    status = run(config, tmp_path, [f"4055-55359-{fiber}" for fiber in range(1, 8)])
    assert [status[fiber] for fiber in (1, 2, 3, 4)] == [""] * 4
    assert status[5].startswith("not found on the server")
    assert status[6].startswith("not downloaded: the server answered 500")
    assert status[7].startswith("not downloaded: the server answered 403") and len(server.paths[spec(7)]) == 1
    folder = tmp_path / "work" / "spectra"
    assert sorted(path.name for path in folder.iterdir()) == [spec(fiber) for fiber in (1, 2, 3, 4)]
    assert all((folder / spec(fiber)).read_bytes() == server.content for fiber in (1, 2, 3, 4))
    assert len(server.paths[spec(6)]) == 4  # the first and three retries


def test_second_run_fetches_only_what_is_missing_or_damaged(server, config, tmp_path):
    run(config, tmp_path, ["4055 55359 1", "4055 55359 2", "4055 55359 3"])
    server.paths.clear()
    folder = tmp_path / "work" / "spectra"
    (folder / spec(1)).write_bytes(server.content[:30_000])  # as left by another program that was killed
    (folder / spec(2)).unlink()
    assert set(run(config, tmp_path, ["4055 55359 1", "4055 55359 2", "4055 55359 3"]).values()) == {""}
    assert sorted(server.paths) == [spec(1), spec(2)]
    assert fits.open_fits(folder / spec(1))[-1].bytes().size


def test_addresses_are_those_of_the_archive(server, config, tmp_path):
    server.faults = {"spec-0266-51602-0001.fits": [404, 404]}
    assert set(run(config, tmp_path, ["plate,mjd,fiberid", "4055,55359,596", "266,51602,1"]).values()) == {""}
    assert server.paths["spec-4055-55359-0596.fits"] == [
        "/sas/dr17/eboss/spectro/redux/v5_13_2/spectra/lite/4055/spec-4055-55359-0596.fits"
    ]
    assert [path.split("/")[6] for path in server.paths["spec-0266-51602-0001.fits"]] == ["26", "103", "104"]


def test_server_that_is_not_there_is_a_status(config, tmp_path, capsys):
    config.fetch.base_url = "http://127.0.0.1:9"  # discard: nothing listens
    why = "not downloaded: the server cannot be reached (Connection refused)"
    assert run(config, tmp_path, ["4055-55359-1"])[1] == why
    assert f"fetch: 1 of 1 not fetched, most often because: {why}" in capsys.readouterr().err


@pytest.mark.parametrize("lines", [["4055-55359-1", "fiber five"], ["# nothing"]])
def test_list_that_cannot_be_understood(config, tmp_path, lines):
    with pytest.raises(UserError, match="4055-55359-596"):
        run(config, tmp_path, lines)


@pytest.mark.parametrize(
    "line",
    [
        *("4055-55359-596", "4055 55359 596", "4055, 55359, 596", "spec-4055-55359-0596.fits", "4055,55359,596,0.5"),
        *("150.11321,2.20553,4055,55359,596", "v5_13_2/spectra/lite/4055/spec-4055-55359-0596.fits"),
    ],
)
def test_an_observation_is_read_whatever_is_before_and_between(line, tmp_path):
    (tmp_path / "list.txt").write_text(f"{line}\nv5_13_2/spectra/lite/10251/spec-10251-58159-0012.fits  # new\n")
    assert fetch.read_targets(str(tmp_path / "list.txt")) == [(4055, 55359, 596), (10251, 58159, 12)]


@pytest.mark.parametrize("name", ["mine.fits", "mine.csv", "mine.ecsv", "mine.vot", "mine.parquet"])
def test_a_table_is_read_by_the_names_of_its_columns(name, tmp_path):
    mine = Table({"fiberID": [596, 12], "plate": [4055, 10251], "mjd": [55359, 58159], "z": [3, 1]})
    mine.write(tmp_path / name, **({"format": "votable"} if name.endswith(".vot") else {}))
    assert fetch.read_targets(str(tmp_path / name)) == [(4055, 55359, 596), (10251, 58159, 12)]


def test_rows_without_an_observation_are_left_out_and_said(tmp_path, capsys):
    (tmp_path / "list.csv").write_text("plate,mjd,fiberid\n4055.0,55359,596\n4056.0,,12\n,55359,3\n")
    assert fetch.read_targets(str(tmp_path / "list.csv")) == [(4055, 55359, 596)]
    assert "2 rows without plate, MJD or fiber are left out" in capsys.readouterr().err


def test_a_list_of_skyserver_begins_with_a_title(tmp_path):
    (tmp_path / "list.csv").write_text("#Table1\nplate,mjd,fiberid\n4055,55359,596\n")
    assert fetch.read_targets(str(tmp_path / "list.csv")) == [(4055, 55359, 596)]


def test_nothing_asked_for(config, tmp_path):
    config.fetch.list = ""
    with pytest.raises(UserError, match="nothing to fetch"):
        fetch.fetch(config, tmp_path)


def test_redshift_range_goes_through_sparcl(server, config, tmp_path, monkeypatch):
    asked = {}

    class Client:
        def __init__(self, **options):
            pass

        def find(self, outfields, constraints, limit):
            asked.update(constraints, limit=limit)
            record = {"specid": (4055 << 50) | (596 << 38) | (5359 << 24) | 42}
            return types.SimpleNamespace(records=[record])

    monkeypatch.setitem(sys.modules, "sparcl", types.ModuleType("sparcl"))
    monkeypatch.setitem(sys.modules, "sparcl.client", types.SimpleNamespace(SparclClient=Client))
    config.fetch.update(dict(list="", redshift=(0.4, 0.5), limit=7))
    with fetch.fetch(config, tmp_path / "work").open() as stream:
        (row,) = csv.DictReader(stream)
    assert row["file"].endswith("spec-4055-55359-0596.fits") and row["status"] == ""
    assert asked == {"spectype": ["GALAXY"], "redshift": [0.4, 0.5], "data_release": ["BOSS-DR16"], "limit": 7}


def test_release_of_another_survey_is_refused(config):
    config.fetch.update(dict(list="", redshift=(0.4, 0.5), release="DESI-DR1"))
    with pytest.raises(UserError, match="DESI-DR1': expected a release of SDSS or BOSS"):
        fetch.find_targets(config.fetch)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT])
def test_full_or_forbidden_disk_ends_the_run_at_once(server, config, tmp_path, monkeypatch, code):
    def fail(self, content):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(pathlib.Path, "write_bytes", fail)
    config.fetch.update(dict(workers=1, backoff=30.0))
    with pytest.raises(UserError, match=r"spectra cannot be written \(.*make room, or give another --workdir"):
        run(config, tmp_path, [f"4055-55359-{fiber}" for fiber in range(1, 30)])
    assert all(len(asked) == 1 for asked in server.paths.values())


def test_other_trouble_of_the_disk_is_tried_again(server, config, tmp_path, monkeypatch):
    tries, write = [], pathlib.Path.write_bytes

    def fail_once(self, content):
        tries.append(self)
        if len(tries) == 1:
            raise OSError(errno.EIO, "Input/output error")
        return write(self, content)

    monkeypatch.setattr(pathlib.Path, "write_bytes", fail_once)
    assert run(config, tmp_path, ["4055-55359-1"]) == {1: ""} and len(tries) == 2


def test_progress_is_told(server, config, tmp_path, capsys):
    server.faults = {spec(2): [404]}
    run(config, tmp_path, ["4055-55359-1", "4055-55359-2"])
    assert "fetch: step 2/2" in (err := capsys.readouterr().err) and "1 not fetched" in err


def test_redshift_range_without_the_extra(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "sparcl.client", None)
    config.fetch.update(dict(list="", redshift=(0.4, 0.5)))
    with pytest.raises(UserError, match=r"pip install 'lensjax\[fetch\]'"):
        fetch.find_targets(config.fetch)


def test_specobjid_of_a_high_plate_is_negative_where_integers_are_signed():
    unsigned = 10660 << 50 | 431 << 38 | (58466 - 50000) << 24
    for number in (unsigned, unsigned - (1 << 64)):
        assert fetch.decode_specobjid(number) == fetch.Target(10660, 58466, 431)


def test_specobjid_holds_plate_mjd_and_fiber(real_data):
    for path in sorted((real_data / "sdss_legacy").glob("*.fits"))[:3]:
        row = fits.read_columns(fits.open_fits(path)[2], ("SPECOBJID", "PLATE", "MJD", "FIBERID"))
        want = fetch.Target(*(int(row[name][0]) for name in ("PLATE", "MJD", "FIBERID")))
        assert fetch.decode_specobjid(int(np.squeeze(row["SPECOBJID"]))) == want
