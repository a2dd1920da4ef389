"""Columns of candidates.* and hits.parquet: name -> (unit, UCD, meaning)."""

import numpy as np

FLUX = "1e-17 erg / (s cm2)"
DENSITY = "1e-17 erg / (Angstrom s cm2)"
A, KMS = "Angstrom", "km / s"

# Table 1 of Li et al. (2018) first: name, plate-mjd-fiber, redshifts, place, magnitude, flux, skewness.
COLUMNS = {
    "name": ("", "meta.id;meta.main", "JHHMMSS.ss+DDMMSS.s, truncated J2000 coordinates"),
    "plate": ("", "meta.id;instr.plate", "SDSS plate, of SDSS-V the field; -1 if none"),
    "mjd": ("d", "time.epoch", "modified Julian date of the plate; -1 if none"),
    "fiberid": ("", "meta.id;instr", "fiber of SDSS or DESI; -1 if none"),
    "targetid": ("", "meta.id", "TARGETID of DESI, CATALOGID or SDSS_ID of SDSS-V; -1 if none"),
    "survey": ("", "meta.id;meta.dataset", "SDSS (I and II), BOSS, eBOSS, SDSS-V or DESI"),
    "z_lens": ("", "src.redshift", "redshift of the foreground galaxy, of the pipeline"),
    "zwarning": ("", "meta.code.qual;src.redshift", "flags of that redshift; 0 = good"),
    "class": ("", "src.class", "class of the pipeline: GALAXY, QSO, STAR"),
    "subclass": ("", "src.class", "subclass of the pipeline"),
    "z_source": ("", "src.redshift", "redshift of the line if Lyman-alpha, from the mean of its profile"),
    "z_source_err": ("", "stat.error;src.redshift", "its one-sigma error"),
    "ra": ("deg", "pos.eq.ra;meta.main", "right ascension of the fiber, J2000"),
    "dec": ("deg", "pos.eq.dec;meta.main", "declination of the fiber, J2000"),
    "mag_i": ("mag", "phot.mag;em.opt.I", "AB magnitude over 6900-8200 A of the fiber's spectrum, near SDSS i"),
    "flux": (FLUX, "phot.flux;spect.line", "flux of the line"),
    "flux_err": (FLUX, "stat.error;phot.flux", "its one-sigma error"),
    "alpha": ("", "spect.line.profile", "shape of the skew normal; positive = red tail; within +-25"),
    "alpha_err": ("", "stat.error;spect.line.profile", "half its 68 % interval"),
    "alpha_lower": ("", "spect.line.profile;stat.min", "lower end of the 68 % interval of alpha"),
    "alpha_upper": ("", "spect.line.profile;stat.max", "upper end of the 68 % interval of alpha"),
    "grade": ("", "meta.code.qual", "A: no doubt is noted; B: one of them; C: more (see doubts)"),
    "doubts": ("", "meta.note", "what speaks against it without a cut: symmetric, faint, sky, lens, oii, fit"),
    "score": ("", "stat.probability", "of the search, 0 to 1"),
    "posterior": ("", "stat.probability", "of a line, by the score alone where config.inject.line_rate have one"),
    "probability": (
        "",
        "stat.probability",
        "of a line, the score calibrated by injected lines; NaN before --mode=inject",
    ),
    "snr": ("", "stat.snr", "signal-to-noise of the search"),
    "fit_snr": ("", "stat.snr;spect.line", "signal-to-noise of the fitted profile"),
    "theta_e": ("arcsec", "phys.angSize", "Einstein radius of an isothermal sphere of config.vet.velocity_dispersion"),
    "known": ("", "meta.id.cross", "nearest entry of config.vet.known within config.vet.known_radius"),
    "known_distance": ("arcsec", "pos.angDistance", "distance of that entry"),
    "viewer": ("", "meta.ref.url", "the place in the Legacy Surveys' viewer; empty without coordinates"),
    "repeat": ("", "meta.record", "1: the best observation of this line at this place; 2, 3, ...: further ones"),
    "wave": (A, "em.wl.central;spect.line", "vacuum wavelength of the mean of the profile"),
    "wave_err": (A, "stat.error;em.wl.central", "its one-sigma error"),
    "hit_wave": (A, "em.wl", "vacuum wavelength of the hit, as in scores.parquet"),
    "level": (DENSITY, "phot.flux.density;spect.continuum", "constant under the line, beyond the galaxy's model"),
    "level_err": (DENSITY, "stat.error;phot.flux.density", "its one-sigma error"),
    "peak": (DENSITY, "phot.flux.density;spect.line", "height of the fitted profile"),
    "sigma": (KMS, "spect.line.width", "standard deviation of the observed profile"),
    "sigma_err": (KMS, "stat.error;spect.line.width", "its one-sigma error"),
    "fwhm": (KMS, "spect.line.width", "full width at half maximum without the line-spread function; 0 = unresolved"),
    "fwhm_err": (KMS, "stat.error;spect.line.width", "its one-sigma error"),
    "lsf": (KMS, "instr.det.psf", "sigma of the line-spread function there"),
    "skewness": ("", "spect.line.profile", "standardised third moment of the profile"),
    "skewness_err": ("", "stat.error;spect.line.profile", "half its 68 % interval"),
    "skewness_lower": ("", "spect.line.profile;stat.min", "lower end of its 68 % interval"),
    "skewness_upper": ("", "spect.line.profile;stat.max", "upper end of its 68 % interval"),
    "a_lambda": ("", "spect.line.profile", "asymmetry of Rhoads et al. (2003); 1 = symmetric"),
    "a_lambda_err": ("", "stat.error;spect.line.profile", "half its 68 % interval"),
    "a_lambda_lower": ("", "spect.line.profile;stat.min", "lower end of its 68 % interval"),
    "a_lambda_upper": ("", "spect.line.profile;stat.max", "upper end of its 68 % interval"),
    "ew": (
        A,
        "spect.line.eqWidth",
        "observed-frame equivalent width over all other light of the fiber; infinite without any",
    ),
    "ew_err": (A, "stat.error;spect.line.eqWidth", "its one-sigma error"),
    "chi2": ("", "stat.fit.chi2", "of the skew normal and its constant"),
    "dof": ("", "stat.fit.dof", "degrees of freedom of that fit"),
    "delta_chi2": ("", "stat.fit.chi2", "by how much a symmetric profile is worse"),
    "fit_status": ("", "meta.code;stat.fit", "0 good, 1 a parameter at its bound, 2 not converged, 3 too few pixels"),
    "oii_odds": ("", "stat.likelihood", "log10 of the odds of [OII] over one line: doublet, Hbeta, [OIII], Halpha"),
    "nearby_odds": (
        "",
        "stat.likelihood",
        "log10 of the odds of Hgamma, Hbeta or [OIII] of a galaxy at z < 0.15; -9: none can be",
    ),
    "z_oii": ("", "src.redshift", "redshift of the line if [OII] 3728"),
    "oii_ratio": ("", "spect.line.intensity", "3729 over 3727 of the doublet fit"),
    "oii_flux": (FLUX, "phot.flux;spect.line", "flux of the doublet fit"),
    "oii_sigma": ("pix", "spect.line.width", "standard deviation of each component, pixels"),
    "oii_chi2": ("", "stat.fit.chi2", "of the doublet, with as many parameters as the skew normal"),
    "oii_delta_chi2": ("", "stat.fit.chi2", "by how much the skew normal is worse than the doublet"),
    **{
        f"{kind}_{name}{tail}": (unit, ucd, f"{text} at {label} if the line is [OII]")
        for name, label in (("hbeta", "Hbeta"), ("oiii", "[OIII] 5008 (with 4960)"), ("halpha", "Halpha"))
        for kind, tail, unit, ucd, text in (
            ("flux", "", FLUX, "phot.flux;spect.line", "flux (0 without data)"),
            ("flux", "_err", FLUX, "stat.error;phot.flux", "one-sigma error of the flux (infinite without data)"),
            ("snr", "", "", "stat.snr;spect.line", "signal-to-noise"),
        )
    },
    "filter_snr": ("", "stat.snr", "of the matched filter at the line"),
    "num_hits": ("", "meta.number", "separate peaks of the matched filter above its threshold in the spectrum"),
    "noise": (DENSITY, "stat.error;phot.flux.density", "error of a pixel at the line, widened by noise_scale"),
    "noise_scale": ("", "stat.value", "scatter of the window's pixels over their stated errors; at least 1"),
    "bad_fraction": ("", "meta.number;stat.value", "of the pixels within 10 of the line"),
    "pixel_fraction": ("", "stat.value", "largest share of one pixel in the filter's signal"),
    "continuum": (DENSITY, "phot.flux.density;spect.continuum", "model of the foreground galaxy at the line"),
    "contrast": ("", "phot.flux.density;arith.ratio", "peak over that model"),
    "neighbour_ratio": (
        "",
        "phot.flux;arith.ratio",
        "flux there in the brighter fiber beside, over the line's",
    ),
    "neighbour_snr": ("", "stat.snr", "signal-to-noise of that flux; NaN where no fiber beside is in the file"),
    "excess_observed": ("", "stat.value", "sigma by which hits crowd at this observed wavelength"),
    "excess_rest": ("", "stat.value", "sigma by which hits crowd at this wavelength of the foreground galaxy's frame"),
    "flags": ("", "meta.code", "bit i: the i-th cut of lensjax.search.select.CUTS would take it, active or not"),
    "cut": ("", "meta.code", "first active cut that took it; candidate; control: a sky fiber that none took"),
    "sky": ("", "meta.code", "a fiber on blank sky: the control sample"),
    "file": ("", "meta.id;meta.file", "path of the input file"),
    "row": ("", "meta.record", "place in the file"),
    "index": ("", "meta.record", "row of scores.parquet, from 0"),
}
WHOLE = ("dof", "fit_status", "num_hits")  # measured columns that are integers
# Of the objects and of the search: nothing measured.
SEARCHED = ("name", "plate", "mjd", "fiberid", "targetid", "survey", "zwarning", "class", "subclass", "ra", "dec")
SEARCHED += ("viewer", "repeat", "sky", "score", "snr", "hit_wave", "posterior", "probability", "file", "row", "index")


def nothing_measured() -> dict[str, np.ndarray]:
    """What is measured of no hits: columns of length zero, of the right types."""
    empty = {name: np.zeros(0, int if name in WHOLE else float) for name in COLUMNS}
    known = (*SEARCHED, "z_lens")
    return {name: values for name, values in empty.items() if name not in known} | {"readable": np.zeros(0, bool)}
