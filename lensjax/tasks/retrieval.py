"""How good embeddings are at telling lenses from the rest, and whether they collapse. numpy, outside jit."""

from typing import Any

import numpy as np

from lensjax.tasks.metrics import roc_auc


def make_metrics(config: Any) -> Any:
    """metrics(predicted, truth) of a test split: dicts with embedding (N, D) and, where it is known, label (N,)."""
    top, ridge = config.evaluate.top, config.evaluate.ridge

    def metrics(predicted: dict[str, np.ndarray], truth: dict[str, np.ndarray]) -> dict[str, float]:
        embedding = np.asarray(predicted["embedding"], np.float64)
        found = {"rank": rank(embedding)}
        if "label" in truth and 1 < truth["label"].sum() < len(embedding) - 1:
            found["roc_auc"] = ridge_auc(embedding, truth["label"], ridge)
            found["enrichment"] = enrichment(embedding, truth["label"], top)
        return found

    return metrics


def unit(embedding: np.ndarray) -> np.ndarray:
    """Rows (N, D) of length one."""
    return embedding / np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-12)


def rank(embedding: np.ndarray) -> float:
    """Dimensions in use by directions of embeddings (N, D): (sum l)^2 / sum l^2, l eigenvalues of their covariance."""
    directions = unit(embedding)
    centred = directions - directions.mean(0)
    covariance = centred.T @ centred
    return float(np.trace(covariance) ** 2 / max(np.sum(covariance**2), 1e-300))


def enrichment(embedding: np.ndarray, label: np.ndarray, top: int) -> float:
    """How many times more lenses than in the whole are among the `top` nearest (cosine) of each lens, itself left out.

    All others where they are fewer than `top`. embedding (N, D), label (N,) 1 lens.
    """
    lens, top = np.asarray(label) > 0.5, min(top, len(embedding) - 1)
    directions = unit(embedding)
    similarity = directions[lens] @ directions.T
    similarity[np.arange(len(similarity)), np.flatnonzero(lens)] = -np.inf
    nearest = np.argpartition(-similarity, top - 1, axis=1)[:, :top]
    return float(lens[nearest].mean() / lens.mean())


def ridge_auc(embedding: np.ndarray, label: np.ndarray, ridge: float) -> float:
    """Area under the ROC curve of a linear classifier, fitted on one half of the objects and scored on the other.

    Least squares with a penalty of `ridge` times the mean variance: a quick stand-in for embed/probe.py.
    embedding (N, D), label (N,) 1 lens.
    """
    score, lens = np.empty(len(embedding)), np.asarray(label) > 0.5
    place = np.where(lens, np.cumsum(lens), np.cumsum(~lens))  # lenses and the rest are halved apart
    halves = place % 2 == 0
    for held in (halves, ~halves):
        known, target = embedding[~held], lens[~held].astype(float)
        centre = known.mean(0)
        x = known - centre
        gram = x.T @ x
        gram += ridge * np.trace(gram) / len(gram) * np.eye(len(gram)) + 1e-12 * np.eye(len(gram))
        score[held] = (embedding[held] - centre) @ np.linalg.solve(gram, x.T @ (target - target.mean()))
    return 0.5 * sum(roc_auc(score[held], lens[held]) for held in (halves, ~halves))
