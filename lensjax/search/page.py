"""The HTML of a search's page: funnel, histograms, hits, provenance. Every text from outside is escaped."""

import html
from typing import Any

import numpy as np

from lensjax.physics import lines
from lensjax.search import vetted_page
from lensjax.search.candidates import Vetted, object_name
from lensjax.search.figures import COLOURS, SMOOTH, ZOOM, draw_counts, draw_window, draw_zoom, inline_svg
from lensjax.search.tally import SCORE_EDGES, Tally

MOST_REASONS = 20  # lines of the funnel's list of reasons, for each stage
STAGES = {
    "found": ("found", "one fiber, target or unreadable file each"),
    "readable": ("readable", "with a good pixel in the window; each has a score in the table"),
    "selected": ("selected", "pass the pre-selection"),
    "scored": ("judged", "selected, and the scorer had nothing against them"),
    "hits": ("hits", "selected, score above the threshold"),
}
LEGEND = {
    "flux": "flux",
    "fit": "model fitted without the line",
    "band": "± 1σ around the fit",
    "line": "the line",
    "mask": "masked: bad pixels, lines of the object itself",
    "sky": "airglow and city-light lines",
}

CSS = """
body{margin:0 auto;padding:1rem;max-width:68rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.6rem;margin:.3rem 0}h2{font-size:1.2rem;margin:2.2rem 0 .5rem;border-bottom:1px solid var(--mask)}
h3{font-size:1.05rem;margin:0}p{margin:.4rem 0}a{color:var(--line)}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.15rem .7rem;text-align:left;vertical-align:top;border-top:1px solid var(--mask)}
th{font-weight:600;white-space:nowrap}.n{text-align:right;white-space:nowrap}
.hits th,.hits td{padding:.15rem .5rem}.hits td{white-space:nowrap}.hits td:last-child{white-space:normal}
.why td{border-top:0;font-size:.88rem;opacity:.85;padding-top:0}
.why td:first-child{white-space:nowrap;padding-left:1.4rem}
.break{overflow-wrap:anywhere}svg{display:block;width:100%;height:auto}
figure{margin:1.4rem 0;break-inside:avoid}figcaption{font-size:.9rem;overflow-wrap:anywhere;margin-bottom:.3rem}
.pair{display:flex;flex-wrap:wrap;gap:.4rem}.wide{flex:3 1 34rem;min-width:0;overflow-x:auto}
.zoom{flex:2 1 20rem;min-width:0}.wide svg{min-width:34rem}.zoom svg{max-width:30rem}
.key{font-size:.88rem;list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:.1rem 1.2rem}
.key i{display:inline-block;width:1.1em;height:.65em;margin-right:.4em}
.half{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:1rem}
.half figure{margin:.4rem 0}
.one{overflow-x:auto}.one svg{min-width:28rem;max-width:44rem}
.gone{border-left:3px solid var(--fit);padding-left:.7rem}
@media(max-width:40rem){th,td{padding:.15rem .4rem;font-size:.9rem}}
@media print{body{max-width:none;font-size:11pt}.half{grid-template-columns:1fr 1fr}.key i{print-color-adjust:exact}
.wide svg{min-width:0}.pair{flex-wrap:nowrap}}
"""


def style() -> str:
    """Colours for light, dark and print, and the rules above."""
    light, dark = (";".join(f"--{name}:{pair[i]}" for name, pair in COLOURS.items()) for i in (0, 1))
    return (
        f":root{{color-scheme:light dark;--paper:#fff;{light}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{--paper:#15181c;{dark}}}}}{CSS}"
    )


def render(
    total: Tally,
    spectra: list[Any],
    loglam: np.ndarray,
    threshold: float,
    settings: dict[str, str],
    vetted: Vetted | None = None,
    view: Any = vetted_page,
) -> str:
    """The whole page.

    spectra: of total.best, each a Spectrum or a sentence; none is needed with a vetting, whose candidates are shown
    instead. loglam: (P,) their window. settings: label -> value. view: of the system, shows candidates.
    """
    found, hits = total.funnel.get("found", 0), total.funnel.get("hits", 0)
    title = f"{_count(vetted.summary['hits'] if vetted else hits, 'hit')} among {_count(found, 'object')}"
    if vetted:
        title = f"{_count(vetted.summary['candidates'], 'candidate')} of {title}"
    body = [
        f"<h1>{title}</h1>",
        f"<p>A search of {_count(total.files, 'file')}; every object has its row, with score and status, in "
        "<code>scores.parquet</code> beside this page.</p>",
        f"<h2>From input to hits</h2>{funnel(total)}",
    ]
    if vetted:
        body.append(f"<h2>From hits to candidates</h2>{vetted_page.cuts(vetted)}")
    body.append(f"<h2>Scores</h2>{scores(total, threshold)}")
    body += candidate_parts(total, vetted, view) if vetted else hit_parts(total, spectra, loglam, threshold)
    body.append(f"<h2>How this was made</h2>{provenance(settings)}")
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>lensjax: {title}</title><style>{style()}</style>"
    )
    text = "\n".join(body)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{text}\n</body></html>\n'


def hit_parts(total: Tally, spectra: list[Any], loglam: np.ndarray, threshold: float) -> list[str]:
    """The hits of a search without vetting."""
    body = [f"<h2>Hits</h2>{hit_table(total, threshold)}"]
    if total.best:
        body += [f"<h2>Where the hits lie</h2>{wavelengths(total)}", f"<h2>Spectra</h2>{legend()}"]
        body += [hit(i, row, s, loglam) for i, (row, s) in enumerate(zip(total.best, spectra, strict=True), 1)]
    return body


def candidate_parts(total: Tally, vetted: Vetted, view: Any) -> list[str]:
    """The candidates of a vetted search, and what was cut."""
    body = [f"<h2>Candidates</h2>{view.candidate_table(vetted)}"]
    if total.funnel.get("hits", 0):
        body.append(f"<h2>Where the hits lie</h2>{wavelengths(total, vetted, view)}")
    if vetted.rows:
        body.append(f"<h2>Spectra</h2>{view.legend()}")
        pairs = enumerate(zip(vetted.rows, vetted.spectra, strict=True), 1)
        body += [view.candidate(i, row, spectrum, vetted.loglam) for i, (row, spectrum) in pairs]
    return [*body, f"<h2>Hits that were cut</h2>{vetted_page.lost_table(vetted)}"]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "–"


def funnel(total: Tally) -> str:
    """Table of stages; under each, why objects did not reach it."""
    rows = []
    for stage, (name, meaning) in STAGES.items():
        number = total.funnel.get(stage, 0)
        rows.append(f'<tr><th>{name}</th><td class="n">{number:,}</td><td>{html.escape(meaning)}</td></tr>')
        reasons = sorted(total.reasons.get(stage, {}).items(), key=lambda item: (-item[1], item[0]))
        shown, rest = reasons[:MOST_REASONS], reasons[MOST_REASONS:]
        if rest:
            shown = [*shown, (f"{len(rest)} other reasons", sum(number for _, number in rest))]
        rows += [
            f'<tr class="why"><td>left out</td><td class="n">{n:,}</td><td class="break">{html.escape(text)}</td></tr>'
            for text, n in shown
        ]
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


def scores(total: Tally, threshold: float) -> str:
    """Histogram of scores: selected objects, and sky fibers where these are a control sample."""
    names = {"selected": "selected objects", "sky": "sky fibers"}
    known = {names[group]: values for group, values in total.scores.items() if values.sum()}
    if not known:
        return f"<p>No selected object {'and no sky fiber ' if 'sky' in total.scores else ''}has a score.</p>"
    missing = "sky" in total.scores and "sky fibers" not in known
    said = " No sky fiber was among the input, so there is no control sample." if missing else ""
    note = f"Number of objects by score, logarithmic; the dotted line is the threshold, {threshold:g}.{said}"
    options = dict(edges=SCORE_EDGES, label="score", unit="objects", log=True, cut=threshold)
    svg = inline_svg(draw_counts, "scores", html.escape(note), (7.2, 2.6), counts=known, **options)
    return f'<figure class="one"><figcaption>{html.escape(note)}</figcaption>{svg}</figure>'


def wavelengths(total: Tally, vetted: Vetted | None = None, view: Any = vetted_page) -> str:
    """Histograms of the hits' wavelengths. A pile at one of them is airglow, or what the templates leave over."""
    taken: dict[str, Any] = {"observed": (), "rest": ()}
    if vetted:
        hits = vetted.hits
        taken = {name: hits["wave"][hits["cut"] == name] for name in taken}
        taken["rest"] = taken["rest"] / (1 + hits[view.REDSHIFT][hits["cut"] == "rest"])
    sky, lens = (*lines.SKY_LINES, *lines.AIRGLOW), view.REST_LINES
    parts = []
    for name, (edges, counts), marks, note in (
        ("observed", total.observed, sky, "Observed frame: a pile at one wavelength is airglow (dashes: known lines)."),
        (
            "rest",
            total.rest,
            lens,
            "Rest frame of the object: a pile is a misfit of its model (dashes: known features).",
        ),
    ):
        options = dict(edges=edges, label=f"{name} wavelength (Å)", unit="hits", marks=marks, taken=taken[name])
        note += " Bars along the bottom: taken for crowding." if len(taken[name]) else ""
        svg = inline_svg(draw_counts, name, note, (5.2, 2.5), counts={"hits": counts}, **options)
        parts.append(f"<figure><figcaption>{note}</figcaption>{svg}</figure>")
    return f'<div class="half">{"".join(parts)}</div>'


def hit_table(total: Tally, threshold: float) -> str:
    """One line a hit, with a link to its figure."""
    hits = total.funnel.get("hits", 0)
    if not hits:
        return f"<p>No hits: no selected object has a score above {threshold:g}.</p>"
    heads = ("#", "object", "z", "line (Å)", "z of the line", "score", "S/N")
    head = "".join(f"<th{'' if name == 'object' else ' class=n'}>{name}</th>" for name in heads)
    rows = []
    for i, row in enumerate(total.best, 1):
        numbers = [_number(*pair) for pair in _numbers(row)]
        cells = "".join(f'<td class="n">{number}</td>' for number in numbers)
        link = f'<a href="#hit-{i}">{html.escape(object_name(row))}</a>'
        rows.append(f'<tr><td class="n">{i}</td><td>{link}</td>{cells}</tr>')
    shown = len(total.best)
    note = f"<p>The best {shown} of {hits:,}; the others are in the table.</p>" if shown < hits else ""
    return f'{note}<div class="scroll"><table class="hits"><tr>{head}</tr>{"".join(rows)}</table></div>'


def _numbers(row: dict[str, Any]) -> list[tuple[float, int]]:
    """(value, decimals): redshift, wavelength, redshift of the line, score, S/N."""
    return [(row["z"], 4), (row["wave"], 1), (row["z_source"], 4), (row["score"], 4), (row["snr"], 1)]


def legend() -> str:
    """What the colours of the spectra mean."""
    key = "".join(f'<li><i style="background:var(--{name})"></i>{text}</li>' for name, text in LEGEND.items())
    return (
        f'<ul class="key">{key}</ul><p>Flux density in 10<sup>-17</sup> erg s<sup>-1</sup> cm<sup>-2</sup> '
        f"Å<sup>-1</sup>. First panel: the whole window, a running mean of {SMOOTH} pixels weighted by "
        f"inverse variance, with its own error; second: ± {ZOOM} pixels around the line, as observed.</p>"
    )


def hit(number: int, row: dict[str, Any], spectrum: Any, loglam: np.ndarray) -> str:
    """The figure of a hit: the whole window and the surroundings of the line, or why there is none."""
    name = html.escape(object_name(row))
    z, wave, source, score, snr = (_number(*pair) for pair in _numbers(row))
    facts = f"z {z}; line at {wave} Å, of z {source}; score {score}; S/N {snr}"
    place = f"RA {_number(row['ra'], 5)}°, Dec {_number(row['dec'], 5)}°; {html.escape(row['file'])}, row {row['row']}"
    caption = f"<figcaption><h3>{number}. {name}</h3>{facts}<br>{place}</figcaption>"
    if isinstance(spectrum, str):
        panels = f'<p class="gone">{html.escape(spectrum)}</p>'
    else:
        options = dict(spectrum=spectrum, loglam=loglam, wave=row["wave"])
        whole = inline_svg(draw_window, f"w{number}", f"Spectrum of {name}: {facts}", (7.2, 2.7), **options)
        zoom = inline_svg(draw_zoom, f"z{number}", f"Pixels around the line of {name}", (4.4, 2.7), **options)
        panels = f'<div class="pair"><div class="wide">{whole}</div><div class="zoom">{zoom}</div></div>'
    return f'<figure id="hit-{number}">{caption}{panels}</figure>'


def provenance(settings: dict[str, str]) -> str:
    """Table of label and value."""
    rows = (f'<tr><th>{html.escape(k)}</th><td class="break">{html.escape(v)}</td></tr>' for k, v in settings.items())
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'
