"""Cross-match of listed lenses with objects, and samples uniform in magnitude."""

import numpy as np
import pytest

from lensjax.core.errors import UserError
from lensjax.surveys.labels import RADIUS, magnitude, match_lenses, sample_uniform

ARCSEC = 1 / 3600


def test_nearest_is_the_lens_and_its_neighbours_are_no_negatives():
    dec = np.full(6, 60.0)
    ra = 10 + np.array([0.0, 3, 20, 30, 4000, np.nan]) * ARCSEC / np.cos(np.radians(60))
    labels = match_lenses(ra, dec, [10 + 2.2 * ARCSEC / 0.5], [60.0])
    assert labels.lens.tolist() == [-1, 0, -1, -1, -1, -1]
    np.testing.assert_allclose(labels.near[:3], [2.2, 0.8, 17.8], atol=1e-3)
    assert np.isnan(labels.near[3:]).all() and labels.is_negative.tolist() == [False] * 3 + [True] * 2 + [False]
    assert labels.is_lens.sum() == 1 and not labels.lost.any()
    assert RADIUS == pytest.approx(25.152)


def test_lenses_off_the_survey_and_lenses_that_share_a_source():
    labels = match_lenses([10.0], [0.0], [10 + 5 * ARCSEC, 10 + 1 * ARCSEC, 200.0], [0.0, 0.0, 5.0])
    assert labels.lens.tolist() == [1] and labels.lost.tolist() == [False, False, True]
    assert match_lenses([], [], [1.0], [1.0]).lost.all()
    assert match_lenses([1.0], [1.0], [], []).is_negative.all()


def test_across_zero_hours():
    labels = match_lenses([359.9999], [0.0], [0.0001], [0.0], radius=1.0)
    assert labels.near[0] == pytest.approx(0.72, abs=1e-3)


def test_positions_that_are_none():
    labels = match_lenses([1.0, 1.0], [-999.0, 1.0], [1.0], [1.0])
    assert labels.lens.tolist() == [-1, 0] and not labels.is_negative.any()
    with pytest.raises(UserError, match="row 1 of the lenses"):
        match_lenses([1.0], [1.0], [1.0, np.nan], [0.0, 0.0])


def test_sample_is_uniform_where_there_are_enough():
    rng = np.random.default_rng(0)
    mag = 20.5 - rng.exponential(1.2, 60_000)
    mag[:100] = np.nan
    rows = sample_uniform(mag, 4000, seed=1)
    assert len(set(rows)) == 4000 and mag[rows].max() < 20
    counts, _ = np.histogram(mag[rows], np.arange(15.5, 20.01, 0.5))
    assert counts.max() / counts.min() < 1.3
    bright = np.flatnonzero(mag < 13)
    assert set(bright) <= set(rows)  # rarer than their share: all of them
    np.testing.assert_array_equal(rows, sample_uniform(mag, 4000, seed=1))
    assert set(rows) != set(sample_uniform(mag, 4000, seed=2))


def test_too_few_objects():
    with pytest.raises(UserError, match="2 objects are brighter than 20 mag: expected 3"):
        sample_uniform([19.0, 18.0, 21.0], 3, seed=0)
    assert np.isnan(magnitude([-1.0])[0]) and magnitude(10.0) == 20.0


def test_known_lenses_of_the_table_match_themselves(real_data):
    from astropy.io import ascii as tables

    table = tables.read(real_data / "tables" / "training_lenses.tsv", format="tab")
    names = {name.lower(): name for name in table.colnames}
    ra, dec = (np.asarray(table[names[name]], float) for name in ("ra", "dec"))
    labels = match_lenses(ra, dec, ra, dec)
    assert labels.is_lens.mean() > 0.99 and np.nanmax(labels.near) < 1
