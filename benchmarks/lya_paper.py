"""The paper's recipe, flux alone, beside the paper's own figures and the limit that nothing can beat.

Lines in one of 15 mocks, by either law of their flux. `--law paper=WORKDIR` names a training of configs/lya.py:paper
for a law (weights/lya_paper, or weights/lya, the network that sees more); without one, only that law's limits are
measured: the oracle, a matched filter that knows all but where the line is, at the threshold of highest accuracy; and
the odds by which mocks were drawn (tasks/teacher.py), which know the law of the fluxes besides.

Li et al. give the least peak of a line and no law above it. So the figures of the law "paper", an exponential above
that floor, are also given for other means of the exponential: the same mocks, weighted.
"""

import argparse

import common

ACCURACY, COMPLETENESS = 0.9954, 0.936  # Li et al. 2018, at P > 0.5
LAWS = ("paper", "lesser")
MEANS = (1.0, 1.5, 2.0, 2.5, 3.0)  # of the peak above its floor, 1e-17 erg/s/cm2/A; 2 as simulated


def weights(peak, mean: float):
    """Weights (N,) that turn lines of the law "paper", peak (N,), into those of another mean; 1 where there is none."""
    import numpy as np

    from lensjax.sims import lya

    above = np.maximum(peak - lya.PAPER_PEAK, 0.0)
    ratio = lya.PAPER_PEAK_SCALE / mean * np.exp(above / lya.PAPER_PEAK_SCALE - above / mean)
    return np.where(peak > 0, ratio, 1.0)


def at_means(score, label, peak, cut: float) -> None:
    """Print accuracy and completeness of what scores above the cut, for every mean; score, label, peak (N,)."""
    import numpy as np

    right = (score > cut) == (label > 0.5)
    for mean in MEANS:
        weight = weights(peak, mean)
        missed = np.sum((weight * ~right)[label > 0.5]) / np.sum(weight[label > 0.5])
        accuracy = 1 - np.mean(label) * missed - np.mean(~right & (label < 0.5))
        print(f"    mean peak {mean:g} above the floor: accuracy {accuracy:.2%}, completeness {1 - missed:.1%}")


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


def measure(law: str, workdir: str, number: int) -> dict[str, dict]:
    """Scores "logit" of the network, where there is one, and of both limits, with "label" and "peak", all (N,)."""
    import jax
    import jax.numpy as jnp

    from configs import lya
    from lensjax.core.checkpoint import restore_for_inference
    from lensjax.evaluate import score_mocks
    from lensjax.evaluate.scorers import make_oracle, select
    from lensjax.physics import grid
    from lensjax.search import systems
    from lensjax.tasks import make_task, teacher

    config = lya.get_config("paper")
    config.sim.line_law, config.loss.law, config.evaluate.num, config.model.locate = law, law, number, True
    loglam, searched, odds = grid.window(*config.data.window), systems.of(config).searched, teacher.make_odds(config)

    def limit(batch):
        looked = jax.vmap(lambda z: searched(jnp.asarray(grid.wave(loglam), jnp.float32), z))(batch["z"])
        return {"odds": {"logit": odds(batch, looked & (batch["ivar"] > 0))[1]}}

    scorers = {"oracle": make_oracle(loglam, 0.0, searched), "odds": limit}
    if workdir:
        trained, params, model_state = restore_for_inference(workdir)
        predict = make_task(trained).predict
        scorers["network"] = lambda batch: {"network": predict(params, model_state, batch)}

    def with_peak(score):
        return jax.jit(lambda batch: {k: {**v, "peak": batch["peak"]} for k, v in select(score(batch)).items()})

    return score_mocks(config, [with_peak(score) for score in scorers.values()], number, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--law", action="append", default=[], metavar="LAW=WORKDIR", help=f"of {', '.join(LAWS)}")
    parser.add_argument("--num", type=int, default=60_000)
    arguments = parser.parse_args()
    given = dict(pair.split("=", 1) for pair in arguments.law)
    for law in LAWS:
        for name, scored in measure(law, given.get(law, ""), arguments.num).items():
            score, label = scored["logit"], scored["label"]
            best = best_cut(score, label)
            cut = 0.0 if name == "network" else best
            accuracy, purity, completeness = at(score, label, cut)
            print(f"{law:8} {name:8} accuracy {accuracy:.2%}, purity {purity:.1%}, completeness {completeness:.1%}")
            if name == "network":
                accuracy_there, _, found = at(score, label, best)
                print(f"    at the cut of highest accuracy: accuracy {accuracy_there:.2%}, completeness {found:.1%}")
            if law == "paper":
                at_means(score, label, scored["peak"], cut)
            if name == "network":
                common.claim(f"accuracy, law {law}", accuracy, ACCURACY, ".4f")
                common.claim(f"completeness, law {law}", completeness, COMPLETENESS, ".3f")


if __name__ == "__main__":
    main()
