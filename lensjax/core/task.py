"""What a system is to the training loop: three pure functions, and the one step that serves them all."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


@struct.dataclass
class State:
    """Everything that changes while training; arrays only, so that it is saved, sharded and donated whole.

    step: () int32, optimiser steps done. params: trainable arrays. model_state: running statistics (BatchNorm).
    opt_state: of the optax transformation. extra: {} or what a task carries along (a key encoder, a queue).
    """

    step: jax.Array
    params: Any
    model_state: Any
    opt_state: Any
    extra: Any


class Task(NamedTuple):
    """A system, as pure functions; `warm` alone may read files.

    init(key) -> (params, model_state, extra)
    loss(params, state, batch, key) -> (scalar loss, (model_state, extra, metrics)), in training mode
    predict(params, model_state, batch) -> dict of arrays with leading axis N, in inference mode
    split: entries of extra whose rows the devices share, instead of each holding them all
    warm(params, model_state) -> (params, model_state) that a new run begins with, instead of those of init; or None
    """

    init: Callable[[jax.Array], tuple[Any, Any, Any]]
    loss: Callable[[Any, State, Batch, jax.Array], tuple[jax.Array, tuple[Any, Any, Metrics]]]
    predict: Callable[[Any, Any, Batch], dict[str, jax.Array]]
    split: tuple[str, ...] = ()
    warm: Callable[[Any, Any], tuple[Any, Any]] | None = None


def init_state(task: Task, tx: optax.GradientTransformation, key: jax.Array) -> State:
    """The state before the first step."""
    params, model_state, extra = task.init(key)
    return State(jnp.zeros((), jnp.int32), params, model_state, tx.init(params), extra)


def begin(task: Task, state: State) -> State:
    """The state of a new run: that of `init_state`, on any devices, with the weights of `task.warm` in their place."""
    if task.warm is None:
        return state
    old = state.params, state.model_state

    def put(new: Any, x: jax.Array) -> jax.Array:
        return jax.device_put(np.asarray(new, x.dtype), x.sharding)  # in whatever precision weights were kept

    params, model_state = jax.tree.map(put, task.warm(*old), old)
    return dataclasses.replace(state, params=params, model_state=model_state)


def make_train_step(
    task: Task, tx: optax.GradientTransformation
) -> Callable[[State, Batch, jax.Array], tuple[State, Metrics]]:
    """One optimiser step of any task.

    The step's randomness is fold_in(key, state.step): no key lives in the state, so a resumed run draws what an
    uninterrupted one would. The metrics are the task's own and `loss` and `grad_norm` (before clipping), scalars.
    """

    def train_step(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
        key = jax.random.fold_in(key, state.step)
        gradient = jax.value_and_grad(lambda params: task.loss(params, state, batch, key), has_aux=True)
        (loss, (model_state, extra, metrics)), grads = gradient(state.params)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {**metrics, "loss": loss, "grad_norm": optax.tree.norm(grads)}
        return State(state.step + 1, params, model_state, opt_state, extra), metrics

    return train_step
