"""Blocks of configs/mgii.py: the traditional doublet search, from hits to a catalogue, injection, mock plates."""

from ml_collections import config_dict

from configs.vetting import identify


def doublet_filter() -> config_dict.ConfigDict:
    """The block config.search.doublet_filter."""
    settings = config_dict.ConfigDict()
    settings.median_pixels = 85  # of the running median
    settings.line_snr = (3.0, 2.0)  # least of 2796 and of 2803, each alone
    settings.threshold = 5.0  # S/N of the doublet where the score is 0.5
    return settings


def vetting() -> config_dict.ConfigDict:
    """The block config.vet."""
    vet = config_dict.ConfigDict()
    vet.enabled = True
    vet.window = (3600.0, 9800.0)  # read again, for Fe II and Mg I of every absorber
    vet.chunk = 128  # spectra in memory at a time
    vet.cuts = ()
    identify(vet)

    # Bounds, each with the cut that reads it: fit/absorber_flags.py.
    vet.good = 0.5  # coverage: share of either line on good pixels
    vet.doublet_snr = 4.0  # weak: of the doublet, W over its error; that of a filter of known width is 1.3 times this
    vet.line_snr = (3.0, 2.0)  # weak: of 2796 and of 2803
    vet.least_ratio = 0.8  # ratio: of W2796 to W2803, and
    vet.most_ratio = 2.4  # ratio: beyond these by
    vet.ratio_sigma = 2.0  # ratio: so many errors
    vet.behind = -1500.0  # behind: km/s
    vet.associated = 5000.0  # km/s, a flag and no cut
    vet.trough = 2500.0  # trough: km/s of uninterrupted absorption
    vet.sky_wave = 7000.0  # sky: Angstrom, redward of which
    vet.sky_noise = 2.0  # sky: errors at the lines over those around them
    vet.sky_pixels = 3.0  # sky: from a listed line that
    vet.sky_raised = 1.1  # sky: ... raises the errors by this
    vet.sky_snr = 10.0  # sky: of a doublet that no residual of the sky makes
    vet.support_snr = 5.0  # sky, feii, civ: of Fe II or Mg I, which confirm an absorber
    vet.rival_snr = 6.0  # feii: of the Mg II whose Fe II this would be
    vet.rival_strength = 0.9  # feii: its W over that of the line here, at least
    vet.civ_margin = 12.0  # civ: chi2 by which Mg II must be better
    vet.civ_speed = 3000.0  # civ: km/s that it may be behind the quasar
    vet.min_posterior = 0.5  # unsure: by the score alone, where config.inject.line_rate of the places have an absorber
    vet.sure_snr = 10.0  # unsure: of a doublet that no noise makes
    vet.scoreless_snr = 5.0  # unsure: least of a doublet found by a filter, which gives no probability

    vet.doubt = config_dict.ConfigDict()  # what lowers a grade without a cut
    vet.doubt.snr = 8.0  # faint: below
    vet.doubt.metal_snr = 3.0  # alone: of Fe II and Mg I
    vet.doubt.sky_pixels = 4.0  # sky
    return vet


def mocks() -> config_dict.ConfigDict:
    """The block config.mock: mock plates of quasars to search."""
    mock = config_dict.ConfigDict()
    mock.plates = 1
    mock.fibers = 1000  # of a plate
    mock.window = (3600.0, 9800.0)  # Angstrom
    mock.absorber_law = "observed"  # see config.sim
    mock.absorber_fraction = 0.4
    mock.dirt = 1.0
    return mock


def injection() -> dict:
    """What config.inject has instead of the lines' axes."""
    edges = config_dict.ConfigDict()
    edges.wave = (3800.0, 4500.0, 5200.0, 5900.0, 6600.0, 7300.0, 8000.0, 8700.0, 9200.0)
    edges.z_abs = (0.35, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5, 1.7, 1.9, 2.1, 2.3)
    edges.ew_2796 = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 6.0)
    edges.snr = (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 15.0, 20.0)
    # W2796 (A), uniform in its logarithm; of common's block, snr is of those that calibrate the scores
    return {"edges": edges, "line_rate": 0.1, "ew_2796": (0.1, 6.0)}
