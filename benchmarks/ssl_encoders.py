"""What a trained encoder is worth: lenses found in its features, beside those of random weights and of pixels' PCA.

On the same mocks: the area under the ROC curve of the linear probe, on held-out mocks; and retrieval, the lenses among
the 50 most similar objects of one lens where one object in a thousand is a lens, over what chance would find.
"""

import argparse
import pathlib

import numpy as np

TOP, RATE = 50, 1e-3  # neighbours that are looked at; lenses among the objects
COMPONENTS = 128  # of the PCA
BINNED = 2  # pixels along each axis that the PCA sees as one


def gather(config, embedders: dict) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """({name: embeddings (N, D)}, binned and stretched pixels (N, P), labels (N,)) of mocks, each drawn once."""
    import jax

    from lensjax.embed.mocks import MockSource
    from lensjax.tasks.stretch import make_stretch

    source, size, view = MockSource(config), config.embed.batch_size, config.augment.size
    stretch = jax.jit(make_stretch(config.model.stretch))
    found: dict[str, list] = {name: [] for name in (*embedders, "pixels")}
    for start in range(0, len(source), size):
        images = source.read(np.arange(start, start + size))
        for name, embed in embedders.items():
            found[name].append(np.asarray(embed(images)))
        edge = (images.shape[1] - view) // 2
        seen = np.asarray(stretch(images[:, edge : edge + view, edge : edge + view]))
        binned = seen.reshape(size, view // BINNED, BINNED, view // BINNED, BINNED, -1).mean((2, 4))
        found["pixels"].append(binned.reshape(size, -1))
    joined = {name: np.concatenate(parts)[: len(source)] for name, parts in found.items()}
    return joined, joined.pop("pixels"), source.table()["label"]


def components(pixels: np.ndarray) -> np.ndarray:
    """The principal components (N, COMPONENTS) of pixels (N, P)."""
    centred = pixels - pixels.mean(0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return centred @ vectors[:, -COMPONENTS:]


def probe_auc(embedding: np.ndarray, label: np.ndarray, config) -> float:
    """Mean over config.probe.splits random splits, half of each class held out."""
    from lensjax.embed import linear
    from lensjax.tasks.metrics import roc_auc

    areas = []
    for seed in range(config.probe.splits):
        rows = linear.split(label, np.inf, np.inf, 0.5, seed)
        probes = linear.fit(embedding[rows.train], label[rows.train], config.probe.iterations, l2=1e-3)
        areas.append(roc_auc(probes[-1].logit(embedding[rows.valid]), label[rows.valid]))
    return float(np.mean(areas))


def retrieval(embedding: np.ndarray, label: np.ndarray) -> float:
    """Lenses in the TOP nearest of a lens over chance, where RATE of the objects are lenses; mean over lenses."""
    rng = np.random.default_rng(0)
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    lenses, others = unit[label > 0.5], unit[label < 0.5]
    keep = max(round(RATE * len(others)), 1)
    shares = []
    for i, query in enumerate(lenses):
        mates = rng.choice(np.delete(np.arange(len(lenses)), i), keep, replace=False)
        similarity = np.concatenate([lenses[mates] @ query, others @ query])
        shares.append((np.argsort(-similarity)[:TOP] < keep).mean())
    return float(np.mean(shares) / (keep / (keep + len(others))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workdir", default="weights/ssl", help="of a run of ssl or lens, or with its weights.npz")
    parser.add_argument("--num", type=int, default=12_000, help="mocks")
    parser.add_argument("--lens-fraction", type=float, default=0.1)
    args = parser.parse_args()
    if not pathlib.Path(args.workdir).is_dir():
        print(f"no trained encoder at {args.workdir}: nothing to judge (give one with --workdir)")
        return

    import jax

    from lensjax.core.checkpoint import restore_for_inference
    from lensjax.core.compile import enable_cache
    from lensjax.embed.encoder import compile_encoder, with_weights
    from lensjax.tasks import make_task

    enable_cache()
    stored, params, model_state = restore_for_inference(pathlib.Path(args.workdir))
    config = with_weights(stored, stored)
    with config.unlocked():
        config.embed.update({"num": args.num, "lens_fraction": args.lens_fraction})
    task = make_task(config)
    fresh = jax.jit(task.init)(jax.random.key(1))[:2]
    embedders = {"trained": (params, model_state), "random weights": fresh}
    embedders = {name: compile_encoder(config, task, *weights) for name, weights in embedders.items()}
    found, pixels, label = gather(config, embedders)
    found["pixels, PCA"] = components(pixels)
    for name, embedding in found.items():
        area, times = probe_auc(embedding, label, config), retrieval(embedding, label)
        print(
            f"{name:16s} probe ROC AUC {area:.4f}; {times:6.1f} x chance in the {TOP} nearest of a lens, 1:{1 / RATE:g}"
        )
    print(f"({args.num} mocks; of the {TOP} nearest at most {min(1, RATE * args.num / TOP):.0%} can be lenses)")


if __name__ == "__main__":
    main()
