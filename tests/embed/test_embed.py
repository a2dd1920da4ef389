"""Embedding a survey: every row once and in order, whatever was killed, whatever cannot be read."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from scipy import special

from configs import lens, ssl
from lensjax.core.checkpoint import save_weights
from lensjax.core.errors import UserError
from lensjax.embed import catalogue, encoder, store
from lensjax.embed.embed import embed
from lensjax.embed.encoder import Encoder, convert, make_encoder
from lensjax.embed.linear import Probe
from lensjax.embed.mocks import MockSource
from lensjax.surveys.cutouts import Cutouts, open_cutouts, write_cutouts
from lensjax.tasks import make_task
from tests.models.test_torchvision import layout
from tests.tiny import simulate_blob


class Source:
    """Fifty constant images of their row number; `fails_at` makes the reader die once."""

    stamp = "fifty"

    def __init__(self, fails_at=None, bad=()):
        self.fails_at, self.bad, self.reads = fails_at, bad, []

    def __len__(self):
        return 50

    def table(self):
        flux = np.stack([np.full(50, 1.0), np.arange(50.0) - 1, np.full(50, 10.0)], 1)
        return {"file": np.full(50, "x"), "row": np.arange(50), "flux": flux, "ra": np.linspace(0, 1, 50)}

    def read(self, rows):
        self.reads.append(list(rows))
        if self.fails_at in rows:
            raise KeyboardInterrupt
        images = np.broadcast_to(np.asarray(rows, np.float32)[:, None, None, None], (len(rows), 4, 4, 3)).copy()
        images[np.isin(rows, self.bad), 0, 0, 0] = np.nan
        return images


def test_an_encoder_that_reads_images_otherwise_is_another(tmp_path):
    config = ssl.get_config("smoke")
    params, model_state, _ = make_task(config).init(jax.random.key(0))
    found = []
    for name in ("asinh", "rgb"):
        config.model.stretch.name = name
        save_weights(tmp_path / name, params, model_state, config)
        found.append(make_encoder(config, tmp_path / name).identity)
    config.model.dtype = "bfloat16"
    found.append(make_encoder(config, tmp_path / "rgb").identity)
    assert len(set(found)) == 3


def mean_encoder(config, identity="a"):
    embed_batch = jax.jit(lambda image: jnp.stack([image.mean((1, 2, 3)), jnp.ones(len(image))], 1))
    return Encoder(embed_batch, identity, config)


def config():
    return ssl.get_config("smoke")  # 8 rows a batch, 24 a chunk


def run(tmp_path, source=None, identity="a"):
    source = source or Source()
    embed(config(), tmp_path, mean_encoder(config(), identity), source)
    return store.Embeddings(tmp_path)


def test_every_row_is_there_in_its_place(tmp_path):
    out = run(tmp_path)
    assert (out.rows, out.dimensions) == (50, 2)
    np.testing.assert_array_equal(out.take(np.arange(50))[:, 0], np.arange(50))
    np.testing.assert_array_equal(out.take(np.array([49, 3, 24]))[:, 0], [49, 3, 24])
    assert np.load(tmp_path / "embeddings/part-00002.npy").shape == (2, 2)
    assert np.load(tmp_path / "embeddings/part-00000.npy").dtype == np.float16


def test_the_table_has_fluxes_by_band_and_magnitudes(tmp_path):
    objects = run(tmp_path).objects()
    np.testing.assert_allclose(objects["mag_z"], 20.0)
    assert np.isnan(objects["mag_r"][:2]).all() and objects["mag_r"][2] == pytest.approx(22.5)
    assert set(objects["status"]) == {"ok"}
    with pytest.raises(UserError, match="no column redshift"):
        run(tmp_path).objects(["redshift"])


def test_fluxes_of_any_bands_are_in_the_table(tmp_path):
    write_cutouts(tmp_path / "griz.h5", np.ones((3, 8, 8, 4)), {"flux": np.tile([1.0, 10.0, 100.0, 0.0], (3, 1))})
    source = open_cutouts(tmp_path / "griz.h5", 4)
    table = source.table()
    store.write_objects(tmp_path / "objects.parquet", table, source.bands)
    found = pq.read_table(tmp_path / "objects.parquet").to_pydict()
    assert [found[f"mag_{band}"][0] for band in "gri"] == [22.5, 20.0, 17.5] and np.isnan(found["mag_z"][0])
    store.write_objects(tmp_path / "objects.parquet", table, "????")
    assert not [name for name in pq.read_schema(tmp_path / "objects.parquet").names if "flux" in name]


def test_a_killed_run_goes_on_behind_its_last_chunk(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Source(fails_at=30))
    with pytest.raises(UserError, match="no finished embeddings"):
        store.Embeddings(tmp_path)
    assert (tmp_path / "embeddings/part-00000.npy").exists()
    (tmp_path / "embeddings/.part-00001.99.tmp.npy").write_bytes(b"half")
    again = Source()
    out = run(tmp_path, again)
    assert min(min(rows) for rows in again.reads) == 24
    np.testing.assert_array_equal(out.take(np.arange(50))[:, 0], np.arange(50))
    assert not list((tmp_path / "embeddings").glob(".part*"))


def test_a_finished_run_is_not_repeated_unless_the_weights_change(tmp_path, capsys):
    run(tmp_path)
    second = Source()
    run(tmp_path, second)
    assert second.reads == []
    third = Source()
    run(tmp_path, third, identity="b")
    assert len(third.reads) == 7
    assert "starting anew" in capsys.readouterr().err


def test_unreadable_objects_are_kept_and_said(tmp_path):
    out = run(tmp_path, Source(bad=(5, 40)))
    values = out.take(np.arange(50))
    assert list(np.flatnonzero(np.isnan(values[:, 0]))) == [5, 40]
    status = out.objects(["status"])["status"]
    assert "not finite" in status[5] and status[6] == "ok"
    assert json.loads((tmp_path / "embeddings/embeddings.json").read_text())["rows"] == 50


def test_the_reason_is_still_known_when_a_killed_run_goes_on(tmp_path):
    images = np.random.default_rng(0).normal(size=(30, 3, 4, 4)).astype(np.float32)
    images[3, 0, 1, 1] = np.nan
    np.savez(tmp_path / "cutouts.npz", images=images)
    source = open_cutouts(str(tmp_path / "cutouts.npz"))

    class Killed(Cutouts):
        def read(self, rows):
            if max(rows) > 24:
                raise KeyboardInterrupt
            return super().read(rows)

    broken = open_cutouts(str(tmp_path / "cutouts.npz"))
    broken.__class__ = Killed
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, broken)
    status = run(tmp_path, source).objects(["status"])["status"]
    assert "1 of 16 pixels are NaN" in status[3] and status[4] == "ok"


def test_a_file_whose_name_is_no_text_is_in_the_table(tmp_path):
    store.write_objects(tmp_path / "objects.parquet", {"file": np.array(["a\udcff.fits", "é.fits"])})
    assert pq.read_table(tmp_path / "objects.parquet").column("file").to_pylist() == ["a?.fits", "é.fits"]


def test_mocks_are_a_function_of_the_seed_and_their_table_fits_their_images():
    def simulate(key):
        blob = simulate_blob(key)
        return {**blob, "total": blob["image"].sum()}

    settings = config()
    settings.embed.num = 20
    source, again = MockSource(settings, simulate), MockSource(settings, simulate)
    table = source.table()
    assert len(source) == 20 and table["mag"].shape == (20, 3)
    rows = np.array([17, 2, 9])
    images = source.read(rows)
    np.testing.assert_allclose(images.sum((1, 2, 3)), table["total"][rows], rtol=1e-4)
    np.testing.assert_array_equal(again.read(rows), images)


def test_unknown_type_and_missing_weights_are_said(tmp_path, monkeypatch):
    settings = config()
    settings.embed.dtype = "float64"
    with pytest.raises(UserError, match="float64"):
        embed(settings, tmp_path, mean_encoder(settings), Source())
    monkeypatch.setattr(encoder, "RELEASED", tmp_path)
    with pytest.raises(UserError, match="train first"):
        embed(config(), tmp_path)


@pytest.mark.parametrize("system", [ssl, lens])
def test_the_released_encoders_embed_and_tell_two_objects_apart(system, tmp_path):
    settings = system.get_config("demo")
    settings.embed.batch_size = 8
    used = make_encoder(settings, tmp_path)
    images = np.random.default_rng(0).normal(0, 0.01, (8, 76, 76, 3)).astype(np.float32)
    images[4:, 30:40, 30:40] += 1.0
    vectors = np.asarray(used.embed(images))
    assert vectors.shape == (8, 128) and np.isfinite(vectors).all()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert (unit[:4] @ unit[4:].T).max() < (unit[4:] @ unit[4:].T).min()


def test_a_converted_encoder_embeds(tmp_path):
    settings = config()
    settings.model.update(dict(name="resnet18", width=4, stem="7x7"))
    settings.moco.projector.update(dict(hidden=32, size=8))
    settings.convert.input = str(tmp_path / "published.npz")
    np.savez(settings.convert.input, **layout("resnet18", 4, "module.encoder_q."))
    convert(settings, tmp_path)
    encoder = make_encoder(settings, tmp_path)
    assert encoder.embed(np.ones((8, 40, 40, 3), np.float32)).shape == (8, 32)
    settings.model.width = 6
    with pytest.raises(UserError, match="another model"):
        convert(settings, tmp_path)


def test_the_hdf5_layout_of_the_paper(tmp_path):
    """Two files; one object has a NaN."""
    import h5py

    images = np.random.default_rng(0).normal(size=(20, 3, 36, 36)).astype(np.float32)
    images[13, 1, 2, 2] = np.nan
    for i in range(2):
        with h5py.File(tmp_path / f"south_{i}.h5", "w") as file:
            rows = slice(10 * i, 10 * i + 10)
            file["images"] = images[rows]
            file["flux"] = np.full((10, 3), [1.0, 5.0, 10.0])
            file["ra"], file["dec"] = np.arange(10.0) + 10 * i, np.zeros(10)
    settings = config()
    settings.embed.update(dict(input=str(tmp_path / "south_*.h5"), dtype="float32"))
    embed(settings, tmp_path / "run", mean_encoder(settings))
    out = store.Embeddings(tmp_path / "run")
    expected = images[:, :, 2:34, 2:34].mean((1, 2, 3))
    good = np.arange(20) != 13
    np.testing.assert_allclose(out.take(np.arange(20))[good, 0], expected[good], atol=1e-5)
    objects = out.objects(["ra", "mag_z", "status", "row"])
    np.testing.assert_allclose(objects["ra"], np.arange(20))
    np.testing.assert_allclose(objects["mag_z"], 20.0)
    assert list(np.flatnonzero(objects["status"] != "ok")) == [13]


def test_a_missing_file_of_a_list_is_a_row_and_a_changed_one_starts_anew(tmp_path, capsys):
    import h5py

    def write(value):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["images"] = np.full((2, 3, 36, 36), value, np.float32)

    write(1.0)
    (tmp_path / "list.txt").write_text("a.h5\ngone.h5\n")
    settings = config()
    settings.embed.input = str(tmp_path / "list.txt")
    embed(settings, tmp_path / "run", mean_encoder(settings))
    status = store.Embeddings(tmp_path / "run").objects(["status"])["status"]
    assert list(status[:2]) == ["ok", "ok"] and len(status) == 3 and status[2] != "ok"
    assert "starting anew" not in capsys.readouterr().err
    write(22.0)
    embed(settings, tmp_path / "run", mean_encoder(settings))
    assert "starting anew" in capsys.readouterr().err
    assert store.Embeddings(tmp_path / "run").take(np.arange(2))[0, 0] == 22.0


def test_a_last_layer_gives_every_object_a_score(tmp_path):
    finder = Probe(np.array([0.1, 0.0], np.float32), np.float32(-2.0))
    embed(config(), tmp_path, mean_encoder(config())._replace(finder=finder), Source(bad=[3]))
    embeddings = store.Embeddings(tmp_path)
    expected = special.expit(0.1 * np.arange(50) - 2.0)
    expected[3] = np.nan
    objects = embeddings.objects()
    np.testing.assert_allclose(objects["score"], expected, rtol=1e-3)
    shown = catalogue.read_scores(tmp_path / "probe", embeddings, objects)["score"]
    np.testing.assert_array_equal(shown, objects["score"])


@pytest.mark.parametrize("bands", ["r", "gr", "griz", "gri"])
def test_images_in_other_bands_are_refused_before_anything_is_computed(tmp_path, bands):
    source = Source()
    source.bands = bands
    with pytest.raises(UserError, match=rf"the images have {len(bands)} bands? \({bands}\): expected 3 \(grz\)"):
        run(tmp_path, source)
    assert source.reads == [] and not (tmp_path / "embeddings").exists()


def test_of_files_that_name_their_bands_the_networks_are_taken(tmp_path):
    for name, bands in (("a.fits", "griz"), ("b.fits", "grz")):
        cube = np.ones((len(bands), 36, 36), np.float32)
        fits.PrimaryHDU(cube, fits.Header({"BANDS": bands})).writeto(tmp_path / name)
    settings = config()
    settings.embed.input = str(tmp_path / "[ab].fits")
    assert embed(settings, tmp_path / "run", mean_encoder(settings)) == {"rows": 2, "embedded": 2}


def test_the_table_is_made_once_and_only_at_the_end(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", images=np.ones((3, 3, 36, 36), np.float32))
    made, table = [], Cutouts.table
    monkeypatch.setattr(Cutouts, "table", lambda self: made.append(1) or table(self))
    settings = config()
    settings.embed.input = str(tmp_path / "a.npz")
    for _ in range(2):
        embed(settings, tmp_path / "run", mean_encoder(settings))
    assert len(made) == 1
