"""Is a score a probability? The released networks, alone and averaged, with and without a temperature.

On the mocks that the default config describes: calibration error of the score as trained (focal loss), of the score as
`calibration.posterior` reads it, and at the temperature that half of the mocks give; completeness at fixed
false-positive rates, to which no temperature matters.

    python benchmarks/lya_calibration.py
"""

import argparse

import jax
import numpy as np
from scipy import special

from configs import lya
from lensjax.evaluate import calibrate, score_mocks
from lensjax.search import calibration, restore
from lensjax.tasks import metrics

FPRS = (0.01, 0.001)


def make_scorers() -> tuple[list, dict[str, float]]:
    """Functions of a batch -> {name: {logit, wave}}: both networks, and their ensemble; and what share of the mocks had
    a line in the training of each, of the ensemble's first."""
    config = lya.get_config()
    names = {"two classes": "lya", "three classes": "lya_threeclass"}
    members = {name: restore.load_member(config, restore.RELEASED / folder) for name, folder in names.items()}
    groups = {name: [member] for name, member in members.items()} | {"ensemble of both": list(members.values())}

    def scorer(name: str, group: list):
        predict = restore.combine([m.predict for m in group], 0.0)
        params, model_state = [m.params for m in group], [m.model_state for m in group]

        def score(batch: dict) -> dict:
            out = predict(params, model_state, batch)
            return {name: {"logit": out["logit"], "wave": out["wave"]}}

        return jax.jit(score)

    fractions = {name: group[0].config.sim.line_fraction for name, group in groups.items()}
    return [scorer(name, group) for name, group in groups.items()], fractions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--num", type=int, default=20_000, help="mocks")
    args = parser.parse_args()
    config = lya.get_config()
    config.inject.line_rate = config.sim.line_fraction  # the posterior among these mocks
    scorers, fractions = make_scorers()
    for name, scored in score_mocks(config, scorers, args.num, 7).items():
        trained = config.copy_and_resolve_references()
        trained.sim.line_fraction = fractions[name]
        found = calibrate(scored)
        logits, label = scored["logit"].astype(np.float64), scored["label"]
        read = metrics.calibration_error(calibration.posterior(special.expit(logits), trained)[1::2], label[1::2])
        rates = [metrics.completeness_at_fpr(logits, label, fpr) for fpr in FPRS]
        print(
            f"{name}: calibration error {100 * found['error']:.2f} % as trained, {100 * read:.2f} % by the focal loss, "
            f"{100 * found['error_at_temperature']:.2f} % at temperature {found['temperature']:.3f}; completeness "
            + ", ".join(f"{100 * rate:.1f} % at {100 * fpr:g} %" for rate, fpr in zip(rates, FPRS, strict=True))
        )


if __name__ == "__main__":
    main()
