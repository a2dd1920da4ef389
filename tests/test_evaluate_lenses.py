"""Rates at a survey's base rate: closed forms of normal scores, ties, errors, and labelled cutouts from a file."""

import types

import jax
import numpy as np
import pytest
from scipy import stats

from configs import lens
from lensjax.core.checkpoint import save_weights
from lensjax.core.errors import UserError
from lensjax.evaluate import base_rate, lenses
from lensjax.surveys.cutouts import write_cutouts
from lensjax.tasks import make_task
from lensjax.tasks.metrics import completeness_at_fpr, roc_auc

RNG = np.random.default_rng(3)
SHIFT = 2.5  # of the lenses' scores, in standard deviations


def settings(**changes):
    given = dict(base_rate=1e-2, survey=10_000, inspected=(50, 200), fpr=(1e-2, 1e-3, 1e-5), resamples=60)
    return types.SimpleNamespace(**{**given, **changes})


@pytest.fixture(scope="module")
def normal_scores():
    score = np.concatenate([RNG.normal(SHIFT, 1, 20_000), RNG.normal(0, 1, 60_000)])
    return score, np.arange(80_000) < 20_000


def test_purity_and_precision_of_normal_scores(normal_scores):
    """At a cut t completeness is Phi(shift - t), and of a survey base_rate Phi(shift - t) + (1 - base_rate) Phi(-t)."""
    found = base_rate.summarise(*normal_scores, settings(), 0)
    assert found["roc_auc"]["value"] == pytest.approx(stats.norm.cdf(SHIFT / np.sqrt(2)), abs=2e-3)
    curve = found["curve"]
    at = int(np.argmin(np.abs(np.array(curve["completeness"]) - 0.5)))  # where t = shift
    purity = 0.01 * 0.5 / (0.01 * 0.5 + 0.99 * stats.norm.sf(SHIFT))
    assert curve["purity"]["value"][at] == pytest.approx(purity, abs=0.02)
    assert curve["purity"]["lower"][at] < purity < curve["purity"]["upper"][at]
    cuts = np.linspace(0, 6, 6001)
    selected = 0.01 * stats.norm.sf(cuts - SHIFT) + 0.99 * stats.norm.sf(cuts)
    cut = cuts[np.argmin(np.abs(selected - 200 / 10_000))]
    expected = 0.01 * stats.norm.sf(cut - SHIFT) * 10_000 / 200
    assert found["precision"]["200"]["value"] == pytest.approx(expected, abs=0.02)


def test_the_share_of_lenses_in_the_test_set_does_not_matter(normal_scores):
    score, label = normal_scores
    fewer = np.flatnonzero(~label | (np.arange(len(label)) % 10 == 0))
    one, two = (base_rate.summarise(score[i], label[i], settings(), 0) for i in (slice(None), fewer))
    assert two["precision"]["50"]["value"] == pytest.approx(one["precision"]["50"]["value"], abs=0.05)
    width = [s["precision"]["50"]["upper"] - s["precision"]["50"]["lower"] for s in (one, two)]
    assert width[1] > width[0] > 0


def test_equal_scores_are_taken_together():
    score, label = np.array([1.0, 1.0, 1.0, 0.0]), np.array([True, False, False, False])
    found = base_rate.summarise(score, label, settings(base_rate=0.25, survey=4, inspected=(3,), resamples=0), 0)
    assert found["precision"]["3"]["value"] == pytest.approx(1 / 3)
    assert found["roc_auc"]["value"] == pytest.approx(roc_auc(score, label)) == pytest.approx(1 - 2 / 3 / 2)


def test_a_rate_that_too_few_objects_can_tell_is_not_given(normal_scores):
    told = base_rate.summarise(*normal_scores, settings(), 0)["at_fpr"]
    assert lenses.at_fpr(told["1e-05"], 1e-5, 20_000, 60_000) is None
    found = lenses.at_fpr(told["0.001"], 1e-3, 20_000, 60_000)
    expected = stats.norm.sf(stats.norm.isf(1e-3) - SHIFT)
    assert found["lower"] - 0.02 < expected < found["upper"] + 0.02
    assert found["completeness"] == completeness_at_fpr(*normal_scores, 1e-3)


def test_the_error_at_a_rate_is_that_of_the_threshold_too():
    """The threshold at a rate p of n others scatters by sqrt(p / n) / density, the completeness by as much times its
    own slope: twice the binomial error here. Without a lens found the interval is not empty."""
    lenses_, others, rate = 2_000, 20_000, 1e-3
    score = np.concatenate([RNG.normal(SHIFT, 1, lenses_), RNG.normal(0, 1, others)])
    told = base_rate.summarise(score, np.arange(len(score)) < lenses_, settings(fpr=(rate,), resamples=200), 0)
    found = lenses.at_fpr(told["at_fpr"]["0.001"], rate, lenses_, others)
    cut, share = stats.norm.isf(rate), found["completeness"]
    moved = np.sqrt(rate / others) * stats.norm.pdf(cut - SHIFT) / stats.norm.pdf(cut)
    expected = np.hypot(moved, np.sqrt(share * (1 - share) / lenses_))
    assert (found["upper"] - found["lower"]) / 2 == pytest.approx(expected, rel=0.35)
    nothing = lenses.at_fpr({"value": 0.0, "lower": 0.0, "upper": 0.0}, rate, lenses_, others)
    assert nothing["lower"] == 0 < nothing["upper"]


def test_purity_of_fewer_than_one_non_lens_is_not_given(normal_scores):
    """The best one of 10,000 has a false-positive rate below one in 60,000; one non-lens in 600 is 1.7e-3."""
    score, label = normal_scores
    found = lenses.told(base_rate.summarise(score, label, settings(inspected=(1, 200)), 0), int((~label).sum()))
    assert found["precision"]["1"] is None
    assert 0 < found["precision"]["200"]["value"] < 1
    few = np.flatnonzero(label | (np.arange(len(label)) % 100 == 0))
    found = lenses.told(base_rate.summarise(score[few], label[few], settings(), 0), int((~label[few]).sum()))
    purity, rate = found["curve"]["purity"], np.array(found["curve"]["fpr"]["value"])
    for values in purity.values():
        assert [value is None for value in values] == (rate < 0.999 / 600).tolist()
    assert purity["value"][0] is None and purity["value"][-1] < 0.02


def test_labelled_cutouts_of_a_file_are_evaluated(tmp_path):
    config = lens.get_config("smoke")
    params, state, _ = jax.jit(make_task(config).init)(jax.random.key(0))
    params["head"]["kernel"] = params["head"]["kernel"] + 1.0
    save_weights(tmp_path, params, state, config)
    images = RNG.normal(0, 0.004, (9, 32, 32, 3)).astype(np.float32)
    images[4] = np.nan
    label = np.array([1, 0, 1, 0, 1, 0, -1, 0, 0])
    write_cutouts(tmp_path / "known.h5", images, {"label": label})
    config.evaluate.input = str(tmp_path / "known.h5")
    found = lenses.evaluate_lenses(config.lock(), tmp_path)
    assert (found["lenses"], found["others"]) == (2, 5)  # without the one unknown and the one unreadable
    assert (tmp_path / "evaluation.png").stat().st_size > 0
    write_cutouts(tmp_path / "known.h5", images)
    with pytest.raises(UserError, match="0 lenses and 0 others"):
        lenses.evaluate_lenses(config, tmp_path)
