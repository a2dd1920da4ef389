"""From hits to candidates, search/vet.py: what is cut, and where. Angstrom, 1e-17 erg/s/cm2, pixels of 69 km/s."""

from ml_collections import config_dict

CUTS = (  # in this order; others that search/select.py knows: "oii_lines", "skewness"
    *("coverage", "hits", "spike", "fit", "noise", "weak", "broad", "airglow", "galactic"),
    *("continuum", "lens_line", "neighbour", "oii", "nearby", "unsure", "observed", "rest"),
)


def identify(settings: config_dict.ConfigDict) -> None:
    """Add to a block what tells of each object which one it is, surveys/known.py."""
    settings.known = ""  # table of known objects with ra and dec (degrees, or h:m:s and d:m:s), any format of astropy
    settings.known_radius = 2.0  # arcsec
    settings.viewer = "https://www.legacysurvey.org/viewer?ra={ra}&dec={dec}&layer=ls-dr9&zoom=16"  # "": no links


def vetting() -> config_dict.ConfigDict:
    """The block config.vet."""
    vet = config_dict.ConfigDict()
    vet.enabled = True
    vet.window = (3600.0, 9800.0)  # read again, for the other lines of a nearer galaxy
    vet.chunk = 128  # spectra in memory at a time
    vet.cuts = CUTS
    identify(vet)
    vet.velocity_dispersion = 250.0  # km/s, of a lens, for its Einstein radius

    # Bounds, each with the cut that reads it.
    vet.max_bad_fraction = 0.4  # coverage: of the pixels within 10 of the line
    vet.max_hits = 5  # hits: of the matched filter, in one spectrum
    vet.max_pixel_fraction = 0.42  # spike: of the filter's signal, from one pixel
    vet.min_lsf = 1.1  # spike: width and its error, over the line-spread function's
    vet.max_sigma = 400.0  # fit: km/s; one in 361 candidates of Cao et al. (2020) is broader
    vet.width_errors = 1.0  # fit, broad: of the width, that may have made it broad
    vet.max_noise = 2.0  # noise: error of a pixel
    vet.max_noise_scale = 3.0  # noise: scatter over the stated errors
    vet.min_peak = 0.5  # weak: flux density; Li et al. (2018) have about 1
    vet.min_snr = 5.0  # weak: of the fitted line
    vet.broad_sigma = 290.0  # broad: km/s, wider,
    vet.broad_snr = 8.0  # broad: and fainter
    vet.sky_pixels = 2.0  # airglow, galactic: distance
    vet.sky_snr = 10.0  # airglow, galactic: lines stay above it x root of the sky line's strength, Hg 4359 = 1
    vet.unlisted_strength = 0.3  # airglow, galactic: of lines without a measured one
    vet.min_contrast = 0.7  # continuum: of the line's peak over it
    vet.lens_pixels = 8.0  # lens_line: distance
    vet.lens_contrast = 1.0  # lens_line: the same there
    vet.neighbour_ratio = 5.0  # neighbour: its flux at the line's place over the line's
    vet.neighbour_snr = 8.0
    vet.min_posterior = 0.4  # unsure: by the score alone, where config.inject.line_rate of the galaxies have a line
    vet.density_bin = 3e-4  # observed, rest: dex
    vet.density_bins = 101  # of the running median
    vet.max_excess = 4.0  # observed, rest: sigma
    vet.min_alpha = 0.0  # skewness

    # Galaxies nearer than the lens, fit/companions.py: their lines, measured in the whole spectrum.
    vet.oii = config_dict.ConfigDict()
    vet.oii.max_odds = -0.6  # oii: log10 of the odds for [OII] that the spectrum gives
    vet.oii.max_nearby_odds = 1.0  # nearby: the same for Hgamma, Hbeta and [OIII] of z < 0.15
    vet.oii.max_snr = 2.5  # oii_lines: Shu et al. 2016
    vet.oii.outliers = 0.03  # of the places in a red spectrum have ten times the stated error
    vet.oii.doublet_limit = 2.0  # most that the doublet's profile may add or take, dex
    vet.oii.sky_pixels = 6.0  # around the strongest night-sky lines, and the foreground galaxy's lines:
    vet.oii.lens_pixels = 6.0  # nothing is measured there
    vet.oii.ratios = config_dict.ConfigDict()  # flux over [OII]: median, scatter in dex (Moustakas et al. 2006)
    vet.oii.ratios.hbeta = (0.4, 0.3)
    vet.oii.ratios.oiii = (0.4, 0.45)
    vet.oii.ratios.halpha = (1.3, 0.3)
    vet.oii.nearby = (1.0, 0.5)  # the same, of any two lines of a nearby galaxy

    vet.doubt = config_dict.ConfigDict()  # what lowers a grade without a cut
    vet.doubt.snr = 8.0  # faint: below
    vet.doubt.pixels = 4.0  # sky, lens: from a listed line
    vet.doubt.oii_odds = -1.0  # oii: above
    return vet
