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


def simulate_blob(key, size=40):
    """One cutout: a round or (label 1) ring-like source of random size, in noise."""
    keys = jax.random.split(key, 3)
    label = jax.random.bernoulli(keys[0]).astype(jnp.float32)
    width = 2.0 + 2.0 * jax.random.uniform(keys[1])
    offset = jnp.arange(size) - (size - 1) / 2
    radius = jnp.hypot(offset[:, None], offset[None])
    light = jnp.exp(-0.5 * ((radius - 6.0 * label) / width) ** 2)
    noise = jnp.array([0.003, 0.004, 0.012])
    grain = jax.random.normal(keys[2], (size, size, 3))
    image = light[..., None] * jnp.array([[[0.1, 0.2, 0.4]]]) + noise[None, None] * grain
    mag = 20.0 + jnp.log10(width) * jnp.ones(3)
    return dict(image=image, psfsize=jnp.full(3, 1.4), noise=noise, ebv=jnp.float32(0.03), mag=mag, label=label)
