"""Absorption lines: the curve of growth, what the instrument makes of a line, the lines of a system."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from lensjax.physics import grid, lines
from lensjax.sims import absorption

PIXELS, LSF = 301, 0.9
PIXEL = np.log(10) * grid.STEP  # of the wavelength
LOGLAM = (36000 + np.arange(3000)) / grid.PER_DEX  # 3981-7943 A


def rendering(pixels=PIXELS):
    return absorption.make_rendering(jnp.full(pixels, LSF), LOGLAM[:pixels])


def transmission(place, width, depth):
    add = absorption.add_lines
    arrays = (jnp.atleast_1d(jnp.float32(x)) for x in (place, width, depth))
    return np.exp(np.asarray(add(jnp.zeros(PIXELS), rendering(), *arrays), np.float64))


@pytest.mark.parametrize("depth", [1e-4, 0.03, 1.0, 8.0, 300.0])
def test_growth_is_the_integral_of_what_a_line_takes(depth):
    expected = integrate.quad(lambda x: -np.expm1(-depth * np.exp(-0.5 * x**2)), -9, 9, limit=200)[0]
    assert float(absorption.growth(jnp.float32(depth))) == pytest.approx(expected, rel=5e-3)


def test_depth_of_is_the_inverse_of_growth():
    depths = jnp.asarray(np.geomspace(1e-5, 1e3, 50), jnp.float32)
    np.testing.assert_allclose(absorption.depth_of(absorption.growth(depths)), depths, rtol=2e-3)


def test_the_doublet_ratio_goes_from_two_to_one():
    depths = jnp.asarray(np.geomspace(1e-3, 5e3, 40), jnp.float32)
    ratio = absorption.growth(depths) / absorption.growth(absorption.SECOND * depths)
    assert ratio[0] == pytest.approx(0.6155 / 0.3058, rel=0.005) and 1 < ratio[-1] < 1.1
    assert (np.diff(ratio) < 1e-3).all()


@pytest.mark.parametrize("width", [0.12, 0.8, 3.5])
@pytest.mark.parametrize("depth", [0.05, 1.0, 30.0])
def test_the_pixels_of_a_line_add_up_to_its_equivalent_width(width, depth):
    missing = 1 - transmission(150.3, width, depth)
    expected = float(absorption.growth(jnp.float32(depth))) * width
    assert missing.sum() == pytest.approx(expected, rel=0.01)
    assert (missing * np.arange(PIXELS)).sum() / missing.sum() == pytest.approx(150.3, abs=0.01)


@pytest.mark.parametrize(("width", "depth"), [(0.3, 2.0), (1.5, 0.4), (1.5, 40.0), (3.5, 5.0)])
def test_a_line_is_its_true_shape_convolved_with_the_instrument(width, depth):
    step = 0.02
    x = np.arange(-40, 40, step)
    missing = -np.expm1(-depth * np.exp(-0.5 * (x / width) ** 2))
    for x0 in (150.0, 150.4):
        centre = np.arange(PIXELS) - x0
        kernel = integrate.cumulative_trapezoid(np.exp(-0.5 * (x / LSF) ** 2), x, initial=0)
        kernel /= kernel[-1]
        pixel = np.interp(centre[:, None] - x + 0.5, x, kernel) - np.interp(centre[:, None] - x - 0.5, x, kernel)
        expected = 1 - step * pixel @ missing
        np.testing.assert_allclose(transmission(x0, width, depth), expected, atol=0.006)


def test_lines_multiply_and_do_not_wrap_around():
    both = transmission([20.0, 24.0], [1.0, 1.0], [1.0, 3.0])
    np.testing.assert_allclose(both, transmission(20.0, 1.0, 1.0) * transmission(24.0, 1.0, 3.0), rtol=1e-5)
    assert (transmission(-40.0, 1.0, 5.0) == 1).all() and (transmission(PIXELS + 40.0, 1.0, 5.0) == 1).all()
    assert (transmission(1.0, 1.0, 5.0)[100:] == 1).all()
    assert (transmission(9.0, 1.0, 0.0) == 1).all()


def systems(there=(True, False), **settings):
    sim = types.SimpleNamespace(**{"feii_fraction": 1.0, "civ_fraction": 0.0} | settings)
    slots = {"pixel": [2400.0, 1200.0], "depth": [20.0, 20.0], "width": [0.5, 0.5], "there": there}
    slots = {name: jnp.asarray(values) for name, values in slots.items()}
    key, instrument = jax.random.key(0), rendering(len(LOGLAM))
    render = jax.jit(lambda slots: absorption.render_systems(key, instrument, slots, sim, jnp.float32(1.7)))
    return [np.asarray(x) for x in render(slots)]


def test_a_system_has_its_other_lines_where_they_belong():
    doublets, others = systems()
    for row, place in zip(doublets, (2400, 1200), strict=True):  # drawn whether they are there or not
        second = place + np.log10(lines.MGII[1] / lines.MGII[0]) / grid.STEP
        assert abs(row[: place + 6].argmin() - place) <= 1
        assert abs(row[place + 6 :].argmin() + place + 6 - second) <= 1
    places = 2400 + np.log10(np.array([*lines.FEII, lines.MGI, *lines.ALIII]) / lines.MGII[0]) / grid.STEP
    absorbed = np.flatnonzero(others < 0.99)
    assert np.abs(absorbed[:, None] - places).min(1).max() < 8
    assert (np.abs(absorbed[:, None] - places).min(0) < 4).all()
    iron = 1 - others[np.round(places[:5]).astype(int)]
    assert iron[2] == max(iron) and iron[1] == min(iron)  # 2382 the strongest, 2374 the weakest


def test_absent_systems_and_absent_species_leave_no_trace():
    assert (systems(there=(False, False))[1] == 1).all()
    assert (systems(feii_fraction=0.0)[1] == 1).all()
    near = systems(feii_fraction=0.0, civ_fraction=1.0)[1]
    wave = grid.wave(LOGLAM)[near < 0.98] / 2.7
    assert len(wave) and (((wave > 1525) & (wave < 1560)) | ((wave > 1825) & (wave < 1872))).all()


def test_broad_troughs_are_in_front_of_the_quasar():
    draw = jax.vmap(absorption.draw_troughs, (0, None, None, None))
    keys = jax.random.split(jax.random.key(1), 400)
    z = jnp.float32(1.7)
    troughs = np.asarray(draw(keys, rendering(len(LOGLAM)), z, 1.0))
    rest = grid.wave(LOGLAM) / 2.7
    assert (np.asarray(draw(keys[:20], rendering(len(LOGLAM)), z, 0.0)) == 1).all()
    assert ((troughs > 0) & (troughs <= 1)).all()
    civ = rest < 1548.2 * np.exp(8000 / grid.C_KMS)  # 7200 km/s are three widths of the broadest part
    assert (troughs[:, civ].min(1) < 0.99).mean() > 0.9
    behind = troughs[:, (rest > 1600) & (rest < 1650)]
    assert behind.min() > 0.999
    low = (troughs[:, (rest > 2600) & (rest < 2790)].min(1) < 0.99).mean()
    assert low == pytest.approx(1 / 6, abs=0.07)


def test_carbon_near_the_quasar_is_mostly_in_front_of_it():
    """From 3000 km/s towards us to 800 behind; the deeper line of the doublet is the bluer one."""
    sim = types.SimpleNamespace(feii_fraction=0.0, civ_fraction=1.0)
    slots = {name: jnp.ones(1) for name in ("pixel", "depth", "width")} | {"there": jnp.zeros(1, bool)}
    render = jax.vmap(
        lambda key: absorption.render_systems(key, rendering(len(LOGLAM)), slots, sim, jnp.float32(1.7))[1]
    )
    wave = grid.wave(LOGLAM) / 2.7
    carbon = np.asarray(jax.jit(render)(jax.random.split(jax.random.key(3), 64)))[:, wave < 1650]
    speed = grid.C_KMS * np.log(wave[carbon.argmin(1)] / lines.CIV[0])
    assert -3100 < speed.min() < -2000 and 0 < speed.max() < 1400
