"""The network of Zhao et al. (2019, MNRAS 487, 801) that tells quasar spectra with Mg II absorbers from those without.

Their section 3 gives the layers, the first kernels and three lengths: 3841 pixels, 766, and 25 before the dense
layers. Pooling by 3, and kernels of 5, 3, 3, 3 without padding, give those lengths. Where they say nothing, the widths,
the order of the layers and the dropout are AlexNet's (Krizhevsky et al. 2012), but the dense layers have 512 units:
with 4096 the network would have more parameters than the deep ones they call larger.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lensjax.models import heads, layers

STRIDE, POOL = 5, 3
# Width and size of the convolutions after the first, and whether it is pooled.
AFTER_FIRST = ((256, 5, True), (384, 3, False), (384, 3, False), (256, 3, True))


def least_pixels(first_size: int) -> int:
    """Pixels of the shortest spectrum that leaves one pixel at the end; shorter ones are lengthened with zeros."""
    pixels = 1
    for _, size, pooled in reversed(AFTER_FIRST):
        pixels = (pixels * POOL if pooled else pixels) + size - 1
    return (pixels * POOL - 1) * STRIDE + first_size


class CNN1D(nn.Module):
    """Five convolutions, three of them max-pooled, two dense layers, one unit: 3841 -> 766 x 96 -> 25 x 256 -> 1.

    first_size: of the first kernels, what their Figure 6 varies; that convolution, of few channels and in steps of 5,
    is a matrix product. dense: units of the dense layers. dtype: of the convolutions; parameters and logits are
    float32.
    """

    first_size: int = 15
    dense: tuple[int, ...] = (512, 512)
    dropout: float = 0.5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, snr: jax.Array, mask: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """x (N, P, C) -> logit (N,); snr and mask are not used."""
        x = jnp.pad(x, ((0, 0), (0, max(least_pixels(self.first_size) - x.shape[1], 0)), (0, 0)))
        x = self._layer(x, 96, self.first_size, STRIDE, product=True, pooled=True)
        for width, size, pooled in AFTER_FIRST:
            x = self._layer(x, width, size, 1, product=False, pooled=pooled)
        return {"logit": heads.DenseHead(self.dropout, self.dense)(x, train)}

    def _layer(self, x: jax.Array, width: int, size: int, stride: int, product: bool, pooled: bool) -> jax.Array:
        x = nn.relu(layers.Conv(width, size, stride, product=product, padding="VALID", dtype=self.dtype)(x))
        return layers.max_pool(x, POOL, POOL, "VALID") if pooled else x
