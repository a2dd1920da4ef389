"""Lines injected into given spectra: what went in, what is counted, and how a score becomes a probability."""

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from scipy import special

from configs import lya
from lensjax.core.errors import UserError
from lensjax.physics import grid
from lensjax.search import calibration, completeness, inject
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
    draw = inject.make_inject(LOGLAM, 0.5)
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


def test_a_run_is_whole_counts_every_line_and_is_not_repeated(plate, tmp_path, monkeypatch):
    config = config_of(plate)
    known = inject.inject(config, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*OUTPUT, inject.CONTROL_NAME])
    lines = pq.read_table(tmp_path / "injected.parquet").to_pydict()
    assert len(lines["wave"]) == 24 and set(lines["host"]) <= set(range(4))
    assert known["completeness"] == np.mean(lines["found"]) > 0.5
    assert known["galaxies"] + known["sky_fibers"] == 3  # half of four and two
    before = [(tmp_path / name).read_bytes() for name in ("injected.parquet", "completeness.pdf")]
    monkeypatch.setattr(inject, "read_hosts", None)
    inject.inject(config, tmp_path)
    assert before == [(tmp_path / name).read_bytes() for name in ("injected.parquet", "completeness.pdf")]


def test_a_killed_run_goes_on_to_the_same_end(plate, tmp_path, monkeypatch):
    inject.inject(config_of(plate), tmp_path / "whole")
    write, done = inject._write_lines, []

    def killed(path, *args):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(path)
        write(path, *args)

    monkeypatch.setattr(inject, "_write_lines", killed)
    with pytest.raises(KeyboardInterrupt):
        inject.inject(config_of(plate), tmp_path / "killed")
    monkeypatch.setattr(inject, "_write_lines", write)
    inject.inject(config_of(plate), tmp_path / "killed")
    whole, again = (pq.read_table(tmp_path / name / "injected.parquet") for name in ("whole", "killed"))
    assert whole.equals(again)


def test_nothing_to_inject_into_is_said(plate, tmp_path):
    config = lya.get_config("smoke")
    config.update(config_of(plate))
    config.select.z_min = 0.8
    with pytest.raises(UserError, match="no galaxy"):
        inject.read_hosts(config, [str(next(plate.iterdir()))])


def test_cells_hold_every_line_once_and_the_table_documents_itself(tmp_path):
    rng = np.random.default_rng(2)
    lines = {name: rng.uniform(1, 2, 500) for name in completeness.AXES}
    lines |= {"hit": rng.uniform(size=500) < 0.8}
    lines["found"] = lines["hit"] & (lines["snr"] > 1.5)
    edges = dict.fromkeys(completeness.AXES, (1.0, 1.5, 2.0))
    settings = type("Settings", (), {"edges": edges})
    path = completeness.write_completeness(tmp_path / "c.fits", lines, settings, {"THRESH": 0.5})
    with fits.open(path) as units:
        assert [unit.name for unit in units[1:]] == list(completeness.MAPS)
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
