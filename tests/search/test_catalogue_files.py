"""The table of candidates: names, columns, and four files that others open without a complaint."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import ucd, validate
from astropy.table import Table

from configs import vetting
from lensjax.core.errors import UserError
from lensjax.search import match
from lensjax.search.columns import COLUMNS
from lensjax.surveys import catalogues, known

# Li et al. (2018), Table 1: coordinates and names.
PAPER = (
    ("11:17:49.50 +01:40:36.95", "J111749.50+014036.9"),
    ("12:16:50.13 +50:07:00.26", "J121650.13+500700.2"),
    ("12:25:02.89 -00:09:07.85", "J122502.89-000907.8"),
    ("14:23:10.55 +23:19:28.17", "J142310.55+231928.1"),
    ("14:34:28.11 +47:01:11.53", "J143428.11+470111.5"),
)
TEXT = {
    "name": "J111749.50+014036.9",
    "grade": "A",
    "doubts": "",
    "known": "",
    "cut": "candidate",
    "file": "a.fits",
    "viewer": "",
}
WHOLE = {"plate", "mjd", "fiberid", "targetid", "row", "index", "flags", "fit_status", "num_hits", "dof", "repeat"}


def columns_of(num):
    values = {name: np.full(num, 1.5) for name in COLUMNS}
    values |= {name: np.full(num, 7) for name in WHOLE} | {name: np.full(num, text) for name, text in TEXT.items()}
    values["known_distance"] = np.full(num, np.nan)
    values["flux_halpha_err"] = np.full(num, np.inf)  # no data there
    return values | {"sky": np.zeros(num, bool)}


META = {"CREATOR": "lensjax 0.1", "CONFIG": json.dumps({"a": "x" * 3000}), "N_GAL": 900, "N_FALSE": 0.5}


@pytest.fixture(scope="module", params=[3, 0], ids=["three", "none"])
def written(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    catalogues.write_table(folder, "candidates", catalogues.make_table(columns_of(request.param), META, COLUMNS))
    return folder, request.param


@pytest.mark.parametrize("place, name", PAPER)
def test_names_are_those_of_the_paper(place, name):
    degrees = SkyCoord(place, unit=(units.hourangle, units.deg))
    assert catalogues.iau_name(degrees.ra.deg, degrees.dec.deg) == name


@pytest.mark.parametrize(
    "ra, dec, name",
    [
        (0.0, 0.0, "J000000.00+000000.0"),
        (0.0, -1e-6, "J000000.00-000000.0"),  # a sign, though every digit is 0
        (359.9999999, 89.9999999, "J235959.99+895959.9"),  # truncated: no 60 seconds, no 24 hours
        (360.0, -90.0, "J000000.00-900000.0"),
        (-15.0, -0.5, "J230000.00-003000.0"),
        (0.29 * 15 / 3600, 0.3 / 3600, "J000000.29+000000.3"),  # short of their decimals in binary
        (15 * (1 + 59 / 60 + 59.9999 / 3600), -(59.99 / 3600), "J015959.99-000059.9"),
        (np.nan, 1.0, ""),
    ],
)
def test_names_truncate_and_keep_the_sign(ra, dec, name):
    assert catalogues.iau_name(ra, dec) == name


def test_columns_are_described_by_words_that_the_virtual_observatory_knows():
    table = catalogues.make_table(columns_of(1), META, COLUMNS)
    assert table.colnames == list(COLUMNS)
    assert list(COLUMNS)[:2] == ["name", "plate"] and all(text for *_, text in COLUMNS.values())
    for unit, word, _ in COLUMNS.values():
        assert ucd.check_ucd(word, check_controlled_vocabulary=True, has_colon=False)
        units.Unit(unit)
    assert table["flux"].unit == 1e-17 * units.erg / units.s / units.cm**2


@pytest.mark.parametrize("suffix", ["fits", "ecsv", "vot"])
def test_astropy_reads_the_same_table_from_each_file(written, suffix):
    folder, num = written
    table = Table.read(folder / f"candidates.{suffix}")  # a warning is an error
    assert table.colnames == list(COLUMNS) and len(table) == num
    assert table["flux"].unit == 1e-17 * units.erg / units.s / units.cm**2
    assert table["flux"].description == "flux of the line"
    assert all(column.dtype.kind != "O" for column in table.columns.values())
    if num:
        assert table["name"][0] == TEXT["name"] and table["targetid"][1] == 7 and not table["sky"][0]
        assert np.isnan(np.ma.filled(table["known_distance"], np.nan)).all()
        assert np.isposinf(table["flux_halpha_err"]).all()
    if suffix != "vot":
        assert table.meta["N_GAL"] == 900 and json.loads(table.meta["CONFIG"]) == {"a": "x" * 3000}


def test_votable_is_valid(written):
    path = written[0] / "candidates.vot"
    assert "found no violations" in validate(str(path), output=None)
    assert b"InF" not in path.read_bytes()  # an infinity that astropy writes, and takes for valid, but no one else


def test_fits_is_standard_and_says_what_topcat_looks_for(written):
    with fits.open(written[0] / "candidates.fits") as hdus:
        hdus.verify("exception")
        header = hdus["CANDIDATES"].header
    number = list(COLUMNS).index("ra") + 1
    assert header[f"TUCD{number}"] == "pos.eq.ra;meta.main" and header[f"TCOMM{number}"].startswith("right ascension")
    assert all(header[f"TFORM{i}"] not in ("0A", "A") for i in range(1, len(COLUMNS) + 1))


def test_parquet_carries_units_words_and_provenance(written):
    folder, num = written
    table = pq.read_table(folder / "candidates.parquet")
    assert table.num_rows == num and table.column_names == list(COLUMNS)
    assert table.schema.field("wave").metadata[b"unit"] == b"Angstrom"
    assert json.loads(table.schema.metadata[b"lensjax"])["N_GAL"] == 900
    pytest.importorskip("pandas", reason="astropy reads Parquet through pandas")
    assert Table.read(folder / "candidates.parquet")["flux"].description == "flux of the line"


def settings(path):
    vet = vetting.vetting()
    vet.known = str(path)
    return vet


def test_known_lenses_are_matched_by_place(tmp_path):
    path = tmp_path / "known.csv"
    Table({"Name": ["far", "lens"], "RA": [10.0, 359.9999], "DEC": [5.0, -60.0]}).write(path)
    ra, dec = np.array([0.0001, 359.9999, np.nan]), np.array([-60.0, -60.0 + 2.5 / 3600, 0.0])
    name, distance = known.known_objects(ra, dec, settings(path))
    assert name.tolist() == ["lens", "", ""]
    np.testing.assert_allclose(distance, [0.72 * np.cos(np.pi / 3), np.nan, np.nan], rtol=1e-6)


def test_a_table_of_known_lenses_that_cannot_be_used_is_one_sentence(tmp_path):
    path = tmp_path / "known.csv"
    for text, sentence in (("a,b\n1,2\n", "has the columns a, b and 1 rows"), ("ra,dec\nnoon,1\n", "in degrees")):
        path.write_text(text)
        with pytest.raises(UserError, match=sentence):
            known.known_objects(np.zeros(1), np.zeros(1), settings(path))
    with pytest.raises(UserError, match="cannot be read"):
        known.known_objects(np.zeros(1), np.zeros(1), settings(tmp_path / "none.fits"))


def test_einstein_radius_of_an_isothermal_sphere():
    """28.8 arcsec (sigma / 1000 km/s)^2 D_ls / D_s; nothing for a source in front."""
    from astropy.cosmology import Planck18

    z_lens, z_source = np.array([0.5, 0.5, np.nan]), np.array([2.5, 0.3, 2.5])
    ratio = Planck18.angular_diameter_distance(0.5, 2.5) / Planck18.angular_diameter_distance(2.5)
    expected = 28.8 * 0.25**2 * ratio.value
    np.testing.assert_allclose(match.einstein_radius(z_lens, z_source, 250.0), [expected, np.nan, np.nan], rtol=5e-3)


def test_there_is_no_radius_without_a_lens():
    assert np.isnan(match.einstein_radius(np.array([0.0, -0.001]), np.full(2, 2.5), 250.0)).all()


def test_control_characters_are_no_text_of_a_votable(tmp_path):
    table = catalogues.make_table({"known": np.array(["SDSS\x07X", "a\tb"])}, {}, {"known": ("", "", "a name")})
    catalogues.write_table(tmp_path, "x", table)
    assert Table.read(tmp_path / "x.vot")["known"].tolist() == ["SDSS?X", "a\tb"]
