"""Small spectra and plates for the tests of the readers."""

import numpy as np

LOGLAM = (35502 + np.arange(4600)) / 10_000  # as long as a BOSS spectrum


def spectra(num, seed=0):
    """flux, ivar, wdisp, and_mask, all (num, 4600)."""
    rng = np.random.default_rng(seed)
    shape = (num, len(LOGLAM))
    flux = rng.normal(1.0, 0.5, shape).astype(np.float32)
    ivar = rng.uniform(0.5, 4.0, shape).astype(np.float32)
    wdisp = rng.uniform(0.9, 1.3, shape).astype(np.float32)
    mask = np.where(rng.random(shape) < 0.01, 1 << 23, np.where(rng.random(shape) < 0.3, 1 << 25, 0))
    return flux, ivar, wdisp, mask.astype(np.int32)


def table(num, seed=0):
    """Catalogue columns for `num` fibers: fiber 3 is sky, fiber 4 star-forming."""
    rng = np.random.default_rng(seed)
    rows = {
        "ra": rng.uniform(0, 360, num),
        "dec": rng.uniform(-10, 60, num),
        "z": rng.uniform(0.31, 0.7, num),
        "zwarning": np.zeros(num, int),
        "class": np.full(num, "GALAXY"),
        "subclass": np.full(num, "", "U21"),
        "objtype": np.full(num, "GALAXY"),
    }
    if num > 3:
        rows["objtype"][2] = "SKY"
        rows["subclass"][3] = "STARFORMING"
    return rows
