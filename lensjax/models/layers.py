"""The two layers every 1-D network here is made of: a convolution with a choice of lowering, and an optional norm."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lensjax.models.initial import he_scale

CONV_FORMS = ("1d", "2d", "gemm")


def conv_1d(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolve x (N, P, C) with kernel (K, C, D), zero-padded: (N, ceil(P / stride), D)."""
    return jax.lax.conv_general_dilated(x, kernel, (stride,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))


def conv_2d(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """As `conv_1d`, lowered as an image of height one: XLA's CPU weight gradient is faster there."""
    layout = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x[:, None], kernel[None], (1, stride), "SAME", dimension_numbers=layout)
    return y[:, 0]


def conv_gemm(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """As `conv_1d`, as one matrix product over the K shifted copies of x laid side by side."""
    size, width, depth = kernel.shape
    pixels = x.shape[1]
    out = -(-pixels // stride)
    total = max((out - 1) * stride + size - pixels, 0)
    padded = jnp.pad(x, ((0, 0), (total // 2, total - total // 2), (0, 0)))
    span = (out - 1) * stride + 1
    shifted = jnp.concatenate([padded[:, k : k + span : stride] for k in range(size)], axis=-1)
    return shifted @ kernel.reshape(size * width, depth)


_CONVOLVE = {"1d": conv_1d, "2d": conv_2d, "gemm": conv_gemm}


class Conv(nn.Module):
    """Zero-padded convolution (N, P, C) -> (N, ceil(P / stride), features). Every `form` has the same parameters."""

    features: int
    size: int = 3
    stride: int = 1
    form: str = "1d"
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", he_scale, shape).astype(self.dtype)
        y = _CONVOLVE[self.form](x.astype(self.dtype), kernel, self.stride)
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,)).astype(self.dtype)
        return y + bias[None, None]


def max_pool(x: jax.Array, size: int = 2, stride: int = 2) -> jax.Array:
    """Maximum over `size` pixels of x (N, P, C); an odd last pixel is kept: (N, ceil(P / stride), C)."""
    return nn.max_pool(x, (size,), (stride,), "SAME")


def fold(x: jax.Array, size: int) -> jax.Array:
    """Lays `size` neighbouring pixels of x (N, P, C) side by side: (N, ceil(P / size), size C), zeros at the end."""
    count, pixels, width = x.shape
    if size == 1:
        return x
    padded = jnp.pad(x, ((0, 0), (0, -pixels % size), (0, 0)))
    return padded.reshape(count, -1, size * width)


def unfold(x: jax.Array, size: int, pixels: int) -> jax.Array:
    """Undoes `fold`: (N, ceil(P / size), size C) -> (N, P, C)."""
    return x.reshape(x.shape[0], x.shape[1] * size, -1)[:, :pixels]
