"""Which side is the tail of a line on? The three-class network beside the two-class one and the fit's sign of alpha.

On the same mocks, half of the lines mirrored: completeness of both networks at 1 % false positives, and, for the lines
that both find, how often the network's kind and the fit's alpha have the true sign, by the line's S/N.

    python benchmarks/lya_kinds.py --workdir=runs/three     # a run of configs/lya.py:threeclass
"""

import argparse
import itertools
import json
import pathlib

import jax
import numpy as np

from configs import lya as configuration
from lensjax.core.checkpoint import restore_for_inference
from lensjax.evaluate import mock_config
from lensjax.evaluate.summary import fraction
from lensjax.fit import lya
from lensjax.physics import grid
from lensjax.search.restore import RELEASED
from lensjax.sims.lya import make_simulator
from lensjax.tasks import features, make_task, metrics
from lensjax.tasks.classify import OBSERVED

BATCH, FPR = 512, 0.01
SNR_EDGES = (4.0, 6.0, 8.0, 10.0, 12.0, 16.0, 20.0)


def make_predict(workdir: pathlib.Path):
    """batch -> prediction of the network in `workdir`."""
    config, params, model_state = restore_for_inference(workdir)
    predict = jax.jit(make_task(config).predict)
    return lambda batch: jax.device_get(predict(params, model_state, batch))


def score(config, networks: dict, num: int) -> dict[str, np.ndarray]:
    """Truth, logits, kind and the fit's alpha of `num` mocks, (num,) each."""
    simulate = jax.jit(jax.vmap(make_simulator(config)))
    loglam = grid.window(*config.data.window)
    _, constants = features.make_features(config)
    subtract = jax.jit(jax.vmap(lambda e: features.fit_continuum(e, e["ivar"], constants, loglam)))
    parts = []
    for i in range(-(-num // BATCH)):
        mocks = simulate(jax.random.split(jax.random.fold_in(jax.random.key(31), i), BATCH))
        out = {name: predict({key: mocks[key] for key in OBSERVED}) for name, predict in networks.items()}
        place = grid.pixel(out["three"]["wave"], loglam)
        fits = lya.fit_lines(np.asarray(mocks["flux"] - subtract(mocks)), np.asarray(mocks["ivar"]), place, loglam)
        truth = {name: np.asarray(mocks[name]) for name in ("label", "snr", "wave", "line_alpha")}
        logits = {name: values["logit"] for name, values in out.items()}
        parts.append({**truth, **logits, "kind": out["three"]["kind"], "place": place, "alpha": fits["alpha"]})
    return {name: np.concatenate([part[name] for part in parts])[:num] for name in parts[0]}


def compare(found: dict[str, np.ndarray], loglam: np.ndarray) -> dict:
    """Completeness of both networks, and the share of right signs in bins of S/N, each [value, low, high] (68 %)."""
    line = found["label"] > 0.5
    hits = {name: found[name] > metrics.threshold_at_fpr(found[name], line, FPR) for name in ("two", "three")}
    result: dict = {name: fraction(int((hit & line).sum()), int(line.sum())) for name, hit in hits.items()}
    near = np.abs(found["place"] - grid.pixel(np.where(line, found["wave"], 4000.0), loglam)) < 3
    both = hits["two"] & hits["three"] & line & near
    red = found["line_alpha"] > 0
    right = {"network": (found["kind"] > 0.5) == red, "fit": (found["alpha"] > 0) == red}
    for low, high in itertools.pairwise(SNR_EDGES):
        chosen = both & (found["snr"] >= low) & (found["snr"] < high)
        shares = {name: fraction(int((ok & chosen).sum()), int(chosen.sum())) for name, ok in right.items()}
        result[f"S/N {low:g}-{high:g}"] = shares
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workdir", default="runs/three", help="a run of configs/lya.py:threeclass")
    parser.add_argument("--num", type=int, default=20_000, help="mocks of each kind, half of them with a line")
    args = parser.parse_args()
    config = configuration.get_config("threeclass")
    networks = {"two": make_predict(RELEASED / "lya"), "three": make_predict(pathlib.Path(args.workdir))}
    for name, dirt in (("clean", 0.0), ("dirty", 1.0)):
        found = score(mock_config(config, dirt), networks, args.num)
        print(name, json.dumps(compare(found, grid.window(*config.data.window)), indent=1))


if __name__ == "__main__":
    main()
