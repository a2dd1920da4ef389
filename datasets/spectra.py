"""What the builders of mock spectra share: their settings and their columns."""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from datasets import mocks
from datasets.shards import named

BLOCK = 1024  # spectra of one simulator call


class Columns(NamedTuple):
    """Names of the columns of a set by what they hold; P pixels, S slots."""

    scalars: tuple[str, ...]  # float32
    flags: tuple[str, ...]  # int32
    arrays: tuple[str, ...] = ("flux", "ivar", "wdisp")  # (P,) float32
    oracle: tuple[str, ...] = ("continuum", "sigma")  # (P,) float32, stored on request
    pixel_flags: tuple[str, ...] = ()  # (P,) uint8
    slots: tuple[str, ...] = ()  # (S,) float32

    def layout(self, pixels: int, slots: int, oracle: bool) -> mocks.Layout:
        """Name -> (shape, dtype) of all that are stored."""
        vectors = self.arrays + (self.oracle if oracle else ())
        columns: dict[str, Any] = dict.fromkeys(vectors, ((pixels,), np.float32))
        columns |= dict.fromkeys(self.pixel_flags, ((pixels,), np.uint8))
        columns |= dict.fromkeys(self.slots, ((slots,), np.float32))
        columns |= dict.fromkeys(self.scalars, ((), np.float32))
        return columns | dict.fromkeys(self.flags, ((), np.int32))


@dataclasses.dataclass(kw_only=True)
class SpectraConfig(tfds.core.BuilderConfig):
    """What to simulate.

    Attributes:
      num_train, num_test: spectra of each split.
      oracle: also store the true continuum and the true noise of every pixel.
      variant: variant of the system's config that the simulator settings come from.
      sim: settings that replace the variant's; all of `config.sim` when made by `builder_config`.
      window: observed wavelength range, Angstrom; None takes the variant's.
      masked_lines: of the lens, Angstrom at rest, which lines are kept off; None takes the variant's.
      seed: of the random numbers; None takes the variant's.
    """

    SYSTEM: ClassVar[str] = ""  # configs/<SYSTEM>.py
    LAW: ClassVar[str] = ""  # the field of config.sim that a set is named after

    num_train: int
    num_test: int
    oracle: bool = False
    variant: str = "default"
    sim: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    window: tuple[float, float] | None = None
    masked_lines: tuple[float, ...] | None = None
    seed: int | None = None

    def simulator_config(self):
        """The ml_collections config that the simulator is made from."""
        config = self.preset(self.variant)
        config.sim.update(self.sim)
        if self.window is not None:
            config.data.window = tuple(self.window)
        if self.masked_lines is not None:
            config.data.masked_lines = tuple(self.masked_lines)
        if self.seed is not None:
            config.seed = self.seed
        return config

    @classmethod
    def preset(cls, variant: str):
        """The project config of a variant."""
        return importlib.import_module(f"configs.{cls.SYSTEM}").get_config(variant)

    @classmethod
    def of(cls, config):
        """The builder config of a project config.

        The name carries a digest of all settings, so two different simulations never share a folder.
        """
        settings = {
            "num_train": int(config.data.num_train),
            "num_test": int(config.data.num_test),
            "oracle": bool(config.data.get("oracle", False)),
            "variant": config.get("variant", "default"),
            "sim": config.sim.to_dict(),
            "window": tuple(config.data.window),
            "seed": int(config.seed),
        }
        from lensjax.core.files import content

        masked, usual = (c.data.get("masked_lines", ()) for c in (config, cls.preset(settings["variant"])))
        if tuple(masked) != tuple(usual):  # else left out: the sets of the variants have names without it
            settings["masked_lines"] = tuple(masked)
        library = content(config.sim.continuum)[:8]  # of a file, which may be made anew
        kind = f"{config.sim[cls.LAW]}_{library}" if library else config.sim[cls.LAW]
        return cls(**named(kind, settings), **settings)


class SpectraBuilder(mocks.MockBuilder, skip_registration=True):
    """A set of spectra on the window of its config."""

    BLOCK = BLOCK
    COLUMNS: ClassVar[Columns]

    def columns(self, settings) -> mocks.Layout:
        """Those of COLUMNS."""
        from lensjax.physics import grid

        pixels, slots = len(grid.window(*settings.data.window)), settings.sim.get("max_absorbers", 0)
        return self.COLUMNS.layout(pixels, slots, self.builder_config.oracle)

    def about(self, settings) -> dict[str, Any]:
        """The wavelengths: log10 of the first pixel's, in Angstrom, and the step."""
        from lensjax.physics import grid

        return {"loglam0": float(grid.window(*settings.data.window)[0]), "loglam_step": grid.STEP}
