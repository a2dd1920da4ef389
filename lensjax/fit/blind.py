"""Continuum of a galaxy whose redshift nobody told: templates at every redshift, averaged by their odds."""

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.fit import templates
from lensjax.physics import filters, grid

STEP = 4  # pixels from one redshift that is tried to the next: 276 km/s, within the width of a galaxy's own lines
TEMPLATES = 3  # the mean galaxy and two axes of the scatter about it; three more change next to nothing
ROUNDS = 2  # of which the first fills the pixels that are masked
FREE = 1e-6  # precision of a coefficient that nothing holds
LEAST = 1e-3  # of the variance, where a fit is all but perfect
WIDTH = 0.4  # 1e-17 erg/s/cm2/A, standard deviation of the axes' coefficients: the mean flux of a faint galaxy


def fit_blind(
    flux: jax.Array,
    error: jax.Array,
    mask: jax.Array,
    basis: templates.Basis,
    loglam: np.ndarray,
    redshift: tuple[float, float],
) -> jax.Array:
    """Posterior mean of a galaxy's continuum (P,), its redshift and brightness unknown; in the unit of the flux.

    At each redshift, `STEP` pixels apart, templates are fitted in closed form. With b their moments with the flux and G
    the normal matrix, the evidence of a redshift (MacKay 1992, Neural Computation 4, 415) is exp(b G^-1 b / 2 v) /
    sqrt(det G), where v, the variance that the best one leaves, stands for how far the errors are off; the fits are
    averaged with it as their weight. The first template, the mean galaxy, is free; coefficients of the others have a
    Gaussian prior about zero (`WIDTH`). G is of all pixels, and so the same for all spectra: masked pixels are 0 at
    first, then what the fit says they are.

    Args:
        flux: (P,) 1e-17 erg/s/cm2/A.
        error: (P,) the same unit; the survey's, not the object's.
        mask: (P,) bool, the pixels that count.
        basis: `continua.principal`: the first `TEMPLATES` are fitted.
        loglam: (P,) log10 vacuum Angstrom.
        redshift: least and greatest, equally likely in log(1 + z) between.
    """
    low, high = np.log10(1 + np.asarray(redshift, np.float64)) / grid.STEP
    pixels, number = len(loglam), int((high - low) / STEP) + 1
    length = pixels + STEP * (number - 1)
    vectors = filters.lengthen(jnp.asarray(basis.vectors)[:TEMPLATES], length, length)  # 0 beyond their ends
    farthest = templates.place(basis, float(loglam[0]), jnp.float32(redshift[1])).whole + length
    seen = jax.vmap(lambda start: jax.lax.dynamic_slice_in_dim(vectors, start, pixels, axis=1))
    design = seen(farthest + STEP * jnp.arange(number))  # (Z, K, P)
    rows, ivar = design.reshape(-1, pixels), jnp.square(1 / error)
    prior = jnp.diag(jnp.array([FREE, *[WIDTH**-2.0] * (len(vectors) - 1)]))

    def mean(flux: jax.Array) -> jax.Array:
        moment = (rows @ (flux * ivar)).reshape(number, -1)
        coefficient = jnp.einsum("zkl,zl->zk", inverse, moment)
        explained = jnp.sum(coefficient * moment, axis=1)
        variance = (jnp.sum(flux**2 * ivar) - explained.max()) / pixels
        evidence = 0.5 * explained / jnp.maximum(variance, LEAST) - 0.5 * logdet
        weight = jax.nn.softmax(evidence)[:, None] * coefficient
        return weight.reshape(-1) @ rows

    with jax.default_matmul_precision("highest"):
        gram = jnp.einsum("zkp,zlp->zkl", design * ivar[None, None], design) + prior[None]
        inverse, logdet = jnp.linalg.inv(gram), jnp.linalg.slogdet(gram)[1]
        model = jnp.zeros(pixels)
        for _ in range(ROUNDS):
            model = mean(jnp.where(mask, flux, model))
        return model
