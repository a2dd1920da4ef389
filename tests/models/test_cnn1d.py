"""The network of Zhao et al. (2019) layer by layer, and the deep ones it is compared with."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import lya
from lensjax.core.errors import UserError
from lensjax.models import cnn1d, init_variables, layers, make_model

DEEP = ("vgg1d", "inception1d", "resnet34_1d")


def build(name, **changes):
    model = lya.get_config().model
    with model.unlocked():
        model.update({"name": name, **changes})
    return make_model(model)


def shapes(module, pixels, channels=1):
    """Shapes of the variables, and of what every layer gives, by its path."""
    inputs = (jnp.zeros((2, pixels, channels)), jnp.zeros((2, pixels)), jnp.ones((2, pixels), bool))
    variables = jax.eval_shape(lambda key: init_variables(module, key, *inputs), jax.random.key(0))
    _, seen = jax.eval_shape(lambda v: module.apply(v, *inputs, capture_intermediates=True), variables)
    flat = jax.tree_util.tree_leaves_with_path(seen["intermediates"])
    return variables, {"/".join(k.key for k in path if hasattr(k, "key")): x.shape for path, x in flat}


def test_layers_have_the_lengths_and_widths_of_the_paper():
    _, outputs = shapes(cnn1d.CNN1D(), 3841)
    convolutions = [outputs[f"Conv_{i}/__call__"][1:] for i in range(5)]
    assert convolutions == [(766, 96), (251, 256), (81, 384), (79, 384), (77, 256)]
    dense = [outputs[f"DenseHead_0/Dense_{i}/__call__"] for i in range(3)]
    assert dense == [(2, 512), (2, 512), (2, 1)]


def test_kernels_have_the_shapes_of_the_paper():
    variables, _ = shapes(cnn1d.CNN1D(), 3841)
    params = variables["params"]
    kernels = [params[f"Conv_{i}"]["kernel"].shape for i in range(5)]
    assert kernels == [(15, 1, 96), (5, 96, 256), (3, 256, 384), (3, 384, 384), (3, 384, 256)]
    assert params["DenseHead_0"]["Dense_0"]["kernel"].shape == (25 * 256, 512)


@pytest.mark.parametrize("size", [3, 10, 25])
def test_other_first_kernels_leave_about_as_many_pixels(size):
    variables, _ = shapes(cnn1d.CNN1D(first_size=size), 3841)
    assert variables["params"]["Conv_0"]["kernel"].shape == (size, 1, 96)
    assert variables["params"]["DenseHead_0"]["Dense_0"]["kernel"].shape[0] // 256 in (25, 26)


@pytest.mark.parametrize("pixels", [40, cnn1d.least_pixels(15) - 1, cnn1d.least_pixels(15), 1000])
def test_any_length_of_spectrum_works(pixels):
    variables, _ = shapes(cnn1d.CNN1D(), pixels, channels=3)
    count = variables["params"]["DenseHead_0"]["Dense_0"]["kernel"].shape[0] // 256
    assert count == 1 if pixels <= cnn1d.least_pixels(15) else count > 1


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("size", "stride"), [(15, 5), (11, 4), (3, 5), (3, 2), (4, 1)])
@pytest.mark.parametrize("pixels", [31, 40])
def test_lowerings_agree_with_flax(padding, size, stride, pixels):
    rng = np.random.default_rng(0)
    x, kernel = (rng.normal(size=s).astype(np.float32) for s in ((2, pixels, 2), (size, 2, 3)))
    conv = nn.Conv(3, (size,), (stride,), padding, use_bias=False)
    expected = conv.apply({"params": {"kernel": kernel}}, x)
    for lowering in (layers.conv_1d, layers.conv_gemm):
        np.testing.assert_allclose(lowering(x, kernel, stride, padding), expected, atol=1e-5)


def test_output_is_that_of_plain_layers():
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(2, 600, 1)), jnp.float32)
    module = cnn1d.CNN1D()
    variables = jax.jit(lambda key: init_variables(module, key, x, x[..., 0], x[..., 0] > 0))(jax.random.key(2))
    last = variables["params"]["DenseHead_0"]["Dense_2"]
    assert not last["kernel"].any()
    last["kernel"] = jnp.asarray(rng.normal(size=last["kernel"].shape), jnp.float32)
    y = x
    for i, (stride, pooled) in enumerate([(5, 1), (1, 1), (1, 0), (1, 0), (1, 1)]):
        params = variables["params"][f"Conv_{i}"]
        width, size = params["kernel"].shape[2], params["kernel"].shape[0]
        y = nn.relu(nn.Conv(width, (size,), (stride,), "VALID").apply({"params": params}, y))
        y = nn.max_pool(y, (3,), (3,)) if pooled else y
    y = y.reshape(2, -1)
    for i in range(3):
        params = variables["params"]["DenseHead_0"][f"Dense_{i}"]
        y = y @ params["kernel"] + params["bias"][None]
        y = nn.relu(y) if i < 2 else y[:, 0]
    logit = jax.jit(module.apply)(variables, x, x[..., 0], x[..., 0] > 0)["logit"]
    np.testing.assert_allclose(logit, y, rtol=1e-4)


@pytest.mark.parametrize("name", DEEP)
def test_the_first_kernel_of_the_deep_networks_varies(name):
    for size in (3, 25):
        module = build(name, first_size=size, width=8)
        variables, _ = shapes(module, 3841)
        assert variables["params"]["Conv_0"]["kernel"].shape == (size, 1, 8)


@pytest.mark.parametrize(("name", "convolutions"), [("vgg1d", 13), ("inception1d", 57), ("resnet34_1d", 36)])
def test_deep_networks_have_the_convolutions_of_their_papers(name, convolutions):
    variables, _ = shapes(build(name, first_size=0, width=0), 3841)
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    assert sum(path[-1].key == "kernel" and x.ndim == 3 for path, x in leaves) == convolutions


@pytest.mark.parametrize("name", DEEP)
def test_deep_networks_work_on_short_spectra_in_training(name):
    module = build(name, width=8)
    x = jnp.asarray(np.random.default_rng(3).normal(size=(3, 70, 2)), jnp.float32)
    inputs = (x, x[..., 0], x[..., 0] > 0)
    variables = jax.jit(lambda key: init_variables(module, key, *inputs))(jax.random.key(0))
    variables["params"] = jax.tree.map(
        lambda w: w if w.any() else w + 0.1, variables["params"]
    )  # the last unit starts at 0
    rules = dict(train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(1)})
    logit = jax.jit(lambda v: module.apply(v, *inputs, **rules)[0]["logit"])(variables)
    assert logit.shape == (3,) and bool(jnp.isfinite(logit).all()) and len(np.unique(logit)) == 3


def test_an_impossible_first_kernel_is_named():
    with pytest.raises(UserError, match=r"model\.first_size is -3"):
        build("cnn1d", first_size=-3)
