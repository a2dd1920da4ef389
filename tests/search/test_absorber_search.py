"""From hits to a catalogue of Mg II absorbers: several lines of one object, cuts, page, injection."""

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from configs import lya, mgii
from lensjax.evaluate import absorbers as rates
from lensjax.physics import grid, lines
from lensjax.search import absorber_cuts, absorber_page, inject, inject_absorbers, score, systems, vet
from lensjax.search.absorber_columns import COLUMNS, nothing_measured
from lensjax.surveys import write_spec, write_spplate
from lensjax.surveys.block import make_block
from tests.surveys import mocks


@pytest.fixture(scope="module")
def config():
    return mgii.get_config("smoke")


def test_every_line_of_an_object_is_a_hit_and_an_object_without_a_list_has_one():
    rows = {"index": np.array([4, 7, 9]), "score": np.array([0.9, 0.8, 0.95], np.float32)}
    rows |= {"wave": np.array([5000.0, 6000.0, 7000.0], np.float32), "z": np.array([1.0, 1.5, 2.0])}
    lists = {"waves": ([5000.0, 5200.0, 5300.0], [], [7000.0]), "line_scores": ([0.9, 0.7, 0.2], [], [0.95])}
    for name, values in lists.items():
        rows[name] = score.to_objects(list(values))
    hits = vet.spread(rows, 0.5)
    assert hits["index"].tolist() == [4, 4, 7, 9] and hits["wave"].tolist() == [5000, 5200, 6000, 7000]
    np.testing.assert_allclose(hits["score"], [0.9, 0.7, 0.8, 0.95], rtol=1e-6)
    assert "waves" not in hits and hits["z"].tolist() == [1.0, 1.0, 1.5, 2.0]


def test_the_best_line_has_its_own_score_not_that_of_the_spectrum():
    rows = {"index": np.array([4]), "score": np.array([0.6], np.float32), "wave": np.array([5000.0], np.float32)}
    rows |= {"waves": score.to_objects([[5000.0, 5200.0]]), "line_scores": score.to_objects([[0.3, 0.2]])}
    hits = vet.spread(rows, 0.5)
    assert hits["index"].tolist() == [4] and hits["score"][0] == pytest.approx(0.3)


def test_a_quasar_without_data_where_lines_are_looked_for_is_told_so(config):
    loglam = grid.window(*config.data.window)  # 5000 to 6500 A
    flux = np.ones((4, len(loglam)), np.float32)
    known = {"class": "QSO", "objtype": np.array(["", "", "", "SKY"]), "z": [1.5, 5.5, 1.5, 5.5]}
    block = make_block(flux, flux, flux, np.zeros(flux.shape, bool), known, loglam)
    block.ivar[2, 300:] = 0
    config.select.z_min = 0.36
    block, selected = score.annotate(score.drop_unsearchable(block, loglam, config), config.select)
    assert selected.tolist() == [True, False, True, False] and block.has_data.tolist() == [True, False, True, False]
    assert block.table["status"].tolist() == ["ok", score.NOT_SEARCHED, "ok", "sky fiber"]


def test_a_quasar_in_a_fiber_put_on_a_galaxy_is_searched(tmp_path):
    """By spec file, by plate, by catalogue. A search for lenses takes the fit without quasar templates."""
    flux, ivar, _, _ = mocks.spectra(2)
    rows = {"z": 1.4, "class": "QSO", "objtype": "GALAXY"}
    spec, plate = tmp_path / "spec-5000-57000-0001.fits", tmp_path / "spPlate-5000-57000.fits"
    write_spec(spec, mocks.LOGLAM, flux[0], ivar[0], {**rows, "plate": 5000, "mjd": 57000, "fiberid": 1})
    best = write_spplate(plate, mocks.LOGLAM, flux, ivar, rows)
    for path in (spec, best):
        with fits.open(path, mode="update") as units:
            fitted = units[-1].data
            fitted["Z_NOQSO"], fitted["CLASS_NOQSO"] = 0.5, "GALAXY"
    for configured, z in ((mgii.get_config(), 1.4), (lya.get_config(), 0.5)):
        loglam = grid.window(*configured.data.window)
        for path in (spec, plate):
            for catalogue in ("", str(best)):
                configured.search.catalogue = catalogue
                block, selected = score.make_read(configured, loglam, score.load_catalogue(configured))(str(path))
                assert selected.all() and block.z == pytest.approx(z)


def test_blank_sky_is_no_control_sample(config, tmp_path):
    assert not systems.of(config).CONTROL and systems.of(lya.get_config()).CONTROL
    columns = {name: np.zeros(3) for name in vet.NEEDED}
    columns |= {"score": np.array([0.9, 0.9, 0.1]), "sky": np.array([False, True, False])}
    columns |= {"selected": np.array([True, False, True])} | {n: [[]] * 3 for n in ("waves", "line_scores")}
    pq.write_table(pa.table(columns), tmp_path / "scores.parquet")
    for control, hits, fibers in ((True, 2, 1), (False, 1, 0)):
        found, counts = vet.collect(tmp_path / "scores.parquet", 0.5, control)
        assert len(found["index"]) == hits and counts == {"galaxies": 2, "sky_fibers": fibers}


def test_an_object_is_kept_if_one_of_its_lines_is():
    index, cut = np.array([4, 4, 7, 9, 9]), np.array(["weak", "candidate", "fit", "civ", "weak"])
    objects, said = vet.first_cut(index, cut)
    assert objects.tolist() == [4, 7, 9] and said.tolist() == ["candidate", "fit", "civ"]


def test_scores_list_what_is_above_the_least_score():
    logits = np.array([[3.0, -2.0, -9.0], [-8.0, -9.0, -9.0]])
    out = {"waves": np.arange(6.0).reshape(2, 3), "logits": logits}
    told = score.list_lines(out, np.array([True, True]))
    assert [x.tolist() for x in told["waves"]] == [[0, 1], [3]]
    assert score.list_lines(out, np.array([True, False]))["waves"][1].size == 0


def columns_of(**changes):
    """One absorber that nothing speaks against."""
    usual = {"good_2796": 1.0, "good_2803": 1.0, "fit_status": 0, "fit_snr": 20.0, "snr_2796": 15.0, "snr_2803": 12.0}
    usual |= {"ratio": 1.4, "ratio_err": 0.2, "dv": 30_000.0, "trough": 800.0, "sky_noise": 1.0, "sky_distance": 90.0}
    usual |= {"wave": 6000.0, "feii_snr": 9.0, "mgi_snr": 3.0, "rival_snr": 0.0, "rival_ew": 0.0, "rival_ew_err": 0.1}
    usual |= {
        "rival_feii_snr": 0.0,
        "ew_2796": 1.2,
        "ew_2803": 0.9,
        "ew_2796_err": 0.1,
        "ew_2803_err": 0.1,
        "civ_dv": -90_000.0,
        "civ_delta_chi2": 90.0,
    }
    usual |= {"posterior": 0.99, "readable": True}
    return {name: np.array([changes.get(name, value)]) for name, value in usual.items()}


@pytest.mark.parametrize(
    ("name", "changes"),
    {
        "coverage": {"good_2803": 0.2, "feii_snr": 0.0, "mgi_snr": 0.0},
        "fit": {"fit_status": 2},
        "weak": {"snr_2803": 1.0},
        "ratio": {"ew_2796": 4.0, "ew_2803": 0.2},
        "behind": {"dv": -4000.0},
        "trough": {"trough": 6000.0},
        "sky": {"wave": 8000.0, "sky_noise": 4.0, "fit_snr": 8.0, "feii_snr": 0.0, "mgi_snr": 0.0},
        "feii": {"rival_snr": 30.0, "rival_ew": 2.0, "feii_snr": 1.0, "mgi_snr": 0.0},
        "civ": {"civ_dv": 0.0, "civ_delta_chi2": -5.0, "feii_snr": 0.0, "mgi_snr": 0.0},
        "unsure": {"posterior": 0.01, "fit_snr": 8.0},
        "unreadable": {"readable": False},
    }.items(),
)
def test_each_cut_takes_what_it_names_and_nothing_else(config, name, changes):
    taken = {n for n, cut in absorber_cuts.CUTS.items() if cut.takes(columns_of(**changes), config.vet)[0]}
    assert taken == {name}
    assert not any(cut.takes(columns_of(), config.vet)[0] for cut in absorber_cuts.CUTS.values())
    assert set(config.vet.cuts) <= set(absorber_cuts.CUTS)


def test_iron_saves_an_absorber_whose_one_line_is_lost(config):
    assert not absorber_cuts.known_flags(columns_of(good_2803=0.1), config.vet)["coverage"][0]


def test_iron_saves_an_absorber_that_might_be_carbon(config):
    assert not absorber_cuts.known_flags(columns_of(civ_dv=0.0, civ_delta_chi2=-5.0, mgi_snr=0.0), config.vet)["civ"][0]


def test_associated_is_near_the_quasar_on_either_side(config):
    near = [absorber_cuts.known_flags(columns_of(dv=dv), config.vet)["associated"][0] for dv in (-9e3, -1e3, 1e3, 9e3)]
    assert near == [False, True, True, False]


@pytest.mark.parametrize("saved_by", [{"feii_snr": 9.0}, {"mgi_snr": 9.0}, {"fit_snr": 12.0}, {"sky_noise": 1.0}])
def test_no_residual_of_the_sky_is_as_strong_or_has_iron_or_leaves_the_errors_as_they_are(config, saved_by):
    faint = {"sky_distance": 1.0, "sky_noise": 1.3, "fit_snr": 8.0, "feii_snr": 0.0, "mgi_snr": 0.0}
    sky = lambda changes: absorber_cuts.known_flags(columns_of(**changes), config.vet)["sky"][0]  # noqa: E731
    assert sky(faint) and not sky(faint | saved_by)


def test_a_strong_doublet_is_no_noise_whatever_its_score(config):
    """The network has low scores for some lines wider than 4 A, at any S/N."""
    takes = absorber_cuts.CUTS["unsure"].takes
    assert [takes(columns_of(posterior=0.2, fit_snr=snr), config.vet)[0] for snr in (5.0, 50.0)] == [True, False]


def test_without_a_score_the_signal_to_noise_decides_what_is_noise(config):
    takes = absorber_cuts.CUTS["unsure"].takes
    assert [takes(columns_of(posterior=np.nan, fit_snr=snr), config.vet)[0] for snr in (4.5, 5.5)] == [True, False]
    assert not takes(columns_of(posterior=0.9, fit_snr=4.5), config.vet)[0]


@pytest.mark.parametrize(("cut", "kept", "taken"), [("coverage", 0.6, 0.4), ("weak", 4.5, 3.5)])
def test_half_a_line_and_a_faint_doublet_are_enough(config, cut, kept, taken):
    name = {"coverage": "good_2796", "weak": "fit_snr"}[cut]
    alone = {"feii_snr": 0.0, "mgi_snr": 0.0}
    flagged = [absorber_cuts.known_flags(columns_of(**{name: x}, **alone), config.vet)[cut][0] for x in (kept, taken)]
    assert flagged == [False, True]


def test_doubts_and_grade(config):
    said, grade = absorber_cuts.doubts(columns_of(), config.vet)
    assert (said[0], grade[0]) == ("", "A")
    said, grade = absorber_cuts.doubts(columns_of(fit_snr=5.5, feii_snr=0.0, mgi_snr=0.0), config.vet)
    assert (said[0], grade[0]) == ("faint,alone", "C")


def test_columns_say_what_they_are():
    assert list(COLUMNS)[:2] == ["name", "plate"] and all(text for *_, text in COLUMNS.values())
    assert {"z_abs", "z_abs_err", "ew_2796", "ew_2796_err", "ew_2803", "fwhm", "ratio"} <= set(nothing_measured())


def test_injected_absorbers_have_the_strength_that_the_truth_says(config):
    loglam = grid.window(*config.data.window)
    num = 64
    ones = np.ones((num, len(loglam)), np.float32)
    example = {"flux": 10 * ones, "ivar": 4e6 * ones, "wdisp": ones, "z": np.full(num, 1.3, np.float32)}
    keys, snr = jax.random.split(jax.random.key(2), num), np.zeros(num, np.float32)
    draw = inject_absorbers.make_inject(config, loglam)
    lit, truth = jax.device_get(draw(keys, example, snr))
    width = grid.wave(loglam) * np.log(10) * grid.STEP
    lost = ((1 - lit["flux"] / 10) * width).sum(1) / (1 + truth["z_abs"])
    pull = (lost - truth["ew_2796"] * 1.5) / truth["ew_2796"]  # 2803 adds between a half and all of it
    assert np.all(np.abs(pull) < 0.55)
    place = grid.pixel(truth["wave"], loglam)
    deepest = lit["flux"].argmin(1)
    off = np.minimum(np.abs(deepest - place), np.abs(deepest - place - 11.135))
    assert np.mean(off < 3) > 0.95
    assert np.all(truth["wave"] / lines.MGII[0] - 1 == pytest.approx(truth["z_abs"], abs=1e-5))
    assert truth["possible"].all()
    example["z"][:] = 0.3605  # no absorber in front of it has its doublet in the window
    assert not jax.device_get(draw(keys, example, snr))[1]["possible"].any()


def test_injected_widths_do_not_depend_on_the_spectrum(config):
    """Or the completeness at a W would be that of the quasars bright enough for it."""
    loglam, num = grid.window(*config.data.window), 256
    keys, snr = jax.random.split(jax.random.key(5), num), np.full(num, 5.0, np.float32)
    ones = np.ones((num, len(loglam)), np.float32)
    draw, found = inject_absorbers.make_inject(config, loglam), []
    for ivar in (1.0, 100.0):
        example = {"flux": ones, "ivar": ivar * ones, "wdisp": ones, "z": np.full(num, 1.3, np.float32)}
        found.append(jax.device_get(draw(keys, example, snr))[1])
    np.testing.assert_allclose(found[1]["ew_2796"], found[0]["ew_2796"], rtol=1e-4)
    np.testing.assert_allclose(found[1]["snr"], 10 * found[0]["snr"], rtol=0.05)
    low, high = config.inject.ew_2796
    share = np.log(found[0]["ew_2796"] / low) / np.log(high / low)
    assert (
        share.min() >= 0
        and share.max() <= 1
        and np.quantile(share, [0.25, 0.75]) == pytest.approx([0.25, 0.75], abs=0.08)
    )


def test_the_nearest_of_several_lines_is_the_injected_one():
    out = {"waves": np.array([[5000.0, 6000.0]]), "logits": np.array([[4.0, 2.0]]), "wave": np.array([5000.0])}
    near = inject.nearest_line({**out, "score": np.array([0.98])}, np.array([6001.0]))
    assert near["wave"][0] == 6000 and near["score"][0] == pytest.approx(1 / (1 + np.exp(-2)), rel=1e-5)


def test_purity_sets_the_cut():
    value, false = np.array([5.0, 4.0, 3.0, 2.0, -np.inf]), np.array([2.5, 1.0])
    assert rates.cut_at_purity(value, false, 0.99) == 2.5
    assert rates.cut_at_purity(value, false, 0.8) == 1.0
    assert rates.cut_at_purity(value, false, 0.5) < 1.0
    assert rates.cut_at_purity(np.array([-np.inf]), np.array([1.0]), 0.9) == np.inf


def test_told_absorbers_are_matched_to_true_ones_once():
    z = np.array([[1.0, 1.2, 1.4, 0.0]])
    waves = lines.MGII[0] * np.array([[2.0004, 2.2003, 2.5]])
    slot, found = rates.match(waves, np.array([[5.0, 3.0, 1.0]]), z)
    assert slot.tolist() == [[0, 1, -1]] and found.tolist() == [[0, 1, -1, -1]]
    scored = {"waves": waves, "logits": np.array([[5.0, 3.0, 1.0]]), "z_abs": z}
    scored |= {"ew_2796": np.array([[1.0, 0.2, 1.0, 0.0]]), "absorber_snr": np.array([[9.0, 9.0, 1.0, 0.0]])}
    told = rates.summarise(scored, 0.9, 0.0)
    assert told["number"] == 1 and told["at_threshold"]["completeness"][0] == 1.0
    assert told["dz_rms"] == told["dz_median_absolute"] == pytest.approx(2e-4)  # over 1 + z
    assert told["at_threshold"]["purity"][0] == 0.5  # the weak one counts for nothing, the third is false


def test_drawings_hold_every_panel(config):
    from matplotlib.figure import Figure

    loglam = grid.window(*config.data.window)
    flat = np.ones(len(loglam), np.float32)
    spectrum = absorber_page.Absorbed(flat, 100 * flat, flat)
    row = {"z_abs": 1.1, "z_qso": 1.4}
    figure = Figure()
    absorber_page.draw_velocity(figure, spectrum, row, loglam)
    assert [axis.texts[0].get_text() for axis in figure.axes] == list(absorber_page.PANELS)
    absorber_page.draw_spectrum(Figure(), spectrum, row, loglam)
    row |= {"name": "J0101+01", "fit_snr": 9.0} | dict.fromkeys(
        ("ew_2796", "ew_2796_err", "ew_2803", "ew_2803_err"), 1.0
    )
    figure = Figure(figsize=(7.2, 7.4))
    absorber_page.draw_page(figure, spectrum, row, loglam)
    (text,) = figure.texts
    assert text.get_text().startswith("J0101+01_z1.1000: z 1.10000 of a quasar at 1.4000")
    top = max(axis.get_position().y1 for axis in figure.axes)  # in the upper half's own units
    assert text.get_window_extent().y0 > figure.subfigs[0].transSubfigure.transform((0, top))[1]
    fit = absorber_page.make_fit(config, loglam)
    model, masked = fit(jnp.asarray(flat), jnp.asarray(100 * flat), jnp.float32(1.4), jnp.float32(0))
    np.testing.assert_allclose(model[150:-150], 1, atol=0.05)
    assert not masked.any()


def test_lines_are_called_on_the_page_as_in_the_table():
    panels = {name.lower().replace(" ii ", "ii_").replace(" i ", "i_") for name in absorber_page.PANELS}
    metals = {name for name in panels if not name.startswith("mgii")}
    assert {f"ew_{name}" for name in metals} <= set(COLUMNS) and set(absorber_page.NAMED) <= set(absorber_page.PANELS)


def test_a_rival_fainter_than_the_absorbers_own_iron_is_none(config):
    for snr, taken in ((7.0, False), (9.0, True)):
        columns = columns_of(rival_snr=snr, feii_snr=8.0, rival_ew=2.0, rival_feii_snr=10.0)
        assert absorber_cuts.known_flags(columns, config.vet)["feii"][0] == taken


def test_the_error_of_the_ratio_counts_that_of_2803_by_the_bound(config):
    columns = columns_of(ew_2796=4.0, ew_2803=1.2, ew_2803_err=0.5)
    assert not absorber_cuts.known_flags(columns, config.vet)["ratio"][0]
