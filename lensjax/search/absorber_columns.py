"""Columns of candidates.* and hits.parquet of the Mg II search: name -> (unit, UCD, meaning). One row an absorber."""

import numpy as np

from lensjax.search import columns

A, KMS = columns.A, columns.KMS
EW, ERR = "spect.line.eqWidth", "stat.error;spect.line.eqWidth"
LINES = {  # name -> label: lines whose strength is forced at the absorber's redshift and width
    **{f"feii_{n}": f"Fe II {n}" for n in ("2344", "2374", "2382", "2586", "2600")},
    "mgi_2853": "Mg I 2853",
}

# The columns that catalogues of Mg II have first: Napolitano et al. (2023), qsoabsfind, Zhu & Menard (2013).
COLUMNS = {
    "name": columns.COLUMNS["name"],
    **{name: columns.COLUMNS[name] for name in ("plate", "mjd", "fiberid", "targetid", "survey", "ra", "dec")},
    "z_qso": ("", "src.redshift", "redshift of the quasar, of the pipeline"),
    **{name: columns.COLUMNS[name] for name in ("zwarning", "class", "subclass")},
    "z_abs": ("", "src.redshift", "redshift of the absorber, from both lines of Mg II"),
    "z_abs_err": ("", "stat.error;src.redshift", "its one-sigma error"),
    "ew_2796": (A, EW, "equivalent width of Mg II 2796 in the absorber's frame"),
    "ew_2796_err": (A, ERR, "its one-sigma error"),
    "ew_2803": (A, EW, "equivalent width of Mg II 2803 in the absorber's frame"),
    "ew_2803_err": (A, ERR, "its one-sigma error"),
    "ratio": ("", "spect.line.intensity;arith.ratio", "W2796 / W2803: 2 for thin, 1 for saturated gas"),
    "ratio_err": ("", "stat.error", "its one-sigma error"),
    "fwhm": (A, "spect.line.width", "full width at half maximum of 2796 at rest, without the line-spread function"),
    "fwhm_err": (A, "stat.error;spect.line.width", "its one-sigma error; an upper limit where fwhm is 0"),
    "fit_snr": ("", "stat.snr;spect.line", "signal-to-noise of the fitted doublet"),
    "snr_2796": ("", "stat.snr;spect.line", "of 2796 alone"),
    "snr_2803": ("", "stat.snr;spect.line", "of 2803 alone"),
    "grade": columns.COLUMNS["grade"],
    "doubts": ("", "meta.note", "what speaks against it without a cut: faint, alone, ratio, sky, associated, fit"),
    "associated": ("", "meta.code", "within config.vet.associated km/s of the quasar"),
    "dv": (KMS, "spect.dopplerVeloc", "velocity towards us relative to the quasar"),
    "score": ("", "stat.probability", "of the search, 0 to 1, of this absorber"),
    "posterior": ("", "stat.probability", "of an absorber, by the score alone where config.inject.line_rate have one"),
    "probability": columns.COLUMNS["probability"],
    "snr": ("", "stat.snr", "signal-to-noise of the search, of the best absorber of the spectrum"),
    "ew_2796_sum": (A, EW, "equivalent width of 2796 by direct integration"),
    "ew_2796_sum_err": (A, ERR, "its one-sigma error"),
    "ew_2803_sum": (A, EW, "equivalent width of 2803 by direct integration"),
    "ew_2803_sum_err": (A, ERR, "its one-sigma error"),
    "feii_snr": ("", "stat.snr;spect.line", "signal-to-noise of all Fe II lines there together"),
    "feii_lines": ("", "meta.number", "of the five Fe II lines that have data"),
    "mgi_snr": ("", "stat.snr;spect.line", "signal-to-noise of Mg I 2853 there"),
    **{
        f"ew_{key}": (A, EW, f"equivalent width of {text} there, at rest; 0 without data")
        for key, text in LINES.items()
    },
    **{
        f"ew_{key}_err": (A, ERR, f"one-sigma error of that of {text}; infinite without data")
        for key, text in LINES.items()
    },
    "rival_snr": ("", "stat.snr", "of the Mg II of the absorber whose Fe II this may be, both lines together"),
    "rival_z": ("", "src.redshift", "redshift of that absorber; -9 where none has data"),
    "rival_ew": (A, EW, "equivalent width of its 2796, at rest"),
    "rival_ew_err": (A, ERR, "its one-sigma error"),
    "rival_feii_snr": ("", "stat.snr", "signal-to-noise of its other Fe II"),
    "z_civ": ("", "src.redshift", "redshift if it were C IV"),
    "civ_dv": (KMS, "spect.dopplerVeloc", "as dv, if it were C IV"),
    "civ_delta_chi2": (
        "",
        "stat.fit.chi2",
        "chi2 of a doublet as far apart as C IV less that of Mg II; NaN far from the quasar",
    ),
    "trough": (KMS, "spect.line.width", "length of uninterrupted absorption through the doublet"),
    "sky_distance": ("pix", "stat.value", "from either line to the nearest listed line of the night sky"),
    "wave": (A, "em.wl.central;spect.line", "vacuum wavelength of 2796 as observed"),
    "hit_wave": columns.COLUMNS["hit_wave"],
    "level": (columns.DENSITY, "phot.flux.density;spect.continuum", "continuum of the quasar at the doublet"),
    "sigma": ("pix", "spect.line.width", "standard deviation of 2803 as observed"),
    "good_2796": ("", "meta.number;stat.value", "share of 2796 on good pixels"),
    "good_2803": ("", "meta.number;stat.value", "share of 2803 on good pixels"),
    "masked": ("", "meta.number", "pixels that the fit left out: neighbours, cosmic rays"),
    "sky_noise": ("", "stat.value", "error at the lines over the median error around them"),
    "scale": ("", "stat.value", "factor by which the errors of the fit were widened"),
    "chi2": ("", "stat.fit.chi2", "of the doublet and its continuum"),
    "dof": ("", "stat.fit.dof", "degrees of freedom of that fit"),
    "fit_status": columns.COLUMNS["fit_status"],
    **{name: columns.COLUMNS[name] for name in ("known", "known_distance", "viewer", "repeat")},
    "flags": ("", "meta.code", "bit i: the i-th cut of lensjax.search.absorber_cuts.CUTS would take it, active or not"),
    **{name: columns.COLUMNS[name] for name in ("cut", "sky", "file", "row", "index")},
}
WHOLE = ("dof", "fit_status", "masked", "feii_lines")


def nothing_measured() -> dict[str, np.ndarray]:
    """What is measured of no hits: columns of length zero, of the right types."""
    names = [name for name in COLUMNS if name not in (*columns.SEARCHED, "z_qso")]
    empty = {name: np.zeros(0, int if name in WHOLE else float) for name in names}
    return {**empty, "readable": np.zeros(0, bool)}
