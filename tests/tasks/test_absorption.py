"""The closed-form part of the Mg II search: filter sums, continuum, channels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax.core.errors import UserError
from lensjax.physics import filters, grid, lines
from lensjax.tasks import absorption
from tests.bright_quasars import bright_quasars

PIXELS = 600


@pytest.fixture
def config():
    return bright_quasars()[0]


@pytest.fixture
def mocks():
    return bright_quasars()[1]


def test_shifted_sums_are_the_matched_filter_of_the_doublet():
    rng = np.random.default_rng(0)
    residual, ivar = rng.normal(size=PIXELS).astype(np.float32), rng.uniform(0.5, 2, PIXELS).astype(np.float32)
    ivar[100:104] = 0
    sums = absorption.line_sums(jnp.asarray(residual), jnp.asarray(ivar))
    found = absorption.doublet_snr(*sums, absorption.SEPARATION)
    best = np.zeros(PIXELS)
    for sigma, row in zip(absorption.SIGMAS, absorption.PRIOR, strict=True):
        kernel = filters.line_kernel(sigma, 0.0)
        half = len(kernel) // 2
        for ratio, share in zip(absorption.RATIOS, row, strict=True):
            for p in range(60, PIXELS - 60):
                total = norm = 0.0
                for place, scale in ((p, 1.0), (p + 11, ratio)):
                    near = slice(place - half, place + half + 1)
                    total += scale * np.sum(kernel * residual[near] * ivar[near])
                    norm += scale**2 * np.sum(kernel**2 * ivar[near])
                best[p] = max(best[p], max(total, 0) ** 2 / norm + 2 * np.log(share))
    np.testing.assert_allclose(found[60:-60], np.sqrt(best)[60:-60], rtol=2e-4, atol=2e-4)


def test_running_mean_is_unbiased_on_a_slope_and_shrinks_where_the_data_say_nothing():
    values = jnp.linspace(0.0, 3.0, PIXELS)
    free = absorption.running_mean(values, jnp.ones(PIXELS), jnp.full(PIXELS, 1e4))
    np.testing.assert_allclose(free[120:-120], values[120:-120], atol=0.02)
    held = absorption.running_mean(values, jnp.full(PIXELS, 1e-6), jnp.full(PIXELS, 0.01))
    assert np.abs(held).max() < 0.01
    assert np.all(absorption.running_mean(values, jnp.zeros(PIXELS), jnp.ones(PIXELS)) == 0)


def test_the_continuum_follows_the_quasar_and_not_its_absorber(config, mocks):
    loglam, constants = grid.window(*config.data.window), absorption.make_constants(config)
    fit = jax.jit(jax.vmap(lambda e: absorption.fit_continuum(e, constants, loglam)))
    model, ivar, scale = (np.asarray(x) for x in fit({name: mocks[name] for name in ("flux", "ivar", "z")}))
    pull = np.where(ivar > 0, (model - mocks["continuum"]) * np.sqrt(ivar), 0.0)
    clear = np.asarray(mocks["z"]) < 2.2  # no forest in the window
    assert np.median(np.sqrt(np.mean(pull[clear] ** 2, axis=1))) < 0.35  # of a pixel's error
    assert np.median(scale) == pytest.approx(1, abs=0.03)
    lined = clear & (np.asarray(mocks["label"]) > 0)
    at = np.round(grid.pixel(np.asarray(mocks["wave"])[lined], loglam)).astype(int)
    assert abs(np.median(pull[lined, at])) < 0.6  # of a line more than ten times as deep as the noise


def test_what_the_forest_holds_is_nothing_to_the_continuum_beyond_it(config, mocks):
    loglam, constants = grid.window(*config.data.window), absorption.make_constants(config)
    one = {name: mocks[name][0] for name in ("flux", "ivar")} | {"z": jnp.float32(3.6)}
    forest = grid.wave(loglam) < 1216 * 4.6 * 10 ** (-30 * grid.STEP)  # beyond the reach of a line that is masked
    assert 0.2 < forest.mean() < 0.8
    eaten = {**one, "flux": jnp.where(forest, 0.3 * one["flux"], one["flux"])}
    fit = jax.jit(lambda example: absorption.fit_continuum(example, constants, loglam)[0])
    np.testing.assert_allclose(fit(eaten)[~forest], fit(one)[~forest], rtol=1e-5)


def test_stated_errors_do_not_matter_where_they_are_wrong_throughout(config, mocks):
    loglam, constants = grid.window(*config.data.window), absorption.make_constants(config)
    one = {name: mocks[name][0] for name in ("flux", "ivar", "z")}
    fit = jax.jit(lambda example: absorption.fit_continuum(example, constants, loglam))
    (_, right, _), (_, wrong, scale) = fit(one), fit({**one, "ivar": 4 * one["ivar"]})
    assert float(scale) == pytest.approx(2, rel=0.1)
    assert np.median(wrong[right > 0] / right[right > 0]) == pytest.approx(1, abs=0.2)


def test_the_doublet_is_brightest_where_it_is(config, mocks):
    features, constants = absorption.make_features(config)
    out = jax.jit(jax.vmap(lambda e: features(e, constants)))(
        {name: mocks[name] for name in ("flux", "ivar", "wdisp", "z")}
    )
    loglam = grid.window(*config.data.window)
    label = np.asarray(mocks["label"]) > 0
    place = np.round(grid.pixel(np.where(label, mocks["wave"], 5500.0), loglam))
    off = np.abs(np.asarray(out["snr"]).argmax(1) - place)
    assert label.sum() > 10 and np.mean(off[label] <= 1) > 0.9
    snr = np.asarray(out["snr"]).max(1)
    assert np.median(snr[label]) > 2.5 * np.median(snr[~label])
    assert np.isfinite(out["x"]).all() and not np.asarray(out["snr"])[~np.asarray(out["mask"])].any()


def test_shapes_and_finiteness_without_a_single_good_pixel(config):
    features, constants = absorption.make_features(config)
    pixels = len(grid.window(*config.data.window))
    nothing = {name: jnp.zeros(pixels) for name in ("flux", "ivar")} | {"wdisp": jnp.ones(pixels), "z": jnp.float32(1)}
    out = jax.jit(features)(nothing, constants)
    fine = sum(absorption.FINE.get(name, 0) for name in config.model.channels)
    coarse = sum(absorption.COARSE.get(name, 0) for name in config.model.channels)
    assert out["x"].shape == (-(-pixels // config.model.fold), fine * config.model.fold + coarse)
    assert all(np.isfinite(value).all() for value in out.values()) and not out["mask"].any()


def test_folding_keeps_every_value():
    values = jnp.arange(2 * 10.0).reshape(2, 10)
    folded = absorption.side_by_side(values, 4, mean=False)
    assert folded.shape == (3, 8)
    np.testing.assert_array_equal(folded[1], [4, 5, 6, 7, 14, 15, 16, 17])
    np.testing.assert_allclose(absorption.side_by_side(values, 5, mean=True), [[2, 12], [7, 17]])


def test_support_points_from_mgii_to_its_iron():
    for rest, shift in zip((*lines.FEII, lines.MGI), absorption.SUPPORT, strict=True):
        assert lines.MGII[0] * 10 ** (shift * grid.STEP) == pytest.approx(rest, rel=1.2e-4)


def test_rivals_point_from_iron_to_its_mgii():
    for rest, shift in zip((lines.FEII[3], lines.FEII[1]), absorption.RIVALS, strict=True):
        assert rest * 10 ** (shift * grid.STEP) == pytest.approx(lines.MGII[0], rel=1.2e-4)


def test_unknown_channel_is_one_sentence(config):
    wrong = config.copy_and_resolve_references()
    wrong.model.channels = ("fluxx",)
    with pytest.raises(UserError, match="fluxx"):
        absorption.make_features(wrong)
