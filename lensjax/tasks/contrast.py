"""The task "which view is of the same object?": MoCo v2 (He et al. 2020, Chen et al. 2020; Stein et al. 2022, 3.1).

Two views of each cutout go through two encoders. The query encoder is trained; the key encoder follows it as a moving
average, and its outputs stay in a queue of negatives. `State.extra` holds key encoder and queue, so that a checkpoint
does. BatchNorm sees groups of a fixed size, whatever the number of devices, and the keys are shuffled before they are
grouped: the statistics of a group would otherwise tell which key belongs to a query.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lensjax.core import sharding
from lensjax.core.chunks import map_chunks, on_cpu
from lensjax.core.errors import UserError
from lensjax.core.task import Metrics, State, Task
from lensjax.data.augment import centre, make_augment
from lensjax.models import init_variables, make_model, make_projector
from lensjax.tasks.stretch import channels, make_stretch

OBSERVED = ("image", "psfsize", "noise", "ebv")  # all that a survey gives
UNFILLED = -1e9  # logit of a key that is not compared: finite, so that a loss without any others has a gradient
TINY = 1e-12  # keeps the direction of a zero vector finite


def make_task(config: Any, encoder: Any = None) -> Task:
    """The Task of config.model, config.augment and config.moco.

    Batches hold image (N, H, H, B) nanomaggies, psfsize (N, B) arcsec, noise (N, B) nanomaggies, ebv (N,). predict
    returns the query encoder's embedding (N, D) of the central pixels. encoder: stands in for that of config.model, and
    like it takes train and groups. Raises UserError for a queue that is no whole number of batches, and for a batch
    that is no whole number of groups.
    """
    moco, rows = config.moco, config.train.batch_size
    _check_sizes(rows, moco.queue, moco.bn_groups)
    encoder, projector = encoder or make_model(config.model), make_projector(moco.projector)
    augment, stretch = make_augment(config.augment), make_stretch(config.model.stretch)
    size, planes = config.augment.size, channels(config.model.stretch, len(config.augment.noise))

    def init(key: jax.Array) -> tuple[Any, Any, Any]:
        keys = jax.random.split(key, 3)
        variables = init_variables(encoder, keys[0], jnp.zeros((1, size, size, planes)))
        features = jax.eval_shape(encoder.apply, variables, jnp.zeros((1, size, size, planes)))
        head = init_variables(projector, keys[1], jnp.zeros(features.shape))
        params = {"encoder": variables.pop("params"), "projector": head["params"]}
        queue = unit(jax.random.normal(keys[2], (rows, moco.queue // rows, moco.projector.size)))
        return params, variables, {"key_params": jax.tree.map(jnp.copy, params), "queue": queue}

    def of_groups(groups: int, weights: tuple[Any, Any], images: jax.Array) -> tuple[tuple[jax.Array, jax.Array], Any]:
        """(Features (N, D), unit projections (N, P)) and moved statistics of views (N, S, S, B)."""
        params, model_state = weights
        variables, how = {"params": params["encoder"], **model_state}, {"train": True, "groups": groups}
        features, moved = encoder.apply(variables, stretch(images), **how, mutable=list(model_state))
        head = functools.partial(projector.apply, {"params": params["projector"]})
        projections: Any = jax.vmap(head)(features.reshape(groups, -1, features.shape[1]))
        return (features, unit(projections.reshape(len(features), -1))), moved

    def project(*args: Any) -> tuple[tuple[jax.Array, jax.Array], Any]:
        """of_groups of (params, model_state) and all views, each device with groups of its own where it can."""
        devices = sharding.sharing()
        if moco.bn_groups % devices:
            return of_groups(moco.bn_groups, *args)
        return sharding.on_each_device(functools.partial(of_groups, moco.bn_groups // devices), *args)

    def loss(params: Any, state: State, batch: dict[str, jax.Array], key: jax.Array):
        query_key, key_key, shuffle_key = (jax.random.fold_in(key, i) for i in range(3))
        queries, keys = (make_views(augment, batch, k) for k in (query_key, key_key))
        (features, query), model_state = project((params, state.model_state), queries)
        momentum = jnp.where(state.step == 0, 0.0, moco.momentum)  # a run may begin with given weights
        key_params = follow(params, state.extra["key_params"], momentum)
        shuffled = shuffle(shuffle_key, keys)
        positive = unshuffle(shuffle_key, project((key_params, state.model_state), shuffled)[0][1])
        positive = jax.lax.stop_gradient(positive)
        queue = state.extra["queue"]
        value, accuracy = info_nce(query, positive, queue, moco.temperature, state.step)
        extra = {"key_params": key_params, "queue": enqueue(queue, positive, state.step)}
        return value, (model_state, extra, {"accuracy": accuracy, **spread(features, query, positive)})

    def predict_chunk(params: Any, model_state: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        images = stretch(jax.vmap(lambda image: centre(image, size))(batch["image"]))
        return {"embedding": encoder.apply({"params": params["encoder"], **model_state}, images)}

    def predict(params: Any, model_state: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        run = functools.partial(predict_chunk, params, model_state)
        return map_chunks(run, {"image": batch["image"]}, on_cpu(config.model.chunk))

    return Task(init, loss, predict, split=("queue",))


def _check_sizes(batch: int, queue: int, groups: int) -> None:
    if queue % batch:
        raise UserError(
            f"config.moco.queue is {queue}, which is no multiple of config.train.batch_size, {batch}: "
            f"take {max(round(queue / batch), 1) * batch}."
        )
    if batch % groups or batch == groups:
        raise UserError(
            f"config.moco.bn_groups is {groups}, and config.train.batch_size {batch}: expected groups of two or more "
            "of the same size."
        )


def make_views(augment: Any, batch: dict[str, jax.Array], key: jax.Array) -> jax.Array:
    """A view of every example of a batch: (N, S, S, B)."""
    observed = {name: batch[name] for name in OBSERVED}
    return jax.vmap(augment)(jax.random.split(key, len(batch["image"])), observed)


def shuffle(key: jax.Array, x: jax.Array) -> jax.Array:
    """The rows of x in the random order of `key`."""
    return x[jax.random.permutation(key, len(x))]


def unshuffle(key: jax.Array, x: jax.Array) -> jax.Array:
    """Undoes `shuffle` with the same key."""
    return x[jnp.argsort(jax.random.permutation(key, len(x)))]


def follow(params: Any, key_params: Any, momentum: jax.Array | float) -> Any:
    """The key encoder's next parameters: `momentum` of its own, the rest of the query encoder's (He+ 2020, eq. 2)."""
    return jax.lax.stop_gradient(optax.incremental_update(params, key_params, 1 - momentum))


def info_nce(
    query: jax.Array, positive: jax.Array, queue: jax.Array, temperature: float, filled: jax.Array | int
) -> tuple[jax.Array, jax.Array]:
    """(mean loss, accuracy) of finding the positive among the K keys of the queue (He et al. 2020, eq. 1).

    query, positive (N, P) and queue (R, K / R, P) have unit vectors. Only the first `filled` steps of the queue, its
    second axis, are compared: what it starts with is told from any view by moving all of them together, which is how
    encoders collapse in the first steps. The loss is log(K + 1) where nothing tells the positive from K others.

    The devices share the rows of the queue: each compares all queries with its own keys, and two numbers a query, the
    largest and the sum, are all that they tell each other.
    """
    same = jnp.sum(query * positive, axis=1) / temperature
    others = jnp.einsum("np,rkp->nrk", query, queue) / temperature
    others = jnp.where(jnp.arange(queue.shape[1])[None, None] < filled, others, UNFILLED)
    value = jnp.logaddexp(same, jax.nn.logsumexp(others, axis=(1, 2))) - same
    return value.mean(), jnp.mean(same > others.max(axis=(1, 2)))


def enqueue(queue: jax.Array, keys: jax.Array, step: jax.Array) -> jax.Array:
    """The queue (N, K / N, P) with its oldest keys replaced by keys (N, P), those of optimiser step `step`.

    A row keeps the keys of its row of the batch, so that devices which share the rows of both pass nothing on.
    """
    return jax.lax.dynamic_update_index_in_dim(queue, keys, step % queue.shape[1], axis=1)


def unit(x: jax.Array) -> jax.Array:
    """Rows (N, P) of length one."""
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + TINY)


def likeness(features: jax.Array, label: jax.Array, temperature: float) -> jax.Array:
    """How badly the other lenses of a batch stand out among the rows most similar to a lens; 0 without two lenses.

    The supervised contrastive loss (Khosla et al. 2020, eq. 2) with positives as the only anchors, whose rivals are all
    other rows: InfoNCE with every other lens as a positive; what is no lens need not be like anything. features (N, D),
    of any length; label (N,) 0 or 1. Log(N - 1) where all rows are alike.
    """
    directions = unit(features)
    own = jnp.eye(len(label), dtype=bool)
    logits = jnp.where(own, -1e9, directions @ directions.T / temperature)
    mates = jnp.where(own, 0.0, label[None] * label[:, None])
    entropy = optax.losses.softmax_cross_entropy(logits, mates / jnp.maximum(mates.sum(1, keepdims=True), 1.0))
    anchors = mates.sum(1) > 0
    return jnp.sum(jnp.where(anchors, entropy, 0.0)) / jnp.maximum(jnp.sum(anchors), 1)


def spread(features: jax.Array, query: jax.Array, positive: jax.Array) -> Metrics:
    """Whether the features (N, D) collapse, and how the unit projections (N, P) of the two views lie.

    alignment: mean squared distance of the two views. uniformity: log mean exp(-2 d^2) over pairs of different
    objects, about -4 where they fill the sphere and 0 where they collapse (both Wang & Isola 2020, eq. 5, 6).
    rank: (sum l)^2 / sum l^2 of the eigenvalues l of the unit features' covariance, the number of dimensions in use.
    std: standard deviation of the unit features times sqrt(D), 1 if they fill the sphere (Chen & He 2021).
    """
    square = 2 - 2 * query @ query.T
    count = len(query)
    pairs = (jnp.exp(-2 * square).sum() - count) / (count * (count - 1))
    directions = unit(features)
    centred = directions - directions.mean(axis=0, keepdims=True)
    gram = centred @ centred.T
    return {
        "alignment": jnp.mean(jnp.sum(jnp.square(query - positive), axis=1)),
        "uniformity": jnp.log(jnp.maximum(pairs, TINY)),
        "rank": jnp.square(jnp.trace(gram)) / (jnp.sum(jnp.square(gram)) + TINY),
        "std": jnp.mean(jnp.std(directions, axis=0)) * math.sqrt(features.shape[1]),
    }
