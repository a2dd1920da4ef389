"""The two figures of a candidate: its line as in Figure 7 of Li et al. (2018), and its whole spectrum."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from lensjax.core.files import replacing
from lensjax.physics import grid, lines
from lensjax.search.candidates import Candidate, Row
from lensjax.search.figures import BAND, FIT, FLUX, INK, LINE, MASK, SKY, STYLE, limits, smooth

CREATOR = "lensjax"
MARK = f"/Creator ({CREATOR})".encode()  # in a PDF of this; others in the folder are the user's
THIN = 4  # pixels for each point of the whole spectrum, which is smoothed by more
# Name -> rest wavelength, vacuum Angstrom; and the side of the name, where a second line is close.
OII_LINES = {"Hβ": (lines.HBETA, "right"), "[O III]": (lines.OIII[1], "left"), "Hα": (lines.HALPHA, "center")}
LENS_LINES = {"[O II]": (lines.OII, "right"), "H, K": (3952.2, "left"), "Hβ": (lines.HBETA, "center")}
LENS_LINES |= {"Mg": (5176.6, "center"), "Na": (5895.6, "center")}


def annotate(row: Row) -> str:
    """Redshifts, S/N, shape with its 68 % interval, and score, in one line."""
    low, high = row["alpha_lower"] - row["alpha"], row["alpha_upper"] - row["alpha"]
    shape = f"α {row['alpha']:.1f} ({low:+.1f}, {high:+.1f})"
    redshifts = f"z lens {row['z_lens']:.4f}, z source {row['z_source']:.4f}"
    return f"{redshifts}; S/N {row['fit_snr']:.1f}; {shape}; score {row['score']:.3f}"


def draw_line(figure: Any, spectrum: Candidate, row: Row, loglam: np.ndarray) -> None:
    """Data with errors, the skew normal and the Gaussian, each with its constant; the residual over the error below."""
    axis, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    figure.subplots_adjust(left=0.15, right=0.96, bottom=0.14, top=0.86, hspace=0.06)
    wave = 10 ** (loglam[0] + spectrum.near * grid.STEP)
    axis.errorbar(wave, spectrum.residual, spectrum.error, fmt="o", markersize=2.4, color=FLUX, elinewidth=0.7)
    axis.plot(wave, spectrum.symmetric, color=FIT, linewidth=1.1, linestyle="--", label="Gaussian")
    axis.plot(wave, spectrum.skewed, color=LINE, linewidth=1.7, label="skew normal")
    axis.legend(frameon=False, fontsize=8, loc="upper left")
    axis.set_ylabel("flux density")
    axis.yaxis.set_label_coords(-0.115, 0.5)
    below.yaxis.set_label_coords(-0.115, 0.5)
    below.axhspan(-1, 1, color=BAND, alpha=0.5, linewidth=0)
    below.step(wave, (spectrum.residual - spectrum.skewed) / spectrum.error, where="mid", color=FLUX, linewidth=0.9)
    below.set(xlabel="observed wavelength, vacuum (Å)", ylabel="σ", ylim=(-4.5, 4.5), xlim=(wave[0], wave[-1]))
    stretch = 1 + row["z_source"]
    top = axis.secondary_xaxis("top", functions=(lambda x: x / stretch, lambda x: x * stretch))
    top.set_xlabel("rest frame of Lyα (Å)", fontsize=9)
    top.tick_params(labelsize=8)


def draw_spectrum(figure: Any, spectrum: Candidate, row: Row, loglam: np.ndarray) -> None:
    """The whole spectrum, smoothed, over the galaxy's model; where lines of the lens and of [OII] would be."""
    axis = figure.subplots()
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.17, top=0.87)
    wave = grid.wave(loglam)
    flux, _ = smooth(spectrum.flux, spectrum.ivar)
    top = axis.get_xaxis_transform()
    unused = spectrum.masked | (spectrum.ivar <= 0)
    axis.broken_barh(spans(wave, unused), (0, 1), transform=top, color=MASK, alpha=0.6, linewidth=0)
    seen = np.where(spectrum.model != 0, spectrum.model, np.nan)
    axis.plot(wave[::THIN], flux[::THIN], color=FLUX, linewidth=0.8)
    axis.plot(wave[::THIN], seen[::THIN], color=FIT, linewidth=1.1)
    axis.vlines([row["wave"]] * 2, [0.0, 0.86], [0.1, 0.94], transform=top, color=LINE, linewidth=1.8)
    if len(sky := [x for x in (*lines.SKY_LINES, *lines.AIRGLOW) if wave[0] < x < wave[-1]]):
        axis.vlines(sky, 0.96, 1.0, transform=top, color=SKY, linewidth=1.2)
    marks = ((LENS_LINES, row["z_lens"], INK, 1.01, ":"), (OII_LINES, row["z_oii"], LINE, 1.07, "--"))
    for known, z, colour, height, style in marks:
        for name, (rest, side) in known.items():
            place = rest * (1 + z)
            if wave[0] < place < wave[-1]:
                axis.axvline(place, color=colour, linestyle=style, linewidth=0.7, alpha=0.6)
                axis.text(place, height, name, transform=top, fontsize=7, ha=side, color=colour)
    axis.set(xlim=(wave[0], wave[-1]), xlabel="observed wavelength, vacuum (Å)", ylabel="flux density")
    axis.set_ylim(*limits(flux, seen, np.abs(wave - row["wave"]) < 0.003 * row["wave"]))


def spans(wave: np.ndarray, chosen: np.ndarray) -> list[tuple[float, float]]:
    """(first, width) in Angstrom of each run of chosen pixels, bool (P,), of wavelengths (P,)."""
    ends = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]))).reshape(-1, 2)
    return [(float(wave[a]), float(wave[b - 1] * 10**grid.STEP - wave[a])) for a, b in ends]


def draw_page(figure: Any, spectrum: Candidate, row: Row, loglam: np.ndarray) -> None:
    """The line and under it the whole spectrum."""
    upper, lower = list(figure.subfigures(2, 1, height_ratios=(3, 2), squeeze=False).ravel())
    draw_line(upper, spectrum, row, loglam)
    draw_spectrum(lower, spectrum, row, loglam)
    upper.text(0.02, 0.97, f"{row['name']}: {annotate(row)}", fontsize=7.5, va="top")


def write_pdfs(
    folder: pathlib.Path,
    names: list[str],
    rows: list[Row],
    spectra: list[Any],
    loglam: np.ndarray,
    draw: Callable[..., None] = draw_page,
) -> None:
    """NAME.pdf into `folder` of each spectrum that is none of the sentences; those that this made of others before are
    removed."""
    import matplotlib
    from matplotlib.figure import Figure

    drawn = [(n, r, s) for n, r, s in zip(names, rows, spectra, strict=True) if not isinstance(s, str)]
    for old in folder.glob("*.pdf"):
        if old.stem not in {name for name, _, _ in drawn} and MARK in old.read_bytes():
            old.unlink()
    style: Any = {**STYLE, "pdf.fonttype": 42}
    for name, row, spectrum in drawn:
        with matplotlib.rc_context(style), replacing(folder / f"{name}.pdf") as temporary:
            figure = Figure(figsize=(7.2, 7.4))
            draw(figure, spectrum, row, loglam)
            figure.text(0.02, 0.006, "Flux density in $10^{-17}$ erg s$^{-1}$ cm$^{-2}$ Å$^{-1}$.", fontsize=7)
            figure.savefig(temporary, metadata={"Creator": CREATOR, "CreationDate": None})
