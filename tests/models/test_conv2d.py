"""Convolutions of images: what CPUs compute, and its gradients, are those of a plain convolution."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax.models import conv2d

KEYS = jax.random.split(jax.random.key(0), 3)


def plain(x, kernel, stride=1):
    """The definition: a sum over the taps of the kernel, in float64."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    size, (height, width) = len(kernel), x.shape[1:3]
    padded = np.pad(x, ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0)))
    taps = ((i, j) for i in range(size) for j in range(size))
    return sum(padded[:, i : i + height : stride, j : j + width : stride] @ kernel[i, j] for i, j in taps)


def case(count, height, width, size):
    """x (count, height, width, 33), a kernel for it of 40 features, a cotangent of the result."""
    x = jax.random.normal(KEYS[0], (count, height, width, 33))
    kernel = jax.random.normal(KEYS[1], (size, size, 33, 40))
    return x, kernel, jax.random.normal(KEYS[2], (count, height, width, 40))


def close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=0, atol=3e-6 * np.abs(expected).max())


@pytest.mark.parametrize(("count", "height", "width"), [(6, 6, 8), (3, 5, 7), (1, 4, 9), (4, 6, 9), (5, 8, 12)])
def test_winograds_convolution_is_the_plain_one(count, height, width):
    x, kernel, gradient = case(count, height, width, 3)
    result, pull = jax.vjp(conv2d._convolve, x, kernel)
    close(result, plain(x, kernel))
    of_x, of_kernel = pull(gradient)
    close(of_x, plain(gradient, kernel[::-1, ::-1].swapaxes(2, 3)))
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [[padded[:, i : i + height, j : j + width] for j in range(3)] for i in range(3)]
    close(of_kernel, np.einsum("ijnhwc,nhwd->ijcd", shifted, np.asarray(gradient, np.float64), optimize=True))


@pytest.mark.parametrize("wide", [False, True])
def test_products_have_their_gradients(wide):
    """Of a kernel that has fewer features than channels too, whose gradient is computed the other way round."""
    x, kernel, gradient = case(6, 12, 12, 1)
    x, kernel, gradient = (gradient, kernel.swapaxes(2, 3), x) if wide else (x, kernel, gradient)
    result, pull = jax.vjp(conv2d.conv_1x1, x, kernel[0, 0])
    close(result, plain(x, kernel))
    of_x, of_kernel = pull(gradient)
    close(of_x, plain(gradient, kernel.swapaxes(2, 3)))
    close(of_kernel, np.einsum("nhwc,nhwd->cd", *(np.asarray(a, np.float64) for a in (x, gradient))))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("height", "width"), [(3, 3), (1, 5), (6, 6), (5, 8), (1, 1), (2, 1), (7, 4)])
def test_products_of_each_pixel_give_the_plain_convolution_with_its_gradients(height, width, stride):
    x, kernel, _ = case(4, height, width, 3)
    result, pull = jax.vjp(lambda x, k: conv2d._by_pixels(x, k, stride), x, kernel)
    close(result, plain(x, kernel, stride))
    gradient = jax.random.normal(KEYS[2], result.shape)
    theirs = jax.vjp(lambda x, k: conv2d.native(x, k, stride), x, kernel)[1](gradient)
    jax.tree.map(close, pull(gradient), theirs)


@pytest.mark.parametrize(("rows", "most", "pieces"), [(12, 2, 6), (12, 5, 3), (12, 100, 2), (7, 4, 7), (1, 4, 1)])
def test_a_sum_over_pieces_takes_every_row_once(rows, most, pieces):
    x = jnp.arange(float(rows)) + 1
    assert conv2d._sum_pieces(lambda a, b: (a * b).sum(), x, jnp.ones(rows), most) == x.sum()
    assert conv2d._sum_pieces(lambda a, b: jnp.ones(()), x, x, most) == pieces


@pytest.mark.parametrize("size", [(8, 6), (7, 9), (1, 2)])
def test_maxima_are_those_of_windows_with_their_gradient(size):
    x = jax.random.permutation(KEYS[0], 12 * size[0] * size[1]).astype(float).reshape(4, *size, 3) - 30
    ours, pull = jax.vjp(lambda x: conv2d.max_pool(conv2d.max_pool(x, 1), 2), x)
    theirs, their_pull = jax.vjp(lambda x: nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))), x)
    np.testing.assert_array_equal(ours, theirs)
    gradient = jax.random.normal(KEYS[1], ours.shape)
    np.testing.assert_allclose(pull(gradient)[0], their_pull(gradient)[0], rtol=1e-6, atol=1e-6)


def test_products_of_each_pixel_leave_out_the_zeros_around():
    """Of 3 x 3 pixels, 49 of 81 products of a pixel with one of the kernel's."""
    x, kernel, _ = case(1, 3, 3, 3)
    text = jax.jit(lambda x, k: conv2d._by_pixels(x, k, 1)).lower(x, kernel).as_text()
    rows = re.findall(r"stablehlo.dot_general.*-> tensor<(\d+)x40xf32>", text)
    assert sum(map(int, rows)) == 49


@pytest.mark.parametrize(("shape", "stride"), [((2, 14, 14, 16), 2), ((2, 8, 8, 16), 1)])
def test_few_channels_take_the_native_form(shape, stride):
    kernel = jnp.ones((3, 3, shape[-1], 40))
    text = jax.jit(lambda x, k: conv2d.conv_3x3(x, k, stride)).lower(jnp.ones(shape), kernel).as_text()
    assert "stablehlo.convolution" in text and "stablehlo.dot_general" not in text


@pytest.mark.parametrize(("pixels", "stride"), [(8, 1), (3, 1), (12, 2)])
def test_devices_choose_their_form(pixels, stride):
    x, kernel, _ = case(2, pixels, pixels, 3)

    def loss(x, kernel):
        return (conv2d.conv_3x3(x, kernel, stride) ** 2).sum()

    gradient = jax.jit(jax.grad(loss, (0, 1)))
    texts = {name: jax.export.export(gradient, platforms=[name])(x, kernel).mlir_module() for name in ("cpu", "cuda")}
    assert "stablehlo.convolution" not in texts["cpu"] and "stablehlo.dot_general" in texts["cpu"]
    assert texts["cuda"].count("stablehlo.convolution") == 3 and "stablehlo.dot_general" not in texts["cuda"]


def test_groups_of_a_batch_share_a_kernel():
    x, kernel, gradient = case(4, 6, 6, 3)
    groups = x.reshape(2, 2, 6, 6, 33)

    def loss(run, kernel):
        return (run(kernel) * gradient).sum()

    together = jax.grad(lambda k: loss(lambda k: conv2d.conv_3x3(x, k), k))(kernel)
    apart = jax.grad(
        lambda k: loss(lambda k: jax.vmap(conv2d.conv_3x3, (0, None))(groups, k).reshape(gradient.shape), k)
    )(kernel)
    close(apart, np.asarray(together))
