"""Mock BOSS spectra with and without a background Lyman-alpha line."""

from datasets.lya_spectra.lya_spectra_dataset_builder import Builder, LyaConfig, builder_config

__all__ = ["Builder", "LyaConfig", "builder_config"]
