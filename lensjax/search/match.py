"""What other knowledge says of a candidate: lenses known before, and the Einstein radius to expect."""

import warnings
from typing import Any

import numpy as np
from scipy.integrate import IntegrationWarning

from lensjax.physics.grid import C_KMS


def einstein_radius(z_lens: np.ndarray, z_source: np.ndarray, velocity_dispersion: float) -> np.ndarray:
    """4 pi (sigma/c)^2 D_ls / D_s in arcsec of a singular isothermal sphere, (N,); NaN unless z_source > z_lens > 0."""
    from astropy import cosmology

    behind = (z_lens > 0) & (z_source > z_lens)
    out = np.full(len(z_lens), np.nan)
    if behind.any():
        planck: Any = cosmology.Planck18
        near, far = z_lens[behind], z_source[behind]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", IntegrationWarning)  # of round-off, far below what is needed here
            lens, source = (planck.comoving_distance(z).value for z in (near, far))
        ratio = 1 - lens / source  # D_ls / D_s in a flat universe
        out[behind] = 4 * np.pi * (velocity_dispersion / C_KMS) ** 2 * ratio * 180 * 3600 / np.pi
    return out
