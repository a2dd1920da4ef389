"""The blocks of the imaging systems that end in a list: config.catalogue, config.completeness and config.explore."""

from ml_collections import config_dict

from configs import vetting


def catalogue() -> config_dict.ConfigDict:
    """The block config.catalogue: the best objects as FITS, VOTable, ECSV and Parquet, embed/catalogue.py."""
    catalogue = config_dict.ConfigDict()
    catalogue.sort = "score"  # of the probe; or "similarity", to the nearest of the queries
    catalogue.queries = ()  # rows of the objects' table
    catalogue.num = 1_000  # objects of the list
    vetting.identify(catalogue)
    return catalogue


def completeness() -> config_dict.ConfigDict:
    """The block config.completeness: arcs put around the user's own galaxies, and how many are found."""
    completeness = config_dict.ConfigDict()
    completeness.arcs = 4  # around each galaxy
    completeness.fpr = 0.01  # share of the galaxies without an arc that are taken for lenses: sets the threshold
    completeness.min_snr = (0.0, 0.0)  # as config.sim.source.min_snr; 0: every arc as faint as its source is drawn
    completeness.theta_e = (1.1, 1.5, 2.0, 2.5, 3.0, 4.0, 5.5)  # arcsec, edges of the cells
    completeness.arc_mag = (19.0, 20.5, 21.5, 22.0, 22.5, 23.0, 23.5, 24.0, 25.5)  # r, of the whole arc
    completeness.arc_snr = (0.0, 5.0, 10.0, 20.0, 30.0, 50.0, 80.0, 130.0, 300.0)  # in the best band
    return completeness


def explore() -> config_dict.ConfigDict:
    """The block config.explore: the local web app, explore/app.py."""
    explore = config_dict.ConfigDict()
    explore.port = 8765  # of 127.0.0.1; 0: any that is free
    explore.iterations = 30  # of L-BFGS, when grades are learned from
    explore.l2 = 1e-2  # penalty on the weights of that classifier
    return explore
