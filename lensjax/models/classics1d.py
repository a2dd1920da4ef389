"""LeNet and AlexNet on spectra: the plain networks that Li et al. (2018) found hard to train, for the record."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lensjax.models import layers
from lensjax.models.initial import he_scale


class LeNet1D(nn.Module):
    """LeNet-5 (LeCun et al. 1998) in one dimension: two convolutions of 5, max-pooled by 4, three dense layers."""

    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, snr: jax.Array, mask: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """x (N, P, C) -> logit (N,); snr and mask are not used."""
        for width in (6, 16):
            x = layers.max_pool(nn.relu(layers.Conv(width, 5, dtype=self.dtype)(x)), 4, 4)
        return {"logit": _dense(x, (120, 84), self.dropout, train)}


class AlexNet1D(nn.Module):
    """AlexNet (Krizhevsky et al. 2012) in one dimension; its two dense layers are narrowed to `dense` units."""

    dense: int = 512
    dropout: float = 0.5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, snr: jax.Array, mask: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """x (N, P, C) -> logit (N,); snr and mask are not used."""
        for width, size, stride, pooled in (
            (96, 11, 4, 1),
            (256, 5, 1, 1),
            (384, 3, 1, 0),
            (384, 3, 1, 0),
            (256, 3, 1, 1),
        ):
            x = nn.relu(layers.Conv(width, size, stride, dtype=self.dtype)(x))
            x = layers.max_pool(x, 3, 2) if pooled else x
        return {"logit": _dense(x, (self.dense, self.dense), self.dropout, train)}


def _dense(x: jax.Array, widths: tuple[int, ...], dropout: float, train: bool) -> jax.Array:
    """Flatten x (N, P, C), dense layers with dropout before each but the last: (N,)."""
    x = x.reshape(x.shape[0], -1).astype(jnp.float32)
    for width in widths:
        x = nn.relu(nn.Dense(width, kernel_init=he_scale)(nn.Dropout(dropout, deterministic=not train)(x)))
    return nn.Dense(1, kernel_init=he_scale)(x)[:, 0]
