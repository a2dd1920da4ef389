"""Networks made for images, on spectra: the comparisons of Li et al. (2018) and of Zhao et al. (2019).

LeNet and AlexNet are those that the former found hard to train; VGG, Inception and ResNet those of Table 1 of the
latter, whose Figure 6 varies the size of the first kernels. Two-dimensional k x k kernels become kernels of k pixels.
In all: the first convolution, of few channels, is a matrix product. dtype is of the convolutions; parameters and logits
are float32.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lensjax.models import heads, layers
from lensjax.models.resnet1d import Block

VGG_STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # width over that of the first, convolutions: VGG-16
RESNET_STAGES = ((1, 3), (2, 4), (4, 6), (8, 3))  # width over that of the first, blocks of two convolutions: ResNet-34
# Channels of GoogLeNet's modules: 1; before 3, 3; before 5, 5; after pooling. An empty row is a max-pooling by 2.
INCEPTION = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    (),
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    (),
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)


class Classic(nn.Module):
    """What they share: fields, and the layer of convolution and ReLU. x (N, P, C) -> logit (N,)."""

    first_size: int = 3
    dropout: float = 0.5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, snr: jax.Array, mask: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """x (N, P, C) -> logit (N,); snr and mask are not used."""
        return {"logit": self._logit(x, train)}

    def _logit(self, x: jax.Array, train: bool) -> jax.Array:
        raise NotImplementedError

    def _first(self, x: jax.Array, width: int, stride: int = 1) -> jax.Array:
        return nn.relu(layers.Conv(width, self.first_size, stride, product=True, dtype=self.dtype)(x))

    def _layer(self, x: jax.Array, width: int, size: int) -> jax.Array:
        return nn.relu(layers.Conv(width, size, dtype=self.dtype)(x))


class LeNet1D(Classic):
    """LeNet-5 (LeCun et al. 1998): two convolutions of 5, max-pooled by 4, three dense layers."""

    first_size: int = 5

    def _logit(self, x: jax.Array, train: bool) -> jax.Array:
        x = layers.max_pool(self._first(x, 6), 4, 4)
        x = layers.max_pool(self._layer(x, 16, 5), 4, 4)
        return heads.DenseHead(self.dropout, (120, 84))(x, train)


class AlexNet1D(Classic):
    """AlexNet (Krizhevsky et al. 2012); its two dense layers are narrowed to `dense` units."""

    first_size: int = 11
    dense: tuple[int, ...] = (512, 512)

    def _logit(self, x: jax.Array, train: bool) -> jax.Array:
        x = layers.max_pool(self._first(x, 96, stride=4), 3, 2)
        for width, size, pooled in ((256, 5, 1), (384, 3, 0), (384, 3, 0), (256, 3, 1)):
            x = self._layer(x, width, size)
            x = layers.max_pool(x, 3, 2) if pooled else x
        return heads.DenseHead(self.dropout, self.dense)(x, train)


class VGG1D(Classic):
    """VGG-16 (Simonyan & Zisserman 2015): thirteen convolutions of 3, five max-poolings, dense layers of `dense` units.

    width: channels of the first stage.
    """

    width: int = 64
    dense: tuple[int, ...] = (512, 512)

    def _logit(self, x: jax.Array, train: bool) -> jax.Array:
        for stage, (factor, depth) in enumerate(VGG_STAGES):
            for i in range(depth):
                first = stage == i == 0
                width = factor * self.width
                x = self._first(x, width) if first else self._layer(x, width, 3)
            x = layers.max_pool(x)
        return heads.DenseHead(self.dropout, self.dense)(x, train)


class Inception1D(Classic):
    """GoogLeNet (Szegedy et al. 2015) without its auxiliary outputs and local response normalisation.

    width: channels of the first layer, 64 in the paper; all others in proportion.
    """

    width: int = 64

    def _logit(self, x: jax.Array, train: bool) -> jax.Array:
        x = layers.max_pool(self._first(x, self.width, stride=2), 3)
        x = self._layer(self._layer(x, self.width, 1), 3 * self.width, 3)
        x = layers.max_pool(x, 3)
        for channels in INCEPTION:
            widths = tuple(max(c * self.width // 64, 1) for c in channels)
            x = self._module(x, widths) if widths else layers.max_pool(x, 3)
        return heads.DenseHead(self.dropout)(x.mean(axis=1, keepdims=True), train)

    def _module(self, x: jax.Array, widths: tuple[int, ...]) -> jax.Array:
        """Kernels of 1, 3 and 5 and a max-pooling side by side: (N, P, C) -> (N, P, sum of their widths)."""
        one, before_three, three, before_five, five, pooled = widths
        branches = [
            self._layer(x, one, 1),
            self._layer(self._layer(x, before_three, 1), three, 3),
            self._layer(self._layer(x, before_five, 1), five, 5),
            self._layer(layers.max_pool(x, 3, 1), pooled, 1),
        ]
        return jnp.concatenate(branches, axis=-1)


class ResNet34(Classic):
    """ResNet-34 (He et al. 2015): 16 residual blocks of two convolutions with batch normalisation.

    width: channels of the first stage.
    """

    width: int = 64

    def _logit(self, x: jax.Array, train: bool) -> jax.Array:
        x = layers.max_pool(self._first(x, self.width, stride=2), 3)
        for stage, (factor, depth) in enumerate(RESNET_STAGES):
            for i in range(depth):
                stride, project = (2, True) if stage and i == 0 else (1, False)
                block = Block(factor * self.width, project, depth=2, stride=stride, dtype=self.dtype)
                x = block(x, train)
        return heads.DenseHead(self.dropout)(x.mean(axis=1, keepdims=True), train)
