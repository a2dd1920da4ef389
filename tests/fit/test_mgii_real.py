"""Absorbers of public BOSS quasars that were checked by eye: redshift, equivalent widths, and the traps beside them."""

import csv

import numpy as np
import pytest

from lensjax.fit import absorber_flags, mgii
from lensjax.physics import grid
from lensjax.surveys import read_block

LOGLAM = grid.window(3600, 10300)
LISTED_ERROR = 0.2  # Angstrom: of the listed equivalent widths, 0.1 to 0.3


@pytest.fixture(scope="module")
def vetted(real_data):
    """The rows of mgii_vetted.csv, and their spectra as one block's arrays; skips where they are absent."""
    folder = real_data / "boss_quasars"
    if not (folder / "mgii_vetted.csv").is_file():
        pytest.skip(f"no mgii_vetted.csv in {folder}")
    with open(folder / "mgii_vetted.csv") as file:
        rows = list(csv.DictReader(file))
    names = ["spec-{:04d}-{}-{:04d}.fits".format(int(r["plate"]), r["mjd"], int(r["fiber"])) for r in rows]
    blocks = [read_block(folder / name, LOGLAM) for name in names]
    flux, ivar, wdisp = (np.concatenate([getattr(b, name) for b in blocks]) for name in ("flux", "ivar", "wdisp"))
    columns = {
        name: np.array([float(r[name] or "nan") for r in rows]) for name in ("z_abs", "z_qso", "ew2796", "ew2803")
    }
    return columns | {"flux": flux, "ivar": ivar, "wdisp": wdisp, "kind": np.array([r["kind"] for r in rows])}


@pytest.mark.parametrize("speed", [-200, 0, 200])
def test_listed_systems_are_measured_as_listed(vetted, speed):
    real = vetted["kind"] != "trap"
    z = vetted["z_abs"]
    guess = z + (1 + z) * speed / grid.C_KMS
    table = mgii.fit_doublets(vetted["flux"], vetted["ivar"], guess, LOGLAM, vetted["wdisp"])
    apart = (table["z_abs"] - z) / (1 + z) * grid.C_KMS
    assert real.sum() == 4 and (np.abs(apart[real]) < 100).all()
    for name, listed in (("ew_2796", "ew2796"), ("ew_2803", "ew2803")):
        error = np.hypot(table[f"{name}_err"], LISTED_ERROR)
        assert (np.abs(table[name] - vetted[listed]) < 2 * error)[real].all()
    assert (table["status"][real] == 0).all()


def test_flags_tell_systems_from_traps(vetted):
    table = absorber_flags.measure_all(
        vetted["flux"], vetted["ivar"], vetted["z_abs"], LOGLAM, vetted["z_qso"], vetted["wdisp"]
    )
    found = absorber_flags.flags(table)
    found.pop("associated")
    against = np.any(list(found.values()), axis=0)
    np.testing.assert_array_equal(against, vetted["kind"] == "trap")
    assert (table["feii_snr"][vetted["kind"] == "certain"] > 5).all()
