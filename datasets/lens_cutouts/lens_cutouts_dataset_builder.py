"""TFDS builder of mock g, r, z cutouts, half of them with a strong lens."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from datasets import mocks
from datasets.shards import named

VECTORS = ("psfsize", "noise", "mag")  # one value a band
SCALARS = (
    "ebv", "centre_x", "centre_y", "z_lens", "theta_e", "lens_e1", "lens_e2", "gamma1", "gamma2", "source_x",
    "source_y", "source_re", "source_mag", "magnification", "arc_snr",
)  # fmt: skip
FLAGS = ("label", "kind")


@dataclasses.dataclass(kw_only=True)
class CutoutConfig(tfds.core.BuilderConfig):
    """What to simulate.

    Attributes:
      num_train, num_test: cutouts of each split.
      size: pixels of a cutout, along either axis.
      sim: settings that replace those of configs/cutouts.py; all of `config.sim` when made by `builder_config`.
      seed: of the random numbers.
    """

    num_train: int = 50_000
    num_test: int = 5_000
    size: int = 96
    sim: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0

    def simulator_config(self):
        """The ml_collections config that the simulator is made from."""
        from ml_collections import config_dict

        from configs.cutouts import lenses

        config = config_dict.ConfigDict({"data": {"size": self.size}, "seed": self.seed})
        config.sim = lenses()
        config.sim.update(self.sim)
        return config


def builder_config(config) -> CutoutConfig:
    """The builder config of a project config.

    The name carries a digest of all settings, so two different simulations never share a folder.
    """
    settings = {
        "num_train": int(config.data.num_train),
        "num_test": int(config.data.num_test),
        "size": int(config.data.size),
        "sim": config.sim.to_dict(),
        "seed": int(config.seed),
    }
    return CutoutConfig(**named(f"{settings['size']}px", settings), **settings)


class Builder(mocks.MockBuilder):
    """55,000 mock cutouts by default; see README.md for the columns."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [
        CutoutConfig(name="default", description="Half lenses, half look-alikes of seven kinds, 96 pixels."),
        CutoutConfig(name="large", description="As default, 152 pixels: room for rotation and jitter.", size=152),
        CutoutConfig(name="smoke", description="Tiny, for tests.", num_train=24, num_test=8, size=48),
    ]

    BLOCK = 256

    def columns(self, settings) -> mocks.Layout:
        """The image, and truth as numbers, three of them for what each band has."""
        size = settings.data.size
        columns: dict[str, Any] = {"image": ((size, size, 3), np.float32)}
        columns |= dict.fromkeys(VECTORS, ((3,), np.float32))
        columns |= dict.fromkeys(SCALARS, ((), np.float32))
        return columns | dict.fromkeys(FLAGS, ((), np.int32))

    def about(self, settings) -> dict[str, Any]:
        """Bands, pixel in arcsec, and what the numbers of the column `kind` stand for."""
        from lensjax.physics import bands
        from lensjax.sims.galaxies import KINDS

        return {"bands": list(bands.BANDS), "pixel": bands.PIXEL, "kinds": list(KINDS)}

    def make_simulator(self, settings) -> Callable:
        """Lenses and look-alikes."""
        from lensjax.sims import lenses

        return lenses.make_simulator(settings)
