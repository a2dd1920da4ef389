"""The odds that the simulator knows: an integral done by hand, and lines as often as they say."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import integrate, special, stats

from configs import lya
from lensjax.core.errors import UserError
from lensjax.core.task import init_state, make_train_step
from lensjax.data.batches import make_batches, make_simulator
from lensjax.physics import grid
from lensjax.sims.lya import PAPER_PEAK, PAPER_PEAK_SCALE
from lensjax.tasks import classify, make_task, teacher

WINDOW = (3800.0, 4000.0)
LOGLAM = grid.window(*WINDOW)


def config(**loss):
    config = lya.get_config("taught")
    config.data.window, config.model.widths, config.model.channels = WINDOW, (4, 4), ("flux", "scaled")
    config.sim.line_fraction, config.sim.line_law = 0.5, "paper"
    config.loss.update(loss)
    return config


def test_odds_of_a_pixel_are_the_integral_over_peaks_and_widths():
    rng, pixel = np.random.default_rng(0), 60
    profiles = [teacher.make_profile(sigma) for sigma in teacher.make_widths(config(), LOGLAM)]
    sigma = rng.uniform(0.5, 1.5, len(LOGLAM))
    continuum = rng.uniform(0.5, 1.0, len(LOGLAM))
    excess = rng.normal(size=len(LOGLAM)) * sigma
    near = slice(pixel - teacher.HALF, pixel + teacher.HALF + 1)
    excess[near] += 2 * profiles[2]
    mask = rng.random(len(LOGLAM)) > 0.1
    mask[pixel] = True
    mocks = {"flux": continuum + excess, "continuum": continuum, "sigma": sigma}
    mocks = {name: jnp.asarray(x, jnp.float32)[None] for name, x in mocks.items()}
    of_pixels, _ = jax.jit(teacher.make_odds(config()))(mocks, jnp.asarray(mask)[None])

    def ratio(peak, profile):
        chi2 = [np.sum(((excess[near] - p * profile) / sigma[near])[mask[near]] ** 2) for p in (peak, 0.0)]
        return np.exp(0.5 * (chi2[1] - chi2[0])) * stats.expon.pdf(peak - PAPER_PEAK, scale=PAPER_PEAK_SCALE)

    areas = [integrate.quad(ratio, PAPER_PEAK, 30, args=(profile,), limit=200)[0] for profile in profiles]
    assert of_pixels[0, pixel] == pytest.approx(np.log(np.mean(areas)), abs=2e-3)
    assert np.all(of_pixels[0, ~mask] == -1e9)


@pytest.mark.parametrize("law", teacher.LAWS)
def test_lines_are_as_frequent_as_the_odds_of_the_spectra_say(law):
    setting = config(prior=0.5, law=law)
    setting.sim.line_law = law
    simulate, odds = make_simulator(setting), teacher.make_odds(setting)
    mocks = jax.jit(jax.vmap(simulate))(jax.random.split(jax.random.key(3), 6_000))
    _, of_spectra = jax.jit(odds)(mocks, mocks["ivar"] > 0)
    label, probability = np.asarray(mocks["label"]), special.expit(np.asarray(of_spectra))
    edges = np.array([0, 0.05, 0.2, 0.5, 0.8, 0.95, 1.0001])
    for low, high in itertools.pairwise(edges):
        inside = (probability >= low) & (probability < high)
        told, seen = probability[inside].mean(), label[inside].mean()
        assert seen == pytest.approx(told, abs=4 * np.sqrt(told * (1 - told) / inside.sum()) + 0.02)
    rare = teacher.make_odds(config(prior=1 / 15, law=law))(
        jax.tree.map(lambda x: x[:4], mocks), mocks["ivar"][:4] > 0
    )[1]
    np.testing.assert_allclose(of_spectra[:4] - rare, np.log(14), atol=1e-4)


def test_certain_the_right_way_is_no_distance():
    told, true = jnp.array([9.0, -9.0, 9.0, 1.0, 0.5, -9.0]), jnp.array([5.0, -5.0, 1.0, 9.0, 0.0, 5.0])
    expected = [0.0, 0.0, 7.5, 2.5, 0.125, 12.5]
    np.testing.assert_allclose(teacher.distance(told, true, (-4.0, 4.0)), expected, rtol=1e-6)


def test_soft_targets_are_those_of_a_survey_whatever_the_mixture_of_mocks():
    setting = config(prior=0.2)
    odds, told, weights = teacher.make_odds(setting), [], []
    for fraction in (0.2, 0.6):
        setting.sim.line_fraction = fraction
        mocks = jax.jit(jax.vmap(make_simulator(setting)))(jax.random.split(jax.random.key(5), 8_000))
        _, true = jax.jit(odds)(mocks, mocks["ivar"] > 0)
        brightness = jnp.mean(mocks["flux"], axis=1)
        logit = jnp.clip(0.5 * (brightness - brightness.mean()) - 1.4, -5, 5)  # of a network that knows little
        told.append(float(teacher.soft(logit, true, 0.2, fraction)))
        weights.append(float(teacher.soft(jnp.zeros_like(true), true, 0.2, fraction)) / np.log(2))
        by_hand = -np.mean(np.where(mocks["label"] > 0.5, *jax.nn.log_sigmoid(jnp.stack([logit, -logit]))))
        assert fraction > 0.2 or told[0] == pytest.approx(by_hand, rel=0.03)
    assert weights == pytest.approx([1, 1], abs=0.03) and told[1] == pytest.approx(told[0], rel=0.04)


def test_a_network_learns_what_it_is_taught_and_sees_no_truth():
    setting = config()
    setting.train.batch_size, setting.data.num_test = 32, 32
    batch = make_batches(setting).train(0)
    truth = {"continuum", "sigma"}
    assert truth <= batch.keys() and "profile" not in batch
    task, tx = make_task(setting), optax.adam(1e-2)
    state = jax.jit(lambda key: init_state(task, tx, key))(jax.random.key(0))
    step, history = jax.jit(make_train_step(task, tx)), []
    for _ in range(40):
        state, metrics = step(state, batch, jax.random.key(1))
        history.append(metrics)
    assert history[-1]["odds"] < 0.6 * history[0]["odds"] and history[-1]["loss"] < 0.6 * history[0]["loss"]
    seen = {name: x for name, x in batch.items() if name not in truth}
    out = jax.jit(task.predict)(state.params, state.model_state, seen)
    hidden = {**seen, "ivar": jnp.where(seen["ivar"] > 0, 1.0, 0.0)}  # of the errors it sees where there are none
    np.testing.assert_allclose(jax.jit(task.predict)(state.params, state.model_state, hidden)["logit"], out["logit"])


def test_a_network_learns_the_probabilities_of_a_survey():
    setting = config(soft_weight=10.0, teach_weight=0.01)
    setting.train.batch_size = 32
    task, tx = make_task(setting), optax.adam(1e-2)
    batch, state = make_batches(setting).train(0), jax.jit(lambda key: init_state(task, tx, key))(jax.random.key(0))
    step, history = jax.jit(make_train_step(task, tx)), []
    for _ in range(60):
        state, metrics = step(state, batch, jax.random.key(1))
        history.append(float(metrics["soft"]))
    assert history[-1] < 0.6 * history[0]


def test_batches_hold_no_truth_where_nothing_is_taught():
    setting = config()
    setting.loss.teach_weight, setting.train.batch_size = 0.0, 8
    assert not {"continuum", "sigma"} & make_batches(setting).train(0).keys()


def test_published_sets_do_not_teach():
    setting = config()
    setting.data.source = "tfds"
    with pytest.raises(UserError, match=r"data\.source 'tfds' does not hold their continuum and noise"):
        make_batches(setting)


def test_what_cannot_be_taught_is_refused():
    for change, sentence in (
        ({"dirt": 1.0}, "only the odds of clean mocks"),
        ({"line_profile": "skewnormal"}, "only the odds of clean mocks"),
    ):
        setting = config()
        setting.sim.update(change)
        with pytest.raises(UserError, match=sentence):
            classify.make_objective(setting)
    with pytest.raises(UserError, match=r"config\.loss\.law is 'snr': expected one of paper, lesser"):
        classify.make_objective(config(law="snr"))
    with pytest.raises(UserError, match=r"by the law 'paper': config\.sim\.line_law 'lesser' has to be the same"):
        setting = config(soft_weight=1.0)
        setting.sim.line_law = "lesser"
        classify.make_objective(setting)
    with pytest.raises(UserError, match=r"set config\.loss\.teach_weight too"):
        classify.make_objective(config(soft_weight=1.0, teach_weight=0.0))
    setting = config()
    setting.model.locate = False
    with pytest.raises(UserError, match="teaches odds of pixels"):
        classify.make_objective(setting)
