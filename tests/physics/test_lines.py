"""Rest wavelengths against the Rydberg formula, and against laboratory wavelengths in air."""

import numpy as np
import pytest

from lensjax.physics import lines

RYDBERG = 1.0967758e-3  # of hydrogen, 1 / Angstrom


def vacuum(air):
    """Vacuum Angstrom of wavelengths in air: Ciddor (1996, Applied Optics 35, 1566)."""
    square = (1e4 / np.asarray(air)) ** 2
    return air * (1 + 0.05792105 / (238.0185 - square) + 0.00167917 / (57.362 - square))


@pytest.mark.parametrize(
    ("wave", "lower", "upper"), [("LYA", 1, 2), ("HALPHA", 2, 3), ("HBETA", 2, 4), ("HGAMMA", 2, 5)]
)
def test_hydrogen_is_where_the_rydberg_formula_has_it(wave, lower, upper):
    assert getattr(lines, wave) == pytest.approx(1 / RYDBERG / (lower**-2 - upper**-2), rel=2e-5)


@pytest.mark.parametrize(
    ("waves", "air", "within"),
    [
        (lines.OII_DOUBLET, (3726.03, 3728.82), 0.02),
        (lines.OIII, (4958.91, 5006.84), 0.02),
        (lines.LENS_LINES, (3345.8, 3425.9, 3727.4, 3868.76), 0.2),
        (lines.EMPIRICAL_REST[-2:], (3933.66, 3968.47), 0.5),
        (lines.NIGHT_SKY, (5577.34, 5889.95, 5895.92, 6300.30, 6363.78), 0.1),
        (tuple(lines.AIRGLOW)[:2], (4358.33, 4046.56), 0.15),
    ],
)
def test_other_lines_are_those_of_the_laboratory_in_vacuum(waves, air, within):
    np.testing.assert_allclose(waves, vacuum(np.array(air)), atol=within)


def test_the_mean_of_oii_is_of_a_ratio_that_atoms_have():
    share = (lines.OII - lines.OII_DOUBLET[0]) / np.diff(lines.OII_DOUBLET)[0]  # of the redder line
    assert 0.35 < share / (1 - share) < 1.5


@pytest.mark.parametrize("strength", [lines.MGII_STRENGTH, lines.CIV_STRENGTH, lines.ALIII_STRENGTH])
def test_the_bluer_line_of_a_doublet_is_twice_as_strong(strength):
    assert strength[0] / strength[1] == pytest.approx(2, rel=0.02)
