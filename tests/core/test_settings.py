"""Configs of weights: what of the model may differ from the user's own, and what is published."""

import pathlib

import numpy as np
import pytest

from configs import lens, lya
from lensjax.core import settings
from lensjax.core.errors import UserError


@pytest.mark.parametrize("key", ["finetune.encoder", "train.start", "train.best_metric", "optim.encoder_factor"])
def test_what_a_run_began_with_stays(key, tmp_path):
    config = lens.get_config("smoke")
    settings.claim_workdir(tmp_path, config)
    block, name = key.split(".")
    config[block][name] = 0.5 if name == "encoder_factor" else "elsewhere"
    with pytest.raises(UserError, match=f"has config.{key} = "):
        settings.claim_workdir(tmp_path, config)


def test_a_workdir_of_another_system_says_so(tmp_path):
    settings.claim_workdir(tmp_path, lens.get_config("smoke"))
    with pytest.raises(UserError, match=r"holds a run of the system 'lens', and the config is of 'lya'"):
        settings.claim_workdir(tmp_path, lya.get_config("smoke"))


def test_a_model_that_reads_its_input_otherwise_is_another():
    trained, mine = lya.get_config().model, lya.get_config().model
    mine.update({"chunk": 1, "dropout": 0.9})
    settings.check_same_model(trained, mine, "here")
    del trained["templates"]  # as of older weights
    settings.check_same_model(trained, mine, "here")
    mine.channels = mine.channels[::-1]
    with pytest.raises(UserError, match=r"here has config\.model\.channels = "):
        settings.check_same_model(trained, mine, "here")


@pytest.mark.parametrize(("name", "value"), [("pointwise", "dot"), ("conv", ("1d", "gemm"))])
def test_a_run_goes_on_that_began_when_there_was_another_setting_of_the_model(name, value):
    before = lya.get_config()
    with before.unlocked():
        before.model[name] = value
    assert settings.first_difference(before, lya.get_config()) is None
    before.model.widths = (1, 1)
    assert settings.first_difference(before, lya.get_config())[0] == "model.widths"


def test_a_run_goes_on_that_began_before_there_were_twins_and_teachers():
    before, now = lya.get_config(), lya.get_config()
    with before.unlocked():
        del before.data.twins, before.model.guided
        del before.loss.focal_weight, before.loss.teach_weight, before.loss.soft_weight
        del before.loss.prior, before.loss.law
    assert settings.first_difference(before, now) is None
    now.data.twins = True
    assert settings.first_difference(before, now) == ("data.twins", False, True)


def test_what_is_published_tells_no_folders_but_that_of_the_continua():
    config = lya.get_config()
    config.train.start, config.data.dir, config.sim.continuum = "/home/me/runs/one", "sets", "/home/me/continua.npz"
    public = settings.without_folders(config)
    assert (public.train.start, public.data.dir, public.sim.continuum) == ("one", "sets", "/home/me/continua.npz")
    assert settings.first_difference(config, public)[0] == "train.start"
    public = settings.without_folders(lya.get_config())
    assert public.to_dict() == lya.get_config().to_dict()


@pytest.mark.parametrize("path", sorted((pathlib.Path(__file__).parents[2] / "weights").glob("*/weights.npz")))
def test_released_weights_tell_no_folders(path):
    stored = settings.from_json(str(np.load(path)["config"]))
    assert settings.without_folders(stored).to_dict() == stored.to_dict()
