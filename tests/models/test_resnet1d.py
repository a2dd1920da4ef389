"""The paper's network: its size, its shapes, its lowerings; and what the pixel head starts as."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import lya
from lensjax.core.errors import UserError
from lensjax.models import heads, init_variables, layers, make_model
from lensjax.models.resnet1d import projection_blocks

PIXELS = 150


def model_config(**changes):
    model = lya.get_config().model
    model.update(changes)
    return model


def build(**changes):
    """(module, variables, inputs) with three channels, two spectra, a few bad pixels; the variables as shapes."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, PIXELS, 3)), jnp.float32)
    mask = jnp.asarray(rng.random((2, PIXELS)) > 0.05)
    snr = jnp.asarray(rng.normal(size=(2, PIXELS)), jnp.float32)
    module = make_model(model_config(**changes))
    inputs = (x, snr, mask)
    return module, jax.eval_shape(lambda key: init_variables(module, key, *inputs), jax.random.key(0)), inputs


def build_small(**changes):
    """As `build`, of two narrow blocks that compile quickly, with values."""
    module, _, inputs = build(**{"widths": (4, 4), **changes})
    return module, jax.jit(lambda key: init_variables(module, key, *inputs))(jax.random.key(0)), inputs


def apply(module, *args):
    return jax.jit(module.apply)(*args)


def count_convolutions(params):
    return sum(path[-1].key == "kernel" and x.ndim == 3 for path, x in jax.tree_util.tree_leaves_with_path(params))


@pytest.mark.parametrize("fold", [1, 4])
@pytest.mark.parametrize("locate", [True, False])
@pytest.mark.parametrize("widths", [lya.get_config().model.widths, (4,) * 8])
def test_there_are_28_convolutions(widths, locate, fold):
    _, variables, _ = build(widths=widths, locate=locate, fold=fold)
    assert count_convolutions(variables["params"]) == 28
    ones = [x.shape for x in jax.tree.leaves(variables["params"]) if x.ndim == 3 and x.shape[0] == 1]
    assert len(ones) == 4  # projections


def test_projections_sit_where_the_width_changes():
    assert projection_blocks((8, 8, 16, 16, 32, 32, 48, 48)) == (0, 2, 4, 6)
    assert projection_blocks((8, 16, 16, 16, 16, 16, 16, 16)) == (0, 1, 2, 4)
    with pytest.raises(UserError, match="repeat widths in pairs"):
        projection_blocks((8, 16, 16, 24, 32, 32, 48, 48))


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("locate", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_combination_gives_float32_logits(norm, locate, dtype):
    module, variables, inputs = build(norm=norm, locate=locate, dtype=dtype)
    out = jax.eval_shape(module.apply, variables, *inputs)
    assert out["logit"].shape == (2,) and out["logit"].dtype == jnp.float32
    assert ("pixel_logit" in out) == locate
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(variables))


def test_lowerings_of_the_convolution_agree_with_numpy():
    rng = np.random.default_rng(1)
    x, kernel = rng.normal(size=(2, 11, 3)).astype(np.float32), rng.normal(size=(5, 3, 4)).astype(np.float32)
    expected = np.zeros((2, 11, 4))
    for n, i, o in np.ndindex(2, 3, 4):
        expected[n, :, o] += np.convolve(x[n, :, i], kernel[::-1, i, o], mode="same")
    for convolve in (layers.conv_1d, layers.conv_gemm):
        np.testing.assert_allclose(convolve(x, kernel), expected, atol=1e-5)
        np.testing.assert_allclose(convolve(x, kernel, 4), layers.conv_1d(x, kernel, 4), atol=1e-5)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("size", [1, 4, 5])
def test_gradients_of_the_convolution_are_those_of_xla(size, stride, padding):
    rng = np.random.default_rng(2)
    x, kernel = rng.normal(size=(2, 11, 3)).astype(np.float32), rng.normal(size=(size, 3, 4)).astype(np.float32)
    ours, slope = jax.vjp(lambda x, kernel: layers.conv_1d(x, kernel, stride, padding), x, kernel)
    native, native_slope = jax.vjp(lambda x, kernel: layers._convolve(x, kernel, stride, padding), x, kernel)
    np.testing.assert_allclose(ours, native, atol=1e-5)
    gradient = rng.normal(size=ours.shape).astype(np.float32)
    for mine, theirs in zip(slope(gradient), native_slope(gradient), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("pixels", [9, 10, 11, 12])
def test_pooling_and_its_gradient_are_those_of_flax(pixels, size, padding):
    x = np.random.default_rng(3).normal(size=(2, pixels, 3)).astype(np.float32)
    ours, slope = jax.vjp(lambda x: layers.max_pool(x, size, size, padding), x)
    theirs, their_slope = jax.vjp(lambda x: nn.max_pool(x, (size,), (size,), padding), x)
    np.testing.assert_array_equal(ours, theirs)
    gradient = np.random.default_rng(4).normal(size=ours.shape).astype(np.float32)
    np.testing.assert_array_equal(slope(gradient)[0], their_slope(gradient)[0])


def test_a_product_has_the_parameters_of_a_convolution():
    x = jnp.asarray(np.random.default_rng(5).normal(size=(2, 20, 3)), jnp.float32)
    conv, product = (layers.Conv(4, 5, 2, product=product) for product in (False, True))
    variables = conv.init(jax.random.key(0), x)
    jax.tree.map(np.testing.assert_array_equal, variables, product.init(jax.random.key(0), x))
    np.testing.assert_allclose(product.apply(variables, x), conv.apply(variables, x), atol=1e-5)


def test_initial_kernels_have_the_he_variance_and_differ():
    _, variables, _ = build_small(widths=(32, 32))
    kernels = [x for x in jax.tree.leaves(variables["params"]) if x.ndim == 3 and x.shape == (3, 32, 32)]
    for kernel in kernels:
        np.testing.assert_allclose(kernel.std(), math.sqrt(2 / 96), rtol=0.05)
        assert abs(kernel.mean()) < 0.01
    assert len({float(kernel[0, 0, 0]) for kernel in kernels}) == len(kernels)


def test_pixel_head_starts_as_the_matched_filter():
    module, variables, (x, snr, mask) = build_small()
    snr = snr.at[0, 70].set(6.0)
    out = apply(module, variables, x, snr, mask.at[:, 70].set(True))
    start = math.log(math.sqrt(2 * math.pi) / 17)
    np.testing.assert_allclose(out["pixel_logit"][0, 70], 5 * 6 - 12.5 + start, rtol=1e-5)  # tangent beyond S/N 5
    quiet = int(jnp.argmax(mask[0] & (jnp.abs(snr[0]) < 3)))
    np.testing.assert_allclose(out["pixel_logit"][0, quiet], max(float(snr[0, quiet]), 0) ** 2 / 2 + start, rtol=1e-5)
    assert out["logit"][0] > 5 > 0 > out["logit"][1]


def test_gain_and_offset_of_a_folded_pixel_are_its_own():
    head = heads.PixelHead(fold=4)
    features = jnp.asarray(np.random.default_rng(3).normal(size=(1, 10, 6)), jnp.float32)
    snr, mask = jnp.zeros((1, 38)), jnp.ones((1, 38), bool)
    variables = head.init(jax.random.key(0), [features], snr, mask)
    kernel = np.zeros((6, 8), np.float32)
    kernel[2, 4 + 3] = 1.0  # feature 2 is the offset of the last of each four pixels
    variables["params"]["pixel_0"]["kernel"] = jnp.asarray(kernel)
    logit = head.apply(variables, [features], snr, mask)["pixel_logit"][0] - variables["params"]["bias"]
    expected = np.zeros(40)
    expected[3::4] = features[0, :, 2]
    np.testing.assert_allclose(logit, expected[:38], atol=1e-6)


def test_a_head_without_a_guide_does_not_look_at_the_filter():
    module, variables, (x, snr, mask) = build_small(guided=False)
    variables["params"]["PixelHead_0"]["here"] = jnp.zeros((2, PIXELS)).at[1, 70].set(3.0)
    out = apply(module, variables, x, snr, mask.at[:, 70].set(True))
    jax.tree.map(np.testing.assert_array_equal, out, apply(module, variables, x, 0 * snr, mask.at[:, 70].set(True)))
    start = math.log(math.sqrt(2 * math.pi) / 17)
    np.testing.assert_allclose(out["pixel_logit"][:, 70], 3 + start, rtol=1e-5)

    def total(params):
        return module.apply({**variables, "params": params}, x, snr, mask)["logit"].sum()

    slope = jax.jit(jax.grad(total))(variables["params"])["PixelHead_0"]
    kernel = slope["pixel_0"]["kernel"].reshape(4, 3, 4)  # gain, offset and evidence of four pixels
    assert np.all(kernel[:, 0] == 0) and np.all(np.any(kernel[:, 1:] != 0, axis=(0, 2)))  # a gain of nothing is none


def test_bad_pixels_have_no_vote():
    module, variables, (x, snr, mask) = build_small()
    bad = ~mask[0]
    wild = apply(module, variables, x, snr.at[0].set(jnp.where(bad, 50.0, snr[0])), mask)
    np.testing.assert_array_equal(wild["logit"], apply(module, variables, x, snr, mask)["logit"])


def test_marginal_ratio_is_the_mean_of_the_ratios_of_good_pixels():
    logit = np.random.default_rng(2).normal(size=(2, 9)).astype(np.float32)
    mask = np.arange(9)[None] < np.array([[9], [5]])
    expected = [np.log(np.exp(logit[0]).sum() / 9), np.log(np.exp(logit[1, :5]).sum() / 9)]
    np.testing.assert_allclose(heads.marginalise(jnp.asarray(logit), jnp.asarray(mask)), expected, rtol=1e-5)


def test_an_object_without_good_pixels_is_finite_with_its_gradient():
    module, variables, (x, snr, _) = build_small()
    mask = jnp.zeros((2, PIXELS), bool)

    def total(params):
        return module.apply({**variables, "params": params}, x, snr, mask)["logit"].sum()

    value, slope = jax.jit(jax.value_and_grad(total))(variables["params"])
    assert jnp.isfinite(value) and all(jnp.isfinite(g).all() for g in jax.tree.leaves(slope))


def test_upsampling_inverts_the_grid_of_pooling():
    x = jnp.arange(11.0)[None, :, None]
    np.testing.assert_array_equal(layers.max_pool(x)[0, :, 0], [1, 3, 5, 7, 9, 10])
    np.testing.assert_array_equal(heads.upsample(layers.max_pool(x), 11)[0, :, 0], [1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 10])


def test_unfolding_undoes_folding():
    x = jnp.arange(22.0).reshape(1, 11, 2)
    folded = layers.fold(x, 4)
    assert folded.shape == (1, 3, 8)
    np.testing.assert_array_equal(folded[0, 1], x[0, 4:8].ravel())
    np.testing.assert_array_equal(layers.unfold(folded, 4, 11), x)


@pytest.mark.parametrize("name", ["alexnet", "lenet"])
def test_classics_give_one_logit_a_spectrum(name):
    module, variables, inputs = build_small(name=name)
    assert not apply(module, variables, *inputs)["logit"].any()  # the last unit starts at zero
    params = jax.tree.map(lambda w: w if w.any() else w + 0.1, variables["params"])
    out = apply(module, {**variables, "params": params}, *inputs)
    assert out["logit"].shape == (2,) and len(np.unique(out["logit"])) == 2


@pytest.mark.parametrize("changes", [{"name": "vgg"}, {"norm": "layer"}, {"dtype": "float16"}])
def test_unknown_values_are_named(changes):
    with pytest.raises(UserError, match="expected one of"):
        make_model(model_config(**changes))
