"""The experiments of Zhao et al. (2019) on their artificial set: which network, and how wide its first kernels.

    python benchmarks/mgii_networks.py train cnn1d:15 [vgg1d:3 ...] [--spectra 40000] [--epochs 8] [--width 0]
    python benchmarks/mgii_networks.py report [--out docs/figures]

`train` trains networks in turn, each given as NAME:KERNEL, the pixels of its first kernels; a training that was killed
goes on. `report` prints their Table 1 and Table 2 and draws Figures 5 and 6 of what has been trained, and Figure 7 for
the best. Table 2 and Figure 7 are of the test split of mocks: the survey that the paper used is not public as a set.
"""

import argparse
import json
import pathlib
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
NAMES = {"cnn1d": "CNN of the paper", "vgg1d": "VGG-16", "inception1d": "Inception", "resnet34_1d": "ResNet-34"}
COLOURS = {"cnn1d": "#0072B2", "vgg1d": "#D55E00", "inception1d": "#009E73", "resnet34_1d": "#CC79A7"}
PUBLISHED = {"cnn1d": 94.1, "vgg1d": 82.2, "inception1d": 78.7, "resnet34_1d": 66.8}  # accuracy in %, their Table 1
TEST = 4_096


def settings(name: str, kernel: int, args: argparse.Namespace) -> Any:
    """`configs/mgii.py:paper` with another network, another kernel or another number of spectra."""
    from configs import mgii

    config = mgii.get_config("paper")
    config.model.update(dict(name=name, first_size=kernel, width=0 if name == "cnn1d" else args.width))
    config.data.update(dict(num_train=args.spectra, num_test=TEST, dir=str(args.data)))
    epoch = args.spectra // config.train.batch_size
    chunk = 8 if name == "inception1d" else config.train.chunk
    config.train.update(dict(steps=args.epochs * epoch, eval_every=epoch, checkpoint_every=epoch, chunk=chunk))
    return config


def train(args: argparse.Namespace) -> None:
    """The networks of args.networks, one after the other, each in a folder of its own."""
    from lensjax.core.compile import enable_cache
    from lensjax.train import train as run

    enable_cache()
    for network in args.networks:
        name, kernel = network.split(":")
        config = settings(name, int(kernel), args)
        folder = args.runs / f"{name}_{kernel}_{config.model.width}_{args.spectra}"
        row = run(config, folder)
        print(f"{folder.name}: {100 * row['accuracy']:.2f} % after {args.epochs} epochs", flush=True)


def read(runs: pathlib.Path) -> list[dict[str, Any]]:
    """What was trained: name, kernel, width, spectra, folder, and the rows of either split of its journal."""
    from lensjax.core.journal import read_rows

    trained = []
    for folder in sorted(path.parent for path in runs.glob("*/metrics.jsonl")):
        config, rows = json.loads((folder / "config.json").read_text()), read_rows(folder / "metrics.jsonl")
        model = config["model"]
        one = {"name": model["name"], "kernel": model["first_size"], "width": model["width"], "folder": folder}
        split = {which: [row for row in rows if row["split"] == which] for which in ("train", "test")}
        if split["test"]:
            sizes = {"spectra": config["data"]["num_train"], "test_spectra": config["data"]["num_test"]}
            trained.append(one | split | sizes)
    return trained


def seen(one: dict[str, Any]) -> float:
    """Spectra that a training has seen, repeated ones counted."""
    return one["spectra"] * one["test"][-1]["epoch"]


def draw_curves(trained: list[dict[str, Any]], path: pathlib.Path) -> None:
    """Figure 5, accuracy against epochs, of the longest (and best) training of each network, and Figure 6, against the
    kernel."""
    from lensjax.evaluate.figures import panels, save

    figure, (axes,) = panels(1, 2)
    for name, label in NAMES.items():
        mine = [one for one in trained if one["name"] == name]
        if not mine:
            continue
        longest = max(mine, key=lambda one: (seen(one), one["test"][-1]["accuracy"]))
        for which, style in (("train", ":"), ("test", "o-")):
            points = np.array([(row["epoch"], 100 * row["accuracy"]) for row in longest[which]]).T
            axes[0].plot(*points, style, color=COLOURS[name], label=label if which == "test" else None)
        least = min(map(seen, mine))
        swept = sorted((one["kernel"], one["test"][-1]["accuracy"]) for one in mine if seen(one) == least)
        kernels, accuracy = np.array(swept).T
        error = np.sqrt(accuracy * (1 - accuracy) / mine[0]["test_spectra"])
        axes[1].errorbar(kernels, 100 * accuracy, 100 * error, fmt="o-", color=COLOURS[name], label=label)
    axes[0].set(xlabel="epoch", ylabel="accuracy (%)", title="training (dotted) and test split", ylim=(48, 100))
    axes[1].set(xlabel="first kernels (pixels)", title="test split, after the same number of spectra", ylim=(48, 100))
    for axis, place in zip(axes, ("lower right", "center right"), strict=True):
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, loc=place)
    save(figure, path)


def score(folder: pathlib.Path, law: str) -> dict[str, np.ndarray]:
    """Scores and truth of TEST mocks of an absorber law, by the best checkpoint of a folder."""
    import jax

    from lensjax.core.checkpoint import restore_for_inference
    from lensjax.data.batches import make_batches
    from lensjax.tasks import make_task

    config, params, model_state = restore_for_inference(folder)
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.data.update(dict(source="simulate", num_test=TEST))
        config.sim.absorber_law = law
        config.seed = 7
    predict, parts = jax.jit(make_task(config).predict), []
    for batch in make_batches(config).test():
        out = jax.device_get({**batch, "score": predict(params, model_state, batch)["score"]})
        parts.append({key: out[key] for key in ("score", "label", "z", "z_abs", "ew_2796", "ew_2803")})
    return {key: np.concatenate([part[key] for part in parts])[:TEST] for key in parts[0]}


def draw_found(scored: dict[str, np.ndarray], path: pathlib.Path) -> None:
    """Figure 7: distributions, each of area one, of all absorbers and of those in spectra that were called positive."""
    from lensjax.evaluate.figures import panels, save

    there, hit = scored["label"] > 0.5, scored["score"] > 0.5
    values = {"z of the absorber": scored["z_abs"][:, 0], "z of the quasar": scored["z"]}
    values |= {"W 2796 (Å)": scored["ew_2796"][:, 0], "W 2803 (Å)": scored["ew_2803"][:, 0]}
    figure, axes = panels(1, 4, 3.2, 3.0)
    for axis, (label, value) in zip(axes[0], values.items(), strict=True):
        edges = np.linspace(value[there].min(), np.percentile(value[there], 99), 24)
        for chosen, name, colour in ((there, "all", "#888888"), (there & hit, "found", "#0072B2")):
            axis.hist(value[chosen], edges, density=True, histtype="step", color=colour, label=name)
        axis.set(xlabel=label, yticks=[])
    axes[0, 0].legend(fontsize=8)
    save(figure, path)


def report(args: argparse.Namespace) -> None:
    """Tables and figures of what is trained."""
    from lensjax.tasks.metrics import binary_metrics

    trained = read(args.runs)
    if not trained:
        print(f"no training in {args.runs}: run `train` first")
        return
    print(f"{'network':20s} kernel width spectra epochs   test accuracy   (paper, real DR12)")
    for one in trained:
        last, n = one["test"][-1], one["test_spectra"]
        error = 100 * np.sqrt(last["accuracy"] * (1 - last["accuracy"]) / n)
        print(
            f"{NAMES[one['name']]:20s} {one['kernel']:6d} {one['width'] or 'own':>5} {one['spectra']:7,d} "
            f"{last['epoch']:6.0f}   {100 * last['accuracy']:.2f} +- {error:.2f} %   ({PUBLISHED[one['name']]} %)"
        )
    draw_curves(trained, args.out / "mgii_networks.png")
    best = max(trained, key=lambda one: one["test"][-1]["accuracy"])
    for law in ("paper", "paper2796"):
        scored = score(best["folder"], law)
        found = binary_metrics(scored["score"], scored["label"], gamma=0.0)
        f1 = 2 * found["purity"] * found["completeness"] / (found["purity"] + found["completeness"])
        told = ", ".join(f"{key} {value:.4f}" for key, value in {**found, "f1": f1}.items())
        print(f"{best['folder'].name} on fresh mocks, law {law}: {told}")
        if law == "paper":
            draw_found(scored, args.out / "mgii_found.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("train", "report"))
    parser.add_argument("networks", nargs="*", default=["cnn1d:15"], help="NAME:KERNEL")
    parser.add_argument("--spectra", type=int, default=40_000, help="to train on")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--width", type=int, default=16, help="first layer of all but the CNN; 0: their own")
    parser.add_argument("--runs", type=pathlib.Path, default=ROOT / "runs" / "mgii_networks")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT / "tensorflow_datasets")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs" / "figures")
    args = parser.parse_args()
    train(args) if args.command == "train" else report(args)


if __name__ == "__main__":
    main()
