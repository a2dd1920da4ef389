"""Completeness of arcs in images: a finder whose answer is known, cells that add up, a threshold on bare galaxies."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.table import Table

from configs import lens, ssl
from lensjax import modes
from lensjax.core.checkpoint import save_weights
from lensjax.core.errors import UserError
from lensjax.embed import completeness, store
from lensjax.embed.encoder import Encoder
from lensjax.surveys.cutouts import open_cutouts, write_cutouts
from lensjax.tasks import make_task

RNG = np.random.default_rng(6)
COUNT = 12


@pytest.fixture
def survey(tmp_path):
    """Faint round galaxies in noise; one of them unreadable."""
    offset = np.arange(40) - 19.5
    light = 0.2 * np.exp(-0.5 * (offset[:, None] ** 2 + offset[None] ** 2) / 9)
    brightness = RNG.normal(1, 0.05, COUNT)  # whose scatter hides faint arcs from whoever only adds up pixels
    images = brightness[:, None, None, None] * light[None, :, :, None] + RNG.normal(0, 0.004, (COUNT, 40, 40, 3))
    images[3] = np.nan
    path = tmp_path / "survey.h5"
    write_cutouts(path, images.astype(np.float32), {"ra": np.arange(COUNT), "dec": np.zeros(COUNT)})
    return path


def config(survey, system=lens):
    settings = system.get_config("smoke")
    settings.embed.input = str(survey)
    settings.completeness.arcs = 3
    return settings


def test_a_finder_of_bright_images_finds_bright_arcs_and_the_rate_holds(survey, monkeypatch, tmp_path):
    bright = lambda config, workdir: lambda images: np.asarray(images).sum(axis=(1, 2, 3))  # noqa: E731
    monkeypatch.setattr(completeness, "make_scorer", bright)
    settings = config(survey)
    settings.completeness.fpr = 0.1
    arcs = completeness.measure_completeness(settings, tmp_path)
    assert len(arcs["found"]) == 3 * (COUNT - 1) and 3 not in arcs["host"]
    assert len(np.unique(arcs["theta_e"])) > 20  # every arc is another one
    assert 0 < arcs["found"].mean() < 1
    assert arcs["arc_mag"][arcs["found"]].mean() < arcs["arc_mag"][~arcs["found"]].mean()
    bare = np.nansum(open_cutouts(survey, 40).read(np.delete(np.arange(COUNT), 3)), axis=(1, 2, 3))
    cut = Table.read(tmp_path / completeness.NAME, hdu=1).meta["CUT"]
    assert (bare > cut * (1 + 1e-5)).mean() <= 0.1
    for name, axis in completeness.MAPS.items():
        cells = Table.read(tmp_path / completeness.NAME, hdu=name)
        inside = np.ones(len(arcs["found"]), bool)
        for column, edges in (("theta_e", settings.completeness.theta_e), (axis, settings.completeness[axis])):
            inside &= (arcs[column] >= edges[0]) & (arcs[column] <= edges[-1])
        assert cells["injected"].sum() == inside.sum() and cells["found"].sum() == arcs["found"][inside].sum()
        full = cells["injected"] > 0
        assert np.all(cells["lower"][full] <= cells["completeness"][full])
        for column in ("theta_e", axis):
            assert np.all(cells[f"{column}_low"] < cells[f"{column}_high"])


def test_known_lenses_set_no_threshold(survey, monkeypatch, tmp_path):
    source = open_cutouts(survey)
    images, label = source.read(np.arange(COUNT)), np.zeros(COUNT)
    images[5] += 1.0
    label[5] = 1
    write_cutouts(survey, images, {"label": label})
    bright = lambda config, workdir: lambda images: np.asarray(images).sum(axis=(1, 2, 3))  # noqa: E731
    monkeypatch.setattr(completeness, "make_scorer", bright)
    arcs = completeness.measure_completeness(config(survey), tmp_path)
    assert 5 not in arcs["host"] and arcs["found"].any()


def test_inject_with_a_trained_network_writes_the_map(survey, tmp_path, capsys):
    settings = config(survey)
    params, state, _ = jax.jit(make_task(settings).init)(jax.random.key(0))
    params["head"]["kernel"] = params["head"]["kernel"] + 1.0
    save_weights(tmp_path, params, state, settings)
    modes.run("inject", settings.lock(), tmp_path)
    said = "of 33 arcs around 11 galaxies found, where 0 of the galaxies alone are taken for lenses"  # 1 % of 11
    assert said in capsys.readouterr().out
    assert (tmp_path / "completeness.png").stat().st_size > 0


def test_without_a_probe_there_is_no_finder(survey, tmp_path):
    settings = config(survey, ssl)
    assert not completeness.has_finder(settings, tmp_path)
    with pytest.raises(UserError, match="run --mode=probe"):
        completeness.measure_completeness(settings, tmp_path)


def test_a_probe_of_other_embeddings_is_no_finder(tmp_path, monkeypatch):
    encoder = Encoder(lambda image: jnp.asarray(image).mean((1, 2)), "w", None)
    monkeypatch.setattr(completeness, "make_encoder", lambda config, workdir: encoder)
    chunks = store.Chunks(tmp_path / store.FOLDER, 4, 4, "new")
    chunks.write(0, np.zeros((4, 2), np.float32))
    chunks.finish({"row": np.arange(4)}, {"weights": "w"})
    (tmp_path / "probe").mkdir()
    np.savez(tmp_path / "probe/classifiers.npz", weight=np.zeros((1, 3)), bias=np.zeros(1))
    (tmp_path / "probe/probe.json").write_text(json.dumps({"fingerprint": "old"}))
    with pytest.raises(UserError, match="run --mode=embed and --mode=probe again"):
        completeness.make_scorer(ssl.get_config("smoke"), tmp_path)
    (tmp_path / "probe/probe.json").write_text(json.dumps({"fingerprint": "new"}))
    score = completeness.make_scorer(ssl.get_config("smoke"), tmp_path)
    assert score(np.ones((2, 4, 4, 3))).tolist() == [0.5, 0.5]
