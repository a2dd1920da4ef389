"""Winograd's convolutions are the plain ones, with their gradients; devices and shapes they do not suit take XLA's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax.models import layers, winograd

KEYS = jax.random.split(jax.random.key(0), 3)


def case(pixels, taps, padding, channels=64):
    """x (3, pixels, channels), a kernel of 70 features, a cotangent of the result."""
    x = jax.random.normal(KEYS[0], (3, pixels, channels))
    kernel = jax.random.normal(KEYS[1], (taps, channels, 70))
    out = pixels if padding == "SAME" else pixels - taps + 1
    return x, kernel, jax.random.normal(KEYS[2], (3, out, 70))


def plain(x, kernel, padding):
    """The definition, a sum over the taps of the kernel, and what it takes of x: in float64."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    reach = len(kernel) - 1
    ends = (reach // 2, reach - reach // 2) if padding == "SAME" else (0, 0)
    padded = np.pad(x, ((0, 0), ends, (0, 0)))
    shifted = [padded[:, i : padded.shape[1] - reach + i] for i in range(len(kernel))]
    return sum(part @ tap for part, tap in zip(shifted, kernel, strict=True)), shifted


def close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-5 * np.std(expected))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("pixels", "taps"), [(16, 3), (17, 3), (30, 2), (23, 4), (19, 5), (8, 5)])
def test_the_convolution_and_its_gradients_are_the_plain_ones(pixels, taps, padding):
    x, kernel, gradient = case(pixels, taps, padding)
    result, pull = jax.vjp(lambda x, kernel: winograd.conv_1d(x, kernel, padding), x, kernel)
    expected, shifted = plain(x, kernel, padding)
    close(result, expected)
    of_x, of_kernel = pull(gradient)
    close(of_kernel, np.stack([np.einsum("npc,npd->cd", part, np.asarray(gradient, np.float64)) for part in shifted]))
    slope = jnp.vdot(layers.conv_gemm(of_x, kernel, 1, padding), gradient)  # linear: <W of_x, g> = <of_x, W' g>
    np.testing.assert_allclose(slope, jnp.vdot(of_x, of_x), rtol=1e-5)


@pytest.mark.parametrize(("tile", "taps"), [(2, 3), (3, 3), (4, 3), (4, 5), (1, 8), (6, 3)])
def test_the_equation_holds(tile, taps):
    change, rng = winograd.transforms(tile, taps), np.random.default_rng(0)
    pixels, kernel = rng.normal(size=tile + taps - 1), rng.normal(size=taps)
    result = change.to_result @ ((change.of_taps @ kernel) * (change.of_pixels @ pixels))
    np.testing.assert_allclose(result, np.correlate(pixels, kernel, "valid"), rtol=0, atol=1e-12)


def test_tiles_that_float32_cannot_carry_are_refused():
    with pytest.raises(ValueError, match="is more than 8"):
        winograd.transforms(7, 3)


def test_sums_leave_zeros_out():
    x = jnp.array([np.nan, 1.0]), jnp.array([2.0, 3.0]), jnp.array([5.0, 7.0])
    (first, second) = winograd.combine(np.array([[0.0, 1.0, -1.0], [0.0, 0.0, 2.5]]), x)
    np.testing.assert_array_equal(first, [-3.0, -4.0])
    np.testing.assert_array_equal(second, [12.5, 17.5])


def lowered(x, kernel, platform="cpu"):
    """Text of `layers.conv_1d` as a device of that platform runs it."""
    run = jax.jit(lambda x, kernel: layers.conv_1d(x, kernel, 1, "SAME"))
    return run.trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()


def test_cpus_take_it_where_it_is_faster():
    x, kernel, _ = case(16, 3, "SAME")
    assert "stablehlo.convolution" not in lowered(x, kernel)
    assert "stablehlo.convolution" in lowered(x, kernel, "cuda")
    for others in (case(16, 3, "SAME", channels=16), case(6, 3, "SAME"), case(16, 7, "SAME"), case(16, 1, "SAME")):
        assert "stablehlo.convolution" in lowered(*others[:2])
    assert "stablehlo.convolution" in lowered(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
