"""Arcs around given galaxies: only light is added, where and as bright as the truth says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import cutouts
from lensjax.physics import bands, lensing
from lensjax.sims.arcs import TRUTH, make_arcs, measure_ellipticity

DUST = 0.3  # E(B-V)
PSF, NOISE = jnp.array([1.5, 1.3, 1.2]), jnp.array([0.003, 0.0045, 0.012])


@pytest.fixture(scope="module")
def made():
    sim = cutouts.lenses()
    sim.source.min_snr = (40.0, 41.0)
    sim.deflector.theta_e = (1.9, 2.1)
    arcs = jax.jit(jax.vmap(make_arcs(sim, 96), (0, None, None, None, None)))
    made = arcs(jax.random.split(jax.random.key(0), 24), galaxy(0.7, 0.4), PSF, NOISE, 0.0)
    dusty = arcs(jax.random.split(jax.random.key(0), 24), galaxy(0.7, 0.4), PSF, NOISE, DUST)
    return {k: np.asarray(v) for k, v in {**made, "dusty": dusty["image"], "dusty_mag": dusty["source_mag"]}.items()}


def galaxy(q, phi):
    axis = (np.arange(96) - 47.5) * bands.PIXEL
    radius = lensing.elliptical_radius(axis[None, :], axis[:, None], *lensing.ellipticity(q, phi))
    profile = np.asarray(0.4 * np.exp(-0.5 * (np.asarray(radius) / 1.1) ** 2), np.float32)
    return jnp.asarray(profile[..., None] * np.array([0.1, 0.5, 1.0], np.float32))


def test_light_is_added_at_the_einstein_radius_with_the_stated_strength(made):
    arc = made["image"] - np.asarray(galaxy(0.7, 0.4))
    snr = np.sqrt((np.maximum(arc, 0) ** 2).sum((1, 2)) / np.asarray(NOISE) ** 2).max(1)
    np.testing.assert_allclose(snr, made["arc_snr"], rtol=0.25)  # its photon noise adds a little
    axis = (np.arange(96) - 47.5) * bands.PIXEL
    radius = np.hypot(axis[None, :], axis[:, None])
    light = np.maximum(arc[..., 1], 0)
    mean = (light * radius).sum((1, 2)) / light.sum((1, 2))
    assert np.all((mean > 1.2) & (mean < 3.6)) and np.median(mean) == pytest.approx(2.2, abs=0.4)
    source = 10 ** (0.4 * (22.5 - made["source_mag"])) * made["magnification"]
    np.testing.assert_allclose(arc[..., 1].sum((1, 2)), source, rtol=0.1)


def test_truth_is_complete_and_every_key_its_own(made):
    assert set(made) == {"image", "dusty", "dusty_mag", *TRUTH} and all(
        np.isfinite(value).all() for value in made.values()
    )
    assert len({image.tobytes() for image in made["image"]}) == 24


def test_dust_dims_and_reddens_the_arc_as_it_does_the_galaxy(made):
    clear, dusty = (made[name] - np.asarray(galaxy(0.7, 0.4)) for name in ("image", "dusty"))
    brighter = 10 ** (0.4 * (made["source_mag"] - made["dusty_mag"]))  # until the arc can be found
    ratio = np.median(dusty.sum((1, 2)) / clear.sum((1, 2)) / brighter[:, None], axis=0)
    np.testing.assert_allclose(ratio, bands.transmission(DUST), rtol=0.05)


@pytest.mark.parametrize(("q", "phi"), [(0.6, 0.3), (0.8, 1.4), (1.0, 0.0)])
def test_ellipticity_of_the_light_is_measured(q, phi):
    e1, e2 = measure_ellipticity(galaxy(q, phi)[..., 2], jnp.float32(0.0), 0.5)
    np.testing.assert_allclose([e1, e2], lensing.ellipticity(q, phi), atol=0.03)


def test_an_empty_image_gives_numbers_all_the_same():
    assert np.isfinite(np.array(measure_ellipticity(jnp.zeros((96, 96)), jnp.float32(1.2), 0.5))).all()
