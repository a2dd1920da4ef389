"""The parts of a search's page that show absorbers: each line in velocity, and the whole spectrum."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from lensjax.physics import grid, lines
from lensjax.search import vetted_page
from lensjax.search.candidate_figures import THIN
from lensjax.search.candidate_figures import write_pdfs as write_drawn
from lensjax.search.candidates import Row, Vetted
from lensjax.search.figures import FIT, FLUX, LINE, SKY, limits, smooth
from lensjax.search.spectra import Columns, read_hits
from lensjax.search.vetted_page import label
from lensjax.tasks import absorption

REDSHIFT = "z_qso"  # column of the redshift of the object in front of which they are
REST_LINES = (2798.7, 1908.7, 1549.5)  # A, of the quasar
REACH = 900.0  # km/s each way in the panels
# Panels: name -> rest wavelength, in the order of reading.
PANELS = {"Mg II 2796": lines.MGII[0], "Mg II 2803": lines.MGII[1], "Mg I 2853": lines.MGI}
PANELS |= {f"Fe II {int(rest)}": rest for rest in reversed(lines.FEII)}
NAMED = ("Mg II 2796", "Fe II 2600", "Fe II 2382")  # the others would stand too close
DOUBTS = {
    "faint": "low S/N",
    "alone": "no Fe II and no Mg I",
    "ratio": "a doublet ratio that gas does not have",
    "sky": "near a line of the sky",
    "associated": "close to the quasar, perhaps its own gas",
    "fit": "the fit ended at a bound",
}
NUMBERS = (("z QSO", "z_qso", 4), ("z abs", "z_abs", 5), ("W 2796 (Å)", "ew_2796", 2), ("±", "ew_2796_err", 2))
NUMBERS += (("W 2803", "ew_2803", 2), ("S/N", "fit_snr", 1), ("Fe II S/N", "feii_snr", 1))

__all__ = ["candidate", "candidate_table", "label", "legend", "make_fit", "read_spectra", "write_pdfs"]


class Absorbed(NamedTuple):
    """One absorber's spectrum on the wide window: flux, ivar and the quasar without narrow absorbers, (P,) each."""

    flux: np.ndarray
    ivar: np.ndarray
    model: np.ndarray


def make_fit(config: Any, loglam: np.ndarray) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """fit(flux (P,), ivar (P,), z, pixel) -> (quasar without narrow absorbers (P,), nothing masked (P,))."""
    constants = absorption.make_constants(config)

    @jax.jit
    def fit(flux: jax.Array, ivar: jax.Array, z: jax.Array, place: jax.Array) -> tuple[jax.Array, jax.Array]:
        del place
        model = absorption.fit_continuum({"flux": flux, "ivar": ivar, "z": z}, constants, loglam)[0]
        return model, ivar < 0

    return fit


def read_spectra(config: Any, chosen: Columns, loglam: np.ndarray) -> list[Any]:
    """`Absorbed` of the rows (M,) of a candidates table, in their order; a sentence for one that is gone."""
    number = len(chosen["score"])
    found: list[Any] = ["This spectrum can no longer be shown: its file has changed since the search."] * number
    fit = make_fit(config, loglam)
    order = np.lexsort((chosen["row"], chosen["file"]))
    columns = {name: values[order] for name, values in chosen.items()}
    for chunk in read_hits(columns, loglam, config.vet.chunk) if number else ():
        for i, row in enumerate(chunk.rows):
            if chunk.readable[i]:
                z = np.float32(columns["z_qso"][row])
                model = np.asarray(fit(chunk.flux[i], chunk.ivar[i], z, np.float32(0))[0])
                found[order[row]] = Absorbed(chunk.flux[i], chunk.ivar[i], model)
    return found


def annotate(row: Row) -> str:
    """Redshifts, widths and S/N in one line."""
    widths = " and ".join(f"{row[f'ew_{n}']:.2f} ± {row[f'ew_{n}_err']:.2f}" for n in ("2796", "2803"))
    return f"z {row['z_abs']:.5f} of a quasar at {row['z_qso']:.4f}; W {widths} Å; S/N {row['fit_snr']:.1f}"


def draw_velocity(figure: Any, spectrum: Absorbed, row: Row, loglam: np.ndarray) -> None:
    """Flux over the quasar's model against velocity, one panel a line; a dashed line where the absorber is."""
    axes = figure.subplots(4, 2, sharex=True, sharey=True)
    figure.subplots_adjust(left=0.13, right=0.98, bottom=0.12, top=0.98, hspace=0.08, wspace=0.06)
    wave = grid.wave(loglam)
    safe = np.where(spectrum.model > 0, spectrum.model, np.inf)
    normal = np.where(spectrum.ivar > 0, spectrum.flux / safe, np.nan)
    error = 1 / (np.sqrt(np.where(spectrum.ivar > 0, spectrum.ivar, np.inf)) * safe)
    for axis, (name, rest) in zip(axes.ravel(), PANELS.items(), strict=True):
        speed = np.log(wave / (rest * (1 + row["z_abs"]))) * grid.C_KMS
        near = np.abs(speed) <= REACH
        axis.axhline(1, color=FIT, linewidth=0.9)
        axis.axvline(0, color=LINE, linestyle="--", linewidth=0.8)
        axis.fill_between(speed[near], 0, error[near], step="mid", color=SKY, alpha=0.35, linewidth=0)
        axis.step(speed[near], normal[near], where="mid", color=FLUX, linewidth=0.9)
        axis.text(0.03, 0.96, name, transform=axis.transAxes, fontsize=8, va="top")
    axes[0, 0].set(xlim=(-REACH, REACH), ylim=(-0.1, 1.6))
    figure.supxlabel("velocity (km/s)", fontsize=9)
    figure.supylabel("flux over continuum", fontsize=9)


def draw_spectrum(figure: Any, spectrum: Absorbed, row: Row, loglam: np.ndarray) -> None:
    """The whole spectrum, smoothed, over the quasar's model, with the lines of the absorber."""
    axis = figure.subplots()
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.17, top=0.9)
    wave = grid.wave(loglam)
    flux, _ = smooth(spectrum.flux, spectrum.ivar)
    axis.plot(wave[::THIN], flux[::THIN], color=FLUX, linewidth=0.8)
    seen = np.where(spectrum.ivar > 0, spectrum.model, np.nan)
    axis.plot(wave[::THIN], seen[::THIN], color=FIT, linewidth=1.1)
    top = axis.get_xaxis_transform()
    for name, rest in PANELS.items():
        place = rest * (1 + row["z_abs"])
        if wave[0] < place < wave[-1]:
            strong = name.startswith("Mg II")
            axis.vlines([place], 0.88, 0.97, transform=top, color=LINE, linewidth=1.6 if strong else 0.9)
            if name in NAMED:
                axis.text(place, 1.01, name[:-5], transform=top, fontsize=7, ha="center", color=LINE)
    axis.set(xlim=(wave[0], wave[-1]), xlabel="observed wavelength, vacuum (Å)", ylabel="flux density")
    axis.set_ylim(*limits(flux, seen, np.zeros(len(wave), bool)))


def draw_page(figure: Any, spectrum: Absorbed, row: Row, loglam: np.ndarray) -> None:
    """Name and numbers, the velocities and under them the whole spectrum."""
    upper, lower = list(figure.subfigures(2, 1, height_ratios=(3, 2), squeeze=False).ravel())
    draw_velocity(upper, spectrum, row, loglam)
    upper.subplots_adjust(top=0.95)  # room for the text
    draw_spectrum(lower, spectrum, row, loglam)
    figure.text(0.02, 0.99, f"{label(row)}: {annotate(row)}", fontsize=7.5, va="top")


def write_pdfs(folder: Any, names: list[str], rows: list[Row], spectra: list[Any], loglam: np.ndarray) -> None:
    """NAME.pdf into `folder` of each candidate, see `candidate_figures.write_pdfs`."""
    write_drawn(folder, names, rows, spectra, loglam, draw_page)


def candidate_table(vetted: Vetted) -> str:
    """One line an absorber."""
    return vetted_page.candidate_table(vetted, NUMBERS)


def candidate(number: int, row: Row, spectrum: Any, loglam: np.ndarray) -> str:
    """The figures of an absorber, what was measured, and what speaks against it."""
    measured = (
        f"FWHM {row['fwhm']:.2f} ± {row['fwhm_err']:.2f} Å; ratio {row['ratio']:.2f} ± {row['ratio_err']:.2f}; S/N of "
        f"Fe II {row['feii_snr']:.1f}, of Mg I {row['mgi_snr']:.1f}; {row['dv']:.0f} km/s from the quasar"
    )
    draws = {"Whole spectrum": (draw_spectrum, (7.2, 3.4)), "Velocities": (draw_velocity, (4.4, 4.6))}
    return vetted_page.figure(number, row, spectrum, loglam, (annotate(row), measured), DOUBTS, draws)


def legend() -> str:
    """What the colours of the figures mean."""
    kinds = {
        "flux": "flux (whole spectrum: running mean)",
        "fit": "the quasar without narrow absorbers",
        "line": "the absorber's lines",
        "sky": "error of a pixel, over the continuum",
    }
    return vetted_page.key(kinds, "Flux density in 10<sup>-17</sup> erg s<sup>-1</sup> cm<sup>-2</sup> Å<sup>-1</sup>.")
