"""Facts of the Legacy Surveys' images: bands, pixels, zero point, dust, and what a catalogue says of the noise.

Fluxes are in nanomaggies, so that mag = 22.5 - 2.5 log10 flux (AB).
"""

import jax.numpy as jnp
import numpy as np

BANDS = ("g", "r", "z")
PIXEL = 0.262  # arcsec
ZERO_POINT = 22.5  # mag of one nanomaggie
FWHM = float(2 * np.sqrt(2 * np.log(2)))  # of a Gaussian, in its sigma
EXTINCTION = (-1.2856, -0.866, -0.4844)  # log10 of the transmission in g, r, z at E(B - V) = 1


def flux(mag):
    """Nanomaggies of an AB magnitude."""
    return 10.0 ** (0.4 * (ZERO_POINT - mag))


def mag(flux):
    """AB magnitude of nanomaggies; 32.5 mag where the flux is below 1e-4."""
    return ZERO_POINT - 2.5 * jnp.log10(jnp.maximum(flux, 1e-4))


def transmission(ebv):
    """Share of the light that the dust of the Milky Way lets through, (..., 3) in g, r, z, from E(B - V) (...)."""
    return 10.0 ** (jnp.asarray(ebv)[..., None] * jnp.asarray(EXTINCTION, jnp.float32))


def pixel_noise(psfdepth, psfsize):
    """Noise of one pixel (nanomaggies) from the catalogue's psfdepth (1/nanomaggies2) and psfsize (FWHM, arcsec).

    The noise-equivalent area of a Gaussian PSF: Stein et al. (2022), eq. B1.
    """
    return 1 / jnp.sqrt(4 * jnp.pi * psfdepth) / (psfsize / FWHM / PIXEL)
