"""What compiled programs send from device to device, nothing but what must go; the devices of a CPU."""

import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax.core import sharding
from lensjax.tasks.classify import map_chunks

N = 16 * jax.device_count()
needs_devices = pytest.mark.skipif(jax.device_count() < 2, reason="one device: nothing to send")


def sent(compiled) -> list[str]:
    """Shapes of the arrays that a program gathers or exchanges."""
    lines = re.findall(r"= (\S+?)\{[^ ]* (?:all-gather|all-to-all|collective-permute)\(", compiled.as_text())
    return sorted(set(lines))


@needs_devices
def test_prediction_in_pieces_gathers_its_results_alone():
    def predict(params, model_state, batch):
        return map_chunks(lambda b: {"score": jnp.tanh(b["x"] @ params).sum(1)}, batch, 4)

    compiled = sharding.compile_predict(predict, sharding.make_mesh())
    x = np.random.default_rng(0).normal(size=(N, 32)).astype(np.float32)
    weight = np.eye(32, dtype=np.float32)
    assert sent(compiled.lower(weight, {}, {"x": x}).compile()) == [f"f32[{N}]"]
    np.testing.assert_allclose(compiled(weight, {}, {"x": x})["score"], np.tanh(x).sum(1), rtol=1e-5)


@needs_devices
def test_mocks_with_fourier_transforms_are_made_where_they_are_used():
    def simulate(key):
        noise = jax.random.normal(key, (8, 8))
        return {"image": jnp.fft.irfft2(jnp.fft.rfft2(noise) * 2.0, (8, 8))}

    def make_keys(step):
        return jax.random.split(jax.random.fold_in(jax.random.key(0), step), N)

    draw = sharding.compile_batch(make_keys, jax.vmap(simulate), sharding.make_mesh())
    assert sent(draw.lower(np.int32(3)).compile()) == []
    batch = draw(np.int32(3))["image"]
    assert len(batch.sharding.device_set) == jax.device_count()
    np.testing.assert_allclose(batch, jax.vmap(simulate)(make_keys(3))["image"], atol=1e-5)


@pytest.mark.parametrize(
    ("before", "given", "size", "least", "devices"),
    [
        ("", {}, 256, 16, 2),
        ("", {}, 255, 16, 1),
        ("", {}, 16, 16, 1),
        ("", {}, 8, 0, 2),
        ("", {"JAX_NUM_CPU_DEVICES": "4"}, 256, 16, 4),
        ("jax.devices()", {}, 256, 16, 1),
    ],
)
def test_the_cpu_is_split_where_its_cores_have_even_shares(before, given, size, least, devices):
    code = f"import jax; {before}\nfrom lensjax.core import sharding\nsharding.cores = lambda: 2\n"
    code += f"sharding.split_cpu({size}, {least})\nprint(jax.device_count())"
    plain = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run([sys.executable, "-c", code], env=plain | given, capture_output=True, text=True, check=True)
    assert int(done.stdout) == devices
