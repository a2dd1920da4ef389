"""Input channels: what they are on spectra whose truth is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import lya
from lensjax.core.errors import UserError
from lensjax.physics import grid, profiles
from lensjax.sims import continua
from lensjax.tasks import features
from lensjax.tasks.features import CHANNELS, make_features, marginal_snr

LOGLAM = grid.window(3800.0, 5000.0)
CONFIG = lya.get_config("default")
EXTRACT, CONSTANTS = make_features(CONFIG)
RUN = jax.jit(lambda example: EXTRACT(example, CONSTANTS))
START = dict(zip(CONFIG.model.channels, np.cumsum([0, *(CHANNELS[n] for n in CONFIG.model.channels)]), strict=False))


def galaxy(z=0.505):
    basis = continua.make_continua(continua.read_library("passive"), LOGLAM, (0.3, 0.9), 6)
    row, _ = continua.snap(basis, jnp.float32(z))
    return np.asarray(continua.draw_continuum(jax.random.key(3), basis, row, len(LOGLAM)))


def example(noise=1.0, snr=0.0, pixel=600.0, seed=0, z=0.50625):
    sigma = 0.4
    profile = np.asarray(profiles.pixel_profile(len(LOGLAM), jnp.float32(pixel), jnp.float32(2.6), jnp.float32(2.5)))
    line = snr * sigma * profile / np.sqrt((profile**2).sum())
    white = np.random.default_rng(seed).normal(size=len(LOGLAM))
    flux = galaxy(z) + line + noise * sigma * white

    def as_array(x):
        return jnp.asarray(x, jnp.float32)

    return {"flux": as_array(flux), "ivar": jnp.full(len(LOGLAM), sigma**-2.0), "z": as_array(z)}


def channel(out, name):
    return np.asarray(out["x"])[:, START[name]]


def test_shapes_and_finiteness_even_without_a_single_good_pixel():
    empty = {"flux": jnp.zeros(1192), "ivar": jnp.zeros(1192), "z": jnp.float32(0.0)}
    for one in (example(), empty):
        out = RUN(one)
        assert out["x"].shape == (1192, sum(CHANNELS[name] for name in CONFIG.model.channels))
        assert out["snr"].shape == (1192,)
        assert np.isfinite(out["x"]).all() and np.isfinite(out["snr"]).all()
    assert not np.asarray(RUN(empty)["mask"]).any()


def test_flux_alone_finds_the_galaxy_whatever_errors_and_redshift_are_said_to_be():
    config = lya.get_config("taught")
    extract, constants = make_features(config)
    run = jax.jit(lambda one: extract(one, constants))
    one = example()
    x, mask = np.asarray(run(one)["x"])[:, 2], np.asarray(run(one)["mask"])
    white = np.random.default_rng(0).normal(size=len(LOGLAM))
    assert np.corrcoef(x[mask], (white / features.typical_error(LOGLAM))[mask])[0, 1] > 0.97
    other = {**one, "ivar": 9 * one["ivar"], "z": one["z"] + 0.3}  # no line to be masked at either redshift
    np.testing.assert_array_equal(run(other)["x"], run(one)["x"])


def test_residual_of_a_galaxy_is_its_noise():
    residual = channel(RUN(example()), "residual")
    good = np.asarray(RUN(example())["mask"])
    white = np.random.default_rng(0).normal(size=len(LOGLAM))
    assert np.corrcoef(residual[good], white[good])[0, 1] > 0.99
    assert residual[good].std() == pytest.approx(1, abs=0.04)


def test_filter_measures_the_line_where_it_is():
    measured = [np.asarray(RUN(example(snr=10.0, seed=seed))["snr"]) for seed in range(8)]
    assert np.mean([snr.max() for snr in measured]) == pytest.approx(10.0, abs=0.9)
    assert max(abs(snr.argmax() - 600) for snr in measured) <= 2


def test_lines_of_the_lens_are_masked():
    z = 0.32
    out = RUN(example(z=z))
    mask = np.asarray(out["mask"])
    assert not np.asarray(out["snr"])[~mask].any()
    wave = grid.wave(LOGLAM)
    for rest in (3346.8, 3426.8, 3728.48):
        assert not mask[np.abs(wave - rest * (1 + z)) < 5].any()
    assert 0.9 < mask.mean() < 0.97


def test_wrong_errors_are_rescaled_and_right_ones_left_alone():
    right = RUN(example())
    for factor in (1.5, 1 / 1.5):
        one = example()
        wrong = RUN({**one, "ivar": one["ivar"] * factor**-2.0})
        np.testing.assert_allclose(channel(wrong, "residual"), channel(right, "residual"), rtol=0.08, atol=0.05)
        np.testing.assert_allclose(channel(wrong, "scale"), -np.log(factor), atol=0.07)
        np.testing.assert_allclose(channel(wrong, "snr"), channel(right, "snr"), rtol=0.08, atol=0.05)
    assert np.abs(channel(right, "scale")).max() < 0.03


def test_ratios_to_the_errors_do_not_depend_on_the_unit_of_the_flux():
    one = example(snr=8.0)
    bright = RUN({**one, "flux": 5 * one["flux"], "ivar": one["ivar"] / 25})
    for name in ("residual", "snr", "continuum"):
        np.testing.assert_allclose(channel(bright, name), channel(RUN(one), name), rtol=0.02, atol=0.03)
    np.testing.assert_allclose(channel(bright, "log_error"), channel(RUN(one), "log_error") + np.log(5), atol=1e-4)


def test_unknown_shape_costs_no_more_than_the_prior():
    snr = jnp.zeros((len(features.FILTERS), 1)).at[2, 0].set(6.0)
    expected = np.sqrt(36 + 2 * np.log(features.PRIOR[2]))
    assert float(marginal_snr(snr)[0]) == pytest.approx(expected, abs=0.01)
    assert float(marginal_snr(-snr)[0]) < 0.2
    assert sum(features.PRIOR) == pytest.approx(1)


def test_veto_marks_sky_and_empirical_rest_lines():
    veto = channel(RUN(example()), "veto")
    wave = grid.wave(LOGLAM)
    assert veto[np.abs(wave - 4359.6).argmin()] == 1
    assert veto[np.abs(wave - 2804.2 * 1.50625).argmin()] == 1
    assert veto[np.abs(wave - 4600).argmin()] == 0


def test_unknown_channel_is_one_clear_sentence():
    config = lya.get_config("default")
    config.model.channels = ("flux", "colour")
    with pytest.raises(UserError, match="colour"):
        make_features(config)
