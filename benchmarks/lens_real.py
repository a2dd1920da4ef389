"""Real lenses against real red galaxies, with an encoder and probes that saw neither: what carries over from mocks.

python benchmarks/lens_real.py [--workdir=FOLDER] [--cutouts=FOLDER]

The lenses are 8-bit pictures of the survey's viewer turned back into flux, the galaxies of another survey (DES): what
tells them apart may be the data and not the lens. So each probe is also asked about galaxies with an injected arc
against the same galaxies without one, which differ in nothing else.
"""

import argparse
import functools
import pathlib
from typing import Any, NamedTuple

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
MOCKS, ARCS = 3_072, 24  # mocks the simulated probe is trained on; arcs injected into each galaxy, in any of 8 poses
FOLDS = 5  # of the galaxies: none is in the training and the test of a probe
PSF, NOISE = (1.48, 1.33, 1.24), (0.0031, 0.0044, 0.0117)  # arcsec and nanomaggies a pixel: medians of the survey
L2 = 1e-3


class Real(NamedTuple):
    """Images (n, S, S, 3), nanomaggies in g, r, z, and names (n,)."""

    lenses: np.ndarray
    galaxies: np.ndarray


def read(folder: pathlib.Path) -> Real:
    """The even halves of the two sets, bands last."""
    parts = []
    for name in ("top64_even_grz_nmgy", "lrg46_even_grz_nmgy"):
        with np.load(folder / f"{name}.npz") as stored:
            parts.append(np.moveaxis(stored["images"], 1, -1).astype(np.float32))
    return Real(*parts)


def poses(images: np.ndarray) -> np.ndarray:
    """(8 n, S, S, 3): turned by quarters, and mirrored; pose i of all images, then pose i + 1."""
    turned = [np.rot90(images, i, (1, 2)) for i in range(4)]
    return np.concatenate(turned + [x[:, :, ::-1] for x in turned])


def inject(config: Any, images: np.ndarray, seed: int) -> np.ndarray:
    """An arc around each galaxy of images (n, S, S, 3), of the laws of the mocks."""
    import jax

    from lensjax.data.inject_arcs import make_arcs

    arcs: Any = jax.jit(jax.vmap(make_arcs(config.sim, images.shape[1]), (0, 0, None, None, None)))
    keys = jax.random.split(jax.random.key(seed), len(images))
    step, out = 64, []
    for start in range(0, len(images), step):
        rows = np.arange(start, start + step) % len(images)
        out.append(
            np.asarray(
                arcs(keys[rows], images[rows], np.array(PSF, np.float32), np.array(NOISE, np.float32), 0.0)["image"]
            )
        )
    return np.concatenate(out)[: len(images)]


def mocks(config: Any, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of mocks, half of them lenses."""
    from lensjax.embed.mocks import MockSource

    with config.unlocked():
        config.embed.update({"num": number, "lens_fraction": 0.5})
    source = MockSource(config)
    return source.read(np.arange(number)), source.table()["label"]


def fit(vectors: np.ndarray, label: np.ndarray) -> Any:
    """The linear probe of embeddings (n, D)."""
    from lensjax.embed import linear

    return linear.fit(vectors, label, 60, L2)[-1]


def auc(score_lens: np.ndarray, score_other: np.ndarray) -> float:
    """Probability that a lens scores above a galaxy."""
    return float((score_lens[:, None] > score_other[None]).mean() + 0.5 * (score_lens[:, None] == score_other).mean())


def error(score_lens: np.ndarray, score_other: np.ndarray) -> float:
    """One sigma of `auc`, from 500 draws with replacement of both."""
    rng = np.random.default_rng(0)
    drawn = [
        auc(rng.choice(score_lens, len(score_lens)), rng.choice(score_other, len(score_other))) for _ in range(500)
    ]
    return float(np.std(drawn))


def of_injected(embed: Any, config: Any, real: Real, extra: tuple[np.ndarray, np.ndarray] | None) -> dict[str, tuple]:
    """Scores (lenses or arcs, galaxies) of a probe trained on the other galaxies with and without arcs.

    extra: embeddings and labels of mocks to train on besides.
    """
    fold = np.arange(len(real.galaxies)) % FOLDS
    on_lens, on_galaxy, on_arc = [], np.zeros(len(fold)), np.zeros(len(fold))
    posed = np.concatenate([poses(real.galaxies)] * (ARCS // 8))
    member = np.tile(np.arange(len(fold)), len(posed) // len(fold))
    plain, arcs = embed(poses(real.galaxies)), embed(inject(config, posed, 1))
    whole, lenses, tested = embed(real.galaxies), embed(real.lenses), embed(inject(config, real.galaxies, 2))
    for i in range(FOLDS):
        seen = fold != i
        without = plain[np.tile(seen, 8)]
        vectors = [np.repeat(without, ARCS // 8, 0), arcs[seen[member]]]
        label = [np.zeros(len(vectors[0])), np.ones(len(vectors[1]))]
        if extra is not None:
            vectors, label = [*vectors, extra[0]], [*label, extra[1]]
        probe = fit(np.concatenate(vectors), np.concatenate(label))
        on_lens.append(probe.logit(lenses))
        on_galaxy[~seen], on_arc[~seen] = probe.logit(whole[~seen]), probe.logit(tested[~seen])
    return {"real lenses": (np.mean(on_lens, 0), on_galaxy), "injected arcs": (on_arc, on_galaxy)}


def retrieval(lenses: np.ndarray, galaxies: np.ndarray) -> tuple[float, float]:
    """(share of lenses in the ten most similar of a lens, itself left out, over their share in all; area under ROC)."""
    both = np.concatenate([lenses, galaxies])
    both = both - both.mean(0)
    unit = both / np.linalg.norm(both, axis=1, keepdims=True)
    similarity = unit[: len(lenses)] @ unit.T
    truth = np.arange(len(both)) < len(lenses)
    shares, areas = [], []
    for i, row in enumerate(similarity):
        keep = np.arange(len(both)) != i
        order = np.argsort(-row[keep])
        shares.append(truth[keep][order[:10]].mean())
        areas.append(auc(row[keep & truth], row[~truth]))
    return float(np.mean(shares) / ((len(lenses) - 1) / (len(both) - 1))), float(np.mean(areas))


def show(name: str, scores: dict[str, tuple]) -> None:
    """One line for each pair of sets."""
    for against, (lens, galaxy) in scores.items():
        print(f"{name:34s} {against:14s} ROC AUC {auc(lens, galaxy):.3f} +- {error(lens, galaxy):.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", default=ROOT / "weights" / "ssl", type=pathlib.Path)
    parser.add_argument("--cutouts", default=ROOT.parent / "shared" / "data" / "cutouts", type=pathlib.Path)
    options = parser.parse_args()
    for folder in (options.workdir, options.cutouts):
        if not folder.is_dir():
            print(f"nothing at {folder}: no encoder, or no real cutouts, to judge")
            return

    import jax

    from lensjax.core.checkpoint import restore_for_inference
    from lensjax.core.compile import enable_cache
    from lensjax.embed.encoder import with_weights
    from lensjax.tasks import make_task

    enable_cache()
    stored, params, model_state = restore_for_inference(options.workdir)
    config = with_weights(stored, stored)
    task, real = make_task(config), read(options.cutouts)
    fresh = jax.jit(task.init)(jax.random.key(1))[:2]
    drawn, label = mocks(config, MOCKS)
    for name, weights in {"trained": (params, model_state), "random weights": fresh}.items():
        judge(name, functools.partial(run, jax.jit(task.predict), weights), config, real, (drawn, label))


def run(predict: Any, weights: tuple, images: np.ndarray, step: int = 64) -> np.ndarray:
    """Embeddings (n, D), a batch of one size at a time."""
    parts = [images[np.arange(i, i + step) % len(images)] for i in range(0, len(images), step)]
    return np.concatenate([np.asarray(predict(*weights, {"image": p})["embedding"]) for p in parts])[: len(images)]


def judge(name: str, embed: Any, config: Any, real: Real, simulated: tuple[np.ndarray, np.ndarray]) -> None:
    """Print what three probes and similarity make of the real images."""
    vectors, label = embed(simulated[0]), simulated[1]
    probe = fit(vectors, label)
    whole = probe.logit(embed(real.galaxies))
    arcs = probe.logit(embed(inject(config, real.galaxies, 2)))
    lenses = probe.logit(embed(real.lenses))
    show(f"{name}, probe of mocks", {"real lenses": (lenses, whole), "injected arcs": (arcs, whole)})
    show(f"{name}, probe of injected arcs", of_injected(embed, config, real, None))
    show(f"{name}, probe of both", of_injected(embed, config, real, (vectors, label)))
    enriched, area = retrieval(embed(real.lenses), embed(real.galaxies))
    print(f"{name}, leave one out: {enriched:.2f} x chance in the 10 nearest of a lens, mean ROC AUC {area:.3f}")


if __name__ == "__main__":
    main()
