"""Embeddings judged by their lenses: separable ones score, random ones do not, collapsed ones are seen."""

import numpy as np
import pytest

from lensjax.tasks import retrieval

RNG = np.random.default_rng(0)
LABEL = (np.arange(1000) % 20 == 0).astype(np.float32)


def clusters(distance):
    embedding = RNG.normal(size=(1000, 16))
    embedding[:, 0] += distance * LABEL
    return embedding


def test_rank_counts_dimensions():
    flat = RNG.normal(size=(5000, 8))
    assert retrieval.rank(flat) == pytest.approx(8, rel=0.02)
    assert retrieval.rank(flat * RNG.uniform(1, 100, (5000, 1))) == pytest.approx(8, rel=0.02)  # lengths do not count
    flat[:, 1:] *= 1e-3
    assert retrieval.rank(flat) == pytest.approx(1, rel=1e-2)


def test_lenses_apart_are_found_and_random_ones_are_not():
    assert retrieval.ridge_auc(clusters(8), LABEL, 1e-3) > 0.99
    assert retrieval.enrichment(clusters(100), LABEL, 10) == pytest.approx(20)
    assert abs(retrieval.ridge_auc(clusters(0), LABEL, 1e-3) - 0.5) < 0.15
    assert retrieval.enrichment(clusters(0), LABEL, 10) < 3


def test_no_object_is_its_own_neighbour():
    embedding = np.eye(6)
    label = np.array([1, 1, 0, 0, 0, 0])
    assert retrieval.enrichment(embedding + 1e-3 * label[:, None], label, 1) == pytest.approx(3)


def test_fewer_objects_than_neighbours_are_all_looked_at():
    assert retrieval.enrichment(RNG.normal(size=(6, 3)), np.array([1, 1, 0, 0, 0, 0]), 10) == pytest.approx(0.6)


def test_without_labels_only_the_rank_is_known():
    from configs import ssl

    metrics = retrieval.make_metrics(ssl.get_config("smoke"))
    assert set(metrics({"embedding": clusters(1)}, {})) == {"rank"}
    assert set(metrics({"embedding": clusters(1)}, {"label": LABEL})) == {"rank", "roc_auc", "enrichment"}
