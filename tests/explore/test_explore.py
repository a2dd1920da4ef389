"""The web app: its orders are those of the numbers behind them, grades last, what they teach is right, errors speak."""

import concurrent.futures
import errno
import io
import os
import pathlib
import socket

import jax
import numpy as np
import pytest
from astropy.table import Table

from configs import ssl
from lensjax.core.errors import UserError
from lensjax.embed import linear, store
from lensjax.embed.embed import embed
from lensjax.embed.encoder import Encoder
from lensjax.embed.mocks import MockSource
from lensjax.explore import grades
from lensjax.explore.app import explore, make_app
from lensjax.explore.gallery import BLANK, Gallery, Request
from lensjax.surveys import viewer
from lensjax.surveys.cutouts import open_cutouts

COUNT, LOST = 60, 5
RNG = np.random.default_rng(3)
KIND = np.arange(COUNT) % 6 == 0  # the objects to find: a cluster of embeddings of their own
VECTORS = (RNG.normal(size=(COUNT, 8)) + 8 * KIND[:, None] * np.eye(8)[0]).astype(np.float32)
IMAGES = (0.02 * RNG.random((COUNT, 3, 20, 20))).astype(np.float32)
MAG = np.linspace(17, 19, COUNT)


@pytest.fixture
def workdir(tmp_path):
    values = VECTORS.copy()
    values[LOST] = np.nan
    chunks = store.Chunks(tmp_path / store.FOLDER, COUNT, 16, "mine")
    for i in chunks.missing():
        chunks.write(i, values[list(chunks.span(i))])
    np.savez(tmp_path / "cutouts.npz", images=IMAGES)
    file, flux = np.full(COUNT, str(tmp_path / "cutouts.npz")), np.tile(10 ** (0.4 * (22.5 - MAG))[:, None], 3)
    places = {"ra": RNG.uniform(0, 360, COUNT), "dec": RNG.uniform(-30, 30, COUNT), "flux": flux}
    chunks.finish({"file": file, "row": np.arange(COUNT), **places}, {"weights": "w"})
    return tmp_path


@pytest.fixture
def gallery(workdir):
    return Gallery(ssl.get_config("smoke"), workdir)


@pytest.fixture
def client(gallery):
    return make_app(gallery).test_client()


def cosine(rows):
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    found = (unit @ unit[rows].T).max(1)
    found[LOST] = np.nan
    return found


def test_similar_objects_come_first_and_those_without_an_embedding_not_at_all(client):
    found = client.get("/api/objects?sort=similarity&queries=12, 40&count=500").json
    expected = cosine([12, 40])
    assert found["total"] == COUNT - 1
    assert [one["object"] for one in found["objects"]] == np.argsort(-expected, kind="stable")[: COUNT - 1].tolist()
    np.testing.assert_allclose([one["similarity"] for one in found["objects"]], np.sort(expected)[::-1][1:], rtol=1e-5)
    assert all(one["similarity"] is None for one in client.get("/api/objects").json["objects"])
    first = found["objects"][0]
    assert first["name"].startswith("J") and "ra=" in first["viewer"] and first["score"] is None


def test_a_window_keeps_objects_as_bright_as_a_query(gallery):
    order, _ = gallery.order(Request("similarity", ("30",), window=0.2))
    assert sorted(order) == np.flatnonzero(np.abs(MAG - MAG[30]) <= 0.2).tolist()


def test_orders_by_what_no_object_has_are_not_offered(client, gallery):
    assert client.get("/api/about").json["sorts"][:2] == ["magnitude", "object"]  # nothing gave a score
    gallery.columns["mag_r"] = np.full(COUNT, np.nan)
    assert client.get("/api/about").json["sorts"][0] == "object"


def test_pages_follow_each_other(client):
    parts = [client.get(f"/api/objects?sort=magnitude&start={start}&count=25").json["objects"] for start in (0, 25, 50)]
    assert [one["object"] for part in parts for one in part] == list(range(COUNT))


def test_an_order_is_sorted_once_and_anew_where_its_values_change(gallery, monkeypatch):
    sort, calls = np.argsort, []
    monkeypatch.setattr(np, "argsort", lambda *given, **named: calls.append(1) or sort(*given, **named))
    for start in (0, 20, 40):
        for asked in (Request("magnitude"), Request("similarity", ("12",)), Request("magnitude", grade="A")):
            gallery.page(asked, start, 20)
    assert len(calls) == 2
    gallery.taught = np.arange(COUNT, dtype=float)
    assert gallery.order(Request("taught"))[0][0] == COUNT - 1
    gallery.taught = -gallery.taught
    assert gallery.order(Request("taught"))[0][0] == 0


def test_a_column_of_grades_is_no_walk_through_all_objects(monkeypatch):
    given = grades.Grades(pathlib.Path("nowhere"), np.array(["a", "b", "a", "a"]), np.array([0, 0, 1, 0]))
    given._given = {(os.path.abspath("a"), 0): ("a", "B"), ("/gone", 0): ("/gone", "A")}
    assert given[0] == given[3] == "B"  # one object, in a file that was named twice
    monkeypatch.delattr(grades.Grades, "__getitem__")
    assert given.column().tolist() == ["B", "", "", "B"]


def test_grades_last_and_are_taken_back(client, gallery, workdir):
    for number, grade in ((7, "A"), (8, "X"), (9, "B"), (8, "")):
        answer = client.post("/api/grades", json={"object": number, "grade": grade})
        assert answer.status_code == 200
    assert answer.json == {"graded": 2}
    again = Gallery(ssl.get_config("smoke"), workdir)
    assert [again.grades[n] for n in (7, 8, 9)] == ["A", "", "B"]
    assert again.order(Request(grade="A"))[0].tolist() == [7]


def test_a_workdir_that_cannot_be_written_is_said(client, workdir, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(grades, "write_text", refuse)
    answer = client.post("/api/grades", json={"object": 3, "grade": "A"})
    assert answer.status_code == 500 and answer.json == {"error": f"{workdir} cannot be used: Read-only file system."}
    assert client.get("/api/objects?grade=A").json["objects"] == []


def test_grades_that_another_app_of_the_workdir_gave_stay(gallery, workdir):
    other = Gallery(ssl.get_config("smoke"), workdir)
    gallery.grades.set(1, "A")
    gallery.grades.set(2, "B")
    other.grades.set(3, "X")
    gallery.grades.set(2, "")
    assert [gallery.grades[n] for n in (1, 2, 3)] == ["A", "", "X"]
    assert [Gallery(ssl.get_config("smoke"), workdir).grades[n] for n in (1, 2, 3)] == ["A", "", "X"]


def test_a_grade_is_of_the_file_however_its_path_was_spelled(workdir, monkeypatch):
    monkeypatch.chdir(workdir)
    (workdir / "grades.csv").write_text("file,row,grade\n./cutouts.npz,4,A\n")
    again = Gallery(ssl.get_config("smoke"), workdir)
    assert again.grades[4] == "A" and again.grades.strays == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"\xff\xfef\x00", "no table of file, row and grade"),
        (b'file,row,grade\n"' + b"x" * 200_000 + b'",1,A\n', "no table of file, row and grade"),
        (b"file,row,grade\n/cutouts.npz,4,a\n", "row 4, the grade 'a': expected one of A, B, C, X"),
        (b"file,row,grade\n/cutouts.npz,4\n", "the grade None"),
    ],
)
def test_a_table_of_grades_that_cannot_be_used_is_said(text, said, workdir):
    (workdir / "grades.csv").write_bytes(text)
    with pytest.raises(UserError, match=said):
        Gallery(ssl.get_config("smoke"), workdir)


def test_grades_that_a_spreadsheet_saved_are_read(workdir):
    (workdir / "grades.csv").write_text(f"file,row,grade\r\n{workdir}/cutouts.npz,4,A\r\n", encoding="utf-8-sig")
    assert Gallery(ssl.get_config("smoke"), workdir).grades[4] == "A"


def test_exports_at_the_same_time_are_all_whole(client, workdir):
    client.post("/api/grades", json={"object": 3, "grade": "A"})
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: client.application.test_client().get("/graded.fits"), range(8)))
    assert {answer.status_code for answer in answers} == {200}
    for answer in answers:
        answer.close()


def test_grades_of_objects_that_are_gone_stay_in_the_file(gallery, workdir):
    (workdir / "grades.csv").write_text('file,row,grade\n"old, one.h5",3,C\n')
    again = Gallery(ssl.get_config("smoke"), workdir)
    again.grades.set(0, "A")
    assert '"old, one.h5",3,C' in (workdir / "grades.csv").read_text()
    assert (again.grades.column() != "").sum() == again.grades.strays == 1


def test_a_few_grades_bring_up_the_rest_of_their_kind(client):
    for number in (0, 6, 12):
        client.post("/api/grades", json={"object": number, "grade": "B"})
    for number in (1, 2):
        client.post("/api/grades", json={"object": number, "grade": "X"})
    used = client.post("/api/teach", json={}).json
    assert used == {"lenses": 3, "others": 2, "drawn": COUNT - 6}
    found = client.get("/api/objects?sort=taught&count=500").json["objects"]
    best = {one["object"] for one in found[: KIND.sum()]}
    assert {0, 6, 12} < best and len(best & set(np.flatnonzero(KIND))) >= KIND.sum() - 2
    assert len(found) == COUNT - 1 and found[0]["taught"] > 0.5 > found[-1]["taught"]


def test_pictures_are_the_viewers_colours(client):
    answer = client.get("/picture/17.png")
    assert answer.mimetype == "image/png"
    expected = np.round(viewer.to_rgb(np.moveaxis(IMAGES[17], 0, -1)[::-1]) * 255)
    from PIL import Image

    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.data))), expected)


def lists(folder, names):
    """A workdir with embeddings of files of such names in a list; those that are there hold two images of its size."""
    for i, name in enumerate(dict.fromkeys(names)):
        if name.startswith("cut"):
            np.savez(folder / name, images=IMAGES[2 * i : 2 * i + 2, :, : 20 - i, : 20 - i])
    (folder / "list.txt").write_text("\n".join(names))
    source = open_cutouts(str(folder / "list.txt"), 16)
    chunks = store.Chunks(folder / store.FOLDER, len(source), 16, "mine")
    finite = np.isfinite(source.read(np.arange(len(source)))).all(axis=(1, 2, 3))
    chunks.write(0, np.where(finite[:, None], VECTORS[: len(source)], np.nan))
    chunks.finish(source.table(), {"weights": "w"})
    return Gallery(ssl.get_config("smoke"), folder)


def test_every_object_has_its_picture_whatever_its_file(tmp_path):
    """One that was never there, sizes that differ, and one that goes."""
    names = ["cut0.npz", "cut1.npz", "gone.npz", "cut3.npz", "cut4.npz"]
    gallery = lists(tmp_path, names)
    for number, file, row in zip(*(gallery.columns[name] for name in ("object", "file", "row")), strict=True):
        if "gone" in file:
            assert gallery.picture(int(number)) == viewer.to_png(BLANK)
        else:
            with np.load(file) as stored:
                image = np.moveaxis(stored["images"][row], 0, -1)
            assert gallery.picture(int(number)) == viewer.to_png(image)
    (tmp_path / "cut1.npz").unlink()
    np.savez(tmp_path / "cut3.npz", images=IMAGES[:7])
    again = Gallery(ssl.get_config("smoke"), tmp_path)
    at = [next(i for i, file in enumerate(again.columns["file"]) if name in file) for name in names]
    assert again.picture(at[1]) == viewer.to_png(BLANK) and again.picture(at[0]) == gallery.picture(at[0])
    with pytest.raises(UserError, match=r"cut3\.npz holds 7 images .* run --mode=embed again"):
        again.picture(at[3])


@pytest.mark.parametrize("change", [{"seed": 5}, {"embed.lens_fraction": 0.4}, {"embed.num": 9}])
def test_pictures_of_other_mocks_than_were_embedded_are_refused(tmp_path, change):
    config = ssl.get_config("smoke")
    config.embed.num = 8
    embed(config, tmp_path, Encoder(lambda image: image.mean((1, 2)), "a", config))
    gallery = Gallery(config, tmp_path)
    assert gallery.picture(3) == viewer.to_png(MockSource(config).read(np.arange(8))[3])
    config.update_from_flattened_dict(change)
    with pytest.raises(UserError, match="of other mocks than this config makes"):
        Gallery(config, tmp_path)


def test_a_lesson_replaces_the_last_whole(gallery, monkeypatch):
    """Another thread may order by what the lesson before taught."""
    gallery.grades.set(0, "A")
    before, seen = gallery.taught, []

    def watch(probes, vectors):
        seen.append(gallery.taught is before and np.isnan(before).all())
        return np.ones(len(vectors))

    monkeypatch.setattr(linear, "probability", watch)
    gallery.teach()
    assert seen and all(seen) and np.isnan(before).all() and (gallery.taught == 1).all()


def test_graded_objects_leave_in_every_format(client, workdir):
    for number, grade in ((3, "X"), (11, "A"), (4, "B")):
        client.post("/api/grades", json={"object": number, "grade": grade})
    for suffix in ("fits", "ecsv", "vot", "parquet"):
        answer = client.get(f"/graded.{suffix}")
        assert answer.status_code == 200
        (workdir / f"mine.{suffix}").write_bytes(answer.data)
        answer.close()
        table = Table.read(workdir / f"mine.{suffix}", **({"format": "ascii.ecsv"} if suffix == "ecsv" else {}))
        assert [str(grade) for grade in table["grade"]] == ["A", "B", "X"]
        assert table["object"].tolist() == [11, 4, 3]


def test_an_image_of_ones_own_finds_its_like(workdir, tmp_path):
    """With the real encoder: the picture of an object is most similar to that object."""
    from lensjax.core.checkpoint import save_weights
    from lensjax.embed.embed import embed
    from lensjax.tasks import make_task

    config = ssl.get_config("smoke")
    params, state, _ = jax.jit(make_task(config).init)(jax.random.key(5))
    save_weights(workdir, params, state, config)
    images = np.random.default_rng(1).normal(0, 0.3, (COUNT, 3, 40, 40)).astype(np.float32)
    np.savez(workdir / "cutouts.npz", images=images)
    config.embed.input = str(workdir / "cutouts.npz")
    embed(config, workdir)
    client = make_app(Gallery(config, workdir)).test_client()
    np.savez(tmp_path / "one.npz", images=images[23:24])
    sent = client.post("/api/upload", data={"image": (io.BytesIO((tmp_path / "one.npz").read_bytes()), "one.npz")})
    assert sent.json == {"query": "upload-1"}
    found = client.get("/api/objects?sort=similarity&queries=upload-1&count=2").json["objects"]
    assert found[0]["object"] == 23 and found[0]["similarity"] == pytest.approx(1, abs=2e-3)
    assert client.get("/picture/upload-1.png").status_code == 200
    np.savez(tmp_path / "two.npz", images=images[:1, :2])
    wrong = client.post("/api/upload", data={"image": (io.BytesIO((tmp_path / "two.npz").read_bytes()), "two.npz")})
    assert wrong.status_code == 400 and "2 bands" in wrong.json["error"]
    wrong = client.post("/api/upload", data={"image": (io.BytesIO(b"nothing"), "one.fits")})
    assert wrong.status_code == 400 and "one.fits" in wrong.json["error"]
    for name in ("..", "list.txt"):  # no path of this machine is followed
        wrong = client.post("/api/upload", data={"image": (io.BytesIO(str(workdir / "cutouts.npz").encode()), name)})
        assert wrong.status_code == 400 and "no images in a" in wrong.json["error"]
    one = (tmp_path / "one.npz").read_bytes()
    for name in ("o\0ne.npz", f"{'ü' * 300}.npz"):  # what no name of a file may be
        sent = client.post("/api/upload", data={"image": (io.BytesIO(one), name)})
        assert sent.status_code == 200, sent.json


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/objects?sort=colour", "no order 'colour'"),
        ("/api/objects?sort=similarity&queries=999", "no object 999"),
        (f"/api/objects?sort=similarity&queries={'9' * 5000}", "no object 999"),
        (f"/api/objects?sort=similarity&queries={LOST}", "no embedding"),
        ("/api/objects?window=wide", "window is 'wide'"),
        ("/picture/999.png", "no picture of 999"),
        (f"/picture/{'9' * 5000}.png", "no picture of 999"),
        ("/graded.doc", "no format doc"),
        ("/graded.fits", "no object has a grade"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(client, path, said):
    answer = client.get(path)
    assert answer.status_code == 400 and said in answer.json["error"]


def test_wrong_grades_and_lessons_without_a_lens_are_refused(client):
    assert "no grade 'Z'" in client.post("/api/grades", json={"object": 1, "grade": "Z"}).json["error"]
    assert "an object and its grade" in client.post("/api/grades", json=[1, "A"]).json["error"]
    assert "no object 99" in client.post("/api/grades", json={"object": 99, "grade": "A"}).json["error"]
    assert "grade one lens" in client.post("/api/teach", json={}).json["error"]


def test_other_sites_are_not_served(client):
    assert client.get("/api/about", headers={"Host": "evil.example"}).status_code == 400
    assert client.post("/api/grades", data="object=1&grade=A").status_code == 415
    assert client.get("/").status_code == 200


def test_a_bad_file_of_grades_and_a_workdir_without_embeddings_are_refused(workdir, tmp_path):
    (workdir / "grades.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"grades\.csv is no table"):
        Gallery(ssl.get_config("smoke"), workdir)
    with pytest.raises(UserError, match="run --mode=embed"):
        Gallery(ssl.get_config("smoke"), tmp_path / "elsewhere")


def test_a_port_that_is_taken_is_told_in_one_sentence(workdir, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = ssl.get_config("smoke")
        config.explore.port = taken.getsockname()[1]
        with pytest.raises(UserError, match="is taken: choose another"):
            explore(config, workdir)
    assert capsys.readouterr().err == ""
