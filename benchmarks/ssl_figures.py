"""Figures of docs/ssl.md: views of mocks as the encoder is given them, and whether its features collapsed in training.

python benchmarks/ssl_figures.py [--workdir=runs/ssl] [--out=docs/figures]
"""

import argparse
import json
import pathlib
import sys

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
VIEWS = 3  # of each mock
SHOWN = {"lens": 0, "red galaxy": 1, "spiral": 3}  # name -> index in sims.galaxies.KINDS
PANELS = ("loss", "accuracy", "alignment", "uniformity", "rank", "std")


def views(config) -> tuple[np.ndarray, np.ndarray]:
    """(mocks (M, H, H, 3), their views (M, VIEWS, S, S, 3)), one mock of each kind of SHOWN, nanomaggies a pixel."""
    import jax

    from lensjax.data.augment import make_augment
    from lensjax.data.batches import make_simulator
    from lensjax.tasks.contrast import OBSERVED

    mocks = jax.jit(jax.vmap(make_simulator(config)))(jax.random.split(jax.random.key(4), 128))
    rows = np.array([int(np.flatnonzero(np.asarray(mocks["kind"]) == kind)[0]) for kind in SHOWN.values()])
    chosen = {name: np.asarray(mocks[name])[rows] for name in OBSERVED}
    augment, keys = make_augment(config.augment), jax.random.split(jax.random.key(0), VIEWS)
    each = jax.jit(jax.vmap(jax.vmap(augment, (0, None)), (None, 0)))
    return chosen["image"], np.asarray(each(keys, chosen))


def draw_views(config, path: pathlib.Path) -> None:
    """A row for each mock: itself, then its views, in the viewer's colours; below, the plane "g less the galaxy"."""
    from matplotlib.figure import Figure

    from lensjax.evaluate.figures import save
    from lensjax.surveys.viewer import to_rgb
    from lensjax.tasks.stretch import make_stretch

    images, seen = views(config)
    stretch = make_stretch(config.model.stretch)
    figure = Figure(figsize=(0.8 * (VIEWS + 1), 1.6 * len(SHOWN)), layout="constrained")
    axes = figure.subplots(2 * len(SHOWN), VIEWS + 1)
    for row, (name, image, several) in enumerate(zip(SHOWN, images, seen, strict=True)):
        for column, shown in enumerate([image, *several]):
            upper, lower = axes[2 * row, column], axes[2 * row + 1, column]
            upper.imshow(to_rgb(shown), origin="lower")
            lower.imshow(np.asarray(stretch(shown))[..., 3], origin="lower", cmap="gray", vmin=-0.7, vmax=1.3)
            for axis in (upper, lower):
                axis.set(xticks=[], yticks=[])
        axes[2 * row, 0].set_ylabel(name, fontsize=7)
        axes[2 * row + 1, 0].set_ylabel("g - a z", fontsize=7)
    axes[0, 0].set_title("mock", fontsize=7)
    for column in range(VIEWS):
        axes[0, column + 1].set_title(f"view {column + 1}", fontsize=7)
    save(figure, path)


def draw_training(rows: list[dict], path: pathlib.Path) -> None:
    """What metrics.jsonl says over the steps of a run."""
    from lensjax.evaluate.figures import panels, save

    figure, axes = panels(2, 3, 3.4, 2.5, sharex=True)
    train = [row for row in rows if row["split"] == "train"]
    for axis, name in zip(axes.flat, PANELS, strict=True):
        axis.plot([row["step"] for row in train], [row[name] for row in train], color="#0072B2", label="batch")
        test = [row for row in rows if row["split"] == "test" and name in row]
        if test:
            axis.plot([r["step"] for r in test], [r[name] for r in test], "o-", color="#D55E00", label="test split")
            axis.legend(fontsize=8)
        axis.set_title(name, fontsize=10)
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("step")
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", default=ROOT / "runs" / "ssl", type=pathlib.Path)
    parser.add_argument("--out", default=ROOT / "docs" / "figures", type=pathlib.Path)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from configs import ssl

    draw_views(ssl.get_config("demo"), options.out / "ssl_views.png")
    journal = options.workdir / "metrics.jsonl"
    if journal.is_file():
        rows = [json.loads(line) for line in journal.read_text().splitlines()]
        draw_training(rows, options.out / "ssl_training.png")


if __name__ == "__main__":
    main()
