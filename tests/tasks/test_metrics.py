"""Metrics against scikit-learn and closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats
from sklearn import metrics as sk

from lensjax.tasks import losses, metrics


@pytest.fixture(params=["smooth", "tied"])
def scores(request):
    rng = np.random.default_rng(0)
    label = (rng.random(500) < 0.2).astype(np.float32)
    score = special.expit(rng.normal(size=500) + 1.5 * label)
    return (np.round(score, 1) if request.param == "tied" else score), label


def test_binary_metrics_equal_scikit_learn(scores):
    score, label = scores
    ours, hit = metrics.binary_metrics(score, label, 0.5), score > 0.5
    assert ours["purity"] == pytest.approx(sk.precision_score(label, hit))
    assert ours["completeness"] == pytest.approx(sk.recall_score(label, hit))
    assert ours["accuracy"] == pytest.approx(sk.accuracy_score(label, hit))
    assert ours["roc_auc"] == pytest.approx(sk.roc_auc_score(label, score))
    assert ours["average_precision"] == pytest.approx(sk.average_precision_score(label, score))
    assert ours["false_positives_per_100k"] == pytest.approx(1e5 * np.mean(hit[label == 0]))


def test_roc_curve_equals_scikit_learn(scores):
    score, label = scores
    fpr, tpr, threshold = sk.roc_curve(label, score, drop_intermediate=False)
    ours = metrics.roc_curve(score, label)
    np.testing.assert_allclose(ours.fpr, fpr)
    np.testing.assert_allclose(ours.completeness, tpr)
    np.testing.assert_allclose(ours.threshold, threshold)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_loss_equals_the_training_loss(scores, gamma):
    score, label = np.clip(scores[0], 0.01, 0.99), scores[1]
    logit = jnp.asarray(special.logit(score), jnp.float32)
    np.testing.assert_allclose(metrics.focal_loss(score, label, gamma), losses.focal(logit, label, gamma), rtol=1e-5)
    assert np.isfinite(metrics.focal_loss(np.array([0.0, 1.0]), np.array([1, 0])))


@pytest.mark.parametrize("fpr", [0.0, 0.01, 0.1, 1.0])
def test_threshold_never_lets_more_through_than_asked(scores, fpr):
    score, label = scores
    cut = metrics.threshold_at_fpr(score, label, fpr)
    negative = score[label == 0]
    assert np.mean(negative > cut) <= fpr
    below = negative[negative < cut]
    if len(below):  # the next lower cut would let too many through
        assert np.mean(negative > below.max()) > fpr or np.isinf(cut)


def test_completeness_at_fpr_of_two_gaussians():
    rng = np.random.default_rng(1)
    score = np.concatenate([rng.normal(size=40_000), rng.normal(2.0, size=40_000)])
    label = np.repeat([0, 1], 40_000)
    expected = stats.norm.sf(stats.norm.isf(0.01) - 2.0)
    assert metrics.completeness_at_fpr(score, label, 0.01) == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize("level", [0.6827, 0.9545])
def test_interval_covers_as_often_as_it_says(level):
    """Counts are discrete, so the coverage swings with the rate; its mean over rates is the level."""
    rate, found = np.linspace(0.02, 0.98, 400)[:, None], np.arange(51)
    lower, upper = metrics.binomial_interval(found, 50, level)
    covered = (stats.binom.pmf(found, 50, rate) * ((lower <= rate) & (rate <= upper))).sum(1)
    assert covered.mean() == pytest.approx(level, abs=0.01)


def test_interval_at_its_ends():
    np.testing.assert_array_equal(metrics.binomial_interval(0, 0), (0, 1))
    assert metrics.binomial_interval(0, 10)[0] == 0 and metrics.binomial_interval(10, 10)[1] == 1


def test_completeness_map_counts_each_object_in_its_bin():
    found = np.array([True, False, True, True])
    snr, wave = np.array([4.0, 4.5, 9.0, 9.0]), np.array([3900.0, 3950.0, 4100.0, 5000.0])
    out = metrics.completeness_map(found, snr, wave, np.array([4.0, 8.0, 12.0]), np.array([3800.0, 4000.0, 5000.0]))
    np.testing.assert_array_equal(out["total"], [[2, 0], [0, 2]])
    np.testing.assert_array_equal(out["completeness"], [[0.5, np.nan], [np.nan, 1.0]])
    assert out["lower"][0, 0] < 0.5 < out["upper"][0, 0]


def test_rates_without_objects_are_nan():
    alone = metrics.binary_metrics(np.array([0.2, 0.3]), np.array([0, 0]), 0.5)
    assert np.isnan(alone["completeness"]) and np.isnan(alone["purity"]) and alone["accuracy"] == 1


def test_nan_scores_are_refused():
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        metrics.roc_auc(np.array([np.nan, 0.1]), np.array([0, 1]))


def test_temperature_undoes_a_stretch_of_the_logits():
    rng = np.random.default_rng(5)
    true = rng.normal(0, 2, 40_000)
    label = (rng.random(40_000) < 1 / (1 + np.exp(-true))).astype(float)
    assert metrics.fit_temperature(3 * true, label) == pytest.approx(3, rel=0.05)


def test_calibration_error_of_known_scores():
    label = np.array([0, 0, 0, 1] * 100)
    assert metrics.calibration_error(np.full(400, 0.25), label, bins=1) == pytest.approx(0)
    assert metrics.calibration_error(np.full(400, 0.75), label, bins=1) == pytest.approx(0.5)
    two = np.r_[np.full(200, 0.1), np.full(200, 0.9)]
    assert metrics.calibration_error(two, np.r_[np.zeros(200), np.ones(200)], bins=2) == pytest.approx(0.1)


def test_infinite_scores_are_ties():
    assert metrics.roc_auc(np.full(4, -np.inf), np.array([1, 0, 1, 0])) == 0.5
    assert metrics.average_precision(np.full(4, np.inf), np.array([1, 0, 0, 0])) == 0.25
