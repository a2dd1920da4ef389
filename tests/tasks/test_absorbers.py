"""Several absorbers in a spectrum: what is learned of each, and how they are told apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import mgii
from lensjax.models.heads import marginalise
from lensjax.physics import grid, lines
from lensjax.tasks import absorbers, make_task

PIXELS = 400


@pytest.fixture(scope="module")
def config():
    return mgii.get_config("smoke")


@pytest.fixture(scope="module")
def untrained(config):
    """The task, with the parameters and the state that it begins with."""
    task = make_task(config)
    return task, *jax.jit(task.init)(jax.random.key(0))[:2]


def batch_of(config, z_abs):
    z_abs = jnp.asarray(z_abs, jnp.float32)
    return {"z_abs": z_abs, "label": (z_abs[:, 0] > 0).astype(jnp.float32)}


def redshift(config, pixel):
    loglam = grid.window(*config.data.window)
    return 10 ** (loglam[0] + pixel * grid.STEP) / lines.MGII[0] - 1


def test_peaks_are_apart_best_first_and_carry_their_own_evidence():
    place = jnp.arange(PIXELS)
    strong, weak = (top - 0.5 * ((place - centre) / 0.7) ** 2 for top, centre in ((15.0, 100.25), (7.0, 250.0)))
    guide = jnp.maximum(jnp.maximum(strong, weak), -5.0)  # log likelihoods of Gaussian posteriors
    best, position, evidence = absorbers.peaks(guide)
    assert best.shape == (absorbers.MOST,) and best[:2].tolist() == [100, 250]
    assert position[0] == pytest.approx(100.25, abs=0.02) and position[1] == pytest.approx(250, abs=0.02)
    assert np.all(np.diff(evidence) <= 0) and 14 < evidence[0] < 17 and evidence[2] < 0
    assert np.abs(np.diff(np.sort(np.asarray(best)))).min() > absorbers.APART


@pytest.mark.parametrize("pixels", [20, 64, 333])
def test_peaks_are_those_of_a_search_one_after_another(pixels):
    """At the ends, and where nothing is left, too."""
    guides = np.random.default_rng(pixels).normal(0, 3, (50, pixels)).astype(np.float32)
    guides[0] = -np.inf
    found = np.asarray(jax.vmap(lambda guide: absorbers.peaks(guide, 14)[0])(guides))
    for guide, best in zip(guides, found, strict=True):
        for each in best:
            assert each == np.argmax(guide)
            guide[max(each - 14, 0) : each + 15] = -np.inf


def test_one_absorber_does_not_hide_another_from_the_loss(config):
    """Each one's pixels are left out of the other's softmax: the slopes are those of either alone."""
    objective = absorbers.make_objective(config)
    pixels = len(grid.window(*config.data.window))
    both = batch_of(config, [[redshift(config, 300), redshift(config, 700), 0.0]])
    alone, weak = (batch_of(config, [[redshift(config, place), 0.0, 0.0]]) for place in (300, 700))
    mask = jnp.ones((1, pixels), bool)
    logits = jnp.zeros((1, pixels)).at[0, 300].set(20.0).at[0, 700].set(8.0)

    def slope(batch, logits):
        out = {"logit": jnp.zeros(1)}
        return jax.grad(lambda x: objective({**out, "pixel_logit": x}, mask, batch, batch)[1]["locate"])(logits)[0]

    together, free = slope(both, logits), logits.at[0, 300].set(0.0)
    np.testing.assert_allclose(2 * together[296:305], slope(alone, logits)[296:305], atol=1e-3)
    np.testing.assert_allclose(2 * together[696:705], slope(weak, free)[696:705], atol=5e-3)


def test_losses_of_equal_parts_of_a_batch_have_its_mean(config):
    """Absorbers are 3, 0, 1 and 0 in the four spectra: each part is divided by the number that the batch has."""
    objective = absorbers.make_objective(config)
    pixels = len(grid.window(*config.data.window))
    places = [redshift(config, place) for place in (200, 500, 800)]
    batch = batch_of(config, [places, [0.0] * 3, [places[1], 0.0, 0.0], [0.0] * 3])
    mask = jnp.ones((4, pixels), bool)
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(4, pixels)), jnp.float32)
    out = {"logit": logits[:, 0], "pixel_logit": logits}
    whole = objective(out, mask, batch, batch)
    parts = []
    for rows in (slice(0, 2), slice(2, 4)):
        part_of = {name: x[rows] for name, x in out.items()}
        parts.append(objective(part_of, mask[rows], {name: x[rows] for name, x in batch.items()}, batch))
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *parts)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), mean, whole)
    assert whole[1]["locate"] > 1


def test_what_is_left_of_a_single_absorber_must_say_no(config):
    """Its doublet read one line too early is 11 pixels off, and counts as false."""
    objective = absorbers.make_objective(config)
    pixels = len(grid.window(*config.data.window))
    batch, mask = batch_of(config, [[redshift(config, 300), 0.0, 0.0]]), jnp.ones((1, pixels), bool)

    def rest(place):
        logits = jnp.full((1, pixels), -3.0).at[0, 300].set(30.0).at[0, place].set(12.0)
        return float(objective({"logit": jnp.ones(1), "pixel_logit": logits}, mask, batch, batch)[1]["rest"])

    assert rest(289) > 3 and rest(302) < 0.2


def test_gradient_is_finite_where_a_slot_is_empty(config, untrained):
    task, params, model_state = untrained
    pixels = len(grid.window(*config.data.window))
    ones = jnp.ones((2, pixels))
    batch = {"flux": ones, "ivar": ones.at[1].set(0.0), "wdisp": ones, "z": jnp.array([1.2, 1.0])}
    batch |= batch_of(config, [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    state = type("State", (), {"model_state": model_state, "extra": {}})
    slope = jax.jit(jax.grad(lambda p: task.loss(p, state, batch, jax.random.key(1))[0]))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def test_prediction_names_the_best_absorber_first(config, untrained):
    task, params, model_state = untrained
    pixels = len(grid.window(*config.data.window))
    flux = jnp.ones((1, pixels))
    for place, depth in ((300, 0.5), (311, 0.4), (700, 0.9), (711, 0.9)):
        flux = flux.at[0, place - 1 : place + 2].add(-depth)
    ivar = jnp.full((1, pixels), 400.0)
    observed = {"flux": flux, "ivar": ivar, "wdisp": 0 * flux + 1, "z": jnp.array([1.4])}
    out = jax.jit(task.predict)(params, model_state, observed)
    place = grid.pixel(np.asarray(out["waves"]), grid.window(*config.data.window))
    assert place[0, 0] == pytest.approx(700, abs=1.0) and np.abs(place[0] - 300).min() < 1.0
    assert out["wave"][0] == out["waves"][0, 0] and np.all(np.diff(out["logits"][0]) <= 0)
    assert out["z_source"][0] == pytest.approx(redshift(config, 700), abs=3e-4)


def test_a_lone_absorber_has_the_logit_of_its_spectrum(config):
    pixels = len(grid.window(*config.data.window))
    guide = jnp.full((1, pixels), -50.0).at[0, 300:303].set(jnp.array([8.0, 12.0, 9.0]))
    mask = jnp.ones_like(guide, bool)
    told = absorbers.make_describe(config)({"pixel_logit": guide}, jnp.ones_like(guide), mask)
    assert float(told["logits"][0, 0]) == pytest.approx(float(marginalise(guide, mask)[0]), abs=1e-4)
    assert told["logits"][0, 1] < -40 and told["z_source"][0] == pytest.approx(redshift(config, 301.0), abs=1e-3)
