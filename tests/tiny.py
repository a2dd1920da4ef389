"""A system small enough to train in milliseconds: least squares on a hidden line, and its config."""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict

from configs import common
from lensjax.core.task import Task

PIXELS = 8


def tiny_config(**train):
    config = common.smoke(_with_data(common.common()))
    config.system = "tiny"
    config.data.num_test = 20  # not a multiple of the batch
    config.data.source = "simulate"
    config.train.update({"steps": 12, "batch_size": 8, "log_every": 3, "eval_every": 6, "checkpoint_every": 4, **train})
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.05
    return config


def _with_data(config):
    config.data = config_dict.ConfigDict({"num_train": 64, "num_test": 20})
    return config


def simulate(key):
    """One example: a flux, and a label that is the sign of its mean."""
    flux = jax.random.normal(key, (PIXELS,))
    return {"flux": flux, "label": (flux.mean() > 0).astype(jnp.float32), "continuum": jnp.zeros(PIXELS)}


def tiny_task() -> Task:
    """Logistic regression with a noisy input (so that keys matter) and a running mean (so that state does)."""

    def init(key):
        params = {"w": 0.1 * jax.random.normal(key, (PIXELS, 1)), "b": jnp.zeros(1)}
        return params, {"mean": jnp.zeros(())}, {}

    def logits(params, flux):
        return (flux @ params["w"])[:, 0] + params["b"][0]

    def loss(params, state, batch, key):
        flux = batch["flux"] + 0.1 * jax.random.normal(key, batch["flux"].shape)
        value = _cross_entropy(logits(params, flux), batch["label"])
        running = {"mean": 0.9 * state.model_state["mean"] + 0.1 * flux.mean()}
        return value, (running, state.extra, {"level": flux.mean()})

    def predict(params, model_state, batch):
        logit = logits(params, batch["flux"] - 0.0 * model_state["mean"])
        return {"logit": logit, "score": jax.nn.sigmoid(logit), "wide": batch["flux"]}

    return Task(init, loss, predict)


def _cross_entropy(logit, label):
    return jnp.mean(jax.nn.softplus(logit) - label * logit)


def tiny_metrics(predicted, truth):
    """Accuracy and cross entropy."""
    score, label = np.clip(predicted["score"], 1e-7, 1 - 1e-7), truth["label"]
    loss = -np.mean(label * np.log(score) + (1 - label) * np.log(1 - score))
    return {"accuracy": np.mean((score > 0.5) == label), "loss": loss}
