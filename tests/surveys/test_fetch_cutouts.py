"""Downloads of cutouts, against a server that fails as a real one does."""

import csv
import http.server
import threading
import time
import urllib.parse

import numpy as np
import pytest
from ml_collections import config_dict

from configs.cutouts import fetching
from lensjax.core.errors import UserError
from lensjax.surveys import fetch_cutouts
from lensjax.surveys.cutouts import open_cutouts
from lensjax.surveys.download import Pace

SIZE = 8


class Server(http.server.ThreadingHTTPServer):
    """Serves a cube that depends on ra; `faults` maps a rounded ra to the answers it gives first."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults, self.asked, self.lock = {}, [], threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        query = {k: v[0] for k, v in urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query).items()}
        ra = round(float(query["ra"]))
        with self.server.lock:
            self.server.asked.append(query)
            fault = self.server.faults[ra].pop(0) if self.server.faults.get(ra) else 200
        bands = "grz" if fault == "others" else query["bands"]
        body = cube(0.0 if fault == "dark" else float(ra), SIZE - (fault == "small"), bands)
        self.send_response(fault if isinstance(fault, int) else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault != "cut":
            self.wfile.write(body if fault != "page" else b"<html>busy</html>".ljust(len(body)))

    def log_message(self, *args):
        pass


def cube(value, size, bands):
    """As the viewer answers: with one band, an image."""
    import io

    from astropy.io import fits

    stream = io.BytesIO()
    header = fits.Header(
        {
            "IMAGETYP": "IMAGE",
            "BANDS": ",".join(bands),
            "CTYPE1": "RA---TAN",
            "CTYPE2": "DEC--TAN",
            "CRVAL1": value,
            "CRVAL2": 0.0,
        }
    )
    header.update(CRPIX1=4.5, CRPIX2=4.5, CD1_1=-0.262 / 3600, CD1_2=0.0, CD2_1=0.0, CD2_2=0.262 / 3600)
    shape = (len(bands), size, size)[len(bands) == 1 :]
    fits.PrimaryHDU(np.full(shape, value, np.float32), header).writeto(stream)
    return stream.getvalue()


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def config(server, tmp_path):
    config = config_dict.ConfigDict()
    config.fetch_cutouts = fetching()
    config.fetch_cutouts.update(dict(url=f"http://127.0.0.1:{server.server_port}/fits-cutout", size=SIZE, pause=0.0))
    config.fetch_cutouts.update(dict(backoff=0.001, retries=2, timeout=5.0, list=str(tmp_path / "list.csv")))
    return config


def run(config, tmp_path, text):
    (tmp_path / "list.csv").write_text(text)
    with fetch_cutouts.fetch_cutouts(config, tmp_path / "work").open() as stream:
        return {round(float(row["ra"])): row["status"] for row in csv.DictReader(stream)}


def test_faults_are_retried_and_every_position_gets_a_row(server, config, tmp_path):
    server.faults = {2: [500, 429], 3: ["cut"], 4: ["page", "small"], 5: [404], 6: [503] * 9, 7: ["dark"]}
    status = run(config, tmp_path, "name,RA,Dec\n" + "".join(f"n{i},{i}.0,{i / 2}\n" for i in range(1, 8)))
    assert [status[i] for i in range(1, 5)] == [""] * 4
    assert status[5].startswith("not found") and status[6].startswith("not downloaded: the server answered 503")
    assert status[7].startswith("every pixel is zero")
    assert len([q for q in server.asked if float(q["ra"]) == 6]) == 3
    query = next(q for q in server.asked if float(q["ra"]) == 1)
    assert query == {"ra": "1.000000", "dec": "0.500000", "layer": "ls-dr9", "pixscale": "0.262", "bands": "grz",
                     "size": "8"}  # fmt: skip
    source = open_cutouts(tmp_path / "work" / "cutouts")
    assert source.read([0])[0, 0, 0].tolist() == [1, 1, 1] and source.table()["ra"][0] == pytest.approx(1.0)


def test_second_run_fetches_only_what_is_missing_or_damaged(server, config, tmp_path):
    text = "10, 1\n20 2  # the second\n30 3\n10 1\n"
    run(config, tmp_path, text)
    assert len(server.asked) == 3
    server.asked.clear()
    files = sorted((tmp_path / "work" / "cutouts").iterdir())
    files[0].write_bytes(files[0].read_bytes()[:3000])
    files[2].unlink()
    assert set(run(config, tmp_path, text).values()) == {""}
    assert sorted(float(q["ra"]) for q in server.asked) == [10, 30]


@pytest.mark.parametrize("bands", ["g", "griz"])
def test_any_number_of_bands_is_fetched(server, config, tmp_path, bands):
    config.fetch_cutouts.bands = bands
    assert run(config, tmp_path, "10 1\n") == {10: ""}
    assert open_cutouts(tmp_path / "work" / "cutouts").bands == bands


def test_other_bands_than_those_asked_for_are_not_asked_for_again(server, config, tmp_path):
    """The viewer gives its usual bands where a layer lacks one that is asked for."""
    server.faults = {10: ["others"] * 9}
    config.fetch_cutouts.bands = "gri"
    assert run(config, tmp_path, "10 1\n")[10].startswith("not downloaded: the server has bands grz there, not gri")
    assert len(server.asked) == 1 and not list((tmp_path / "work" / "cutouts").glob("*.fits"))


@pytest.mark.parametrize(
    "text", ["11.888 -25.288\n12 3\n", "dec,ra\n-25.288,11.888\n3,12\n", "ra,dec,n\n11.888,-25.288,a\n12,3,b\n"]
)
def test_a_byte_order_mark_changes_nothing(tmp_path, text):
    (tmp_path / "list.csv").write_text(text, encoding="utf-8-sig")
    assert fetch_cutouts.read_positions(str(tmp_path / "list.csv")) == [(11.888, -25.288), (12, 3)]


def test_another_layer_takes_another_folder(server, config, tmp_path):
    run(config, tmp_path, "10 1\n")
    for name, value in (("layer", "ls-dr10"), ("bands", "gri"), ("pixel", 0.3)):
        with config.fetch_cutouts.unlocked() as other, pytest.MonkeyPatch.context() as patch:
            patch.setitem(other, name, value)
            with pytest.raises(UserError, match=f"{value}.* is asked for: give another --workdir"):
                run(config, tmp_path, "10 1\n20 2\n")
    assert len(server.asked) == 1 and len(open_cutouts(tmp_path / "work" / "cutouts")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "name,ra,dec\nNGC 253,11.888,-25.288\n",
        "name\tmag\tra\tdec\nNGC 253\t\t11.888\t-25.288\n",
        "name | ra | dec\nNGC 253 | 11.888 | -25.288\n",
        "id,RA_deg,dec_deg\n1,11.888,-25.288\n",
        "id RAJ2000 DEJ2000\n1 11.888 -25.288\n",
        "name ra dec\nNGC253 11.888   -25.288  # Sculptor, the galaxy\n",
    ],
)
def test_blanks_separate_only_where_nothing_else_does(tmp_path, text):
    (tmp_path / "list.txt").write_text(text)
    assert fetch_cutouts.read_positions(str(tmp_path / "list.txt")) == [(11.888, -25.288)]


@pytest.mark.parametrize("name", ["list.fits", "list.ecsv", "list.vot", "list.parquet", "list.csv"])
def test_a_list_may_be_any_table(tmp_path, name):
    from astropy.table import Table

    table = Table({"name": ["the one, east", "b"], "RAJ2000": [150.1, 151.0], "DEJ2000": [2.0, -3.0]})
    table.write(tmp_path / name, **({"format": "votable"} if name.endswith("vot") else {}))
    assert fetch_cutouts.read_positions(str(tmp_path / name)) == [(150.1, 2.0), (151.0, -3.0)]


def test_requests_keep_their_distance():
    pace, start = Pace(0.02), time.monotonic()
    threads = [threading.Thread(target=pace.wait) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - start >= 0.1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2\nthree four\n", "line 2"),
        ("id,alpha,delta\n1,45.2,-3.1\n", "line 1"),
        ("# none\n", "no position"),
        ("1 2\n400 2\n", "0 to 360"),
    ],
)
def test_list_that_cannot_be_understood(config, tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        run(config, tmp_path, text)


def test_what_the_service_does_not_give(config, tmp_path):
    config.fetch_cutouts.size = 3001
    with pytest.raises(UserError, match="1 to 3000 pixels"):
        run(config, tmp_path, "1 2\n")
    config.fetch_cutouts.update(dict(size=8, list=""))
    with pytest.raises(UserError, match="nothing to fetch"):
        fetch_cutouts.fetch_cutouts(config, tmp_path)


def test_positions_of_a_catalogue(real_data):
    assert len(fetch_cutouts.read_positions(str(real_data / "cutouts" / "tractor-3301m002.fits"))) == 6
    assert len(fetch_cutouts.read_positions(str(real_data / "tables" / "new_lenses.tsv"))) == 1191  # one is there twice
