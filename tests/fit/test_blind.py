"""The continuum at no known redshift: beside a loop over redshifts, and on galaxies whose truth is known."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from lensjax.fit import blind, templates
from lensjax.physics import grid
from lensjax.sims import continua

LOGLAM = grid.window(3800.0, 4200.0)
LIBRARY = continua.read_library("passive")
BASIS = templates.Basis(LIBRARY.loglam0, continua.principal(LIBRARY, 6, (2000.0, 3230.0)).astype(np.float32))
REDSHIFT = (0.3, 0.45)
ERROR = np.linspace(1.2, 0.8, len(LOGLAM)).astype(np.float32)
ALL = np.ones(len(LOGLAM), bool)
FIT = jax.jit(lambda flux, mask: blind.fit_blind(flux, jnp.asarray(ERROR), mask, BASIS, LOGLAM, REDSHIFT))


def galaxy(z, brightness):
    seen = templates.shift_basis(BASIS, float(LOGLAM[0]), len(LOGLAM), z)
    return np.asarray(brightness * (seen[0] + 0.5 * seen[1] - 0.3 * seen[2]))


def by_hand(flux):
    """The same mean, redshift after redshift, in float64, of a spectrum without gaps."""
    models, evidence, power = [], [], []
    prior = np.diag([1e-6, blind.WIDTH**-2.0, blind.WIDTH**-2.0])
    first = int(np.floor((LOGLAM[0] - BASIS.loglam0 - np.log10(1 + REDSHIFT[1])) / grid.STEP + 1e-3))
    count = int(np.log10((1 + REDSHIFT[1]) / (1 + REDSHIFT[0])) / grid.STEP / blind.STEP) + 1
    for start in first + blind.STEP * np.arange(count):
        rows = np.asarray(BASIS.vectors, np.float64)[:3, start : start + len(LOGLAM)]
        design = rows / ERROR
        moment, gram = design @ (flux / ERROR), design @ design.T + prior
        coefficient = np.linalg.solve(gram, moment)
        models.append(coefficient @ rows)
        power.append(moment @ coefficient)
        evidence.append(-0.5 * np.linalg.slogdet(gram)[1])
    variance = (np.sum((flux / ERROR) ** 2) - max(power)) / len(flux)
    return special.softmax(0.5 * np.array(power) / variance + evidence) @ np.array(models)


@pytest.mark.parametrize("brightness", [0.3, 2.0])
def test_it_is_the_mean_over_redshifts_that_a_loop_finds(brightness):
    flux = (galaxy(0.37, brightness) + ERROR * np.random.default_rng(1).normal(size=len(LOGLAM))).astype(np.float32)
    expected = by_hand(flux)
    np.testing.assert_allclose(FIT(flux, ALL), expected, atol=2e-3 * np.abs(expected).max())


def test_a_bright_galaxy_is_found_wherever_it_is_and_through_gaps():
    rng = np.random.default_rng(2)
    gaps = np.arange(len(LOGLAM)) % 100 > 10
    for z in rng.uniform(*REDSHIFT, 5):
        true = galaxy(z, 4.0)
        flux = (true + ERROR * rng.normal(size=len(LOGLAM))).astype(np.float32)
        for mask in (ALL, gaps):
            miss = np.asarray(FIT(flux, mask)) - true
            assert np.std(miss) < 0.25 * np.std(true) and abs(np.mean(miss)) < 0.12 * np.mean(true)


def test_what_is_masked_has_no_say_and_nothing_has_an_answer_too():
    flux = galaxy(0.4, 3.0).astype(np.float32)
    mask = np.arange(len(LOGLAM)) % 7 > 0
    np.testing.assert_array_equal(FIT(flux, mask), FIT(np.where(mask, flux, 1e4).astype(np.float32), mask))
    assert np.isfinite(FIT(flux, ~ALL)).all()


def test_it_lowers_for_cuda_alone_and_batched():
    flux, mask = jnp.zeros((3, len(LOGLAM))), jnp.ones((3, len(LOGLAM)), bool)
    for function, given in ((FIT, (flux[0], mask[0])), (jax.jit(jax.vmap(FIT)), (flux, mask))):
        assert jax.export.export(function, platforms=["cuda"])(*given).platforms == ("cuda",)
