"""Mock g, r, z cutouts of strong lenses and of what looks like them."""

from datasets.lens_cutouts.lens_cutouts_dataset_builder import Builder, CutoutConfig, builder_config

__all__ = ["Builder", "CutoutConfig", "builder_config"]
