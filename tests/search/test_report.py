"""The page of a search: whole, escaped, one figure a hit, and the same again."""

import collections
import html.parser
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs import lya
from lensjax.physics import grid
from lensjax.search import (
    calibration,
    candidate_figures,
    candidates,
    control,
    figures,
    page,
    report,
    tally,
    vet,
    vetted_page,
)
from lensjax.search.report import write_report
from lensjax.search.shards import COLUMNS, schema
from lensjax.surveys.write import write_spec, write_spplate

WINDOW = (4000.0, 4200.0)
LOGLAM = grid.window(*WINDOW)
NUM = len(LOGLAM)
VOID = {"meta", "br", "link", "img"}
DATE = "2018-11-01 12:00 UTC"


class Page(html.parser.HTMLParser):
    """Checks nesting; keeps ids, links, tags and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.labels = [], [], [], []
        self.tags, self.text = collections.Counter(), ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags[tag] += 1
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs[name] for name in ("href", "xlink:href", "src") if name in attrs]
        self.labels += [attrs.get("aria-label")] if tag == "svg" else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def config_of(**search):
    config = lya.get_config("default")
    config.data.window = WINDOW
    config.search.update({"input": "spectra", **search})
    return config.lock()


def write_table(folder, rows):
    """scores.parquet with the given values; the rest as of a selected galaxy without a line."""
    usual = {"file": "", "row": 0, "survey": "BOSS", "plate": -1, "mjd": -1, "fiberid": -1, "targetid": -1}
    usual |= {"ra": 180.0, "dec": -0.5, "z": 0.5, "zwarning": 0, "class": "GALAXY", "subclass": "", "sky": False}
    usual |= {"selected": True, "score": 0.1, "wave": 4100.0, "snr": 3.0, "kind": np.nan, "z_source": 2.37}
    usual |= {"status": "ok", "cut": "", "waves": [], "line_scores": []}
    columns = {name: [{**usual, **row}[name] for row in rows] for name in COLUMNS}
    pq.write_table(pa.table(columns, schema=schema({})), folder / "scores.parquet")
    return folder / "scores.parquet"


@pytest.fixture(scope="module")
def spectra(tmp_path_factory):
    """A plate of 5, and a file whose name is HTML; all with a line at 4100 A."""
    folder = tmp_path_factory.mktemp("spectra")
    rng = np.random.default_rng(0)
    line = 20 * np.exp(-0.5 * ((grid.pixel(np.array(4100.0), LOGLAM) - np.arange(NUM)) / 2) ** 2)
    flux, ivar = rng.normal(10, 1, (5, NUM)) + line, np.ones((5, NUM))
    write_spplate(folder / "spPlate-4000-55600.fits", LOGLAM, flux, ivar, {"z": np.full(5, 0.5), "class": "GALAXY"})
    row = {"plate": 4002, "mjd": 55600, "fiberid": 7, "z": 0.5, "class": "GALAXY"}
    write_spec(folder / "spec-<b>&'x.fits", LOGLAM, flux[0], ivar[0], row)
    return folder


def rows_of(spectra):
    """A survey: four hits (one file gone, one escaped), a sky fiber, one unselected, one unreadable, and a crowd."""
    plate = str(spectra / "spPlate-4000-55600.fits")
    hit = {"file": plate, "plate": 4000, "mjd": 55600, "fiberid": 3, "row": 2, "score": 0.9, "snr": 8.0}
    return [
        hit,
        {**hit, "row": 4, "fiberid": 5, "snr": 9.0},
        {"file": str(spectra / "gone.fits"), "score": 0.8, "snr": 7.0},
        {"file": str(spectra / "spec-<b>&'x.fits"), "score": 0.99, "targetid": -1},
        {**hit, "sky": True, "selected": False, "score": 0.97, "status": "sky fiber"},
        {**hit, "selected": False, "status": "z is not above 0.3"},
        {"file": "bad.fits", "selected": False, "score": np.nan, "wave": np.nan, "snr": np.nan, "status": "<empty>"},
        *({"file": f"{i}.fits"} for i in range(20)),
    ]


@pytest.fixture(scope="module")
def written(spectra, tmp_path_factory):
    folder = tmp_path_factory.mktemp("workdir")
    path = write_report(config_of(), write_table(folder, rows_of(spectra)), "c0ffee", DATE)
    assert path == folder / "report.html"
    return path.read_text()


def test_the_page_is_whole_and_needs_nothing_else(written):
    parsed = Page(written)
    assert parsed.tags["html"] == parsed.tags["body"] == parsed.tags["title"] == 1
    assert len(parsed.ids) == len(set(parsed.ids))
    assert all(link.startswith("#") and link[1:] in parsed.ids for link in parsed.links)
    assert not re.search(r"https?:|@import|url\((?!#)", written)
    assert set(re.findall(r"url\(#([^)]*)\)", written)) <= set(parsed.ids)
    assert written.isascii()


def test_every_hit_has_its_figure_its_link_and_its_text(written):
    parsed = Page(written)
    assert [i for i in parsed.ids if i.startswith("hit-")] == [f"hit-{i}" for i in (1, 2, 3, 4)]
    assert sum(link.startswith("#hit-") for link in parsed.links) == 4
    assert parsed.tags["svg"] == 3 + 2 * 3  # histograms; window and zoom of the spectra that are there
    assert all(parsed.labels)
    order = re.findall(r'href="#hit-\d">(.*?)</a>', written)
    assert order[1:3] == ["4000-55600-0005", "4000-55600-0003"]  # equal scores: by S/N
    assert "of z 2.3700" in parsed.text


def test_a_file_that_is_gone_costs_its_panel_and_says_so(written):
    assert Page(written).text.count("can no longer be shown") == 1


def test_names_are_escaped(written):
    assert "<b>" not in written and "spec-&lt;b&gt;&amp;&#x27;x.fits" in written
    assert "&lt;empty&gt;" in written


def test_funnel_counts_and_reasons(written, spectra, tmp_path):
    total = tally.tally(write_table(tmp_path, rows_of(spectra)), 0.5, 24, WINDOW)
    assert total.funnel == {"found": 27, "readable": 26, "selected": 24, "scored": 24, "hits": 4}
    assert total.reasons["selected"] == {"sky fiber": 1, "z is not above 0.3": 1}
    assert total.reasons["readable"] == {"<empty>": 1}
    assert total.scores["sky"].sum() == 1 and total.scores["selected"].sum() == 24
    assert total.observed[1].sum() == total.rest[1].sum() == 4
    assert "4 hits among 27 objects" in Page(written).text


def test_sky_fibers_are_shown_only_where_they_are_a_control(written, spectra, tmp_path):
    assert "sky fibers" in written
    total = tally.tally(write_table(tmp_path, rows_of(spectra)), 0.5, 24, WINDOW, control=False)
    assert list(total.scores) == ["selected"] and "sky" not in page.scores(total, 0.5)
    nothing = tally.tally(write_table(tmp_path, []), 0.5, 24, WINDOW, control=False)
    assert page.scores(nothing, 0.5) == "<p>No selected object has a score.</p>"


def test_a_table_read_in_pieces_gives_the_same_tally(spectra, tmp_path, monkeypatch):
    path = write_table(tmp_path, rows_of(spectra))
    whole = tally.tally(path, 0.05, 7, WINDOW)
    monkeypatch.setattr(tally, "CHUNK", 3)
    pieces = tally.tally(path, 0.05, 7, WINDOW)
    assert whole.files == pieces.files == 25  # the plate comes a second time, behind other files
    assert (whole.funnel, whole.reasons, whole.best) == (pieces.funnel, pieces.reasons, pieces.best)
    for a, b in zip((*whole.observed, *whole.rest), (*pieces.observed, *pieces.rest), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_same_page_again(written, spectra, tmp_path):
    again = write_report(config_of(), write_table(tmp_path, rows_of(spectra)), "c0ffee", DATE)
    assert again is not None and again.read_text() == written


def test_no_hits_is_said(tmp_path):
    path = write_report(config_of(), write_table(tmp_path, [{"file": "a.fits"}]), "", DATE)
    assert path is not None
    parsed = Page(path.read_text())
    assert "No hits: no selected object has a score above 0.5" in parsed.text
    assert parsed.tags["svg"] == 1 and "Spectra" not in parsed.text


def test_an_empty_table_has_a_page(tmp_path):
    path = write_report(config_of(), write_table(tmp_path, []), "", DATE)
    assert path is not None and "0 hits among 0 objects" in Page(path.read_text()).text


def test_more_hits_than_shown_is_said_and_zero_removes_the_page(spectra, tmp_path):
    table = write_table(tmp_path, rows_of(spectra))
    path = write_report(config_of(report_hits=1), table, "", DATE)
    assert path is not None
    parsed = Page(path.read_text())
    assert "The best 1 of 4" in parsed.text and sum(i.startswith("hit-") for i in parsed.ids) == 1
    assert write_report(config_of(report_hits=0), table, "", DATE) is None
    assert not path.exists()


@pytest.mark.parametrize("scorer", ["network", "matched_filter"])
def test_the_fit_ignores_the_line(spectra, scorer):
    """Flat continuum of 10 under a line of height 20: the fit stays at 10. Each scorer masks its own lines."""
    hits = [{"file": str(spectra / "spPlate-4000-55600.fits"), "row": 2, "z": 0.5, "wave": 4100.0}]
    (spectrum,) = report.read_spectra(config_of(scorer=scorer), hits)
    assert isinstance(spectrum, report.Spectrum)
    assert spectrum.masked.any() == (scorer == "matched_filter")  # 4038.6 A is a line of its sky
    np.testing.assert_allclose(spectrum.fit[~spectrum.masked], 10, atol=1.5)
    assert spectrum.flux.max() > 25


def test_a_row_that_left_its_file_is_a_sentence(spectra):
    hits = [{"file": str(spectra / "spPlate-4000-55600.fits"), "row": 99, "z": 0.5, "wave": 4100.0}]
    (said,) = report.read_spectra(config_of(), hits)
    assert isinstance(said, str) and "changed since the search" in said


def test_running_mean_is_the_weighted_one():
    rng = np.random.default_rng(1)
    flux, ivar = rng.normal(size=40), rng.uniform(0.5, 2, 40)
    flux[:10] = ivar[:10] = 0
    mean, error = figures.smooth(flux, ivar)
    for i in (12, 20, 30):
        near = slice(i - 2, i + 3)
        assert mean[i] == pytest.approx(np.average(flux[near], weights=ivar[near]))
        assert error[i] == pytest.approx(ivar[near].sum() ** -0.5)
    assert np.isnan(mean[:8]).all() and np.isnan(error[:8]).all() and np.isfinite(mean[8:]).all()


def test_svg_loses_decimals_in_its_paths_and_none_in_its_text():
    def draw(axis):
        axis.plot([0, 1 / 3, 1], [0, 1 / 7, 1])
        axis.set_yticks([0.25, 0.375])

    svg = figures.inline_svg(draw, "a", "text", (3, 2))
    assert svg == figures.inline_svg(draw, "a", "text", (3, 2))
    assert ">0.250<" in svg and ">0.375<" in svg
    assert not re.search(r'd="[^"]*\d\.\d\d', svg)
    assert figures.INK not in svg and "var(--ink)" in svg


def test_every_path_of_a_figure_has_as_many_numbers_as_its_commands_need():
    """A browser stops drawing a path where they do not fit; the legend's frame is of lines and curves in turn."""

    def draw(axis):
        axis.plot([0, 1, 3, 4], [0, 1, 0, 2], marker="o", label="all")
        axis.legend(frameon=True)

    paths = re.findall(r' d="([^"]*)"', figures.inline_svg(draw, "a", "text", (3, 2)))
    assert any("Q" in path and "L" in path for path in paths) and any("C" in path for path in paths)
    needed = {"M": 2, "L": 2, "Q": 4, "C": 6}
    for path in paths:
        for command, numbers in re.findall(r"([MLQC])([^A-Za-z]*)", path):
            assert numbers.split() and len(numbers.split()) % needed[command] == 0
    assert any(path.count("M") == 1 and len(path.split()) > 7 and "L" not in path for path in paths)  # the line


def test_limits_hold_the_line_and_not_a_spike():
    flux, fit, line = np.zeros(1000), np.zeros(1000), np.zeros(1000, bool)
    flux[100], flux[500], line[500] = 1e4, 30.0, True
    low, high = figures.limits(flux, fit, line)
    assert low < 0 and 30 < high < 50
    assert figures.limits(flux * np.nan, fit * np.nan, line) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"plate": 266, "mjd": 51602, "fiberid": 4, "targetid": -1}, "266-51602-0004"),
        ({"plate": -1, "targetid": 39627}, "39627"),
        ({"plate": -1, "targetid": -1, "file": "a/b.fits", "row": 3}, "b.fits, row 3"),
    ],
)
def test_object_names(row, name):
    assert page.object_name(row) == name


@pytest.fixture(scope="module")
def vetted(spectra, tmp_path_factory):
    """The plate of `spectra`, vetted for its lines: two of four hits are left, as two cannot be read again."""
    folder = tmp_path_factory.mktemp("vetted")
    config = lya.get_config("default")
    config.data.window = WINDOW
    config.vet.update({"window": (3990.0, 4210.0), "chunk": 4, "cuts": ("coverage",)})
    config.search.update({"input": "spectra", "report_figures": 1})
    table = write_table(folder, rows_of(spectra))
    vet.vet(config.lock(), folder)
    known = {"offset": 0.0, "slope": 1.0, "most": 9.0, "rate": 0.01, "scorer": "c0ffee"}
    calibration.write_calibration(folder, known)
    path = write_report(config, table, "c0ffee", DATE)
    assert path is not None
    return folder, path.read_text(), config


def test_a_vetted_page_shows_candidates_cuts_and_what_is_against_them(vetted):
    folder, text, _ = vetted
    parsed = Page(text)
    assert "2 candidates of 4 hits among 27 objects" in parsed.text
    assert sum(i.startswith("hit-") for i in parsed.ids) == 2 and parsed.tags["svg"] == 3 + 2 * 2
    within = [link for link in parsed.links if link.startswith("#")]
    assert all(link[1:] in parsed.ids for link in within) and len(parsed.ids) == len(set(parsed.ids))
    outside = [link for link in parsed.links if link not in within]
    assert len(outside) == 2 and all(link.startswith("https://www.legacysurvey.org/viewer?ra=") for link in outside)
    assert "the spectrum could not be read again" in parsed.text  # one file is gone, one is not of the row's plate
    assert "of 1 sky fibers pass every cut" in parsed.text
    assert "P(line)" in parsed.text and text.isascii() and "<b>" not in text
    assert [path.suffix for path in (folder / "figures").iterdir()] == [".pdf"]


def test_pdfs_of_candidates_that_are_none_any_more_go_and_those_of_the_user_stay(vetted, tmp_path):
    from matplotlib.figure import Figure

    made = next((vetted[0] / "figures").iterdir())
    (tmp_path / made.name).write_bytes(made.read_bytes())
    Figure().savefig(tmp_path / "fig1_of_a_paper.pdf")
    candidate_figures.write_pdfs(tmp_path, [], [], [], np.zeros(0))
    assert [path.name for path in tmp_path.iterdir()] == ["fig1_of_a_paper.pdf"]


def test_cuts_have_a_column_of_sky_fibers_only_where_there_are_some(vetted):
    folder, text, _ = vetted
    assert "<th class=n>sky fibers</th>" in text
    summary = json.loads((folder / "vetting.json").read_text()) | {"sky_fibers": 0, "sky_hits": 0, "controls": 0}
    summary["false_candidates"] = control.expected_false(0, 0, summary["galaxies"])
    table = vetted_page.cuts(candidates.Vetted(summary, [], {}, [], [], np.zeros(0)))
    assert "<th class=n>sky" not in table and table.count('<td class="n">') == table.count("<tr>") - 1


def test_a_candidate_without_coordinates_has_no_numbers_in_their_place():
    row = {"name": "", "ra": np.nan, "dec": np.nan, "viewer": "", "known": "", "doubts": "", "grade": "A", "repeat": 1}
    row |= {"survey": "DESI", "plate": -1, "targetid": 39627, "file": "coadd-1.fits", "row": 0}
    text = vetted_page.figure(1, row, "It is gone.", np.zeros(0), ["facts"], {}, {})
    assert "DESI 39627; no place in the sky is known; coadd-1.fits, row 0" in text and "nan" not in text


@pytest.mark.parametrize(("hits", "said"), [(0, "there was no hit"), (3, "the cuts took every hit")])
def test_a_vetting_without_candidates_says_why(hits, said):
    empty = candidates.Vetted({"hits": hits, "candidates": 0}, [], {}, [], [], np.zeros(0))
    assert vetted_page.candidate_table(empty) == f"<p>No candidates: {said}.</p>"


def test_fits_follow_the_line_of_the_candidate(vetted):
    """The line is a Gaussian of height 20, sigma 2 pixels, at 4100 A: both profiles find it."""
    folder, _, config = vetted
    found = candidates.read_vetted(config, folder, "other weights", candidates.read_spectra)
    assert found is not None and len(found.spectra) == 2
    assert all(np.isnan(row["probability"]) for row in found.rows)
    for spectrum in found.spectra:
        wave = 10 ** (found.loglam[0] + spectrum.near * grid.STEP)
        for curve in (spectrum.skewed, spectrum.symmetric):
            assert curve.max() == pytest.approx(20, abs=2.5)
            assert wave[curve.argmax()] == pytest.approx(4100, abs=1.5)
        pull = (spectrum.residual - spectrum.skewed) / spectrum.error
        assert np.nanstd(pull) < 1.5


def test_spans_are_the_runs_of_bad_pixels():
    wave = grid.wave(LOGLAM)
    bad = np.zeros(NUM, bool)
    bad[[0, 5, 6, NUM - 1]] = True
    runs = candidate_figures.spans(wave, bad)
    assert [first for first, _ in runs] == [wave[0], wave[5], wave[-1]]
    assert runs[1][1] == pytest.approx(wave[7] - wave[5])


def test_an_object_that_was_observed_twice_has_two_files():
    assert report.distinct(["a", "b", "a", "a"]) == ["a", "b", "a_2", "a_3"]


def test_files_that_are_cut_short_are_one_reason():
    told = [f"truncated: {n} of at least 187200 bytes are there" for n in (5, 90_000)]
    assert len({re.sub(tally.BYTES, "…", text) for text in told}) == 1
    kept = "no good pixel between 3800 and 5000 A: all missing, masked or with ivar 0"
    assert re.sub(tally.BYTES, "…", kept) == kept
