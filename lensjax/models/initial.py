"""First values of a network's variables, all from one draw of random numbers.

XLA takes a third of a second to compile each random generator, and a network has one per kernel. So here a kernel's
initialiser only states its standard deviation, and one draw supplies the unit normals of them all.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def he_scale(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Standard deviation sqrt(2 / fan-in) of He et al. (2015), everywhere in a kernel (..., in, out); no key needed."""
    return jnp.full(shape, math.sqrt(2.0 / math.prod(shape[:-1])), dtype)


def init_variables(module: nn.Module, key: jax.Array, *inputs: jax.Array) -> dict[str, Any]:
    """Variables of a module called as module(*inputs): its own, every "kernel" times unit normals.

    Kernels that start at zero stay there. Use this, not module.init: that gives the standard deviations.
    """
    variables = dict(module.init(key, *inputs))
    flat, tree = jax.tree_util.tree_flatten_with_path(variables["params"])
    random = [path[-1].key == "kernel" for path, _ in flat]
    normal = jax.random.normal(key, (sum(x.size for (_, x), draw in zip(flat, random, strict=True) if draw),))
    leaves, start = [], 0
    for (_, x), draw in zip(flat, random, strict=True):
        leaves.append(x * normal[start : start + x.size].reshape(x.shape) if draw else x)
        start += x.size if draw else 0
    return {**variables, "params": jax.tree_util.tree_unflatten(tree, leaves)}
