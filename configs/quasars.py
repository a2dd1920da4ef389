"""Blocks of configs/mgii.py: mock quasars, and real spectra labelled by a catalogue."""

from ml_collections import config_dict


def simulation() -> config_dict.ConfigDict:
    """The block config.sim, sims/mgii.py: quasars as a survey has them."""
    sim = config_dict.ConfigDict()
    sim.continuum = "shipped"  # or a file: continua.npz of --mode=continua, spEigenQSO-*.fits (model.templates 4)
    sim.redshift = (0.36, 4.0)  # of the quasars, uniform
    sim.brightness = (2.5, 0.9)  # flux at 4900 A, 1e-17 erg/s/cm2/A: median, scatter of its logarithm
    sim.absorber_fraction = 0.5  # of the spectra have at least one Mg II absorber
    sim.absorber_law = "snr"  # "snr" (uniform doublet S/N), "observed", "paper", "paper2796": sims/mgii.py
    sim.snr_range = (3.0, 20.0)
    sim.strong_fraction = 0.15  # of the law "snr": W2796 of 1-6 A instead, uniform in its logarithm, whatever the S/N
    sim.max_absorbers = 3
    sim.more_absorbers = 0.3  # chance of a second, and of a third after it
    sim.width_law = "mixed"  # "growth" (by the curve of growth), "paper" (FWHM N(1.7, 0.7) A), or both
    sim.least_pixel_snr = 0.0  # of the quasar where absorbers are put; 3 in the paper
    sim.feii_fraction = 0.5  # of the absorbers have Fe II, Mg I, Al III as well
    sim.civ_fraction = 0.3  # of the quasars have C IV, Al III of gas near them
    sim.associated_fraction = 0.1  # of the absorbers are within 5000 km/s of the quasar
    sim.bal_fraction = 0.1  # of the quasars have broad troughs
    sim.dirt = 1.0  # 0 clean; 1 spikes, sky residuals, wrong errors
    sim.clean_fraction = 0.5  # of the objects have no dirt; the rest uniformly between none and sim.dirt
    return sim


def paper_simulation() -> dict:
    """What Zhao et al. (2019, section 2.2) have instead: one doublet, nothing else, noise of the error array.

    Their quasars are those of SDSS DR7 (Schneider et al. 2010): i = 19.0 in the middle, 11e-17 erg/s/cm2/A at 4900 A,
    with twice the noise of BOSS, which the simulator has: half the flux is as good a spectrum.
    """
    nothing = dict.fromkeys(("feii_fraction", "civ_fraction", "associated_fraction", "bal_fraction", "dirt"), 0.0)
    laws = {"absorber_law": "paper", "width_law": "paper", "max_absorbers": 1, "least_pixel_snr": 3.0}
    return {**nothing, **laws, "redshift": (0.36, 2.8), "brightness": (5.5, 0.6)}


def absorber_catalogue() -> config_dict.ConfigDict:
    """The block config.data.absorbers: real spectra labelled by a catalogue, config.data.source = "absorbers"."""
    absorbers = config_dict.ConfigDict()
    absorbers.catalogue = ""  # table of absorbers: z_abs, W2796 by plate, mjd, fiber or TARGETID; FITS, CSV, ECSV
    absorbers.spectra = ""  # file, folder, glob or list file of the spectra
    absorbers.draw = 0  # which of the five draws of the negatives, 0 to 4
    absorbers.split = "random"  # 4:1 at random, or "survey": train on SDSS-I/II, test on BOSS and later
    return absorbers
