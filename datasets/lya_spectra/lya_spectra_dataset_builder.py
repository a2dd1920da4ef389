"""TFDS builder of mock BOSS galaxy spectra, three in ten of them (by default) with a background Lyman-alpha line."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import tensorflow_datasets as tfds

from datasets import spectra


@dataclasses.dataclass(kw_only=True)
class LyaConfig(spectra.SpectraConfig):
    """See `spectra.SpectraConfig`; 9:1 as in Li et al. (2018). With the oracle a set is 1.7 x the size."""

    SYSTEM: ClassVar[str] = "lya"
    LAW: ClassVar[str] = "line_law"

    num_train: int = 135_000
    num_test: int = 15_000


builder_config = LyaConfig.of


class Builder(spectra.SpectraBuilder):
    """150,000 mock spectra by default; see README.md for the columns."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [
        LyaConfig(name="default", description="Uniform in matched-filter S/N, as dirty as real data."),
        LyaConfig(name="paper", description="The recipe of Li et al. 2018.", variant="paper"),
        LyaConfig(name="lesser", description="Fluxes and shapes of Cao et al. 2020.", sim={"line_law": "lesser"}),
        LyaConfig(name="smoke", description="Tiny, for tests.", num_train=90, num_test=10),
    ]
    COLUMNS = spectra.Columns(
        scalars=("z", "wave", "snr", "line_flux", "line_sigma", "line_alpha", "peak"), flags=("label", "kind")
    )

    def make_simulator(self, settings) -> Callable:
        """That of the search window, or of the whole range of BOSS."""
        from lensjax.sims import lya, whole

        return (whole if settings.sim.whole_range else lya).make_simulator(settings)
