"""The one log-wavelength grid of SDSS, BOSS and this package.

Pixels sit at integer multiples of 1e-4 in log10 of the vacuum wavelength in Angstrom, in every survey file and
everywhere here, so two spectra are aligned by integer shifts alone and nothing is ever interpolated.
"""

import numpy as np

STEP = 1e-4  # dex per pixel
C_KMS = 299792.458  # speed of light, km/s
PIXEL_KMS = C_KMS * np.log(10.0) * STEP  # 69.03 km/s: one pixel is the same velocity at every wavelength
PER_DEX = 10_000  # pixels per dex: 1 / STEP, exactly


def window(lo: float, hi: float) -> np.ndarray:
    """Grid pixels whose centres lie in [lo, hi] Angstrom: loglam, float64 (P,). 3800-5000 A gives 1192 pixels."""
    first = int(np.ceil(np.log10(lo) * PER_DEX))
    last = int(np.floor(np.log10(hi) * PER_DEX))
    if last < first:
        raise ValueError(f"no grid pixel lies between {lo} and {hi} A: the window needs lo < hi, in Angstrom")
    return np.arange(first, last + 1) / PER_DEX


def wave(loglam: np.ndarray) -> np.ndarray:
    """Vacuum wavelength in Angstrom of pixels at log10 wavelength `loglam`, float64, same shape."""
    return 10.0 ** np.asarray(loglam, np.float64)


def edges(loglam: np.ndarray) -> np.ndarray:
    """Wavelengths (P + 1,) in Angstrom of the pixel borders, half a step from the centres `loglam` (P,)."""
    first = index0(loglam)
    return 10.0 ** ((np.arange(len(loglam) + 1) + (first - 0.5)) / PER_DEX)


def index0(loglam: np.ndarray) -> int:
    """Integer place of the first pixel of `loglam` (P,) on the global grid (loglam = index * 1e-4)."""
    return round(float(loglam[0]) * PER_DEX)


def pixel(wavelength: np.ndarray, loglam: np.ndarray) -> np.ndarray:
    """Fractional pixel position of vacuum wavelengths in Angstrom within the window `loglam`; 0 is the first centre."""
    return np.log10(np.asarray(wavelength, np.float64)) * PER_DEX - index0(loglam)


def overlap(first: int, length: int, target_first: int, target_length: int) -> tuple[slice, slice]:
    """Slices (of source, of target) that pick the pixels two stretches of the grid share; empty where they miss."""
    lo = max(first, target_first)
    hi = max(lo, min(first + length, target_first + target_length))
    return slice(lo - first, hi - first), slice(lo - target_first, hi - target_first)


def place(loglam: np.ndarray, values: np.ndarray, window_loglam: np.ndarray, fill: float = 0.0) -> np.ndarray:
    """Put `values` (..., n), given at grid pixels `loglam` (n,), on the window (P,); pixels they miss hold `fill`.

    Returns (..., P) of the type of `values`, native byte order. Only integer shifts: nothing is interpolated.
    """
    values = np.asarray(values)
    if values.shape[-1] != len(loglam):
        raise ValueError(f"{values.shape[-1]} values for {len(loglam)} pixels: the last axis is the wavelength")
    out = np.full((*values.shape[:-1], len(window_loglam)), fill, values.dtype.newbyteorder("="))
    if len(loglam):
        source, target = overlap(index0(loglam), len(loglam), index0(window_loglam), len(window_loglam))
        out[..., target] = values[..., source]
    return out
