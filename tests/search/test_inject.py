"""Lines injected into given spectra: what went in, what is counted, and how a score becomes a probability."""

import json
import types

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from scipy import optimize, special

from configs import lya
from lensjax.core.errors import UserError
from lensjax.physics import grid
from lensjax.search import calibration, completeness, emitters, inject, inject_lines, restore, vet
from lensjax.surveys import read_block
from lensjax.surveys.write import write_spplate

WINDOW = (4000.0, 4200.0)
LOGLAM = grid.window(*WINDOW)
NUM = 6
OUTPUT = ("injected.parquet", "completeness.fits", "calibration.json")
OUTPUT += ("completeness.pdf", "completeness.png", "reliability.pdf", "reliability.png")


def config_of(folder, **settings):
    config = lya.get_config("smoke")
    config.data.window = WINDOW
    config.vet.update({"enabled": False, "window": WINDOW})
    config.search.update({"input": str(folder), "scorer": "practical_filter"})
    config.inject.update({"lines": 24, "hosts": 4, "snr": (8.0, 20.0), **settings})
    return config.lock()


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    """Four galaxies at z 0.5 of flux 1 and noise 0.2, two sky fibers."""
    folder = tmp_path_factory.mktemp("plate")
    flux = np.random.default_rng(0).normal(1, 0.2, (NUM, len(LOGLAM)))
    objtype = np.where(np.arange(NUM) < 4, "GALAXY", "SKY")
    table = {"z": np.full(NUM, 0.5), "class": "GALAXY", "objtype": objtype}
    write_spplate(folder / "spPlate-4000-55600.fits", LOGLAM, flux, np.full(flux.shape, 25.0), table)
    return folder


def test_the_line_has_the_flux_and_the_snr_that_the_truth_says():
    num = 200
    ones = np.ones((num, len(LOGLAM)), np.float32)
    example = {"flux": 0 * ones, "ivar": 4 * ones, "wdisp": ones, "z": np.full(num, 0.5, np.float32)}
    snr = np.linspace(4, 20, num, dtype=np.float32)
    settings = lya.get_config("smoke")
    settings.inject.mirror_fraction = 0.5
    draw = inject_lines.make_inject(settings, LOGLAM)
    lit, truth = jax.device_get(draw(jax.random.split(jax.random.key(1), num), example, snr))
    inner = (truth["wave"] > 4050) & (truth["wave"] < 4150)
    width = grid.wave(LOGLAM) * np.log(10) * grid.STEP
    np.testing.assert_allclose((lit["flux"] * width).sum(1)[inner], truth["line_flux"][inner], rtol=0.02)
    np.testing.assert_allclose(np.sqrt((4 * lit["flux"] ** 2).sum(1))[inner], snr[inner], rtol=1e-3)
    peak = np.argmax(lit["flux"], axis=1)
    rows = np.arange(num)
    grown = np.exp(-2 * 0.019 * np.minimum(2 * lit["flux"][rows, peak], 20))  # reported errors follow the counts
    np.testing.assert_allclose(lit["ivar"][rows, peak] / 4, grown, rtol=1e-4)
    assert 0.3 < np.mean(truth["line_alpha"] < 0) < 0.7


@pytest.mark.parametrize("variant", ["default", "threeclass", "redshift"])
def test_released_weights_bring_all_that_an_injection_needs(variant, tmp_path):
    config, _, _ = restore.restore(lya.get_config(variant), tmp_path)
    loglam = grid.window(*config.data.window)
    ones = np.ones((1, len(loglam)), np.float32)
    example = {"flux": ones, "ivar": ones, "wdisp": ones, "z": np.full(1, 0.5, np.float32)}
    draw = inject_lines.make_inject(config, loglam)
    lit, truth = jax.eval_shape(draw, jax.random.split(jax.random.key(0), 1), example, np.ones(1, np.float32))
    assert lit["flux"].shape == ones.shape and truth["wave"].shape == (1,)


@pytest.fixture(scope="module")
def run(plate):
    """run(folder): the whole of an injection; the scorer and the lines are compiled once."""
    config = config_of(plate)
    scorer, drawn = restore.make_scorer(config, plate), inject_lines.make_inject(config, LOGLAM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inject_lines, "make_inject", lambda *_: drawn)
        yield lambda folder: inject.inject(config, folder, scorer)


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder)


def test_a_run_is_whole_counts_every_line_and_is_not_repeated(whole, run, monkeypatch):
    folder, known = whole
    assert sorted(path.name for path in folder.iterdir()) == sorted([*OUTPUT, inject.CONTROL_NAME])
    lines = pq.read_table(folder / "injected.parquet").to_pydict()
    assert len(lines["wave"]) == 24 and set(lines["host"]) <= set(range(4))
    assert known["completeness"] == np.mean(lines["found"]) > 0.5
    assert known["galaxies"] + known["sky_fibers"] == 3  # half of four and two
    before = [(folder / name).read_bytes() for name in ("injected.parquet", "completeness.pdf")]
    monkeypatch.setattr(inject, "read_hosts", None)
    run(folder)
    assert before == [(folder / name).read_bytes() for name in ("injected.parquet", "completeness.pdf")]


def test_a_killed_run_goes_on_to_the_same_end(whole, run, tmp_path, monkeypatch):
    monkeypatch.setattr(inject.inject_figures, "write_figures", lambda *_: None)
    write, done = inject._write_lines, []

    def killed(path, *args):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(path)
        write(path, *args)

    with monkeypatch.context() as patch:
        patch.setattr(inject, "_write_lines", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    run(tmp_path)
    first, again = (pq.read_table(folder / "injected.parquet") for folder in (whole[0], tmp_path))
    assert first.equals(again)


@pytest.mark.parametrize("searched", [False, True])
def test_injected_lines_are_cut_as_the_hits_of_a_search_are(searched, plate, tmp_path, monkeypatch):
    num, wave = 3, np.array([4050.0, 4100.0, 4150.0])
    usual = {"fit_status": 0, "fit_snr": 9.0, "sigma": 170.0, "sigma_err": 20.0, "lsf": 75.0, "flux": 13.0, "peak": 3.0}
    usual |= {"noise": 0.4, "noise_scale": 1.0, "contrast": 4.0, "num_hits": 1, "pixel_fraction": 0.3, "alpha": 2.0}
    usual |= {"oii_odds": -2.0, "nearby_odds": -2.0}
    measured = {name: np.zeros(num) for name in emitters.nothing_measured()} | {"readable": np.ones(num, bool)}
    measured |= {name: np.full(num, value) for name, value in usual.items()}
    measured["num_hits"][1] = 9
    monkeypatch.setattr(emitters, "make_measure", lambda *_: lambda chunk, hits: measured | {"wave": hits["wave"]})
    config = config_of(plate).copy_and_resolve_references().unlock()
    config.vet.enabled = True
    if searched:  # its hits are the crowd
        hits = {name: np.repeat(values, 2) for name, values in measured.items() if name != "readable"}
        named = {"file": ["a.fits"] * 6, "row": np.arange(6), "ra": np.zeros(6), "dec": np.zeros(6)}
        hits |= named | {"z_lens": np.full(6, 0.5), "wave": np.repeat(wave, 2), "sky": np.zeros(6, bool)}
        pq.write_table(pa.table({**hits, "posterior": np.full(6, 0.9)}), tmp_path / inject.HITS_NAME)
    hosts = read_block(str(next(plate.glob("spPlate*"))), LOGLAM).take(np.arange(num))
    cut = inject.make_vetting(config, tmp_path, LOGLAM)(hosts, wave, np.full(num, 0.99))
    assert cut.tolist() == ["control", "hits", "control"]


def test_a_spectrum_without_room_for_a_line_gets_none(plate, tmp_path):
    """Its lines would lie at the end of the window and be counted as lost."""
    config = config_of(plate)
    hosts = read_block(str(next(plate.glob("spPlate*"))), LOGLAM).take(np.arange(2))
    hosts.ivar[0, 8:-8] = 0
    recover = inject.make_recovery(config, tmp_path, restore.make_scorer(config, plate), hosts)
    lines = recover(np.arange(8))
    assert 0 < len(lines["wave"]) < 8 and set(lines["host"]) == {1}
    assert len({len(column) for column in lines.values()}) == 1
    assert (
        len(
            inject.make_recovery(config, tmp_path, restore.make_scorer(config, plate), hosts.take([0]))(np.arange(8))[
                "wave"
            ]
        )
        == 0
    )


def test_galaxies_come_from_many_files(tmp_path):
    for number in range(4):
        table = {"z": np.full(5, 0.5), "class": "GALAXY"}
        flux = np.ones((5, len(LOGLAM)))
        write_spplate(tmp_path / f"spPlate-{4000 + number}-55600.fits", LOGLAM, flux, flux, table)
    paths = sorted(str(path) for path in tmp_path.glob("spPlate-*"))
    hosts, _ = inject.read_hosts(config_of(tmp_path, hosts=4), paths)
    assert len(hosts.z) == 4 and len(set(hosts.table["plate"])) == 4


def test_spectra_with_another_line_are_not_noise(tmp_path, capsys):
    config, score = config_of(tmp_path, line_rate=0.2), np.linspace(0.05, 0.95, 8, dtype=np.float32)
    cut = np.array(["", "", "", "noise", "oii", "nearby", "candidate", ""])
    table = pa.table({"score": score, "sky": cut == "no", "selected": cut != "no", "cut": cut})
    mark = {"lensjax": json.dumps({"scorer": "a"})}
    pq.write_table(table.replace_schema_metadata(mark), tmp_path / "scores.parquet")
    scorer = types.SimpleNamespace(identity="a")
    lines = {"score": score, "snr": np.array([2.0, 7.9, 8.0, 9.0, 12.0, 20.0, 20.1, 50.0], np.float32)}
    known = inject.calibrate(config, tmp_path, scorer, lines)  # type: ignore[arg-type]
    assert known["spectra"] == "scores.parquet" and known["galaxies"] == 3 and known["sky_fibers"] == 0
    assert known["lines"] == 2  # half of the four of S/N 8 to 20
    assert calibration.read_calibration(tmp_path, "a") is not None
    config = config_of(tmp_path, line_rate=0.1)  # one of six has a line, and would be taken for noise
    inject.calibrate(config, tmp_path, scorer, lines)  # type: ignore[arg-type]
    assert calibration.read_calibration(tmp_path, "a") is None
    assert "inject: 16.7% of the spectra that were searched are candidates" in capsys.readouterr().err


def test_probabilities_that_an_injection_brings_do_not_ask_for_another(plate, tmp_path):
    config = lya.get_config("smoke")
    config.update(config_of(plate))
    config.vet.enabled = True
    scorer = restore.make_scorer(config, plate)
    hits = {"wave": np.full(3, 4100.0), "z_lens": np.full(3, 0.5), "sky": np.zeros(3, bool), "flags": np.arange(3)}

    def mark(**change):
        pq.write_table(pa.table(hits | {"probability": np.full(3, np.nan)} | change), tmp_path / "hits.parquet")
        return inject.fingerprint(config, [], scorer, tmp_path)

    assert mark() == mark(probability=np.full(3, 0.7)) != mark(flags=np.arange(1, 4))


@pytest.mark.parametrize("same", [True, False])
def test_candidates_of_other_settings_are_left_alone(same, plate, tmp_path, monkeypatch, capsys):
    config = lya.get_config("smoke")
    config.update(config_of(plate))
    config.vet.enabled = True
    kept = {"CONFIG": vet._settings(config)}
    table = pa.table({"wave": [4100.0], "z_lens": [0.5], "sky": [False], "flags": [0]})
    pq.write_table(table.replace_schema_metadata({"lensjax": json.dumps(kept)}), tmp_path / "hits.parquet")
    if not same:
        config.search.threshold, config.inject.line_rate = 0.9, 0.05
    lines = {"wave": np.zeros(1), "found": np.ones(1)}
    for name, result in {"_read_lines": lines, "calibrate": {"spectra": "scores.parquet"}}.items():
        monkeypatch.setattr(inject, name, lambda *_, result=result: result)
    monkeypatch.setattr(inject.completeness, "write_completeness", lambda path, *_: path)
    monkeypatch.setattr(inject.inject_figures, "write_figures", lambda *_: None)
    called = []
    for name in ("vet", "write_report"):
        monkeypatch.setattr(inject, name, lambda *_, name=name: called.append(name))
    inject.inject(config, tmp_path)
    assert called == (["vet", "write_report"] if same else [])
    said = capsys.readouterr().err
    assert ("are of another config.search.threshold, config.inject.line_rate: they get" in said) != same


def test_nothing_to_inject_into_is_said(plate, tmp_path):
    config = lya.get_config("smoke")
    config.update(config_of(plate))
    config.select.z_min = 0.8
    with pytest.raises(UserError, match="no galaxy"):
        inject.read_hosts(config, [str(plate / "spPlate-4000-55600.fits")])


def test_cells_hold_every_line_once_and_the_table_documents_itself(tmp_path):
    rng = np.random.default_rng(2)
    lines = {name: rng.uniform(1, 2, 500) for name in inject_lines.AXES}
    lines |= {"hit": rng.uniform(size=500) < 0.8}
    lines["found"] = lines["hit"] & (lines["snr"] > 1.5)
    edges = dict.fromkeys(inject_lines.AXES, (1.0, 1.5, 2.0))
    settings = type("Settings", (), {"edges": edges})
    path = completeness.write_completeness(tmp_path / "c.fits", lines, settings, {"THRESH": 0.5}, inject_lines)
    with fits.open(path) as units:
        assert [unit.name for unit in units[1:]] == list(inject_lines.MAPS)
    table = Table.read(path, hdu="WAVE_SNR")
    assert table["injected"].sum() == 500 and table["found"].sum() == lines["found"].sum()
    np.testing.assert_array_equal(table["completeness"][table["snr_high"] == 1.5], 0)
    assert (table["lower"] <= table["completeness"]).all() and (table["completeness"] <= table["upper"]).all()
    assert str(table["wave_low"].unit) == "Angstrom"


def draw(rng, mean, number):
    return special.expit(rng.normal(mean, 1.0, number))


def test_calibration_finds_the_likelihood_ratio_that_made_the_scores():
    """Logits N(1, 1) with a line, N(-1, 1) without: log(f1 / f0) = 2 x. One galaxy in 20 has one."""
    rng = np.random.default_rng(3)
    galaxies = np.concatenate([draw(rng, -1, 19_000), draw(rng, 1, 1_000)])
    known = calibration.fit_calibration(draw(rng, 1, 20_000), galaxies, draw(rng, -1, 5_000), 0.05)
    assert known["slope"] == pytest.approx(2, abs=0.1) and known["offset"] == pytest.approx(0, abs=0.1)
    x = np.array([-2.0, 0.0, 2.0])
    expected = special.expit(2 * x + special.logit(0.05))
    np.testing.assert_allclose(calibration.probability(special.expit(x), known), expected, rtol=0.2)
    held = calibration.reliability(draw(rng, 1, 20_000), galaxies, draw(rng, -1, 5_000), known, np.linspace(0, 1, 6))
    np.testing.assert_allclose(held["predicted"], held["observed"], atol=0.06)


def focal_score(probability, gamma):
    """The score that minimises the expected focal loss of spectra of which this share has a line."""

    def risk(q):
        loss = -probability * (1 - q) ** gamma * np.log(q)
        return loss - (1 - probability) * q**gamma * np.log1p(-q)

    return optimize.minimize_scalar(risk, bounds=(1e-9, 1 - 1e-9), method="bounded", options={"xatol": 1e-10}).x


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_the_posterior_undoes_the_focal_loss_and_the_rate_in_training(gamma):
    config = lya.get_config("smoke")
    config.loss.gamma = gamma
    truth = np.array([0.02, 0.3, 0.8, 0.995])
    score = np.array([focal_score(p, gamma) for p in truth])
    config.inject.line_rate = config.sim.line_fraction = 0.3
    np.testing.assert_allclose(calibration.posterior(score, config), truth, rtol=1e-3)
    config.inject.line_rate = 0.01  # Bayes: the densities of the score are those of training
    ratio = truth / (1 - truth) * 0.7 / 0.3
    np.testing.assert_allclose(calibration.posterior(score, config), ratio / (ratio + 99), rtol=1e-3)
    assert np.isfinite(calibration.posterior(np.float32([0, 1]), config)).all()
    config.search.temperature = 0.6  # the score is a probability as it is
    odds = score / (1 - score) * (0.01 / 0.99) / (0.3 / 0.7)
    np.testing.assert_allclose(calibration.posterior(score, config), odds / (1 + odds), rtol=1e-3)
    config.search.scorer = "practical_filter"
    assert np.isnan(calibration.posterior(score, config)).all()


def test_the_posterior_of_taught_odds_and_of_twins():
    """The score of taught odds is the probability at their prior; half of the mocks in pairs have a line."""
    score = np.array([0.02, 0.3, 0.8, 0.995])
    config = lya.get_config("taught")
    config.inject.line_rate = config.loss.prior
    np.testing.assert_allclose(calibration.posterior(score, config), score, rtol=1e-5)
    config.inject.line_rate = 0.01
    odds = score / (1 - score) * (0.01 / 0.99) / (config.loss.prior / (1 - config.loss.prior))
    np.testing.assert_allclose(calibration.posterior(score, config), odds / (1 + odds), rtol=1e-5)
    config = lya.get_config("smoke")
    config.data.twins, config.inject.line_rate = True, 0.5
    paired = calibration.posterior(score, config)
    config.data.twins, config.sim.line_fraction = False, 0.5
    np.testing.assert_array_equal(paired, calibration.posterior(score, config))


def test_few_spectra_support_no_certainty():
    """Ten spectra without a hit: the odds are at most 20 times the prior, whatever the score."""
    known = calibration.fit_calibration(np.full(100, 1.0, np.float32), np.full(5, 0.1), np.full(5, 0.1), 0.01)
    (best,) = calibration.probability(np.array([1.0]), known)
    assert best <= special.expit(np.log(20) + special.logit(0.01)) + 1e-9


def test_a_calibration_is_of_its_weights(tmp_path):
    known = {"offset": 0.0, "slope": 1.0, "most": 5.0, "rate": 0.01, "scorer": "a"}
    assert calibration.read_calibration(tmp_path, "a") is None
    calibration.write_calibration(tmp_path, known)
    assert calibration.read_calibration(tmp_path, "a") == known
    assert calibration.read_calibration(tmp_path, "b") is None


def test_reliability_weighs_galaxies_sky_and_lines_by_the_rate():
    known, p = {"offset": 0.0, "slope": 1.0, "most": 50.0, "rate": 0.25}, np.full(300, 0.5)
    held = calibration.reliability(p, p[:200], p[:100], known, np.array([0.0, 0.5, 1.0]))
    assert held["number"][0] == pytest.approx(300 * 0.25 + 200 * 0.75 + 100 * 0.75)
