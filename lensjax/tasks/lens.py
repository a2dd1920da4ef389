"""The task "is it a lens?": an encoder and one linear layer, of which the encoder may come from the ssl system.

Fine-tuning of Stein et al. (2022), section 3.4: all weights move, those of the encoder more slowly
(config.optim.encoder_factor), and training batches are views (data/augment.py).
"""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from lensjax.core import checkpoint, settings
from lensjax.core.chunks import map_chunks, on_cpu
from lensjax.core.task import State, Task
from lensjax.data.augment import centre, make_augment
from lensjax.models import init_variables, make_model
from lensjax.tasks import losses
from lensjax.tasks.contrast import likeness, make_views
from lensjax.tasks.stretch import channels, make_stretch

ROOT = pathlib.Path(__file__).parents[2]


def make_task(config: Any) -> Task:
    """The Task of config.model, config.augment, config.finetune and config.loss.

    Batches hold image (N, H, H, B) nanomaggies, psfsize (N, B) arcsec, noise (N, B) nanomaggies, ebv (N,), and to train
    label (N,) 1 lens. predict returns embedding (N, D), logit and score (N,), the logit's probability, of the central
    pixels. The weights of config.finetune.encoder are read where a run begins, by `warm`: UserError where they are of
    another network or another input than config.model.
    """
    encoder, augment, stretch = (
        make_model(config.model),
        make_augment(config.augment),
        make_stretch(config.model.stretch),
    )
    size, planes = config.augment.size, channels(config.model.stretch, len(config.augment.noise))

    def init(key: jax.Array) -> tuple[Any, Any, Any]:
        blank = jnp.zeros((1, size, size, planes))
        variables = init_variables(encoder, key, blank)
        features = jax.eval_shape(encoder.apply, variables, blank)
        head = {"kernel": jnp.zeros((features.shape[1], 1)), "bias": jnp.zeros(1)}
        return {"encoder": variables.pop("params"), "head": head}, variables, {}

    def warm(params: Any, model_state: Any) -> tuple[Any, Any]:
        given, statistics = read_encoder(config, ({"encoder": params["encoder"]}, model_state))
        return {**params, **given}, statistics

    def loss(params: Any, state: State, batch: dict[str, jax.Array], key: jax.Array):
        images, label = stretch(make_views(augment, batch, key)), batch["label"].astype(jnp.float32)
        variables = {"params": params["encoder"], **state.model_state}
        features, moved = encoder.apply(variables, images, train=True, mutable=list(state.model_state))
        logit = classify(params["head"], features)
        value = losses.focal(logit, label, config.loss.gamma)
        metrics = {"focal": value, "accuracy": jnp.mean((logit > 0) == (label > 0.5))}
        if config.loss.likeness_weight:
            value += config.loss.likeness_weight * likeness(features, label, config.loss.temperature)
        return value, (moved, {}, metrics)

    def predict_chunk(params: Any, model_state: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        images = stretch(jax.vmap(lambda image: centre(image, size))(batch["image"]))
        features: Any = encoder.apply({"params": params["encoder"], **model_state}, images)
        logit = classify(params["head"], features)
        return {"embedding": features, "logit": logit, "score": jax.nn.sigmoid(logit)}

    def predict(params: Any, model_state: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        run = functools.partial(predict_chunk, params, model_state)
        return map_chunks(run, {"image": batch["image"]}, on_cpu(config.model.chunk))

    return Task(init, loss, predict, warm=warm if config.finetune.encoder else None)


def classify(head: Any, features: jax.Array) -> jax.Array:
    """Logits (N,) of features (N, D)."""
    return (features @ head["kernel"])[:, 0] + head["bias"][0]


def read_encoder(config: Any, like: tuple[Any, Any]) -> tuple[Any, Any]:
    """({"encoder": params}, running statistics) of the folder config.finetune.encoder, else that of the repository.

    like: the same of random weights. UserError where the weights are not of `like`, or config.model reads fluxes
    otherwise than the network was trained to.
    """
    path = pathlib.Path(config.finetune.encoder)
    path = path if path.exists() or path.is_absolute() else ROOT / path
    stored, params, model_state = checkpoint.restore_for_inference(path)
    settings.check_same_model(stored.model, config.model, str(path))
    weights = {"encoder": params["encoder"]}, model_state
    checkpoint.check_same(weights, like, str(path))
    return weights
