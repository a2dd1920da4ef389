"""The paper's recipe, flux alone, beside the paper's own figures and the limit that nothing can beat.

Lines in one of 15 mocks, by either law of their flux. `--law paper=WORKDIR` names a training of configs/lya.py:paper
for a law; without one, only that law's limit is measured: the oracle, at the threshold of highest accuracy.
"""

import argparse

import common

ACCURACY, COMPLETENESS = 0.9954, 0.936  # Li et al. 2018, at P > 0.5
LAWS = ("paper", "lesser")


def at(score, label, cut: float) -> tuple[float, float, float]:
    """(accuracy, purity, completeness) of what scores above the cut; score, label (N,)."""
    told, true = score > cut, label > 0.5
    return float((told == true).mean()), float(true[told].mean()), float(told[true].mean())


def best_cut(score, label) -> float:
    """The cut of highest accuracy."""
    import numpy as np

    order = np.argsort(-score, kind="stable")
    gained = np.cumsum(np.where(label[order] > 0.5, 1, -1))
    return float(score[order[gained.argmax()]]) - 1e-6


def measure(law: str, workdir: str, number: int) -> dict[str, tuple[float, float, float]]:
    """Accuracy, purity, completeness of the network, where there is one, and of the oracle."""
    import jax

    from configs import lya
    from lensjax.core.checkpoint import restore_for_inference
    from lensjax.evaluate import score_mocks
    from lensjax.evaluate.scorers import make_oracle, select
    from lensjax.physics import grid
    from lensjax.search import systems
    from lensjax.tasks import make_task

    config = lya.get_config("paper")
    config.sim.line_law, config.evaluate.num = law, number
    oracle = make_oracle(grid.window(*config.data.window), 0.0, systems.of(config).searched)
    scorers = [jax.jit(lambda batch: select(oracle(batch)))]
    if workdir:
        trained, params, model_state = restore_for_inference(workdir)
        predict = make_task(trained).predict
        scorers.append(jax.jit(lambda batch: select({"network": predict(params, model_state, batch)})))
    out = {}
    for name, scored in score_mocks(config, scorers, number, 3).items():
        score, label = scored["logit"], scored["label"]
        out[name] = at(score, label, 0.0 if name == "network" else best_cut(score, label))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--law", action="append", default=[], metavar="LAW=WORKDIR", help=f"of {', '.join(LAWS)}")
    parser.add_argument("--num", type=int, default=60_000)
    arguments = parser.parse_args()
    given = dict(pair.split("=", 1) for pair in arguments.law)
    for law in LAWS:
        for name, (accuracy, purity, completeness) in measure(law, given.get(law, ""), arguments.num).items():
            print(f"{law:8} {name:8} accuracy {accuracy:.2%}, purity {purity:.1%}, completeness {completeness:.1%}")
            if name == "network":
                common.claim(f"accuracy, law {law}", accuracy, ACCURACY, ".4f")
                common.claim(f"completeness, law {law}", completeness, COMPLETENESS, ".3f")


if __name__ == "__main__":
    main()
