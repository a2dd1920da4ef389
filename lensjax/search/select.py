"""The cuts between a hit and a candidate: one small pure function each, over the columns of all hits.

A cut says which rows it takes. They are applied in the order of config.vet.cuts, and `cut` names the first that took
a row; `flags` holds a bit for every one that would have, those that are switched off included.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage, sparse, spatial, special

from lensjax.core.errors import UserError
from lensjax.fit import staged
from lensjax.physics import grid, lines
from lensjax.search.spectra import Columns

CANDIDATE, CONTROL = "candidate", "control"  # what `cut` says of those that no cut took: galaxies, sky fibers


class Cut(NamedTuple):
    """takes(columns, settings) -> bool (N,); settings is config.vet. reason: a sentence for tables and pages."""

    takes: Callable[[Columns, Any], np.ndarray]
    reason: str


def unreadable(columns: Columns, settings: Any) -> np.ndarray:
    """The spectrum is gone, or there is another in its place."""
    return ~columns["readable"]


def coverage(columns: Columns, settings: Any) -> np.ndarray:
    """Bad pixels in the line."""
    return columns["bad_fraction"] > settings.max_bad_fraction


def hits(columns: Columns, settings: Any) -> np.ndarray:
    """Too many lines in one spectrum: a wrong redshift, a star, a quasar."""
    return columns["num_hits"] > settings.max_hits


def spike(columns: Columns, settings: Any) -> np.ndarray:
    """One pixel supplies the signal, or the line is narrower than the instrument can show: a cosmic ray."""
    lone = columns["pixel_fraction"] > settings.max_pixel_fraction
    return lone | (columns["sigma"] + columns["sigma_err"] < settings.min_lsf * columns["lsf"])


def fit(columns: Columns, settings: Any) -> np.ndarray:
    """No profile describes it: the fit failed, found no flux, or is surely broader than any line."""
    failed = columns["fit_status"] >= staged.UNCONVERGED
    return failed | ~(columns["flux"] > 0) | (_least_sigma(columns, settings) > settings.max_sigma)


def _least_sigma(columns: Columns, settings: Any) -> np.ndarray:
    """Width less its error: noise makes faint lines broad."""
    return columns["sigma"] - settings.width_errors * columns["sigma_err"]


def noise(columns: Columns, settings: Any) -> np.ndarray:
    """A noisy place, in errors per pixel or in scatter beyond the stated errors (Li et al. 2018, section 4)."""
    return (columns["noise"] > settings.max_noise) | (columns["noise_scale"] > settings.max_noise_scale)


def weak(columns: Columns, settings: Any) -> np.ndarray:
    """A low peak (Li et al. 2018, section 4), or low S/N of the fitted line."""
    return (columns["peak"] < settings.min_peak) | (columns["fit_snr"] < settings.min_snr)


def broad(columns: Columns, settings: Any) -> np.ndarray:
    """Surely broad, and faint: what templates leave of a continuum looks so, and few lines do."""
    return (_least_sigma(columns, settings) > settings.broad_sigma) & (columns["fit_snr"] < settings.broad_snr)


def airglow(columns: Columns, settings: Any) -> np.ndarray:
    """At a line of the night sky, unless above what subtraction leaves there: as the root of the line's strength."""
    listed = dict.fromkeys((*lines.SKY_LINES, *lines.AURORAL), float(settings.unlisted_strength))
    return _residual({**listed, **lines.AIRGLOW}, columns, settings)


def galactic(columns: Columns, settings: Any) -> np.ndarray:
    """At a line of the interstellar gas of the Galaxy, unless above what sky subtraction leaves there."""
    return _residual(dict.fromkeys(lines.GALACTIC, float(settings.unlisted_strength)), columns, settings)


def _residual(strengths: dict[float, float], columns: Columns, settings: Any) -> np.ndarray:
    """Within sky_pixels of a line, and S/N below sky_snr x sqrt(its strength)."""
    taken = np.zeros(len(columns["wave"]), bool)
    for wave, strength in strengths.items():
        near = distance(columns["wave"], (wave,)) <= settings.sky_pixels
        taken |= near & (columns["fit_snr"] < settings.sky_snr * np.sqrt(strength))
    return taken


def continuum(columns: Columns, settings: Any) -> np.ndarray:
    """A small fraction of the galaxy's own light: templates misfit galaxies, and wrong redshifts, by as much."""
    return columns["contrast"] < settings.min_contrast


def lens_line(columns: Columns, settings: Any) -> np.ndarray:
    """At a line of the foreground galaxy, or where templates misfit galaxies, unless high above the continuum."""
    rest = (*lines.LENS_EMISSION, *lines.EMPIRICAL_REST)
    near = distance(columns["wave"] / (1 + columns["z"]), rest) <= settings.lens_pixels
    return near & (columns["contrast"] < settings.lens_contrast)


def neighbour(columns: Columns, settings: Any) -> np.ndarray:
    """A fiber beside it on the slit has the same line, much brighter: its light spilled over."""
    bright = columns["neighbour_ratio"] > settings.neighbour_ratio
    return bright & (columns["neighbour_snr"] > settings.neighbour_snr)


def observed(columns: Columns, settings: Any) -> np.ndarray:
    """At an observed wavelength where hits crowd: the sky (Shu et al. 2016, section 2)."""
    return columns["excess_observed"] > settings.max_excess


def rest(columns: Columns, settings: Any) -> np.ndarray:
    """At a wavelength in the foreground galaxy's frame where hits crowd: the templates (Shu et al. 2016, section 2)."""
    return columns["excess_rest"] > settings.max_excess


def oii(columns: Columns, settings: Any) -> np.ndarray:
    """[OII] of a nearer galaxy, by its doublet and its Hbeta, [OIII] and Halpha (see `fit.companions.oii_odds`)."""
    return columns["oii_odds"] > settings.oii.max_odds


def nearby(columns: Columns, settings: Any) -> np.ndarray:
    """Hgamma, Hbeta or [OIII] of a galaxy at z < 0.15, by its other lines (see `fit.companions.nearby_odds`)."""
    return columns["nearby_odds"] > settings.oii.max_nearby_odds


def unsure(columns: Columns, settings: Any) -> np.ndarray:
    """Noise, more likely than a line, where lines are as rare as in the survey (see `calibration.posterior`)."""
    return columns["posterior"] < settings.min_posterior


def oii_lines(columns: Columns, settings: Any) -> np.ndarray:
    """Hbeta, [OIII] or Halpha of [OII] above an S/N, one by one (Shu et al. 2016, section 2; Li et al. 2018)."""
    strongest = np.max([columns[f"snr_{name}"] for name in ("hbeta", "oiii", "halpha")], axis=0)
    return strongest >= settings.oii.max_snr


def skewness(columns: Columns, settings: Any) -> np.ndarray:
    """Not skewed to the red (Li et al. 2018, section 4)."""
    return ~(columns["alpha"] > settings.min_alpha)


CUTS = {
    "unreadable": Cut(unreadable, "the spectrum could not be read again"),
    "coverage": Cut(coverage, "too many bad pixels in the line"),
    "hits": Cut(hits, "too many lines in the spectrum"),
    "spike": Cut(spike, "one pixel, or narrower than the instrument: a cosmic ray"),
    "fit": Cut(fit, "no line profile fits"),
    "noise": Cut(noise, "too noisy a place"),
    "weak": Cut(weak, "too low a peak or S/N"),
    "broad": Cut(broad, "broad and faint at once"),
    "airglow": Cut(airglow, "at a line of the night sky"),
    "galactic": Cut(galactic, "at a line of the Galaxy"),
    "continuum": Cut(continuum, "too small a fraction of the foreground galaxy's light"),
    "lens_line": Cut(lens_line, "at a line or misfit of the foreground galaxy"),
    "neighbour": Cut(neighbour, "light of a neighbouring fiber"),
    "oii": Cut(oii, "[OII] of a nearer galaxy"),
    "nearby": Cut(nearby, "Hgamma, Hbeta or [OIII] of a nearby galaxy"),
    "unsure": Cut(unsure, "noise, more likely than a line as rare as these"),
    "oii_lines": Cut(oii_lines, "Hbeta, [OIII] or Halpha of a nearer galaxy"),
    "observed": Cut(observed, "hits crowd at this observed wavelength"),
    "rest": Cut(rest, "hits crowd at this rest wavelength of the foreground galaxy"),
    "skewness": Cut(skewness, "not skewed to the red"),
}
OTHER_LINES = ("oii", "nearby", "oii_lines")  # cuts that say which line it is instead
ALWAYS = ("unreadable",)  # before the cuts that the config lists
PLACE, WAVE = 1e-5, 1e-3  # radians (2 arcsec), and of log wavelength, within which observations are of one line
LEAST_CHANCE = 1e-300  # 37 sigma
CROWDED = {"observed": "excess_observed", "rest": "excess_rest"}  # cut -> column that is counted when its turn comes


def distance(wave: np.ndarray, line_list: tuple[float, ...]) -> np.ndarray:
    """Pixels (N,) from each wavelength (N,) to the nearest line of a list, Angstrom; infinite for a NaN."""
    apart = np.abs(np.log10(wave)[:, None] - np.log10(np.array(line_list))[None]) / grid.STEP
    return np.nan_to_num(apart.min(1), nan=np.inf)


def excess(wave: np.ndarray, counted: np.ndarray, settings: Any) -> np.ndarray:
    """By how many sigma hits crowd where each row is, the worst of its bin and the two beside it (N,).

    Bins of 3e-4 dex; the background is the running median over 101 of them, at least 1, as in Shu et al. (2016), who
    cut above 4 and one bin further. Sigma is that of a normal distribution as improbable as the Poisson one: their
    (n - b) / sqrt(b) takes one line in 20 of a survey with two in a bin.

    Args:
        wave: (N,) Angstrom; NaN is in no bin: 0. counted: (N,) bool, the rows that make the histogram.
        settings: config.vet: density_bin (dex), density_bins (of the median).
    """
    known = np.isfinite(wave) & (wave > 0)
    if not known.any():
        return np.zeros(len(wave))
    place = np.floor(np.log10(np.where(known, wave, 1.0)) / settings.density_bin).astype(int)
    first = place[known].min() - 1
    size = place[known].max() - first + 2
    counts = np.bincount(place[known & counted] - first, minlength=size)
    background = np.maximum(ndimage.median_filter(counts, settings.density_bins, mode="reflect"), 1)
    chance = special.gammainc(np.maximum(counts, 1), background)  # of as many or more
    above = -special.ndtri(np.maximum(chance, LEAST_CHANCE))
    sigma = np.where(counts > background, above, (counts - background) / np.sqrt(background))
    sigma = ndimage.maximum_filter1d(sigma, 3, mode="nearest")
    return np.where(known, sigma[np.where(known, place - first, 0)], 0.0)


def sightings(columns: Columns) -> np.ndarray:
    """Number of the line (N,) that each row is an observation of: 0, 1, ...

    Rows of different spectra are of one line if they are at one place on the sky, to some arcsec, and at one
    wavelength, to some pixels, or if a chain of such rows is between them. columns: file and row, ra and dec in degrees
    (a row with a NaN is like no other), wave in A, (N,).
    """
    ra, dec, wave = np.deg2rad(columns["ra"]), np.deg2rad(columns["dec"]), columns["wave"]
    known = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec) & (wave > 0))
    ra, dec = ra[known], dec[known]
    direction = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    place = np.column_stack([direction / PLACE, np.log(wave[known]) / WAVE])
    first, second = known[spatial.KDTree(place).query_pairs(1.0, output_type="ndarray")].T
    apart = (columns["file"][first] != columns["file"][second]) | (columns["row"][first] != columns["row"][second])
    pairs = np.ones(apart.sum()), (first[apart], second[apart])
    graph = sparse.coo_array(pairs, shape=(len(wave), len(wave)))
    return sparse.csgraph.connected_components(graph, directed=False)[1]


def once(columns: Columns, counted: np.ndarray) -> np.ndarray:
    """Of the rows counted (N,), bool, the first of every line: an object that was observed ten times is no crowd."""
    rows = np.flatnonzero(counted)
    return np.isin(np.arange(len(counted)), rows[np.unique(sightings(columns)[rows], return_index=True)[1]])


def count_repeats(columns: Columns) -> np.ndarray:
    """1 (N,) for a line's best observation, 2 for the second, ...: those that no cut took first, then by score.

    columns: as `sightings`, and cut and score.
    """
    line = sightings(columns)
    taken = ~np.isin(columns["cut"], (CANDIDATE, CONTROL))
    order = np.lexsort((-columns["score"], taken, line))
    _, start, number = np.unique(line[order], return_index=True, return_counts=True)
    repeat = np.empty(len(line), int)
    repeat[order] = np.arange(1, len(line) + 1) - np.repeat(start, number)
    return repeat


def check(settings: Any, known: dict[str, Cut] = CUTS) -> None:
    """UserError for a cut of config.vet.cuts that is not among the `known` ones."""
    unknown = [name for name in settings.cuts if name not in known]
    if unknown:
        raise UserError(f"config.vet.cuts has {unknown[0]!r}: expected some of {', '.join(known)}.")


def apply(columns: Columns, settings: Any, known: dict[str, Cut] = CUTS) -> Columns:
    """The columns with cut (N,) text, flags (N,) int32 (bit i: the i-th of `known`), and excess_* where crowds count.

    columns: of `measure` with wave, z and sky. settings: config.vet. known: all cuts of the system. The crowds are
    counted among the galaxies that the cuts before have left; sky fibers are cut by the same wavelengths. UserError for
    a cut that does not exist.
    """
    check(settings, known)
    columns = dict(columns)
    num = len(columns["sky"])
    cut, flags = np.full(num, "", object), np.zeros(num, np.int32)
    active = [*ALWAYS, *(name for name in settings.cuts if name not in ALWAYS)]
    for name in [*active, *(name for name in known if name not in active)]:
        if name in CROWDED:
            frame = columns["wave"] / (1 + columns["z"] if name == "rest" else 1)
            columns[CROWDED[name]] = excess(frame, once(columns, (cut == "") & ~columns["sky"]), settings)
        with np.errstate(invalid="ignore"):
            takes = known[name].takes(columns, settings)
        flags |= np.where(takes, 1 << list(known).index(name), 0).astype(np.int32)
        if name in active:
            cut[takes & (cut == "")] = name
    cut = np.where(cut == "", np.where(columns["sky"], CONTROL, CANDIDATE), cut)
    return {**columns, "cut": cut.astype(np.str_), "flags": flags}
