"""The parts of a search's page that tell of its vetting: cuts, candidates, what was cut."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from lensjax.physics import lines
from lensjax.search.candidate_figures import annotate, draw_line, draw_spectrum, write_pdfs
from lensjax.search.candidates import Row, Vetted, object_name, read_spectra
from lensjax.search.figures import inline_figure
from lensjax.search.hit_fits import make_fit

__all__ = ["candidate", "candidate_table", "label", "legend", "make_fit", "read_spectra", "write_pdfs"]

REDSHIFT = "z_lens"  # column of the foreground object's redshift
REST_LINES = (*lines.LENS_LINES, *lines.EMPIRICAL_REST)  # to mind in its frame
DOUBTS = {
    "symmetric": "no red tail is certain",
    "faint": "low S/N",
    "sky": "near a line of the sky",
    "lens": "near a line of the foreground galaxy",
    "oii": "[O II] is not excluded",
    "fit": "the fit ended at a bound",
}


def cuts(vetted: Vetted) -> str:
    """What each cut took of the hits and, where there are sky fibers, of those, and how many false ones are left."""
    said = vetted.summary
    columns = ("lines", "sky fibers") if said["sky_fibers"] else ("lines",)

    def row(head: str, numbers: tuple[str, ...], why: str) -> str:
        cells = "".join(f'<td class="n">{number}</td>' for number in numbers[: len(columns)])
        return f"<tr>{head}{cells}<td>{html.escape(why)}</td></tr>"

    rows = [row("<th>hits</th>", (f"{said['hits']:,}", f"{said['sky_hits']:,}"), "")]
    for name, number in said["taken"].items():
        control = said["sky_taken"][name]
        if number or control:
            head = f"<td>{html.escape(name)}</td>"
            rows.append(row(head, (f"−{number:,}", f"−{control:,}"), said["reasons"][name]))
    left = f"{said['candidates']:,}", f"{said['controls']:,}"
    rows.append(row("<th>candidates</th>", left, "no cut took them"))
    heads = "".join(f"<th class=n>{name}</th>" for name in columns)
    head = f"<tr><th>cut</th>{heads}<th>why</th></tr>"
    return f'<div class="scroll"><table class="hits">{head}{"".join(rows)}</table></div><p>{false_hits(said)}</p>'


def false_hits(said: dict[str, Any]) -> str:
    """The false candidates that the control sample predicts."""
    false = said["false_candidates"]
    if false["expected"] is None:
        return "No control sample tells how many candidates are false."
    return (
        f"False candidates to expect, if all err as often as sky fibers: {false['expected']:.1f} ({false['lower']:.1f} "
        f"to {false['upper']:.1f}, 68 %), as {said['controls']:,} of {said['sky_fibers']:,} sky fibers pass every cut."
    )


def _cell(value: float, digits: int) -> str:
    return f'<td class="n">{value:.{digits}f}</td>' if np.isfinite(value) else '<td class="n">–</td>'


NUMBERS = (
    ("z lens", "z_lens", 4),
    ("z source", "z_source", 4),
    ("S/N", "fit_snr", 1),
    ("flux", "flux", 1),
    ("α", "alpha", 1),
)


def candidate_table(vetted: Vetted, numbers: Sequence[tuple[str, str, int]] = NUMBERS) -> str:
    """One line a candidate, best first, with a link to its figures and what speaks against it.

    numbers: (head, column, decimals) of what is shown of each.
    """
    if not vetted.rows:
        return f"<p>No candidates: {'the cuts took every hit' if vetted.summary['hits'] else 'there was no hit'}.</p>"
    calibrated = any(np.isfinite(row["probability"]) for row in vetted.rows)
    numbers = [*numbers, ("score", "score", 3), *([("P(line)", "probability", 3)] * calibrated)]
    heads = ["#", "name", "grade", *(head for head, _, _ in numbers), "against it"]
    text = {"name", "grade", "against it"}
    head = "".join(f"<th{'' if name in text else ' class=n'}>{name}</th>" for name in heads)
    rows = []
    for i, row in enumerate(vetted.rows, 1):
        link = f'<a href="#hit-{i}">{html.escape(label(row))}</a>'
        cells = "".join(_cell(row[name], digits) for _, name, digits in numbers)
        against = html.escape(row["doubts"].replace(",", ", ")) or "–"
        grade = html.escape(row["grade"])
        rows.append(f'<tr><td class="n">{i}</td><td>{link}</td><td>{grade}</td>{cells}<td>{against}</td></tr>')
    total = vetted.summary["candidates"]
    note = f"<p>The first {len(rows)} of {total:,}; the others are in the table.</p>" if len(rows) < total else ""
    return f'{note}<div class="scroll"><table class="hits"><tr>{head}</tr>{"".join(rows)}</table></div>'


def label(row: Row) -> str:
    """Its J2000 name, else where it is; with its redshift where an object may have several."""
    name = row["name"] or object_name(row)
    return f"{name}_z{row['z_abs']:.4f}" if "z_abs" in row else name


def candidate(number: int, row: Row, spectrum: Any, loglam: np.ndarray) -> str:
    """The figures of a candidate, what was measured, and what speaks against it."""
    measured = (
        f"flux {row['flux']:.1f} ± {row['flux_err']:.1f}; FWHM {row['fwhm']:.0f} ± {row['fwhm_err']:.0f} km/s; "
        f"skew over Gaussian Δχ² {row['delta_chi2']:.1f}; log odds of [O II] {row['oii_odds']:.1f}"
    )
    draws = {"Whole spectrum": (draw_spectrum, (7.2, 3.0)), "Line": (draw_line, (4.4, 3.4))}
    return figure(number, row, spectrum, loglam, (annotate(row), measured), DOUBTS, draws)


def figure(
    number: int, row: Row, spectrum: Any, loglam: np.ndarray, facts: Sequence[str], doubts: Row, draws: dict[str, Any]
) -> str:
    """A candidate's caption and its two drawings.

    facts: lines of the caption. doubts: name -> sentence. draws: title -> (draw(figure, spectrum, row, loglam), inches)
    of the wide drawing and the narrow one.
    """
    name = html.escape(label(row))
    against = [str(doubts.get(doubt, doubt)) for doubt in row["doubts"].split(",") if doubt]
    said = "; ".join(against) or "nothing that was looked for"
    place = f"RA {row['ra']:.5f}°, Dec {row['dec']:.5f}°" if row["name"] else "no place in the sky is known"
    place = f'<a href="{html.escape(row["viewer"])}">{place}</a>' if row["viewer"] else place
    place = f"{row['survey']} {html.escape(object_name(row))}; {place}"
    place += f"; observation {row['repeat']} of this line" if row["repeat"] > 1 else ""
    known = f"<br>Known: {html.escape(row['known'])}, {row['known_distance']:.1f}″ away" if row["known"] else ""
    caption = (
        f"<figcaption><h3>{number}. {name}, grade {html.escape(row['grade'])}</h3>"
        f"{'<br>'.join(map(html.escape, facts))}<br>Against it: {html.escape(said)}.{known}<br>{place}; "
        f"{html.escape(row['file'])}, row {row['row']}</figcaption>"
    )
    if isinstance(spectrum, str):
        return f'<figure id="hit-{number}">{caption}<p class="gone">{html.escape(spectrum)}</p></figure>'
    options = dict(spectrum=spectrum, row=row, loglam=loglam)
    wide, narrow = (
        inline_figure(draw, f"{letter}{number}", f"{title} of {name}: {facts[0]}", size, **options)
        for letter, (title, (draw, size)) in zip("wz", draws.items(), strict=True)
    )
    panels = f'<div class="pair"><div class="wide">{wide}</div><div class="zoom">{narrow}</div></div>'
    return f'<figure id="hit-{number}">{caption}{panels}</figure>'


def legend() -> str:
    """What the colours and dashes of the candidates' figures mean."""
    kinds = {
        "flux": "flux (whole spectrum: running mean); residual over error",
        "fit": "foreground galaxy; Gaussian (dashed)",
        "line": "skew normal; the line; Hβ, [O III], Hα if it were [O II] (dashed)",
        "ink": "lines of the foreground galaxy (dotted)",
        "band": "± 1σ",
        "mask": "masked: bad pixels, lines of the galaxy",
        "sky": "airglow and city-light lines",
    }
    unit = "10<sup>-17</sup> erg s<sup>-1</sup> cm<sup>-2</sup>"
    return key(kinds, f"Flux in {unit}, flux density in {unit} Å<sup>-1</sup>.")


def key(kinds: dict[str, str], note: str) -> str:
    """Colour of the page -> meaning, as a list, and a note under it."""
    items = "".join(f'<li><i style="background:var(--{name})"></i>{text}</li>' for name, text in kinds.items())
    return f'<ul class="key">{items}</ul><p>{note}</p>'


def lost_table(vetted: Vetted) -> str:
    """The hits of the highest scores that a cut took, and which."""
    if not vetted.lost:
        return "<p>No hit was cut.</p>"
    reasons = vetted.summary["reasons"]
    heads = "<th>name</th><th class=n>line (Å)</th><th class=n>S/N</th><th class=n>score</th><th>cut</th>"
    rows = []
    for row in vetted.lost:
        cells = _cell(row["hit_wave"], 1) + _cell(row["fit_snr"], 1) + _cell(row["score"], 3)
        why = html.escape(reasons.get(row["cut"], row["cut"]))
        rows.append(f"<tr><td>{html.escape(label(row))}</td>{cells}<td>{why}</td></tr>")
    note = f"<p>The {len(rows)} of the highest score; all are in <code>hits.parquet</code>.</p>"
    return f'{note}<div class="scroll"><table class="hits"><tr>{heads}</tr>{"".join(rows)}</table></div>'
