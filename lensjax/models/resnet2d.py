"""Residual networks for images (He et al. 2015, table 1): ResNet18, 34 and 50, of any width, and a shorter one.

Strides and padding are those of torchvision (a bottleneck's stride is in its 3x3 convolution), so that its weights can
be used: models/torchvision.py.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lensjax.models import conv2d
from lensjax.models.initial import he_scale

STEMS = ("7x7", "3x3")
# Name -> (whether its blocks are bottlenecks, blocks of the four stages).
DEPTHS = {
    "resnet10": (False, (1, 1, 1, 1)),
    "resnet18": (False, (2, 2, 2, 2)),
    "resnet34": (False, (3, 4, 6, 3)),
    "resnet50": (True, (3, 4, 6, 3)),
}
EXPANSION = 4  # of a bottleneck's output over its width
MOMENTUM, EPSILON = 0.9, 1e-5  # of batch normalisation


class Conv(nn.Module):
    """Convolution (N, H, W, C) -> (N, H / stride, W / stride, features), size // 2 zeros around, without bias.

    A 1x1 kernel is a matrix product over the pixels; in float32 CPUs run most 3x3 kernels by Winograd's algorithm, see
    `conv2d`.
    """

    features: int
    size: int = 3
    stride: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel, x = self.param("kernel", he_scale, shape).astype(self.dtype), x.astype(self.dtype)
        if self.size == 1:
            return conv2d.conv_1x1(x[:, :: self.stride, :: self.stride], kernel[0, 0])
        if self.size == 3 and self.dtype == jnp.float32:
            return conv2d.conv_3x3(x, kernel, self.stride)
        return conv2d.native(x, kernel, self.stride)


class Block(nn.Module):
    """relu(shortcut(x) + branch(x)); the branch is two 3x3 convolutions, or 1x1, 3x3, 1x1 of a bottleneck.

    The shortcut is a 1x1 convolution where stride or width change. (N, H, W, C) -> (N, H / stride, W / stride, D).
    """

    width: int
    stride: int
    bottleneck: bool
    dtype: jnp.dtype
    groups: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        width, stride = self.width, self.stride
        if self.bottleneck:
            layers = [(width, 1, 1), (width, 3, stride), (EXPANSION * width, 1, 1)]
        else:
            layers = [(width, 3, stride), (width, 3, 1)]
        branch = x
        for i, (features, size, step) in enumerate(layers, 1):
            branch = self._convolve(branch, features, size, step, str(i), train)
            branch = nn.relu(branch) if i < len(layers) else branch
        features = layers[-1][0]
        if stride > 1 or x.shape[-1] != features:
            x = self._convolve(x, features, 1, stride, "_shortcut", train)
        return nn.relu(x + branch)

    def _convolve(self, x: jax.Array, features: int, size: int, stride: int, name: str, train: bool) -> jax.Array:
        conv = Conv(features, size, stride, self.dtype, name=f"conv{name}")
        return BatchNorm(self.groups, self.dtype, name=f"norm{name}")(conv(x), train)


class BatchNorm(nn.Module):
    """Batch normalisation of x (N, H, W, C) (Ioffe & Szegedy 2015), in training within `groups` of N / groups rows.

    Parameters and running statistics are those of `flax.linen.BatchNorm`, with torchvision's momentum and epsilon; they
    move by the mean of the groups' own. x is scaled and shifted in one pass, and no array of x less its mean is kept.
    """

    groups: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        shape = x.shape[-1:]
        scale, bias = self.param("scale", nn.initializers.ones, shape), self.param("bias", nn.initializers.zeros, shape)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        variance = self.variable("batch_stats", "var", jnp.ones, shape)
        stacked = x.reshape(self.groups if train else 1, -1, *x.shape[1:])
        wide = (1, 1, 1, 1, -1)
        first, spread = mean.value.reshape(wide), variance.value.reshape(wide)
        if train:
            exact = stacked.astype(jnp.float32)
            first, second = (y.mean((1, 2, 3), keepdims=True) for y in (exact, jnp.square(exact)))
            spread = jnp.maximum(second - jnp.square(first), 0)
            for running, new in ((mean, first), (variance, spread)):
                running.value = MOMENTUM * running.value + (1 - MOMENTUM) * new.mean((0, 1, 2, 3))
        slope = scale.reshape(wide) * jax.lax.rsqrt(spread + EPSILON)
        shift = bias.reshape(wide) - first * slope
        return (stacked.astype(self.dtype) * slope.astype(self.dtype) + shift.astype(self.dtype)).reshape(x.shape)


class ResNet2D(nn.Module):
    """Images to features: mean of the last stage over the pixels.

    depth: one of `DEPTHS`. width: channels of the first stage, 64 in the paper; the features are 8 times as many, 32
    times with bottlenecks (2048 for ResNet50). stem: "7x7" in steps of 2, then max-pooling in steps of 2, as in the
    paper; "3x3" in steps of 2, for small objects. dtype: of the arithmetic; parameters and features are float32.
    """

    depth: str = "resnet50"
    width: int = 64
    stem: str = "7x7"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, train: bool = False, groups: int = 1) -> jax.Array:
        """image (N, H, W, B), scaled as the network likes it -> features (N, D).

        In training they are normalised within `groups` of N / groups images.
        """
        bottleneck, stages = DEPTHS[self.depth]
        x = Conv(self.width, int(self.stem[0]), 2, self.dtype, name="conv_stem")(image)
        x = nn.relu(BatchNorm(groups, self.dtype, name="norm_stem")(x, train))
        if self.stem == "7x7":
            x = conv2d.max_pool(conv2d.max_pool(x, 1), 2)
        for stage, blocks in enumerate(stages):
            for i in range(blocks):
                stride = 2 if stage > 0 and i == 0 else 1
                width, name = self.width * 2**stage, f"stage{stage + 1}_block{i}"
                x = Block(width, stride, bottleneck, self.dtype, groups, name=name)(x, train)
        return x.astype(jnp.float32).mean(axis=(1, 2))


class Projector(nn.Module):
    """The head that the contrastive loss sees (Chen et al. 2020): dense, relu, dense. (N, D) -> (N, size).

    norm: bring the hidden layer to mean 0 and scatter 1 over the N rows before the relu, as SimCLR does (Chen et al.
    2020b): it keeps small encoders from collapsing. It needs no running statistics, for the head is only trained.
    """

    hidden: int = 2048
    size: int = 128
    norm: bool = False

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        hidden = nn.Dense(self.hidden, kernel_init=he_scale, name="hidden")(features)
        if self.norm:
            hidden = jax.nn.standardize(hidden, axis=0, epsilon=1e-5)
        return nn.Dense(self.size, kernel_init=he_scale, name="out")(nn.relu(hidden))
