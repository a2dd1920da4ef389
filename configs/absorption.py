"""Blocks of configs/mgii.py: the traditional doublet search, from hits to a catalogue, injection."""

from ml_collections import config_dict


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
    vet.known = ""  # table of known absorbers' quasars with ra and dec in degrees
    vet.known_radius = 2.0  # arcsec
    return vet


def injection() -> dict:
    """What config.inject has instead of the lines' axes."""
    edges = config_dict.ConfigDict()
    edges.z_abs = (0.35, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5, 1.7, 1.9, 2.1, 2.3)
    edges.ew_2796 = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 6.0)
    edges.snr = (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 15.0, 20.0)
    return {"edges": edges, "line_rate": 0.1}
