"""Ensembles and temperatures: several networks as one scorer."""

import jax.numpy as jnp
import numpy as np
import pytest

from configs import lya, mgii
from lensjax.core import checkpoint
from lensjax.core.errors import UserError
from lensjax.search import restore


def member(params, model_state, batch):
    """A network that says its parameter, and looks at one wavelength."""
    logit = params["logit"] * jnp.ones_like(batch["z"])
    return {"logit": logit, "score": logit, "wave": model_state["wave"] + 0 * batch["z"], params["name"]: logit}


def as_member(logit, wave, window=(3800.0, 5000.0)):
    config = lya.get_config()
    config.data.window = window

    def predict(params, model_state, batch):
        return member({**params, "name": f"own_{logit}"}, model_state, batch)

    return restore.Member(config, predict, {"logit": jnp.float32(logit)}, {"wave": jnp.float32(wave)})


def load(monkeypatch, *members):
    """Make `network` find these members, in order."""
    stack = list(members)
    monkeypatch.setattr(checkpoint, "has_weights", lambda folder: True)
    monkeypatch.setattr(restore, "load_member", lambda config, workdir: stack.pop(0))


def test_settings_that_older_weights_lack_are_the_configs(tmp_path):
    old = lya.get_config()
    del old.sim.dirt
    old.sim.snr_range = (5.0, 6.0)
    checkpoint.save_weights(tmp_path / "weights.npz", {"a": np.zeros(1)}, {}, old)
    merged, _, _ = restore.restore(lya.get_config().lock(), tmp_path)
    assert merged.sim.dirt == lya.get_config().sim.dirt and tuple(merged.sim.snr_range) == (5.0, 6.0)


def test_weights_of_another_system_are_refused(tmp_path):
    checkpoint.save_weights(tmp_path / "weights.npz", {"a": np.zeros(1)}, {}, mgii.get_config())
    with pytest.raises(UserError, match="weights of the system 'mgii', and the config is of 'lya'"):
        restore.restore(lya.get_config().lock(), tmp_path)


def test_logits_are_averaged_and_the_surest_says_where(monkeypatch, tmp_path):
    load(monkeypatch, as_member(1.0, 4000.0), as_member(4.0, 4500.0))
    config = lya.get_config()
    config.search.update({"ensemble": (str(tmp_path),), "temperature": 0.5})
    scorer = restore.network(config, tmp_path)
    out = scorer.predict({"z": np.zeros(4, np.float32)})
    np.testing.assert_allclose(out["logit"], 2.5 / 0.5)
    np.testing.assert_allclose(out["score"], 1 / (1 + np.exp(-5.0)), rtol=1e-6)
    np.testing.assert_allclose(out["wave"], 4500.0)
    assert set(out) == {"logit", "score", "wave"}  # what not all of them say is no answer of the ensemble


def test_the_logits_of_several_lines_follow_that_of_the_spectrum(monkeypatch, tmp_path):
    def with_lines(logit, wave):
        plain = as_member(logit, wave)

        def predict(params, model_state, batch):
            out = plain.predict(params, model_state, batch)
            return {**out, "logits": out["logit"][:, None] - jnp.arange(2.0)[None]}

        return plain._replace(predict=predict)

    load(monkeypatch, with_lines(1.0, 4000.0), with_lines(4.0, 4500.0))
    config = lya.get_config()
    config.search.update({"ensemble": (str(tmp_path),), "temperature": 2.0})
    out = restore.network(config, tmp_path).predict({"z": np.zeros(4, np.float32)})
    np.testing.assert_allclose(out["logits"], np.tile([1.25, 0.75], (4, 1)))  # mean 2.5, halved; one less, halved


def test_one_network_without_temperature_is_itself_and_a_temperature_is_another_scorer(monkeypatch, tmp_path):
    config, scorers = lya.get_config(), []
    for temperature in (0.0, 0.7):
        load(monkeypatch, as_member(2.0, 4000.0))
        config.search.temperature = temperature
        scorers.append(restore.network(config, tmp_path))
    np.testing.assert_allclose(scorers[0].predict({"z": np.zeros(4, np.float32)})["logit"], 2.0)
    assert scorers[0].identity != scorers[1].identity


def test_members_that_are_not_there_or_look_elsewhere_are_one_sentence(monkeypatch, tmp_path):
    config = lya.get_config()
    config.search.ensemble = (str(tmp_path / "nowhere"),)
    with pytest.raises(UserError, match=r"no weights.npz is: give workdirs"):
        restore.network(config, tmp_path)
    load(monkeypatch, as_member(1.0, 4000.0), as_member(1.0, 4000.0, window=(3600.0, 9800.0)))
    config.search.ensemble = (str(tmp_path),)
    with pytest.raises(UserError, match="an ensemble needs one window"):
        restore.network(config, tmp_path)


def test_weights_of_a_workdir_come_before_those_of_the_variant_and_of_the_system(monkeypatch, tmp_path):
    monkeypatch.setattr(restore, "RELEASED", tmp_path)
    for name in ("lya", "lya_redshift", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / checkpoint.WEIGHTS_NAME).touch()
    for variant, workdir, expected in (
        ("default", "elsewhere", "lya"),
        ("redshift", "elsewhere", "lya_redshift"),
        ("demo", "elsewhere", "lya"),
        ("redshift", "mine", "mine"),
    ):
        assert restore.find_weights(lya.get_config(variant), tmp_path / workdir).name == expected


def test_continua_that_moved_are_asked_for(tmp_path):
    here, gone = tmp_path / "continua.npz", str(tmp_path / "gone.npz")
    here.touch()
    assert restore.find_continua("passive", "passive", tmp_path) == "passive"
    assert restore.find_continua(str(here), "passive", tmp_path) == str(here)
    assert restore.find_continua(gone, str(here), tmp_path) == str(here)
    with pytest.raises(UserError, match=r"gone\.npz.* give its place as --config\.sim\.continuum=FILE"):
        restore.find_continua(gone, "passive", tmp_path)
