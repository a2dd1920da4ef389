"""Spectra of Mg II absorbers with exact profiles: exp(-tau) through spectrograph and pixels; for tests, benchmarks."""

import numpy as np
from scipy.ndimage import convolve1d

from lensjax.physics import grid, lines

FINE = 8  # samples of a pixel
THIN_RATIO = lines.MGII_STRENGTH[1] * lines.MGII[1] / (lines.MGII_STRENGTH[0] * lines.MGII[0])  # of optical depths


def growth(depth: np.ndarray) -> np.ndarray:
    """W over the standard deviation of the optical depth, whose centre is `depth` (...)."""
    x = np.linspace(-8, 8, 801)
    return np.trapezoid(-np.expm1(-np.asarray(depth)[..., None] * np.exp(-0.5 * x**2)), x, axis=-1)


def transmission(loglam, z, rest, depth, width, lsf) -> np.ndarray:
    """(N, P) of one line each: wavelength `rest` at redshift z (N,), depth (N,), width (N,) and lsf in pixels."""
    edge = 10
    x = (np.arange((len(loglam) + 2 * edge) * FINE + 1) - 0.5 * FINE) / FINE - edge
    place = grid.pixel(rest * (1 + z), loglam)[:, None]
    fine = np.exp(-depth[:, None] * np.exp(-0.5 * ((x - place) / width[:, None]) ** 2))
    kernel = np.exp(-0.5 * (np.arange(-6 * FINE, 6 * FINE + 1) / FINE / lsf) ** 2)
    box = np.r_[0.5, np.ones(FINE - 1), 0.5]
    kernel = np.convolve(kernel / kernel.sum(), box / box.sum())
    smooth = convolve1d(fine, kernel, axis=1, mode="nearest")
    return smooth[:, edge * FINE + FINE // 2 :: FINE][:, : len(loglam)]


def spectra(loglam, z, ew, depth, snr, seed=0, lsf=1.05, metals=(), slope=0.0) -> dict[str, np.ndarray]:
    """Quasars of level 5 with one doublet each.

    z, ew (of 2796, A at rest), depth: (N,). snr: (N,) of the continuum per pixel. metals: (rest, depth over that of
    2796) of more lines. Returns flux, ivar (N, P), wdisp, truth ew_2796, ew_2803, width (pixels).
    """
    rng = np.random.default_rng(seed)
    pixel = lines.MGII[0] * np.log(10) * grid.STEP
    width = ew / pixel / growth(depth)
    x = (np.arange(len(loglam)) - 0.5 * len(loglam)) / len(loglam)
    clean = 5 * (1 + slope * x) * np.ones((len(z), 1))
    for rest, factor in ((lines.MGII[0], 1.0), (lines.MGII[1], THIN_RATIO), *metals):
        clean = clean * transmission(loglam, z, rest, factor * depth, width, lsf)
    error = 5 / np.asarray(snr, float)[:, None] * np.exp(0.1 * rng.normal(size=clean.shape))
    return {
        "flux": (clean + error * rng.normal(size=clean.shape)).astype(np.float32),
        "ivar": (error**-2.0).astype(np.float32),
        "wdisp": np.full(clean.shape, lsf, np.float32),
        "ew_2796": ew,
        "ew_2803": width * growth(THIN_RATIO * depth) * lines.MGII[1] * np.log(10) * grid.STEP,
        "width": width,
    }


def draw(num: int, seed: int, loglam, ew=(0.4, 4.0), snr=(4.0, 60.0), **more) -> dict[str, np.ndarray]:
    """`num` spectra of doublets of any depth, and first guesses of their redshifts, within 150 km/s."""
    rng = np.random.default_rng([seed, 1])
    middle = 10 ** loglam.mean() / np.sqrt(lines.MGII[0] * lines.MGII[1]) - 1
    z = middle + 1e-3 * rng.uniform(-1, 1, num)
    strength = np.exp(rng.uniform(*np.log(ew), num))
    depth = np.clip(10 ** rng.uniform(-0.7, 1.5, num), 0.2, None)
    depth = np.maximum(depth, strength / 2)  # no wider than 300 km/s
    noise = np.exp(rng.uniform(*np.log(snr), num))
    found = spectra(loglam, z, strength, depth, noise, seed, slope=rng.normal(0, 0.3, (num, 1)), **more)
    return {**found, "z": z, "guess": z + 5e-4 * rng.uniform(-1, 1, num) * (1 + z), "depth": depth}
