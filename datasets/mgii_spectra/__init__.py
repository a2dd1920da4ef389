"""Mock spectra of quasars with and without Mg II absorbers."""

from datasets.mgii_spectra.mgii_spectra_dataset_builder import Builder, MgiiConfig, builder_config

__all__ = ["Builder", "MgiiConfig", "builder_config"]
