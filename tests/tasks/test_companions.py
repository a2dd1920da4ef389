"""Companions of [OII]: where they are looked for, and what they are worth."""

import jax.numpy as jnp
import numpy as np
import pytest

from lensjax.physics import grid, lines
from lensjax.tasks import companions

NUM = 4349
HERE = 900  # pixel of [OII]


def spectrum(**snr):
    """S/N (P,) with lines of given S/N where a galaxy with [OII] at HERE has them."""
    rest = {"oii": lines.OII, "hbeta": lines.HBETA, "oiii": lines.OIII[1], "halpha": lines.HALPHA}
    values = np.zeros(NUM, np.float32)
    for name, value in snr.items():
        values[HERE + round(np.log10(rest[name] / lines.OII) / grid.STEP)] = value
    return jnp.asarray(values)


def test_companions_are_read_where_the_redshift_puts_them():
    others, odds = companions.beside(spectrum(hbeta=5.0, oiii=9.0, halpha=11.0), jnp.ones(NUM, bool))
    np.testing.assert_array_equal(np.asarray(others)[:, HERE], [5.0, 0.0, 9.0, 11.0])
    assert int(jnp.argmax(odds)) == HERE
    assert odds[HERE] > 50 and np.median(odds) < 0  # where nothing is, [OII] is the less likely


def test_a_place_without_data_counts_for_nothing():
    blank = jnp.zeros(NUM, bool)
    others, odds = companions.beside(spectrum(halpha=11.0), blank)
    assert not np.asarray(others).any() and not np.asarray(odds).any()
    _, seen = companions.beside(spectrum(), jnp.ones(NUM, bool))
    assert seen[-1] == 0  # all companions beyond the red end
    assert seen[0] == pytest.approx(4 * np.log(1 - companions.PRESENT + 0.6 * np.sqrt(2 * np.pi) / 17), abs=1e-5)


def test_a_line_alone_loses_the_half_that_was_bet_on_oii():
    snr = jnp.array([2.0, 4.0, 5.0, 12.0])
    joint = companions.joint_snr(snr, jnp.full(4, -50.0))
    inner = np.clip(np.asarray(snr), 0, 5)
    expected = inner * (np.asarray(snr) - inner / 2) - np.log(2)
    both = np.asarray(joint)
    inner = np.clip(both, 0, 5)
    np.testing.assert_allclose(inner * (both - inner / 2), expected, rtol=1e-5)
    assert (both <= np.asarray(snr)).all() and (np.diff(both) > 0).all()


def test_oii_outweighs_the_bright_halpha_that_proves_it():
    snr = spectrum(oii=6.0, oiii=8.0, halpha=40.0)
    _, odds = companions.beside(snr, jnp.ones(NUM, bool))
    assert int(jnp.argmax(companions.joint_snr(snr, odds))) == HERE
