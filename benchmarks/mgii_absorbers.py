"""How many Mg II absorbers are found, how purely, and how well they are measured, on mock quasars.

    python benchmarks/mgii_absorbers.py [--workdir DIR] [--num 20000] [--out DIR]

Three sets: `paper`, the artificial set of Zhao et al. (2019; one doublet, both lines of W > 0.3 A at 3 sigma, in half
of the spectra), `paper2796`, the same with the bounds on the stronger line alone, and `survey`, quasars as
configs/mgii.py has them with the observed distribution of W. On each: the network,
the doublet filter with the networks' continuum (practical) and with a running median (traditional), and the oracle,
which knows continuum, noise and profile. Then every absorber that the network finds in the first spectra is fitted.
Writes absorbers.json and absorbers.png.
"""

import argparse
import json
import pathlib
from typing import Any

import jax
import numpy as np

from configs import mgii as mgii_config
from configs import quasars
from lensjax import evaluate
from lensjax.core.compile import enable_cache
from lensjax.core.files import write_text
from lensjax.data.batches import make_simulator
from lensjax.evaluate import absorbers, figures, scorers, summary
from lensjax.fit import mgii
from lensjax.physics import grid
from lensjax.search import restore
from lensjax.tasks import metrics

SETS = {  # name -> title in the figure
    "paper": "artificial set",
    "paper2796": "artificial set, cuts on 2796 alone",
    "survey": "survey-like set",
}
FPRS = (0.01, 0.003)
CUTS = {"network": 0.0, "practical": 0.0, "traditional": 0.0, "oracle": 0.0}
DRAWN = {  # scorer -> label and marker in the figure; open markers let a curve below them be seen
    "network": dict(label="network", marker="o", markersize=3.5),
    "practical": dict(
        label="doublet filter, the network's continuum", marker="s", markersize=8, markerfacecolor="none", zorder=3
    ),
    "traditional": dict(label="doublet filter, running median", marker="^", markersize=4),
}
BATCH, FITTED = 256, 20_000


def settings(name: str, config: Any) -> Any:
    """The config whose mocks are scored."""
    config = config.copy_and_resolve_references()
    if name == "survey":
        config.sim.absorber_law = "observed"
    else:
        config.sim.update({**quasars.paper_simulation(), "absorber_law": name})
    return config


def report(scored: dict[str, Any], purity: float) -> dict[str, Any]:
    """What is told of each scorer: objects at fixed false-positive rates, best accuracy; absorbers at a purity."""
    out = {}
    for name, values in scored.items():
        label = values["label"] > 0.5
        order = np.sort(values["logit"])[:: max(1, len(label) // 2000)]
        best = max(float(np.mean((values["logit"] > cut) == label)) for cut in order)
        rates = {f"{fpr:g}": metrics.completeness_at_fpr(values["logit"], label, fpr) for fpr in FPRS}
        out[name] = {
            "auc": metrics.roc_auc(values["logit"], label),
            "best_accuracy": best,
            "completeness_at_fpr": rates,
        }
        out[name] |= {"at_threshold": summary.at_threshold(values, CUTS[name])}
        if "waves" in values:
            out[name]["absorbers"] = absorbers.summarise(values, purity, CUTS[name])
    return out


def fit_found(config: Any, predict: Any, number: int, cut: float) -> dict[str, Any]:
    """Fits of the absorbers that the network finds (logit > cut) in `number` mocks, with their truth."""
    simulate = jax.jit(jax.vmap(make_simulator(config)))
    loglam = grid.window(*config.data.window)
    parts = []
    for i in range(-(-number // BATCH)):
        batch = jax.device_get(simulate(jax.random.split(jax.random.fold_in(jax.random.key(99), i), BATCH)))
        out = jax.device_get(predict(batch))
        slot, _ = absorbers.match(out["waves"], out["logits"], batch["z_abs"])
        rows, place = np.nonzero((slot >= 0) & (out["logits"] > cut))
        which = slot[rows, place]
        fitted = mgii.fit_doublets(
            batch["flux"][rows],
            batch["ivar"][rows],
            out["waves"][rows, place] / 2796.352 - 1.0,
            loglam,
            batch["wdisp"][rows],
        )
        truth = {f"true_{name}": batch[name][rows, which] for name in ("z_abs", "ew_2796", "ew_2803", "absorber_snr")}
        parts.append({**fitted, **truth})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def pulls(fits: dict[str, np.ndarray]) -> dict[str, Any]:
    """Width of (measured - true) / error, half the central 68 %, by S/N; rms of dz / (1 + z)."""
    good = fits["status"] <= 1
    out: dict[str, Any] = {"number": int(good.sum()), "failed": int((~good).sum())}
    for low, high in ((3, 6), (6, 10), (10, 20), (20, 1000), (3, 1000)):
        chosen = good & (fits["true_absorber_snr"] >= low) & (fits["true_absorber_snr"] < high)
        cell: dict[str, float] = {"number": int(chosen.sum())}
        for name in ("z_abs", "ew_2796", "ew_2803"):
            pull = ((fits[name] - fits[f"true_{name}"]) / fits[f"{name}_err"])[chosen]
            edges = np.percentile(pull, [15.865, 50, 84.135]) if chosen.any() else np.full(3, np.nan)
            cell |= {f"{name}_pull": float((edges[2] - edges[0]) / 2), f"{name}_median": float(edges[1])}
        dz = ((fits["z_abs"] - fits["true_z_abs"]) / (1 + fits["true_z_abs"]))[chosen]
        cell |= {"dz_rms": float(np.sqrt(np.mean(dz**2))), "dz_68": float(np.percentile(np.abs(dz), 68.27))}
        out[f"snr {low}-{high}"] = cell
    return out


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Completeness of absorbers at the purity against W and z, for the network and both filters."""
    figure, axes = figures.panels(len(SETS), 2, sharey=True)
    for row, (name, title) in zip(axes, SETS.items(), strict=True):
        for axis, (key, label) in zip(row, (("by_ew", "W 2796 (Å)"), ("by_z", "z of the absorber")), strict=True):
            for offset, (scorer, style) in enumerate(DRAWN.items()):
                cells = result[name][scorer]["absorbers"][key]
                found, low, high = 100 * np.array(cells["completeness"], float).T
                errors = np.maximum([found - low, high - found], 0)
                shift = 0.01 * (cells["edges"][-1] - cells["edges"][0]) * (offset - 1)
                centres = figures.middles(cells["edges"]) + shift
                axis.errorbar(centres, found, errors, elinewidth=1, **{**figures.STYLES[scorer], **style})
            axis.set(xlabel=label, title=title, ylim=(-4, 104))
            axis.grid(alpha=0.3)
        row[0].set_ylabel("completeness at 99.1 % purity (%)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(DRAWN), fontsize=9)
    figures.save(figure, path)


def main() -> None:
    """Score, fit, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", default="no-such-folder", help="of a training; default: the released weights")
    parser.add_argument("--num", type=int, default=20_000, help="spectra of each set")
    parser.add_argument("--fits", type=int, default=FITTED, help="spectra whose absorbers are fitted")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("."))
    args = parser.parse_args()
    enable_cache()
    args.out.mkdir(parents=True, exist_ok=True)
    trained, params, model_state = restore.restore(mgii_config.get_config(), args.workdir)
    every = scorers.make_scorers(trained, trained, params, model_state)
    result: dict[str, Any] = {"num": args.num}
    for stream, name in enumerate(SETS):
        config = settings(name, trained)
        config.evaluate.num = args.num
        result[name] = report(evaluate.score_mocks(config, every, args.num, 40 + stream), config.evaluate.purity)
        predict = jax.jit(lambda batch: evaluate.scorers.make_task(trained).predict(params, model_state, batch))
        cut = (result[name]["network"]["absorbers"]["at_purity"] or {"cut": 0.0})["cut"]
        result[name]["fits"] = pulls(fit_found(config, predict, args.fits, cut))
        for scorer in CUTS:
            told = result[name][scorer]
            found = (told.get("absorbers") or {}).get("at_purity") or {}
            print(
                f"{name:9s} {scorer:11s} accuracy {100 * told['best_accuracy']:.2f}, completeness at "
                + ", ".join(f"{100 * float(f):g} % {100 * c:.1f}" for f, c in told["completeness_at_fpr"].items())
                + (f"; absorbers at purity 99.1: {100 * found['completeness'][0]:.1f}" if found else "")
            )
        print(json.dumps(result[name]["fits"], indent=1))
    write_text(args.out / "absorbers.json", json.dumps(result, indent=1))
    draw(result, args.out / "absorbers.png")


if __name__ == "__main__":
    main()
