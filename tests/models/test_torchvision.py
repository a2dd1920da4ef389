"""Published PyTorch weights in our trees: every array in its place, and the same features as PyTorch's."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax.core.errors import UserError
from lensjax.models import init_variables, resnet2d, torchvision

PEER = pathlib.Path(__file__).parents[2] / "benchmarks/peers/torch_resnet50.py"
RNG = np.random.default_rng(0)


def layout(depth, width, prefix=""):
    """Random arrays by the names and shapes of torchvision's documentation."""
    expansion, stages = {"resnet18": (1, (2, 2, 2, 2)), "resnet50": (4, (3, 4, 6, 3))}[depth]
    shapes = {"conv1.weight": (width, 3, 7, 7)}
    norms, before = {"bn1": width}, width
    for s, blocks in enumerate(stages):
        inner = width * 2**s
        for b in range(blocks):
            name, after = f"layer{s + 1}.{b}", inner * expansion
            sizes = [(inner, before, 1), (inner, inner, 3), (after, inner, 1)]
            sizes = sizes if expansion == 4 else [(inner, before, 3), (inner, inner, 3)]
            for j, (out, into, size) in enumerate(sizes, 1):
                shapes[f"{name}.conv{j}.weight"] = (out, into, size, size)
                norms[f"{name}.bn{j}"] = out
            if b == 0 and (s > 0 or expansion == 4):
                shapes[f"{name}.downsample.0.weight"] = (after, before, 1, 1)
                norms[f"{name}.downsample.1"] = after
            before = after
    for name, size in norms.items():
        shapes |= {f"{name}.{part}": (size,) for part in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"{name}.num_batches_tracked"] = ()
    shapes |= {"fc.0.weight": (before, before), "fc.0.bias": (before,), "fc.2.weight": (8, before), "fc.2.bias": (8,)}
    return {prefix + name: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def shapes_of(depth, width):
    module = resnet2d.ResNet2D(depth, width)
    return jax.eval_shape(lambda key: init_variables(module, key, jnp.zeros((1, 96, 96, 3))), jax.random.key(0))


@pytest.mark.parametrize("prefix", torchvision.PREFIXES)
@pytest.mark.parametrize(("depth", "width"), [("resnet50", 4), ("resnet18", 6)])
def test_every_array_has_a_place(depth, width, prefix):
    state = layout(depth, width, prefix)
    params, stats = torchvision.convert_encoder(state, depth)
    ours = jax.tree.map(np.shape, {"params": params, "batch_stats": stats})
    assert ours == jax.tree.map(lambda x: x.shape, shapes_of(depth, width))
    kernel = params["stage2_block0"]["conv2"]["kernel"]
    np.testing.assert_array_equal(kernel[0, 2, 1, 3], state[f"{prefix}layer2.0.conv2.weight"][3, 1, 0, 2])
    mean = stats["stage2_block0"]["norm_shortcut"]["mean"]
    np.testing.assert_array_equal(mean, state[f"{prefix}layer2.0.downsample.1.running_mean"])


def test_the_head_of_moco():
    state = layout("resnet18", 4, "module.encoder_q.")
    head = torchvision.convert_projector(state)
    x = RNG.normal(size=(3, 32)).astype(np.float32)
    weight, bias = (state[f"module.encoder_q.fc.{i}"] for i in ("0.weight", "0.bias"))
    hidden = np.maximum(x @ weight.T + bias, 0)
    expected = hidden @ state["module.encoder_q.fc.2.weight"].T + state["module.encoder_q.fc.2.bias"]
    out = resnet2d.Projector(32, 8).apply({"params": head}, x)
    np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-3)
    half = torchvision.convert_projector({name: x.astype(np.float16) for name, x in state.items()})
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {np.dtype("float32")}
    del state["module.encoder_q.fc.2.weight"]
    assert torchvision.convert_projector(state) is None


def test_other_networks_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no layer1\.0\.conv3\.weight"):
        torchvision.convert_encoder(layout("resnet18", 4), "resnet50")
    with pytest.raises(UserError, match=r"no conv1.weight, but blocks"):
        torchvision.convert_encoder({"blocks.0": np.zeros(1)}, "resnet50")
    with pytest.raises(UserError, match="no weights at"):
        torchvision.read_state(tmp_path / "moco.pth.tar")
    (tmp_path / "cut.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match="holds no weights that can be read"):
        torchvision.read_state(tmp_path / "cut.npz")


def test_a_deeper_network_is_not_cut_short():
    state = layout("resnet18", 4, "module.")
    deeper = {name.replace("layer3.1", "layer3.2"): value for name, value in state.items()}
    with pytest.raises(UserError, match=r"has module\.layer3\.2\.bn1\.bias, and resnet18 no such layer"):
        torchvision.convert_encoder(state | deeper, "resnet18")


def test_an_npz_needs_no_torch(tmp_path):
    state = layout("resnet18", 2)
    np.savez(tmp_path / "state.npz", **state)
    again = torchvision.read_state(tmp_path / "state.npz")
    assert again.keys() == state.keys()


def torch_python():
    python = os.environ.get("LENSJAX_TORCH_PYTHON") or (sys.executable if importlib.util.find_spec("torch") else "")
    if not python:
        pytest.skip("PyTorch is not installed, and LENSJAX_TORCH_PYTHON names no interpreter that has it")
    return python


def test_features_are_pytorchs(tmp_path):
    path = tmp_path / "reference.npz"
    subprocess.run([torch_python(), str(PEER), "reference", str(path), "16"], check=True)
    state = torchvision.read_state(path)
    params, stats = torchvision.convert_encoder(state, "resnet50")
    module = resnet2d.ResNet2D("resnet50", 16)
    features = jax.jit(module.apply)({"params": params, "batch_stats": stats}, state["images"])
    np.testing.assert_allclose(features, state["features"], rtol=1e-4, atol=1e-4 * np.abs(state["features"]).max())
