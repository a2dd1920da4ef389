"""Mock spectra of the whole range of BOSS to train on: a background Lyman-alpha or [OII] emitter, or none.

The fibers of `sims/plate.py`, with lines as frequent and as bright as config.sim says.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lensjax.sims import plate

LOST_RATE = 0.05  # of the galaxies, at full dirt: a wrong redshift, or a star


def make_simulator(config: Any) -> Callable[[jax.Array], dict[str, jax.Array]]:
    """One-example simulator on config.data.window, as `sims.lya.make_simulator`; of config.sim the fields redshift,
    line_fraction, oii_fraction, line_law, snr_range, mirror_fraction, line_profile and dirt count.

    Returns simulate(key) -> that of `plate.make_plate_simulator`, except that label is 1 for a line of either kind.
    """
    sim, fibers = config.sim, config.copy_and_resolve_references()
    fibers.mock.update(
        {
            "window": config.data.window,
            "sky_fraction": 0.0,
            "lya_rate": sim.line_fraction * (1 - sim.oii_fraction),
            "oii_rate": sim.line_fraction * sim.oii_fraction,
            "line_law": sim.line_law,
            "snr_range": sim.snr_range,
            "dirt": float(sim.dirt),
            "lost_rate": LOST_RATE * sim.dirt,
        }
    )
    draw = plate.make_plate_simulator(fibers)

    def simulate(key: jax.Array) -> dict[str, jax.Array]:
        fiber = draw(key)
        kind = fiber["kind"].astype(jnp.float32)
        return {**fiber, "kind": kind, "label": (kind > 0).astype(jnp.float32)}

    return simulate
