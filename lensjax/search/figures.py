"""Figures of a search's page, as inline SVG in the colours of the page, dark mode included."""

import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lensjax.physics import grid, lines

# Name of a CSS variable -> colour on white paper (Okabe-Ito: distinct for every kind of colour vision) and on black.
COLOURS = {
    "ink": ("#1b1f24", "#e6e6e6"),
    "flux": ("#5b6470", "#b4bcc6"),
    "band": ("#9fc9e8", "#2c5878"),
    "fit": ("#d55e00", "#ff9d52"),
    "line": ("#0072b2", "#6cbcf0"),
    "mask": ("#c9c9c9", "#5a5a5a"),
    "sky": ("#009e73", "#3fd0a5"),
}
INK, FLUX, BAND, FIT, LINE, MASK, SKY = (light for light, _ in COLOURS.values())
SMOOTH = 5  # pixels averaged in the panel of the whole window
ZOOM = 40  # pixels each way around the line
FAR_DECIMALS = re.compile(r"\d+\.\d{2,}")
STYLE = {
    "svg.fonttype": "none",  # text stays text
    "path.simplify_threshold": 0.3,  # of a 72nd of an inch
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "xtick.color": INK,
    "ytick.color": INK,
}


def inline_svg(draw: Any, name: str, alt: str, size: tuple[float, float], **arguments: Any) -> str:
    """`inline_figure` of one axis with fixed margins: draw(axis, **arguments)."""

    def whole(figure: Any) -> None:
        axis = figure.add_axes(_inside(size))
        draw(axis, **arguments)
        axis.yaxis.set_label_coords(0.16 / size[0], 0.5, transform=figure.transFigure)

    return inline_figure(whole, name, alt, size)


def inline_figure(draw: Any, name: str, alt: str, size: tuple[float, float], **arguments: Any) -> str:
    """draw(figure, **arguments) on a figure of `size` inches, as an <svg> element; the same text in every run.

    name: unique on the page, to keep the ids of its figures apart. alt: escaped text for those who cannot see it.
    """
    import matplotlib
    from matplotlib.figure import Figure

    stream = io.StringIO()
    style: dict[Any, Any] = {**STYLE, "svg.hashsalt": name}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=size)
        draw(figure, **arguments)
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return shrink(stream.getvalue(), name, alt)


def _inside(size: tuple[float, float]) -> tuple[float, float, float, float]:
    """Left, bottom, width, height of the axes, as fractions: fixed margins, as a layout engine draws all twice."""
    left, right, bottom, top = 0.66, 0.22, 0.48, 0.08  # inches
    width, height = size
    return left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height


def shrink(svg: str, name: str, alt: str) -> str:
    """The <svg> element of a Matplotlib file without what a page does not need: metadata, far decimals, font lists."""
    body = svg[svg.index("<svg") :].partition(">")[2]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r"<[^>]*>", lambda tag: FAR_DECIMALS.sub(_one_decimal, tag[0]), body)  # numbers to read stay whole
    body = re.sub(r"(?<=px )'DejaVu Sans'[^;\"]*", "sans-serif", body)
    body = re.sub(r' id="(?![mpc][0-9a-f]{10})[^"]*"', "", body)
    body = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", body)
    body = re.sub(r' d="[^"CQ]*"', lambda path: path[0].replace("\nL", "\n"), body)  # points after points need no L
    body = re.sub(r"\s*\n\s*", " ", body)
    for variable, (light, _) in COLOURS.items():
        body = body.replace(light, f"var(--{variable})")
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box
    return f'<svg role="img" aria-label="{alt}" {box[0]}>{body.strip()}'


def _one_decimal(number: re.Match[str]) -> str:
    return f"{float(number[0]):.1f}"


def draw_counts(
    axis: Any,
    counts: dict[str, np.ndarray],
    edges: np.ndarray,
    label: str,
    unit: str,
    marks: Iterable[float] = (),
    log: bool = False,
    cut: float | None = None,
    taken: Iterable[float] = (),
) -> None:
    """Histograms {legend: (B,) counts} over edges (B + 1,); wavelengths to mind as dashes along the top.

    taken: places of bins that a cut took, as bars along the bottom.
    """
    from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter

    for (name, values), colour, fill in zip(counts.items(), (LINE, FIT), (True, False), strict=False):
        axis.stairs(values, edges, color=colour, fill=fill, alpha=0.6 if fill else 1, linewidth=1.6, label=name)
    shown = [x for x in marks if edges[0] < x < edges[-1]]
    axis.vlines(shown, 0.93, 1.0, transform=axis.get_xaxis_transform(), color=SKY, linewidth=1.4)
    out = [x for x in taken if edges[0] < x < edges[-1]]
    axis.vlines(out, 0.0, 0.08, transform=axis.get_xaxis_transform(), color=FIT, linewidth=2)
    if cut is not None:
        axis.axvline(cut, color=INK, linestyle=":", linewidth=1)
    axis.set(xlabel=label, ylabel=unit, xlim=(edges[0], edges[-1]))
    highest = max(values.max() for values in counts.values())
    if log:
        axis.set(yscale="log", ylim=(0.7, max(2 * highest, 20)))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
    else:
        axis.set_ylim(0, max(1.25 * highest, 1))
        axis.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    if len(counts) > 1:
        axis.legend(framealpha=1, edgecolor="none", fontsize=9, loc="upper center", bbox_to_anchor=(0.72, 1))


def smooth(flux: np.ndarray, ivar: np.ndarray, pixels: int = SMOOTH) -> tuple[np.ndarray, np.ndarray]:
    """Running mean of (P,) flux weighted by ivar, and its own error (P,); NaN where no good pixel is near."""
    kernel = np.ones(pixels)
    weight = np.convolve(ivar.astype(np.float64), kernel, "same")
    known = np.where(weight > 0, weight, np.nan)
    return np.convolve(ivar.astype(np.float64) * flux, kernel, "same") / known, 1 / np.sqrt(known)


def draw_window(axis: Any, spectrum: Any, loglam: np.ndarray, wave: float) -> None:
    """The whole window, smoothed; masks, sky lines and the line marked."""
    flux, error = smooth(spectrum.flux, spectrum.ivar)
    _draw(axis, spectrum, loglam, (flux, error), wave)
    shown = [x for x in (*lines.SKY_LINES, *lines.AIRGLOW) if 10 ** loglam[0] < x < 10 ** loglam[-1]]
    axis.vlines(shown, 0.95, 1.0, transform=axis.get_xaxis_transform(), color=SKY, linewidth=1.2)


def draw_zoom(axis: Any, spectrum: Any, loglam: np.ndarray, wave: float) -> None:
    """The pixels around the line as they are."""
    centre = int(np.rint(grid.pixel(np.array(wave), loglam)))
    near = slice(max(centre - ZOOM, 0), min(centre + ZOOM, len(loglam) - 1) + 1)
    good = spectrum.ivar[near] > 0
    flux = np.where(good, spectrum.flux[near], np.nan)
    error = 1 / np.sqrt(np.where(good, spectrum.ivar[near], np.nan))
    part = spectrum._replace(fit=spectrum.fit[near], masked=spectrum.masked[near], ivar=spectrum.ivar[near])
    _draw(axis, part, loglam[near], (flux, error), wave, by_pixel=True)


def _draw(
    axis: Any, spectrum: Any, loglam: np.ndarray, data: Sequence[np.ndarray], wave: float, by_pixel: bool = False
) -> None:
    """Flux over its fit, whose band is the error; pixels that count for nothing are grey. by_pixel: as steps."""
    angstrom, fit, (flux, error) = grid.wave(loglam), spectrum.fit, data
    unused = spectrum.masked | (spectrum.ivar <= 0)
    every = slice(None, None, 1 if by_pixel else 2)  # the band of the whole window, at half its pixels: half its size
    band = angstrom[every], (fit - error)[every], (fit + error)[every]
    top = axis.get_xaxis_transform()
    axis.fill_between(angstrom, 0, 1, where=unused, step="mid", transform=top, color=MASK, alpha=0.6, linewidth=0)
    axis.fill_between(*band, step="mid" if by_pixel else None, color=BAND, alpha=0.8, linewidth=0)
    axis.plot(angstrom, flux, color=FLUX, linewidth=0.9, drawstyle="steps-mid" if by_pixel else "default")
    axis.plot(angstrom, fit, color=FIT, linewidth=1.3)
    axis.vlines([wave, wave], [0.0, 0.86], [0.1, 0.94], transform=top, color=LINE, linewidth=1.8)
    axis.set(xlim=(angstrom[0], angstrom[-1]), xlabel="observed wavelength, vacuum (Å)", ylabel="flux density")
    axis.set_ylim(*limits(flux, fit, np.abs(angstrom - wave) < 0.003 * wave))


def limits(flux: np.ndarray, fit: np.ndarray, line: np.ndarray) -> tuple[float, float]:
    """Range of a panel: all but the wildest per cent of the pixels, the line (bool mask) in any case."""
    values = np.concatenate([flux, fit])
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = np.percentile(values, [1, 99])
    peak = flux[line & np.isfinite(flux)]
    low, high = min([low, *peak]), max([high, *peak])
    room = 0.12 * (high - low) or 1.0
    return float(low - room), float(high + 2 * room)
