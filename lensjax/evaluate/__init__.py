"""How good a trained network is on mocks, beside the matched filters and the oracle on the same spectra."""

import json
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from scipy import special

from lensjax.core.checkpoint import restore_for_inference
from lensjax.core.errors import UserError
from lensjax.core.files import write_text
from lensjax.data.batches import make_simulator
from lensjax.evaluate import absorbers, figures, summary
from lensjax.evaluate.scorers import Scorer, make_scorers
from lensjax.search import systems
from lensjax.search.restore import find_continua
from lensjax.tasks import metrics

BATCH = 512
ABSORBER_TRUTH = ("z_abs", "ew_2796", "absorber_snr")  # (S,) of mocks with several absorbers
DIRT = {"clean": 0.0, "dirty": 1.0}


def evaluate(config: Any, workdir: str | os.PathLike) -> dict[str, Any]:
    """Scores mocks with the best checkpoint in `workdir` and with its rivals; returns what it writes.

    Writes evaluation.json, roc.png, completeness_snr.png, completeness_map.png and score_hist.png, and prints a line.
    Three sets of mocks: `own`, of config.sim as it is, config.evaluate.num spectra, for the plain metrics; `clean`
    and `dirty`, lines uniform in S/N 4-20, config.evaluate.num spectra with a line and as many without.
    Raises UserError if the workdir has no checkpoint, or one of another system or window, and for so few mocks that all
    have a line or none.
    """
    trained, params, model_state = restore_for_inference(workdir)
    if trained.system != config.system or tuple(trained.data.window) != tuple(config.data.window):
        own = f"configs/{trained.system}.py:{trained.get('variant', 'default')}"
        raise UserError(
            f"{workdir} was trained as {own} on {tuple(trained.data.window)}: give that --config and that data.window."
        )
    with trained.unlocked():
        trained.sim.continuum = find_continua(trained.sim.continuum, config.sim.continuum, pathlib.Path(workdir))
    scorers = make_scorers(config, trained, params, model_state)
    network_cut, fprs = logit(config.evaluate.threshold), tellable(config.evaluate.fpr, config.evaluate.num)
    result = {"num": config.evaluate.num, "seed": config.evaluate.seed, "own": own_metrics(config, scorers[0])}
    for position, name in enumerate(DIRT, start=1):
        scored = score_mocks(mock_config(config, DIRT[name]), scorers, 2 * config.evaluate.num, position)
        check_classes(counts(scored["network"]))
        cuts = dict.fromkeys(scored, 0.0) | {"network": network_cut}
        window = tuple(config.data.window)
        result[name] = {each: summary.summarise(scored[each], fprs, cuts[each], window) for each in scored}
        result[name]["mocks"] = counts(scored["network"])
        if "z_abs" in scored["network"]:
            told = {each: values for each, values in scored.items() if "waves" in values}
            purity = config.evaluate.purity
            result[name]["absorbers"] = {e: absorbers.summarise(v, purity, cuts[e]) for e, v in told.items()}
    write_text(pathlib.Path(workdir) / "evaluation.json", json.dumps(result, indent=1, allow_nan=False))
    figures.draw_all(result, pathlib.Path(workdir))
    print(one_line(result))
    return result


def tellable(rates: Sequence[float], others: int) -> tuple[float, ...]:
    """Of false-positive rates those that `others` spectra without a line, about, can tell; says which are not.

    The rate of a single one where none of them is.
    """
    told = tuple(rate for rate in rates if rate * others >= metrics.ONE)
    if len(told) < len(rates):
        lost = ", ".join(f"{rate:g}" for rate in rates if rate not in told)
        print(
            f"evaluate: {others} mocks without a line cannot tell a false-positive rate of {lost}: raise "
            "config.evaluate.num",
            file=sys.stderr,
        )
    return told or (1 / others,)


def logit(probability: float) -> float:
    """log(p / (1 - p))."""
    return float(np.log(probability) - np.log1p(-probability))


def mock_config(config: Any, dirt: float) -> Any:
    """The config with lines uniform in S/N, and spectra as dirty as `dirt`."""
    config = config.copy_and_resolve_references()
    config.sim.update({**systems.of(config).EVALUATED, "dirt": dirt, "clean_fraction": 0.0})
    return config


def own_metrics(config: Any, network: Scorer) -> dict[str, Any]:
    """Plain metrics of the network on the mocks that config.sim describes."""
    scored = score_mocks(config, [network], config.evaluate.num, 0)["network"]
    probability = special.expit(scored["logit"].astype(np.float64))
    plain = metrics.binary_metrics(probability, scored["label"], config.evaluate.threshold, config.loss.gamma)
    plain = {name: value if np.isfinite(value) else None for name, value in plain.items()}
    law = config.sim.get("line_law") or config.sim.absorber_law
    law = {"line_law": law, "dirt": config.sim.dirt, "threshold": config.evaluate.threshold}
    at_threshold = summary.at_threshold(scored, logit(config.evaluate.threshold))
    return {**law, "mocks": counts(scored), **plain, "intervals": at_threshold, "calibration": calibrate(scored)}


def calibrate(scored: summary.Scored) -> dict[str, float | None]:
    """config.search.temperature that fits the logits, and the calibration error without it and with it.

    The one half of the mocks gives the temperature, the other the errors.
    """
    logits, label = scored["logit"].astype(np.float64), scored["label"]
    if not 0 < label[::2].mean() < 1:
        return {"temperature": None}
    temperature = metrics.fit_temperature(logits[::2], label[::2])
    errors = {
        name: metrics.calibration_error(special.expit(logits[1::2] / divisor), label[1::2])
        for name, divisor in (("error", 1.0), ("error_at_temperature", temperature))
    }
    return {"temperature": temperature, **errors}


def counts(scored: summary.Scored) -> dict[str, int]:
    """How many of the scored mocks, label (N,), hold a line and how many do not."""
    lines = int((scored["label"] > 0.5).sum())
    return {"lines": lines, "without": scored["label"].size - lines}


def check_classes(number: dict[str, int]) -> None:
    """UserError where `counts` has nothing of one class: there is nothing to compare."""
    if not min(number.values()):
        raise UserError(
            f"{number['lines']} of the mocks have a line and {number['without']} have none: expected some of either, "
            "raise config.evaluate.num."
        )


def score_mocks(config: Any, scorers: list[Scorer], number: int, stream: int) -> dict[str, summary.Scored]:
    """Scores of `number` mocks by every scorer, with their truth; only one batch of spectra is held at a time.

    stream: mocks of different streams are different, mocks of one stream the same whoever scores them.
    """
    batch_size = min(BATCH, config.evaluate.num)
    simulate = jax.jit(jax.vmap(make_simulator(config)))
    seed = config.evaluate.seed + (config.seed == config.evaluate.seed)  # no mocks of a training
    key = jax.random.fold_in(jax.random.key(seed), stream)

    def run(i: int) -> dict[str, dict[str, np.ndarray]]:
        batch = simulate(jax.random.split(jax.random.fold_in(key, i), batch_size))
        truth = {"label": batch["label"], "snr": batch["snr"], "true_wave": batch["wave"]}
        truth |= {name: batch[name] for name in ABSORBER_TRUTH if name in batch}
        scores = {name: out for score in scorers for name, out in score(batch).items()}
        return jax.device_get({"truth": truth, **scores})

    parts = [run(i) for i in progress(-(-number // batch_size), config.sim)]
    columns = jax.tree.map(lambda *pieces: np.concatenate(pieces)[:number], *parts)
    truth = columns.pop("truth")
    return {name: {**truth, **scored} for name, scored in columns.items()}


def progress(number: int, sim: Any) -> Iterator[int]:
    """range(number) under a progress bar on stderr, where that is a terminal."""
    from tqdm import tqdm

    return iter(tqdm(range(number), desc=f"evaluating, dirt {sim.dirt:g}", unit="batch", disable=None, leave=False))


def one_line(result: dict[str, Any]) -> str:
    """What the reader wants to know first."""
    own, parts = result["own"], []
    for name in DIRT:
        fpr = min(result[name]["network"]["at_fpr"], key=float)
        found = {s: result[name][s]["at_fpr"][fpr]["completeness"][0] for s in ("network", "practical", "oracle")}
        shown = ", ".join(f"{scorer} {100 * value:.1f}" for scorer, value in found.items() if value is not None)
        parts.append(f"{name} completeness (%) at {100 * float(fpr):.3g}% false positives: {shown}")
    accuracy, purity, completeness = (100 * (own[n] or 0.0) for n in ("accuracy", "purity", "completeness"))
    return f"accuracy {accuracy:.2f}%, purity {purity:.1f}%, completeness {completeness:.1f}%; " + "; ".join(parts)
