"""What is compared: scorers are functions of a batch -> logit (N,), higher is more line-like, and wave (N,), Angstrom.

All see the same spectra; only the oracle sees their truth.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.physics import grid
from lensjax.search import systems
from lensjax.tasks import make_task

Batch = dict[str, jax.Array]
Scores = dict[str, dict[str, jax.Array]]
Scorer = Callable[[Batch], Scores]

TRUTH = ("flux", "ivar", "continuum", "artefact", "sigma", "profile")  # what the oracle looks at
COMPARED = ("logit", "wave", "waves", "logits")
ORACLE_TAPS = 41  # pixels of the true profile that the oracle correlates with: beyond 5 sigma of any line


def make_scorers(config: Any, trained: Any, params: Any, model_state: Any) -> list[Scorer]:
    """Jitted functions of a batch -> {name: {logit, wave (N,)}} of network, practical, traditional, oracle.

    The two filters share a program, since they differ in the last step only.

    Args:
      config: of the mocks and of the matched filters.
      trained: the config that the network was trained with, as its checkpoint holds it.
      params, model_state: of the network.
    """
    predict = make_task(trained).predict
    system = systems.of(config)
    practical, traditional = (system.make_predict(config, practical=wanted) for wanted in (True, False))
    oracle = make_oracle(grid.window(*config.data.window), config.search.matched_filter.threshold, system.searched)

    def filters(batch: Batch) -> Scores:
        return {"practical": practical(None, None, batch), "traditional": traditional(None, None, batch)}

    programs = (lambda batch: {"network": predict(params, model_state, batch)}, filters, oracle)
    return [jax.jit(lambda batch, run=run: select(run(batch))) for run in programs]


def select(scores: Scores) -> Scores:
    """Of what the scorers return, what is compared."""
    return {name: {key: out[key] for key in COMPARED if key in out} for name, out in scores.items()}


def make_oracle(loglam: np.ndarray, threshold: float, searched: Callable[..., jax.Array]) -> Scorer:
    """The limit that nothing can beat: a matched filter that knows the true continuum, artefacts, noise and profile.

    Its logit is S/N - threshold. For a spectrum without a line the profile is one drawn from the same law, so that one
    shape is tried either way. searched: (wave (P,), z) -> bool (P,), where lines are looked for.
    """
    wave = jnp.asarray(grid.wave(loglam), jnp.float32)

    def score(batch: Batch) -> Scores:
        snr = jax.vmap(oracle_snr)({name: batch[name] for name in TRUTH})
        snr = jnp.where(jax.vmap(lambda z: searched(wave, z))(batch["z"]), snr, 0.0)
        return {"oracle": {"logit": snr.max(1) - threshold, "wave": wave[snr.argmax(1)]}}

    return score


def oracle_snr(example: Batch) -> jax.Array:
    """Matched-filter S/N (P,) of the true profile centred on each pixel.

    S/N(p) = sum_i d_i k_{i-p} / s_i^2 / sqrt(sum_i k_{i-p}^2 / s_i^2), with d = flux - continuum - artefact, s the true
    noise and k the profile. Pixels with ivar = 0 are as missing for the oracle as for everyone.
    """
    half, num = ORACLE_TAPS // 2, example["flux"].shape[0]
    weight = jnp.where(example["ivar"] > 0, example["sigma"] ** -2.0, 0.0)
    signal = (example["flux"] - example["continuum"] - example["artefact"]) * weight
    centre = jnp.abs(example["profile"]).argmax()  # absorption is negative
    kernel = jax.lax.dynamic_slice(jnp.pad(example["profile"], half), (centre,), (ORACLE_TAPS,))
    kernel = kernel / jnp.maximum(jnp.abs(kernel).max(), 1e-30)
    signal, weight = jnp.pad(signal, half), jnp.pad(weight, half)

    def add(j: jax.Array, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        near = [jax.lax.dynamic_slice(values, (j,), (num,)) for values in (signal, weight)]
        return sums[0] + kernel[j] * near[0], sums[1] + kernel[j] ** 2 * near[1]

    # A loop, not unrolled: the kernel differs between spectra, and this compiles in no time.
    numerator, norm = jax.lax.fori_loop(0, ORACLE_TAPS, add, (jnp.zeros(num), jnp.zeros(num)))
    return jnp.where(norm > 0, numerator / jnp.sqrt(jnp.where(norm > 0, norm, 1.0)), 0.0)
