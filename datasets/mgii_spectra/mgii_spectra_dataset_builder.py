"""TFDS builder of mock quasar spectra, half of them with Mg II absorbers in front."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import tensorflow_datasets as tfds

from datasets import spectra


@dataclasses.dataclass(kw_only=True)
class MgiiConfig(spectra.SpectraConfig):
    """See `spectra.SpectraConfig`; 50,000 with and 50,000 without absorbers, 4:1, as in Zhao et al. (2019)."""

    SYSTEM: ClassVar[str] = "mgii"
    LAW: ClassVar[str] = "absorber_law"

    num_train: int = 80_000
    num_test: int = 20_000


builder_config = MgiiConfig.of


class Builder(spectra.SpectraBuilder):
    """100,000 mock spectra by default; see README.md for the columns."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [
        MgiiConfig(name="default", description="Uniform in the S/N of the doublet, as dirty as real data."),
        MgiiConfig(name="paper", description="The recipe of Zhao et al. 2019.", variant="paper"),
        MgiiConfig(name="smoke", description="Tiny, for tests.", variant="smoke", num_train=90, num_test=10),
    ]
    COLUMNS = spectra.Columns(
        scalars=("z", "wave", "snr"),
        flags=("label", "kind"),
        oracle=("continuum", "sigma", "artefact", "profile"),
        pixel_flags=("pixel_label",),
        slots=("z_abs", "ew_2796", "ew_2803", "fwhm", "absorber_snr"),
    )

    def make_simulator(self, settings) -> Callable:
        """Quasars on the window of the settings."""
        from lensjax.sims import mgii

        return mgii.make_simulator(settings)
