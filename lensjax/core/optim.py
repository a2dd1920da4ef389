"""Optimisers and the one-cycle schedule, from config.optim."""

from typing import Any

import jax
import optax

from lensjax.core.errors import UserError


def one_cycle(peak: float, warmup_steps: int, steps: int) -> optax.Schedule:
    """Learning rate: linear from peak/25 over the warm-up, then a half cosine to zero (Smith & Topin 2017)."""
    warmup = min(warmup_steps, max(steps - 1, 0))
    return optax.warmup_cosine_decay_schedule(peak / 25, peak, warmup, max(steps, warmup + 1))


def decay_mask(params: Any) -> Any:
    """True where weight decay acts: kernels. Biases and normalisation scales are vectors and are left alone."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def encoder_mask(params: Any) -> Any:
    """True for everything in params["encoder"], a dict's entry."""
    return {name: jax.tree.map(lambda _, mine=name == "encoder": mine, part) for name, part in params.items()}


def _adamw(optim: Any, rate: optax.Schedule) -> optax.GradientTransformation:
    return optax.adamw(rate, weight_decay=optim.weight_decay, mask=decay_mask)


def _adam(optim: Any, rate: optax.Schedule) -> optax.GradientTransformation:
    return optax.adam(rate)


def _sgd(optim: Any, rate: optax.Schedule) -> optax.GradientTransformation:
    decay = optax.add_decayed_weights(optim.weight_decay, mask=decay_mask)
    return optax.chain(decay, optax.sgd(rate, momentum=optim.get("momentum", 0.9)))


OPTIMISERS = {"adamw": _adamw, "adam": _adam, "sgd": _sgd}


def make_optimizer(optim: Any, steps: int) -> optax.GradientTransformation:
    """The optax transformation of config.optim for a run of `steps`: clip by the global norm, then the optimiser.

    `adam` takes no weight decay; `clip_norm` 0 means no clipping. `encoder_factor`, where there is one, multiplies the
    learning rate (and with it the decay) of params["encoder"]. Raises UserError for an unknown name.
    """
    if optim.name not in OPTIMISERS:
        raise UserError(f"config.optim.name is {optim.name!r}; expected one of {', '.join(OPTIMISERS)}: choose one.")
    rate = one_cycle(optim.learning_rate, optim.warmup_steps, steps)
    optimiser = OPTIMISERS[optim.name](optim, rate)
    factor = optim.get("encoder_factor", 1.0)
    if factor != 1.0:
        optimiser = optax.chain(optimiser, optax.masked(optax.scale(factor), encoder_mask))
    if not optim.clip_norm:
        return optimiser
    return optax.chain(optax.clip_by_global_norm(optim.clip_norm), optimiser)
