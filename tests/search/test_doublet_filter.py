"""The traditional search for Mg II."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax.physics import grid
from lensjax.search import doublet_filter
from tests.bright_quasars import bright_quasars


@pytest.fixture
def mocks():
    return bright_quasars()[1]


def test_running_median_is_that_of_numpy_at_its_knots():
    rng = np.random.default_rng(1)
    flux, good = rng.normal(5, 1, 300).astype(np.float32), rng.uniform(size=300) < 0.9
    found = np.asarray(doublet_filter.running_median(jnp.asarray(flux), jnp.asarray(good), 85))
    for centre in range(0, 300, doublet_filter.STEP):
        near = slice(max(0, centre - 42), centre + 43)
        values = np.sort(flux[near][good[near]])
        assert found[centre] == pytest.approx(values[(len(values) - 1) // 2], abs=1e-3)


@pytest.fixture(scope="module")
def predict():
    """predict(practical, batch), compiled for the mocks."""
    config = bright_quasars()[0]

    def run(practical, batch):
        return doublet_filter.make_predict(config, practical)({}, {}, batch)

    return jax.jit(run, static_argnums=0)


@pytest.mark.parametrize("practical", [True, False])
def test_bright_doublets_are_found_and_the_rest_is_not(predict, mocks, practical):
    out = {name: np.asarray(value) for name, value in predict(practical, mocks).items()}
    label = np.asarray(mocks["label"]) > 0
    near = np.abs(np.log10(out["wave"][label] / np.asarray(mocks["wave"])[label])) < 3 * grid.STEP
    strong = np.asarray(mocks["snr"])[label] > 10
    assert np.mean((near & (out["logit"][label] > 0))[strong]) > (0.85 if practical else 0.7)
    assert np.mean(out["logit"][~label] > 0) < 0.3
    np.testing.assert_array_equal(out["waves"][:, 0], out["wave"])


def test_a_quasar_without_a_window_has_a_status(predict, mocks):
    out = predict(False, {**mocks, "z": jnp.full_like(mocks["z"], 0.1)})
    assert doublet_filter.STATUS[int(out["status"][0])] == "no good pixel in the search window"
    assert out["score"][0] < 0.05
