"""Each cut on columns made by hand: what it takes, what it leaves, and in which order."""

import numpy as np
import pytest
from scipy import stats

from configs import lya, vetting
from lensjax.core.errors import UserError
from lensjax.physics import grid, lines
from lensjax.search import control, grading, select


def settings(**changes):
    vet = vetting.vetting()
    vet.update(changes)
    return vet


def clean(num=6):
    """Hits that every cut leaves alone, one wavelength each."""
    wave = 4500.0 * 10 ** (5.5e-3 * np.arange(num) % 0.04)
    columns = {"wave": wave, "z": np.full(num, 0.55), "sky": np.zeros(num, bool), "readable": np.ones(num, bool)}
    columns |= {"ra": np.full(num, np.nan), "dec": np.full(num, np.nan)}
    columns |= {"file": np.full(num, "plate.fits"), "row": np.arange(num)}
    values = {
        "bad_fraction": 0.0, "num_hits": 1, "pixel_fraction": 0.3, "sigma": 170.0, "sigma_err": 20.0, "lsf": 75.0,
        "fit_status": 0, "flux": 13.0, "noise": 0.4, "noise_scale": 1.0, "peak": 2.0, "fit_snr": 7.5, "contrast": 4.0,
        "neighbour_ratio": np.nan, "neighbour_snr": np.nan, "oii_odds": -2.0, "nearby_odds": -2.0, "alpha": 3.0,
        "posterior": 0.97,
        "snr_hbeta": 0.1, "snr_oiii": -0.3, "snr_halpha": 0.8,
    }  # fmt: skip
    return columns | {name: np.full(num, value) for name, value in values.items()}


# Cut -> values, on row 2, that it takes.
TAKEN = {
    "unreadable": {"readable": False},
    "coverage": {"bad_fraction": 0.5},
    "hits": {"num_hits": 6},
    "spike": {"pixel_fraction": 0.8},
    "fit": {"fit_status": 2},
    "noise": {"noise": 2.5},
    "weak": {"fit_snr": 4.9},
    "broad": {"sigma": 320.0},
    "airglow": {"wave": 4359.6},
    "galactic": {"wave": 4341.7, "fit_snr": 5.3},
    "continuum": {"contrast": 0.4},
    "lens_line": {"z": 0.45, "wave": 2804.2 * 1.45, "contrast": 0.8},
    "neighbour": {"neighbour_ratio": 8.0, "neighbour_snr": 30.0},
    "oii": {"oii_odds": 0.7},
    "nearby": {"nearby_odds": 3.0},
    "unsure": {"posterior": 0.3},
    "oii_lines": {"snr_oiii": 2.6},
    "skewness": {"alpha": -0.1},
}
# What else they take.
ALSO = [
    ("spike", {"sigma": 40.0}),  # narrower than the instrument
    ("fit", {"flux": -1.0}),
    ("fit", {"flux": np.nan}),
    ("noise", {"noise_scale": 9.0}),
    ("weak", {"peak": 0.1}),
    ("airglow", {"wave": lines.AURORAL[2], "fit_snr": 5.3}),
    ("lens_line", {"z": 0.1, "wave": lines.HGAMMA * 1.1, "contrast": 0.8}),
    ("oii_lines", {"snr_hbeta": 2.6}),
    ("oii_lines", {"snr_halpha": 2.6}),
    ("skewness", {"alpha": np.nan}),
]
# The same, and what saves the row.
SAVED = {
    "broad": {"sigma": 320.0, "fit_snr": 8.5},
    "fit": {"sigma": 460.0, "sigma_err": 180.0},  # broader than any line, but not surely
    "unsure": {"posterior": np.nan},  # the score of a filter
    "spike": {"sigma": 60.0, "sigma_err": 30.0},  # narrower than the instrument, but not surely
    "airglow": {"wave": 4744.6, "fit_snr": 6.0},
    "continuum": {"contrast": 0.75},
    "lens_line": {"wave": 2797.3 * 1.55, "contrast": 1.2},
    "neighbour": {"neighbour_ratio": 8.0, "neighbour_snr": 3.0},
    "weak": {"fit_snr": 5.1, "peak": 0.51},
}


def with_row(values, row=2):
    columns = clean()
    for name, value in values.items():
        columns[name][row] = value
    return columns


@pytest.mark.parametrize(("name", "values"), [*TAKEN.items(), *ALSO])
def test_a_cut_takes_its_row_and_no_other(name, values):
    vet = settings(cuts=(*vetting.CUTS, "oii_lines", "skewness"))
    out = select.apply(with_row(values), vet)
    assert out["cut"].tolist() == ["candidate"] * 2 + [name] + ["candidate"] * 3
    assert out["flags"].tolist() == [0, 0, 1 << list(select.CUTS).index(name), 0, 0, 0]


@pytest.mark.parametrize("name", SAVED)
def test_a_cut_spares_what_is_clearly_a_line(name):
    assert np.all(select.apply(with_row(SAVED[name]), settings())["flags"] == 0)


def test_every_cut_has_a_test_and_the_default_order_is_of_cuts_that_exist():
    assert {*TAKEN, "observed", "rest"} == set(select.CUTS)
    assert set(vetting.CUTS) < set(select.CUTS)


def test_the_first_cut_names_the_row_and_switching_it_off_keeps_its_flag():
    columns = with_row({"noise": 9.0, "oii_odds": 5.0})
    both = (1 << list(select.CUTS).index("noise")) | (1 << list(select.CUTS).index("oii"))
    for cuts, name in ((("noise", "oii"), "noise"), (("oii", "noise"), "oii"), (("weak",), "candidate")):
        out = select.apply(columns, settings(cuts=cuts))
        assert (out["cut"][2], out["flags"][2]) == (name, both)


def test_a_spectrum_that_is_gone_is_taken_whatever_the_config_lists():
    gone = {name: np.full(6, np.nan) if values.dtype.kind == "f" else values for name, values in clean().items()}
    out = select.apply(gone | {"readable": np.zeros(6, bool)}, settings(cuts=()))
    assert set(out["cut"]) == {"unreadable"}


def test_sky_fibers_that_pass_are_controls():
    out = select.apply(with_row({"sky": True}), settings())
    assert out["cut"].tolist() == ["candidate"] * 2 + ["control"] + ["candidate"] * 3


def test_an_unknown_cut_is_one_sentence():
    with pytest.raises(UserError, match="has 'spikes': expected some of unreadable"):
        select.apply(clean(), settings(cuts=("spikes",)))


def crowd(centre, frame, num=400, seed=0):
    """Wavelengths spread evenly over the window, and ten more at one place of `frame` (observed or rest)."""
    rng = np.random.default_rng(seed)
    columns = clean(num + 10)
    columns["z"] = rng.uniform(0.4, 0.6, num + 10)
    wave = 10 ** rng.uniform(np.log10(3800), np.log10(5000), num + 10)
    wave[num:] = centre * (1 + columns["z"][num:] if frame == "rest" else 1) * (1 + rng.uniform(-1e-5, 1e-5, 10))
    return columns | {"wave": wave}


def test_one_object_observed_many_times_is_no_crowd():
    columns = crowd(4600.0, "observed")
    assert set(select.apply(columns, settings(max_excess=3.0))["cut"][-10:]) == {"observed"}
    again = {name: values.copy() for name, values in columns.items()}
    again["ra"][-10:], again["dec"][-10:] = 150.0 + np.linspace(0, 1e-4, 10), 2.0
    assert set(select.apply(again, settings(max_excess=3.0))["cut"][-10:]) == {"candidate"}
    counted = np.ones(410, bool)
    counted[-10:-7] = False  # what a cut took does not stand for the others
    assert select.once(again, counted)[-10:].tolist() == [False] * 3 + [True] + [False] * 6


def test_lines_are_one_by_place_and_wavelength_and_never_in_one_spectrum():
    columns = clean(8)
    columns["ra"], columns["dec"] = np.array([359.9999, 0.0001, 0.0001, 0.01, np.nan, np.nan, 0.0, 0.0]), np.zeros(8)
    columns["wave"] = np.array([4500.0, 4501.0, 4530.0, 4500.0, 4500.0, 4500.0, 4100.0, 4100.5])
    columns["row"][:2], columns["row"][6:] = (0, 1), (5, 5)
    line = select.sightings(columns)
    assert line[0] == line[1] and len(set(line)) == 7
    columns["dec"][:2] = 89.999  # there a degree of right ascension is little
    columns["ra"][:2] = 10.0, 20.0
    assert select.sightings(columns)[0] == select.sightings(columns)[1]


def test_the_best_observation_of_a_line_comes_first():
    columns = clean(5)
    columns["ra"], columns["dec"], columns["wave"] = np.full(5, 1.0), np.zeros(5), np.full(5, 4500.0)
    columns["dec"][4] = 1.0
    columns |= {"score": np.array([0.9, 0.7, 0.8, 0.6, 0.6])}
    columns |= {"cut": np.array(["noise", "control", "candidate", "noise", "candidate"])}
    assert select.count_repeats(columns).tolist() == [3, 2, 1, 4, 1]
    assert len(select.count_repeats({name: values[:0] for name, values in columns.items()})) == 0


def counts_by_loop(wave, vet):
    """The recipe of the traditional search, bin by bin: excess of each row."""
    place = np.floor(np.log10(wave) / vet.density_bin).astype(int)
    excess = np.zeros(len(wave))
    half = vet.density_bins // 2

    low, high = place.min() - 1, place.max() + 1

    def sigma(b):
        inside = [
            2 * low - 1 - i if i < low else 2 * high + 1 - i if i > high else i for i in range(b - half, b + half + 1)
        ]
        around = [np.sum(place == i) for i in inside]
        background = max(np.median(around), 1)
        number = np.sum(place == b)
        if number <= background:
            return (number - background) / np.sqrt(background)
        return stats.norm.isf(stats.poisson.sf(number - 1, background))

    for i, b in enumerate(place):
        excess[i] = max(sigma(b - 1), sigma(b), sigma(b + 1))
    return excess


def test_excess_equals_the_recipe_bin_by_bin():
    wave, vet = crowd(4200.3, "observed")["wave"], settings()
    found = select.excess(wave, np.ones(len(wave), bool), vet)
    np.testing.assert_allclose(found, counts_by_loop(wave, vet))
    assert found[-10:].min() > 4 and np.mean(found[:-10] > 4) < 0.02


@pytest.mark.parametrize("frame", ["observed", "rest"])
def test_chance_makes_no_crowd_in_a_large_survey(frame):
    """Two lines in a bin on average: far less than one in a hundred is cut."""
    rng, num = np.random.default_rng(1), 800
    columns = clean(num) | {"wave": 10 ** rng.uniform(np.log10(3800), np.log10(5000), num)}
    columns["z"] = rng.uniform(0.4, 0.6, num)
    assert np.mean(select.apply(columns, settings(cuts=(frame,)))["cut"] == frame) < 0.01


def test_no_more_are_cut_at_the_ends_of_the_window_than_within():
    rng, taken = np.random.default_rng(2), []
    for _ in range(10):
        wave = 10 ** rng.uniform(np.log10(3800), np.log10(5000), 2_000)
        found = select.excess(wave, np.ones(len(wave), bool), settings()) > 4
        end = np.abs(np.log10(wave) - np.log10(4359)) > np.log10(5000 / 4359) - 25 * 3e-4
        taken.append(found[end].mean())
    assert np.mean(taken) < 0.005


@pytest.mark.parametrize("frame", ["observed", "rest"])
def test_crowds_are_taken_in_their_own_frame(frame):
    columns = crowd(4205.0 if frame == "observed" else 2850.0, frame)
    cut = select.apply(columns, settings(cuts=(frame,)))["cut"]
    assert np.all(cut[-10:] == frame) and np.mean(cut[:-10] == frame) < 0.02


@pytest.mark.parametrize(("name", "value", "cut"), [("noise", 9.0, "noise"), ("sky", True, "control")])
def test_what_is_already_cut_and_the_sky_make_no_crowd(name, value, cut):
    columns = crowd(4205.0, "observed")
    columns[name][-8:] = value
    found = select.apply(columns, settings(cuts=("noise", "observed")))["cut"]
    assert set(found[-10:-8]) == {"candidate"} and set(found[-8:]) == {cut}


def test_distance_is_in_pixels_and_infinite_for_nothing():
    wave = np.array([lines.LYA * 3 * 10 ** (2.5 * grid.STEP), np.nan])
    np.testing.assert_allclose(select.distance(wave, (100.0, lines.LYA * 3)), [2.5, np.inf], atol=1e-8)


def test_the_funnel_in_one_line_tells_lines_from_objects_and_false_ones_apart_from_candidates():
    columns = {"sky": np.zeros(3, bool), "cut": np.array(["fit", "fit", "candidate"]), "index": np.array([4, 4, 7])}
    config = lya.get_config("default")
    summary = control.summarise(columns, {"galaxies": 20, "sky_fibers": 0}, config)
    assert control.sentence(summary) == (
        "1 candidates of 3 hits in 2 objects (cut: fit 2); no control sample tells how many are false"
    )
    none = {name: values[:0] for name, values in columns.items()}
    summary = control.summarise(none, {"galaxies": 20, "sky_fibers": 10}, config)
    assert control.sentence(summary) == (
        "0 candidates of 0 hits (cut: none); false ones to expect: 0.0 (0.0 to 2.0, 68 %), by 0 of 10 sky fibers"
    )


def test_expected_false_hits_scale_with_the_sample_and_have_the_jeffreys_interval():
    out = control.expected_false(4, 1000, 9000)
    assert out["expected"] == 36
    # 68 % of Gamma(4.5): numerically, from its density
    x = np.linspace(0, 30, 300_001)
    density = np.cumsum(x**3.5 * np.exp(-x))
    low, high = (9 * np.interp(q, density / density[-1], x) for q in control.ONE_SIGMA)
    np.testing.assert_allclose([out["lower"], out["upper"]], [low, high], rtol=1e-3)
    none = control.expected_false(0, 1000, 9000)
    assert none["expected"] == none["lower"] == 0 and 0 < none["upper"] < 12
    assert control.expected_false(0, 0, 10)["expected"] is None


LINE = {"alpha_lower": 0.5, "fit_snr": 20.0, "wave": 4111.1, "z_lens": 0.5, "z_source": 2.38, "oii_odds": -3.0}


@pytest.mark.parametrize(
    ("change", "doubts", "grade"),
    [
        ({}, "", "A"),
        ({"alpha_lower": -0.1}, "symmetric", "B"),
        ({"fit_snr": 5.0}, "faint", "B"),
        ({"wave": 4359.6}, "sky", "B"),
        ({"wave": 2797.3 * 1.5}, "lens", "B"),  # Mg II of the galaxy
        ({"oii_odds": np.nan}, "oii", "B"),  # what was not measured is not in favour
        ({"fit_status": 1, "oii_odds": 0.0}, "oii,fit", "C"),
    ],
)
def test_doubts_of_a_line_and_its_grade(change, doubts, grade):
    columns = {name: np.array([value]) for name, value in ({"fit_status": 0} | LINE | change).items()}
    said, grades = grading.grade(columns, lya.get_config("default").vet)
    assert (said[0], grades[0]) == (doubts, grade)
