"""Mock quasars with Mg II absorbers: the truth is that of the spectrum, the laws are those that were asked for."""

import jax
import numpy as np
import pytest
from ml_collections import config_dict

from configs import quasars
from lensjax.core.errors import UserError
from lensjax.physics import grid, lines
from lensjax.sims import absorption, mgii

NUM = 384
LOGLAM = grid.window(3799.0, 9200.0)
WAVE = grid.wave(LOGLAM)
ANGSTROM = WAVE * np.log(10) * grid.STEP


def config(**settings):
    data = {"window": (3799.0, 9200.0)}
    return config_dict.ConfigDict({"data": data, "sim": {**quasars.simulation().to_dict(), **settings}})


def mocks(num=NUM, **settings):
    simulate = jax.jit(jax.vmap(mgii.make_simulator(config(**settings))))
    batch = simulate(jax.random.split(jax.random.key(0), num))
    return {name: np.asarray(value) for name, value in batch.items()}


@pytest.fixture(scope="module")
def clean():
    return mocks(absorber_law="observed", dirt=0.0)


@pytest.fixture(scope="module")
def dirty():
    return mocks(absorber_fraction=0.7, strong_fraction=0.0)


@pytest.fixture(scope="module")
def paper():
    return mocks(**quasars.paper_simulation())


def test_an_example_is_a_pure_function_of_its_key(dirty):
    simulate = mgii.make_simulator(config(absorber_fraction=0.7))
    again = jax.jit(jax.vmap(simulate))(jax.random.split(jax.random.key(0), NUM)[5:8])
    np.testing.assert_allclose(again["flux"], dirty["flux"][5:8], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(again["ew_2796"], dirty["ew_2796"][5:8], rtol=1e-4)
    assert len({row.tobytes() for row in dirty["flux"]}) == NUM


@pytest.mark.parametrize("which", ["clean", "dirty", "paper"])
def test_every_number_is_finite_and_bad_pixels_hold_zero(which, request):
    made = request.getfixturevalue(which)
    assert all(np.isfinite(value).all() for value in made.values())
    assert (made["flux"][made["ivar"] == 0] == 0).all() and (made["ivar"] > 0).mean() > 0.95
    assert made["flux"].shape == (NUM, 3841) and made["z_abs"].shape[1] == (1 if which == "paper" else 3)


def test_flux_is_continuum_artefact_doublet_and_noise(clean):
    model = clean["continuum"] + clean["artefact"] + clean["ew_2796"][:, :1] * clean["profile"]
    good = clean["ivar"] > 0
    pull = ((clean["flux"] - model) / clean["sigma"])[good]
    np.testing.assert_allclose(clean["ivar"][good], clean["sigma"][good] ** -2.0, rtol=1e-4)
    assert pull.mean() == pytest.approx(0, abs=0.005) and pull.std() == pytest.approx(1, abs=0.005)


@pytest.mark.parametrize("which", ["clean", "paper"])
def test_equivalent_widths_are_integrals_of_the_noiseless_doublet(which, request):
    made = request.getfixturevalue(which)
    lined = made["label"] == 1
    missing = -(made["ew_2796"][:, :1] * made["profile"] / made["continuum"])[lined].astype(np.float64)
    z, ew = made["z_abs"][lined, 0], made["ew_2796"][lined, 0]
    total = (missing * ANGSTROM).sum(1) / (1 + z)
    both = ew + made["ew_2803"][lined, 0]
    narrow = ew < 2
    assert narrow.sum() > 50
    np.testing.assert_allclose(total[narrow], both[narrow], rtol=0.015, atol=0.002)
    np.testing.assert_allclose(total, both, rtol=0.05, atol=0.002)  # strong lines blend
    blue = WAVE < (lines.MGII[0] * (1 + z) * np.sqrt(lines.MGII[1] / lines.MGII[0]))[:, None]
    alone = (missing * blue * ANGSTROM).sum(1) / (1 + z)
    weak = narrow & (made["fwhm"][lined, 0] < 2.0)
    np.testing.assert_allclose(alone[weak], ew[weak], rtol=0.03, atol=0.002)
    ratio = ew / made["ew_2803"][lined, 0]
    assert ratio.min() > 1 and ratio.max() < 2.02


@pytest.mark.parametrize("which", ["clean", "dirty"])
def test_places(which, request):
    made = request.getfixturevalue(which)
    there = made["z_abs"] > 0
    pixel = np.log10(lines.MGII[0] * (1 + made["z_abs"])) / grid.STEP - grid.index0(LOGLAM)
    rows, slots = np.nonzero(there)
    near = made["pixel_label"][rows[:, None], np.round(pixel[rows, slots]).astype(int)[:, None] + np.arange(-1, 2)]
    assert (near.max(1) == 1).all() and set(np.unique(made["pixel_label"])) <= {0, 1}
    assert (made["pixel_label"].sum(1) <= there.sum(1)).all()
    first = there[:, 0]
    np.testing.assert_array_equal(first, made["label"] == 1)
    np.testing.assert_allclose(made["wave"][first], lines.MGII[0] * (1 + made["z_abs"][first, 0]), rtol=1e-6)
    share = made["profile"] / made["continuum"]
    deepest = np.take_along_axis(share, np.round(pixel[:, :1]).astype(int).clip(0), 1)[:, 0]
    assert (deepest[first] < 0.75 * share[first].min(1)).all()  # 2796 is the deeper line, 2803 in wider pixels


@pytest.mark.parametrize("which", ["clean", "dirty", "paper"])
def test_absorbers_are_in_the_search_window(which, request):
    made = request.getfixturevalue(which)
    rest = lines.MGII[0] * (1 + made["z_abs"]) / (1 + made["z"][:, None])
    there = made["z_abs"] > 0
    assert (np.abs(rest[there] - 2175) < 626).all()  # 1550-2800 A
    assert made["wave"].max() * lines.MGII[1] / lines.MGII[0] < WAVE[-1]


@pytest.mark.parametrize("which", ["clean", "dirty"])
def test_snr_is_that_of_the_true_profile_and_the_true_noise(which, request):
    made = request.getfixturevalue(which)
    signal = np.where(made["ivar"] > 0, made["ew_2796"][:, :1] * made["profile"] / made["sigma"], 0)
    np.testing.assert_allclose(made["snr"], np.sqrt((signal**2).sum(1)), rtol=2e-3, atol=1e-3)
    np.testing.assert_array_equal(made["snr"], made["absorber_snr"][:, 0])


def test_empty_slots_hold_nothing_and_come_last(dirty):
    there = dirty["z_abs"] > 0
    assert (np.diff(there.astype(int), axis=1) <= 0).all()
    for name in ("ew_2796", "ew_2803", "fwhm", "absorber_snr"):
        np.testing.assert_array_equal(dirty[name] > 0, there)


def test_fractions(clean, dirty, paper):
    spread = 4 / np.sqrt(NUM)
    for made, share in ((clean, 0.5), (dirty, 0.7), (paper, 0.5)):
        assert made["label"].mean() == pytest.approx(share, abs=spread / 2 + 0.02)  # now and then there is no place
    several = (dirty["z_abs"] > 0)[dirty["label"] == 1]
    assert several[:, 1].mean() == pytest.approx(0.3, abs=spread)
    assert several[:, 2].mean() == pytest.approx(0.09, abs=spread)


def test_observed_law(clean):
    ew = clean["ew_2796"][clean["label"] == 1, 0]
    np.testing.assert_allclose(np.median(ew), 0.85, rtol=0.25)
    u, any_error = np.linspace(0.0005, 0.9995, 1000), np.ones(1000)
    made = mgii.draw_ew(u, 0.5 * any_error, config(absorber_law="observed").sim, any_error, any_error)
    np.testing.assert_allclose(np.percentile(made, (5, 50, 95)), (0.24, 0.85, 2.84), rtol=0.02)


def test_paper_law(paper):
    lined = paper["label"] == 1
    assert paper["ew_2796"][lined].min() > 0.3 and paper["ew_2803"][lined].min() > 0.29
    assert (paper["snr"][lined] > 3 * np.sqrt(2)).mean() > 0.95  # either line at 3
    assert paper["z"].max() < 2.8 and (paper["artefact"] == 0).all()
    seen = np.sqrt(paper["fwhm"][lined, 0] ** 2 + (2.355 * 0.95 * mgii.ANGSTROM) ** 2)
    assert np.median(seen) == pytest.approx(1.9, abs=0.3)


def test_the_weaker_line_of_the_least_absorber_is_as_wide_as_was_asked():
    least, width = np.float32([0.3, 0.3, 1.0, 2.0]), np.float32([0.7, 0.2, 0.3, 0.5])
    depth = absorption.depth_of(mgii.both_above(least, width) / width)
    second = absorption.growth(depth * absorption.SECOND) * width * lines.MGII[1] / lines.MGII[0]
    np.testing.assert_allclose(second, least, rtol=5e-3)


def test_uniform_snr_law(dirty):
    snr = dirty["snr"][dirty["label"] == 1]
    assert np.percentile(snr, 10) > 2 and np.percentile(snr, 95) < 26 and np.median(snr) == pytest.approx(11, abs=3.5)


def test_some_absorbers_are_strong_whatever_the_noise():
    u, error = np.random.default_rng(0).uniform(size=(2, 20_000)).astype(np.float32), np.full(20_000, 0.01)
    sim = config(absorber_law="snr", strong_fraction=0.15).sim
    made = np.asarray(mgii.draw_ew(*u, sim, error, error))
    strong = made > 20 * 0.01
    assert strong.mean() == pytest.approx(0.15, abs=0.01) and made.max() <= 6
    assert made[strong].min() == pytest.approx(1.0, abs=0.01) and np.median(made[strong]) == pytest.approx(
        6**0.5, rel=0.05
    )


def test_unknown_law_is_one_clear_sentence():
    with pytest.raises(UserError, match="observed"):
        mgii.make_simulator(config(absorber_law="guess"))
