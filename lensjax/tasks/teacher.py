"""What the simulator knows of its own mocks: the odds of a line, pixel by pixel, which a network can be taught.

A label says which way a coin fell. Whoever draws mocks knows how it was loaded: continuum and noise of each are known,
and the laws of the lines, so the likelihood ratio of "a line here" to "no line" is an integral that can be written
down. A network that is told it learns of every spectrum how likely a line is there, and from mocks of any mixture: the
odds do not depend on how many of those have lines, nor on how bright they are.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.special import log_ndtr

from lensjax.core.errors import UserError
from lensjax.models.heads import EXCLUDED
from lensjax.physics import filters, grid
from lensjax.sims import draws, lya, noise

WIDTHS = 5  # of lines that are tried, equally likely
FLUXES = 40  # the same, of the law "lesser"
HALF = 9  # pixels each way of their profiles
PIXEL = (1 / 12, 1 / 12)  # variances, of a pixel's extent and of a centre somewhere in it, pixels
PIXEL_RANGE, RANGE = (-5.0, 9.0), (-4.0, 4.0)  # of log odds of a pixel, and of a spectrum, within which they matter
PIXEL_SHARE = 5.0  # of the mean over the pixels in the distance


def make_odds(config: Any) -> Callable[[dict[str, jax.Array], jax.Array], tuple[jax.Array, jax.Array]]:
    """odds(mocks {"flux", "continuum", "sigma": (N, P)}, mask (N, P)) -> (of pixels (N, P), of spectra (N,)).

    Of pixels: log likelihood ratio of a line of config.sim's profile at that pixel to no line, for fluxes by the law
    `config.loss.law`, whatever law the mocks have; `EXCLUDED` where not mask. With d the flux less the continuum, s its
    error and k a profile of peak 1, the best peak is a = sum(d k / s^2) / sum(k^2 / s^2), its variance v =
    1 / sum(k^2 / s^2), and the ratio is the mean of exp(A a / v - A^2 / 2 v) over the law of peaks A.
    Of spectra: log posterior odds of a line somewhere, where `config.loss.prior` of all have one.

    UserError for mocks that have dirt, or lines that are not Gaussian: their odds are no such mean; for a law that is
    not of fluxes; and for a network without pixels' logits.
    """
    _check(config)
    loglam = grid.window(*config.data.window)
    angstrom = noise.make_instrument(loglam).wave * np.float32(np.log(10) * grid.STEP)
    widths = make_widths(config, loglam)
    mean_over = LAWS[config.loss.law]
    prior = np.log(config.loss.prior / (1 - config.loss.prior))

    def of_pixels(flux: jax.Array, continuum: jax.Array, sigma: jax.Array, mask: jax.Array) -> jax.Array:
        ivar, terms = jnp.where(mask, sigma**-2.0, 0.0), []
        signal = (flux - continuum) * ivar
        for width in widths:
            profile = make_profile(width)
            inverse = jnp.maximum(filters.correlate(ivar, profile**2), 1e-6)
            unit = 1 / (np.float32(np.sqrt(2 * np.pi) * width) * angstrom)  # peak of a line of flux 1
            terms.append(mean_over(filters.correlate(signal, profile) / inverse, inverse, unit))
        return jnp.where(mask, jax.nn.logsumexp(jnp.stack(terms), axis=0) - np.log(WIDTHS), EXCLUDED)

    def odds(mocks: dict[str, jax.Array], mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        pixels = jax.vmap(of_pixels)(mocks["flux"], mocks["continuum"], mocks["sigma"], mask)
        return pixels, jax.nn.logsumexp(pixels, axis=1) - np.log(len(loglam)) + prior

    return odds


def _check(config: Any) -> None:
    loss, law = config.loss, config.sim.line_law
    if config.sim.dirt or config.sim.line_profile != "gaussian" or config.sim.whole_range:
        raise UserError(
            f"config.loss.teach_weight is {loss.teach_weight:g}: only the odds of clean mocks with Gaussian "
            "lines are known (config.sim.dirt 0, line_profile 'gaussian', whole_range False, as in lya.py:paper)."
        )
    if loss.law not in LAWS:
        raise UserError(f"config.loss.law is {loss.law!r}: expected one of {', '.join(LAWS)}.")
    if not config.model.locate:
        raise UserError("config.loss.teach_weight teaches odds of pixels, which config.model.locate False has not.")
    if loss.get("soft_weight") and law != loss.law:
        raise UserError(
            f"config.loss.soft_weight weighs mocks as a survey has them, by the law {loss.law!r}: config.sim.line_law "
            f"{law!r} has to be the same."
        )


def make_widths(config: Any, loglam: np.ndarray) -> np.ndarray:
    """Standard deviations, pixels, of equally likely lines seen in the middle of the window loglam (P,): (WIDTHS,)."""
    instrument, middle = noise.make_instrument(loglam), len(loglam) // 2
    angstrom = instrument.wave[middle] * np.float32(np.log(10) * grid.STEP)
    shares = (np.arange(WIDTHS) + 0.5) / WIDTHS
    kms = np.array([lya.draw_line_shape(jnp.full(3, share), config.sim, angstrom)[0] for share in shares])
    return np.sqrt((kms / grid.PIXEL_KMS) ** 2 + float(instrument.lsf[middle]) ** 2 + sum(PIXEL))


def make_profile(width: float) -> np.ndarray:
    """A Gaussian of peak 1 and standard deviation `width`, pixels: (2 HALF + 1,) float32."""
    kernel = filters.gaussian_kernel(width, 2 * HALF + 1)
    return kernel / kernel.max()


def _mean_over_paper(best: jax.Array, inverse: jax.Array, unit: jax.Array) -> jax.Array:
    """Log of the mean of exp(A best / v - A^2 / 2 v), v = 1 / inverse, over an exponential of peaks A above a floor.

    best, and what is returned: (P,); best and the root of v in 1e-17 erg/s/cm2/A; unit: (P,) peak of a line of flux 1.
    """
    floor, scale = lya.PAPER_PEAK, lya.PAPER_PEAK_SCALE
    centre, error = best - 1 / (scale * inverse), jax.lax.rsqrt(inverse)
    constant = 0.5 * np.log(2 * np.pi) + floor / scale - np.log(scale)
    return 0.5 * centre**2 * inverse + jnp.log(error) + log_ndtr((centre - floor) / error) + constant


def _mean_over_lesser(best: jax.Array, inverse: jax.Array, unit: jax.Array) -> jax.Array:
    """The same, over peaks `unit` times equally likely fluxes."""
    fluxes = draws.two_piece((jnp.arange(FLUXES) + 0.5) / FLUXES, lya.FLUX_LAW)
    peaks = [flux * unit for flux in fluxes]
    terms = jnp.stack([(peak * best - 0.5 * peak**2) * inverse for peak in peaks])
    return jax.nn.logsumexp(terms, axis=0) - np.log(FLUXES)


LAWS = {"paper": _mean_over_paper, "lesser": _mean_over_lesser}


def distance(told: jax.Array, true: jax.Array, limits: tuple[float, float]) -> jax.Array:
    """Huber's loss of log odds, any shape; beyond the limits all that are certain the right way are as good."""
    low, high = limits
    certain = ((true >= high) & (told > high)) | ((true <= low) & (told < low))
    miss = jnp.abs(jnp.where(certain, 0.0, told - jnp.clip(true, low, high)))
    return jnp.where(miss < 1, 0.5 * miss**2, miss - 0.5)


def soft(told: jax.Array, true: jax.Array, prior: float, fraction: float) -> jax.Array:
    """Mean cross-entropy (nat) of logits (N,) with the probabilities that log odds true (N,) mean, as in a survey.

    `distance` makes a network tell the mean of the log odds that a spectrum could have, given what it cannot know (its
    continuum); this, their probability (soft targets: Hinton et al. 2015, arXiv:1503.02531). That mean is over mocks
    as a survey has them, with a line in `prior` of all; of mocks with a line in `fraction`, one whose probability is p
    then counts 1 / (p fraction / prior + (1 - p) (1 - fraction) / (1 - prior)).
    """
    probability = jax.nn.sigmoid(true)
    ratio = probability * fraction / prior + (1 - probability) * (1 - fraction) / (1 - prior)
    return jnp.mean(optax.losses.sigmoid_binary_cross_entropy(told, probability) / ratio)
