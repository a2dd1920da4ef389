"""The layers that every 1-D network here is made of: convolutions, maxima, pixels side by side."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from lensjax.models import winograd
from lensjax.models.initial import he_scale

Pair = tuple[jax.Array, jax.Array]


def _convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: str | list[tuple[int, int]]) -> jax.Array:
    return jax.lax.conv_general_dilated(x, kernel, (stride,), padding, dimension_numbers=("NWC", "WIO", "NWC"))


def _convolve_rows(x: jax.Array, kernel: jax.Array, stride: int, padding: str) -> jax.Array:
    """As `_convolve`, of images of one row: XLA has faster programs for images, each for one core."""
    form = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x[:, None], kernel[None], (1, stride), padding, dimension_numbers=form)[:, 0]


def conv_1d(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "SAME") -> jax.Array:
    """Convolve x (N, P, C) with kernel (K, C, D): (N, Q, D).

    Q = ceil(P / stride) with padding "SAME", zeros at both ends; floor((P - K) / stride) + 1 with "VALID".
    On a CPU it is Winograd's where that is faster, `winograd.serves`. Else spectra are convolved as images of one row
    or, where a gradient is taken, as spectra, with gradients that are convolutions of the kind that XLA is fast at: its
    own of the kernel is ten times slower inside a loop, as `core.chunks.mean_chunks` has one.
    """
    return _conv_1d(x, kernel, stride, padding)


def _choose(
    x: jax.Array, kernel: jax.Array, stride: int, padding: str, convolve: Callable[..., jax.Array], least: int
) -> jax.Array:
    """The convolution; on a CPU by Winograd's algorithm from `least` channels on, else by `convolve`."""
    on_cpu = functools.partial(convolve, stride=stride, padding=padding)
    if stride == 1 and winograd.serves(x, kernel, least):
        on_cpu = functools.partial(winograd.conv_1d, padding=padding)
    native = functools.partial(_convolve, stride=stride, padding=padding)
    return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=native)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv_1d(x: jax.Array, kernel: jax.Array, stride: int, padding: str) -> jax.Array:
    return _choose(x, kernel, stride, padding, _convolve_rows, winograd.LEAST_CHANNELS)


def _forward(x: jax.Array, kernel: jax.Array, stride: int, padding: str) -> tuple[jax.Array, Pair]:
    """With gradients to come: in the form that they are of."""
    return _choose(x, kernel, stride, padding, _convolve, winograd.LEAST_CHANNELS_IN_TRAINING), (x, kernel)


def _backward(stride: int, padding: str, saved: Pair, gradient: jax.Array) -> Pair:
    """Gradients of x (N, P, C) and kernel (K, C, D), from that of what `conv_1d` returns (N, Q, D)."""

    def native(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> Pair:
        return jax.vjp(lambda x, kernel: _convolve(x, kernel, stride, padding), x, kernel)[1](gradient)

    def on_cpu(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> Pair:
        if stride > 1:
            return jax.vjp(lambda x, kernel: conv_gemm(x, kernel, stride, padding), x, kernel)[1](gradient)
        if winograd.serves(x, kernel, winograd.LEAST_CHANNELS_IN_TRAINING):
            return jax.vjp(lambda x, kernel: winograd.conv_1d(x, kernel, padding), x, kernel)[1](gradient)
        reach = len(kernel) - 1
        low = reach // 2 if padding == "SAME" else 0
        high = reach - low if padding == "SAME" else 0
        of_x = _convolve(gradient, kernel[::-1].swapaxes(1, 2), 1, [(reach - low, reach - high)])
        # The batch takes the place of the channels, the gradient that of the kernel. In this order, as XLA would else
        # fold the transpositions into a convolution that it is slow at.
        x, gradient = jax.lax.optimization_barrier((x.transpose(2, 1, 0), gradient.transpose(1, 0, 2)))
        return of_x, _convolve(x, gradient, 1, [(low, high)]).swapaxes(0, 1)

    return jax.lax.platform_dependent(*saved, gradient, cpu=on_cpu, default=native)


_conv_1d.defvjp(_forward, _backward)


def conv_gemm(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "SAME") -> jax.Array:
    """As `conv_1d`, as one matrix product over shifted copies of x laid side by side.

    With a stride, x is first folded by it, so that the copies are shifted by one row of `stride` pixels and contiguous:
    ceil(K / stride) of them.
    """
    size, width, depth = kernel.shape
    pixels = x.shape[1]
    out = -(-pixels // stride) if padding == "SAME" else (pixels - size) // stride + 1
    total = max((out - 1) * stride + size - pixels, 0)  # zeros that "SAME" needs; none if "VALID"
    taps = -(-size // stride)
    length = (out - 1 + taps) * stride
    low = total // 2
    rows = fold(jnp.pad(x, ((0, 0), (low, max(length - low - pixels, 0)), (0, 0)))[:, :length], stride)
    shifted = jnp.concatenate([rows[:, k : k + out] for k in range(taps)], axis=-1)
    padded = jnp.pad(kernel, ((0, taps * stride - size), (0, 0), (0, 0)))
    return shifted @ padded.reshape(taps * stride * width, depth)


class Conv(nn.Module):
    """Convolution of `conv_1d`, (N, P, C) -> (N, Q, features). product: by `conv_gemm`, faster for few channels."""

    features: int
    size: int = 3
    stride: int = 1
    use_bias: bool = True
    product: bool = False
    padding: str = "SAME"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", he_scale, shape).astype(self.dtype)
        convolve = conv_gemm if self.product else conv_1d
        y = convolve(x.astype(self.dtype), kernel, self.stride, self.padding)
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,)).astype(self.dtype)
        return y + bias[None, None]


def max_pool(x: jax.Array, size: int = 2, stride: int = 2, padding: str = "SAME") -> jax.Array:
    """Maximum over `size` pixels of x (N, P, C).

    With padding "SAME" an incomplete last stretch is kept: (N, ceil(P / stride), C); with "VALID" it is dropped.
    """
    pixels = x.shape[1]
    if size == stride and (padding == "VALID" or pixels % size in (0, size - 1)):
        x = jnp.pad(x, ((0, 0), (0, -pixels % size), (0, 0)), mode="edge") if padding == "SAME" else x
        return _largest(x[:, : x.shape[1] // size * size], size)
    return nn.max_pool(x, (size,), (stride,), padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _largest(x: jax.Array, size: int) -> jax.Array:
    """Maximum of every `size` pixels of x (N, Q size, C): (N, Q, C), with a gradient that CPUs are fast at."""
    return _largest_forward(x, size)[0]


def _largest_forward(x: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """The maxima, and the place of each among its pixels."""
    first, *others = jnp.unstack(x.reshape(len(x), -1, size, x.shape[2]), axis=2)
    largest, place = first, jnp.zeros(first.shape, jnp.int8)
    for i, other in enumerate(others, 1):
        place = jnp.where(other > largest, jnp.int8(i), place)
        largest = jnp.maximum(largest, other)
    return largest, place


def _largest_backward(size: int, place: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    """All of it to the first pixel that has the maximum."""
    chosen = place[:, :, None] == jnp.arange(size, dtype=jnp.int8)[None, None, :, None]
    return (jnp.where(chosen, gradient[:, :, None], 0).reshape(len(place), -1, place.shape[2]),)


_largest.defvjp(_largest_forward, _largest_backward)


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
