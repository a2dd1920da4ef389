"""Makes lensjax/sims/quasars.npz, the shipped basis of quasar continua.

    python tools/quasar_basis.py

Nothing is downloaded: a quasar is a broken power law, emission lines of the places, widths and equivalent widths that
the composite of Vanden Berk et al. (2001, AJ 122, 549, Tables 2 and 5) has, blended iron (Vestergaard & Wilkes 2001,
ApJS 134, 1, for where its bumps are), the Balmer continuum (Grandi 1982, ApJ 255, 25), a mean forest blueward of
Lyman-alpha (Faucher-Giguere et al. 2008, ApJ 681, 831), and some dust. Every strength, width, shift and slope scatters
as in Vanden Berk et al. and Shen et al. (2011, ApJS 194, 45). The numbers are rounded: the basis is to have the
variety of quasars, not to be one of them. 1,500 quasars, each scaled to a mean of 1 over 2500-2700 A, give the
eigenvectors by an uncentred singular value decomposition.
"""

import pathlib

import numpy as np

STEP = 1e-4
LOGLAM0, NUM_PIXELS = 2.8200, 10_300  # 661-7078 A rest
NUM_QUASARS, NUM_MEMBERS, NUM_VECTORS = 1500, 1000, 20
OUTPUT = pathlib.Path(__file__).parents[1] / "lensjax" / "sims" / "quasars.npz"
C_KMS = 299792.458

# Rest wavelength (A), equivalent width (A), width (A): broad lines, then narrow ones.
BROAD = (
    (1033.0, 9.8, 8.0), (1216.25, 75.0, 19.5), (1239.9, 14.0, 14.0), (1305.4, 1.7, 5.4), (1335.6, 0.7, 3.9),
    (1397.5, 8.1, 14.0), (1546.1, 23.8, 14.3), (1637.8, 3.0, 12.0), (1664.7, 1.0, 8.0), (1856.8, 1.5, 10.0),
    (1887.2, 1.5, 10.0), (1906.0, 20.0, 22.0), (2800.3, 32.0, 30.0), (4102.7, 5.0, 18.6), (4341.7, 12.6, 20.3),
    (4862.7, 46.0, 40.0), (5877.0, 4.9, 23.5), (6564.6, 190.0, 45.0),
)  # fmt: skip
NARROW = (
    (3346.8, 0.4, 4.0), (3426.8, 1.2, 5.0), (3728.5, 1.6, 3.3), (3869.9, 1.4, 4.0), (3968.6, 0.5, 4.0),
    (4364.4, 0.5, 5.0), (4960.3, 3.5, 4.0), (5008.2, 13.0, 5.0), (6302.0, 1.0, 5.0), (6585.3, 8.0, 5.0),
    (6718.3, 1.6, 4.0), (6732.7, 1.5, 4.0),
)  # fmt: skip
IRON = (  # place, width (A), height over the continuum
    (1690.0, 40.0, 0.03), (1786.0, 25.0, 0.05), (2050.0, 60.0, 0.04), (2250.0, 60.0, 0.10), (2385.0, 45.0, 0.16),
    (2490.0, 40.0, 0.18), (2590.0, 45.0, 0.14), (2680.0, 40.0, 0.04), (2880.0, 45.0, 0.05), (2960.0, 45.0, 0.09),
    (3200.0, 80.0, 0.08), (4180.0, 60.0, 0.03), (4560.0, 80.0, 0.10), (5180.0, 60.0, 0.06), (5310.0, 70.0, 0.09),
)  # fmt: skip


def make_quasar(rng: np.random.Generator, wave: np.ndarray) -> np.ndarray:
    """One rest-frame spectrum (M,) on vacuum wavelengths (M,) in Angstrom."""
    slope, red = -1.54 + 0.35 * rng.normal(), 0.6 * rng.normal()
    continuum = (wave / 3000) ** slope * np.where(wave > 5000, (wave / 5000) ** (0.9 + red), 1.0)
    edge = 1 / (1 + np.exp((wave - 3650) / 60))
    balmer = 0.10 * rng.lognormal(0, 0.5) * edge * (wave / 3646) ** 2
    strength = rng.lognormal(0, 0.45) * np.where(wave > 4000, rng.lognormal(0, 0.4), 1.0)
    iron = sum(h * rng.lognormal(0, 0.25) * np.exp(-0.5 * ((wave - x) / w) ** 2) for x, w, h in IRON)
    total = continuum * (1 + balmer + strength * iron)
    width, blueshift, common = rng.lognormal(0, 0.28), rng.gamma(2.0, 200.0), rng.normal(0, 0.25)
    for place, equivalent, sigma in BROAD:
        own = equivalent * np.exp(common + rng.normal(0, 0.28))
        high = place < 1700  # lines of high ionisation are shifted to the blue
        centre = place * (1 - (blueshift if high else 0.2 * blueshift) / C_KMS)
        broad, core = sigma * width * rng.lognormal(0, 0.15), rng.uniform(0.15, 0.6)
        level = np.interp(centre, wave, continuum)
        for share, scale in ((1 - core, 1.25), (core, rng.uniform(0.3, 0.6))):
            s = broad * scale
            total = total + level * share * own / (s * np.sqrt(2 * np.pi)) * np.exp(-0.5 * ((wave - centre) / s) ** 2)
    narrow = rng.lognormal(-0.3, 0.7)
    for place, equivalent, sigma in NARROW:
        s, level = sigma * rng.uniform(0.5, 1.3), np.interp(place, wave, continuum)
        height = level * narrow * equivalent * rng.lognormal(0, 0.3) / (s * np.sqrt(2 * np.pi))
        total = total + height * np.exp(-0.5 * ((wave - place) / s) ** 2)
    forest = rng.uniform(0.45, 0.9) * (1 + 0.1 * np.cumsum(rng.normal(0, 0.03, len(wave))))
    total = total * np.where(wave < 1214, np.clip(forest, 0.2, 1.0), 1.0) * np.where(wave < 912, 0.3, 1.0)
    dust = 0.05 * rng.exponential() * (wave / 3000) ** -1.2  # like the Small Magellanic Cloud's
    return total * 10 ** (-0.4 * dust)


def main() -> None:
    """Write OUTPUT and say how much of the variance is kept."""
    rng = np.random.default_rng(2001)
    wave = 10 ** (LOGLAM0 + STEP * np.arange(NUM_PIXELS))
    norm = (wave > 2500) & (wave < 2700)
    spectra = np.stack([make_quasar(rng, wave) for _ in range(NUM_QUASARS)])
    spectra /= spectra[:, norm].mean(1, keepdims=True)
    weight = (wave / 2600) ** 1.5  # near equal weight of blue and red
    _, values, vectors = np.linalg.svd(spectra * weight, full_matrices=False)
    kept = vectors[:NUM_VECTORS]
    coefficients = (spectra * weight) @ kept.T
    print(f"{NUM_VECTORS} vectors keep {100 * (values[:NUM_VECTORS] ** 2).sum() / (values**2).sum():.3f} %")
    scale = np.abs(coefficients).max(0)  # so that half precision is enough
    np.savez_compressed(
        OUTPUT,
        loglam0=LOGLAM0,
        vectors=((kept * scale[:, None]) / weight).astype(np.float16),
        coefficients=(coefficients / scale)[:NUM_MEMBERS].astype(np.float32),
    )
    print(f"{OUTPUT.name}: {OUTPUT.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
