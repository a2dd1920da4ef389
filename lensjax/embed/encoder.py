"""From a config and a workdir to a function that embeds batches of cutouts; published encoders made ours."""

import hashlib
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import config_dict

from lensjax.core import checkpoint, settings, sharding
from lensjax.core.errors import UserError
from lensjax.core.task import Task
from lensjax.embed.linear import Probe
from lensjax.models import torchvision
from lensjax.tasks import make_task

RELEASED = pathlib.Path(__file__).parents[2] / "weights"
OF_THE_WEIGHTS = ("system", "model", "augment", "moco")  # parts of the config that weights bring along


class Encoder(NamedTuple):
    """embed(image (N, H, H, B) nanomaggies) -> (N, D) float32, on the device.

    identity: changes with the weights, how images are read, and the precision.
    config: the user's, with the parts that the weights bring along. finder: the last layer of the system "lens", which
    tells lenses by these embeddings; None for other systems.
    """

    embed: Callable[[np.ndarray], jax.Array]
    identity: str
    config: Any
    finder: Probe | None = None


def make_encoder(config: Any, workdir: str | pathlib.Path, output: str = "embedding") -> Encoder:
    """The encoder trained in workdir, else the released one of config.system.

    output: which of the predictions `embed` returns. UserError where there are no weights, or of another system or
    model. Every process works on its own devices, so that hosts need not wait for each other.
    """
    path = find_weights(config, workdir)
    stored, params, model_state = checkpoint.restore_for_inference(path)
    if stored.system != config.system:
        raise UserError(
            f"{path} holds weights of {stored.system!r}, and --config is of {config.system!r}: give its config."
        )
    print(f"weights: {path}", file=sys.stderr)
    config = with_weights(config, stored)
    task = make_task(config)
    expected = jax.eval_shape(task.init, jax.random.key(0))[:2]
    checkpoint.check_same((params, model_state), expected, str(path))
    arrays = checkpoint.digest({"params": params, "model_state": model_state})
    reading = {"stretch": config.model.stretch.to_dict(), "size": config.augment.size, "dtype": config.model.dtype}
    identity = hashlib.sha256(f"{arrays}{settings.to_json(reading)}".encode()).hexdigest()
    head = params.get("head")
    finder = head and Probe(np.asarray(head["kernel"])[:, 0], np.asarray(head["bias"])[0])
    return Encoder(compile_encoder(config, task, params, model_state, output), identity, config, finder)


def compile_encoder(
    config: Any, task: Task, params: Any, model_state: Any, output: str = "embedding"
) -> Callable[[np.ndarray], jax.Array]:
    """embed(image) of these weights, over the devices of this process; output: the prediction that it returns."""
    mesh = sharding.make_mesh(jax.local_devices())
    sharding.check_batch_size(mesh, config.embed.batch_size, "embed.batch_size")
    params, model_state = jax.device_put((params, model_state), sharding.replicated(mesh))
    compiled = sharding.compile_predict(task.predict, mesh)

    def embed(image: np.ndarray) -> jax.Array:
        return compiled(params, model_state, sharding.shard_batch(mesh, {"image": image}))[output]

    return embed


def find_weights(config: Any, workdir: str | pathlib.Path) -> pathlib.Path:
    """The workdir where it has checkpoints or converted weights, else the folder of the released ones.

    UserError where neither is.
    """
    released = RELEASED / config.system
    for folder in (pathlib.Path(workdir), released):
        if checkpoint.has_weights(folder):
            return folder
    raise UserError(
        f"no weights in {workdir} and no released ones in {released}: train first (--mode=train with the same "
        "--workdir), or convert a published encoder (--mode=convert)."
    )


def with_weights(config: Any, stored: Any) -> Any:
    """The user's config with the model that the weights are of; how it runs on this machine stays the user's."""
    merged: Any = config_dict.ConfigDict(config.to_dict())
    with merged.unlocked():
        for name in OF_THE_WEIGHTS:
            if name in stored:
                merged[name] = stored[name]
        merged.model = settings.of_the_machine(merged.model, config.model)
    return merged.lock()


def convert(config: Any, workdir: str | pathlib.Path) -> pathlib.Path:
    """Write workdir/weights.npz from the PyTorch checkpoint config.convert.input of a network as config.model says.

    Give the input that it was trained with as config.model.stretch. Raises UserError for a checkpoint of another
    network, and for a stem that torchvision's do not have.
    """
    if config.model.stem != "7x7":
        raise UserError(f"config.model.stem is {config.model.stem!r}: torchvision's networks have '7x7'.")
    state = torchvision.read_state(config.convert.input)
    encoder, stats = torchvision.convert_encoder(state, config.model.name)
    params, model_state, _ = jax.eval_shape(make_task(config).init, jax.random.key(0))
    head = torchvision.convert_projector(state)
    if head is None:  # the contrastive head plays no part in embeddings
        head = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), params["projector"])
    weights = {"encoder": encoder, "projector": head}, {"batch_stats": stats}
    checkpoint.check_same(weights, (params, model_state), config.convert.input)
    return checkpoint.save_weights(workdir, *weights, config)
