"""What is compared: scorers are functions of a batch -> logit (N,), higher is more line-like, and wave (N,), Angstrom.

All see the same spectra; only the oracle sees their truth.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.physics import grid
from lensjax.search import matched_filter
from lensjax.tasks import make_task

Batch = dict[str, jax.Array]
Scorer = Callable[[Batch], dict[str, jax.Array]]

TRUTH = ("flux", "ivar", "continuum", "artefact", "sigma", "profile")  # what the oracle looks at
ORACLE_TAPS = 41  # pixels of the true profile that the oracle correlates with: beyond 5 sigma of any line


def make_scorers(config: Any, trained: Any, params: Any, model_state: Any) -> dict[str, Scorer]:
    """network, practical, traditional and oracle.

    Args:
      config: of the mocks and of the matched filters.
      trained: the config that the network was trained with, as its checkpoint holds it.
      params, model_state: of the network.
    """
    network = make_task(trained).predict
    practical = matched_filter.make_predict(config, practical=True)
    traditional = matched_filter.make_predict(config, practical=False)
    threshold = config.search.matched_filter.threshold
    return {
        "network": lambda batch: network(params, model_state, batch),
        "practical": lambda batch: practical(None, None, batch),
        "traditional": lambda batch: traditional(None, None, batch),
        "oracle": make_oracle(grid.window(*config.data.window), threshold),
    }


def make_oracle(loglam: np.ndarray, threshold: float) -> Scorer:
    """The limit that nothing can beat: a matched filter that knows the true continuum, artefacts, noise and profile.

    Its logit is S/N - threshold. For a spectrum without a line the profile is one drawn from the same law, so that one
    shape is tried either way.
    """
    wave = jnp.asarray(grid.wave(loglam), jnp.float32)

    def score(batch: Batch) -> dict[str, jax.Array]:
        snr = jax.vmap(oracle_snr)({name: batch[name] for name in TRUTH})
        return {"logit": snr.max(1) - threshold, "wave": wave[snr.argmax(1)]}

    return score


def oracle_snr(example: Batch) -> jax.Array:
    """Matched-filter S/N (P,) of the true profile centred on each pixel.

    S/N(p) = sum_i d_i k_{i-p} / s_i^2 / sqrt(sum_i k_{i-p}^2 / s_i^2), with d = flux - continuum - artefact, s the true
    noise and k the profile. Pixels with ivar = 0 are as missing for the oracle as for everyone.
    """
    half, num = ORACLE_TAPS // 2, example["flux"].shape[0]
    weight = jnp.where(example["ivar"] > 0, example["sigma"] ** -2.0, 0.0)
    signal = (example["flux"] - example["continuum"] - example["artefact"]) * weight
    centre = example["profile"].argmax()
    kernel = jax.lax.dynamic_slice(jnp.pad(example["profile"], half), (centre,), (ORACLE_TAPS,))
    kernel = kernel / jnp.maximum(kernel.max(), 1e-30)
    signal, weight = jnp.pad(signal, half), jnp.pad(weight, half)
    numerator = sum(kernel[j] * signal[j : j + num] for j in range(ORACLE_TAPS))
    norm = sum(kernel[j] ** 2 * weight[j : j + num] for j in range(ORACLE_TAPS))
    return jnp.where(norm > 0, numerator / jnp.sqrt(jnp.where(norm > 0, norm, 1.0)), 0.0)
