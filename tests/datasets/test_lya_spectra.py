"""The set of galaxies with and without a background line, by its real simulator."""

import numpy as np

from datasets import lya_spectra
from tests.datasets import sets


def test_the_published_sizes_are_those_of_the_paper():
    default = lya_spectra.Builder.BUILDER_CONFIGS[0]
    assert default.num_train + default.num_test == 150_000
    assert default.num_train == 9 * default.num_test


def test_real_mocks_depend_on_seed_split_and_position_alone(tmp_path, monkeypatch):
    made = sets.small_and_large(lya_spectra, tmp_path, monkeypatch, oracle=True, seed=3)
    for few, many in made.values():
        for one, other in zip(few, many, strict=False):
            assert all(np.array_equal(one[name], other[name]) for name in one)
    train, test = made["train"][1], made["test"][1]
    assert len({row["flux"].tobytes() for row in [*train, *test]}) == 24
    for row in train:
        assert (row["snr"] > 0) == (row["wave"] > 0) == (row["label"] == 1)
        good = row["ivar"] > 0
        assert np.isfinite(row["flux"]).all() and (row["sigma"] > 0).all() and good.mean() > 0.9
        line = row["label"] * row["line_flux"]
        pull = (row["flux"] - row["continuum"])[good] / row["sigma"][good]
        assert line > 0 or np.median(np.abs(pull)) < 1.5  # 0.67 for pure noise
