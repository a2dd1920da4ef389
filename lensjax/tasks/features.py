"""From a spectrum to the input channels of the line-finding networks: the closed-form part of the search.

A network that starts from raw flux spends its training on rediscovering the matched filter. Here it is given the
template residual and the filter's signal-to-noise, and what the filter does not know: the errors, the masks, how
bright the galaxy is, and where templates and sky subtraction are known to fail.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.core.errors import UserError
from lensjax.fit import blind, robust, templates
from lensjax.physics import filters, grid, lines
from lensjax.sims import continua, noise
from lensjax.sims.lya import lens_mask, masked_lines
from lensjax.tasks import companions

# Prior of the continuum fit, per unit of the galaxy's mean flux: three times the scatter of passive galaxies, and a
# calibration good to 5 %. A template or polynomial that is free takes its share of every line: four of the one and
# three of the other cost 1.5 % of the S/N of all lines.
TEMPLATE_WIDTH, POLYNOMIAL_WIDTH = 3.0, 0.05
POLYNOMIAL_FLOOR = 0.03  # 1e-17 erg/s/cm2/A: sky subtraction leaves as much
FAINTEST = 0.05  # 1e-17 erg/s/cm2/A: mean flux at which the priors stop to narrow
# Scale (pixels) and shape of the filters' profiles: lines of 60-300 km/s seen through the line-spread function,
# symmetric or with the sharp blue edge and red tail of Lyman-alpha.
FILTERS = ((1.4, 0.0), (1.9, 0.0), (2.6, 0.0), (3.8, 0.0), (2.6, 2.5), (4.0, 2.5))
PRIOR = (0.20, 0.30, 0.15, 0.05, 0.20, 0.10)  # how often each fits best, roughly
CLIP = 20.0  # pulls and S/N beyond this tell nothing new
ERROR_SCALE = 0.5  # 1e-17 erg/s/cm2/A, typical

CHANNELS = {
    "flux": 1,  # as it is: the paper's only input
    "scaled": 1,  # the flux over the survey's typical error at each wavelength, a fixed curve
    "blind": 1,  # the same, less templates at the redshift that the flux alone tells, as far as it does
    "residual": 1,  # (flux - templates) / error, errors rescaled to the object's own scatter
    "snr": len(FILTERS),  # matched-filter S/N of the residual for several profiles
    "log_error": 1,
    "mask": 1,  # 1 where the pixel is good and off the lens galaxy's lines
    "continuum": 1,  # log of the galaxy's S/N per pixel: where templates can fail visibly
    "scale": 1,  # log of the factor by which the errors were rescaled
    "companions": len(companions.REST) + 1,  # S/N where Hbeta, [OIII], Halpha are if the pixel is [OII]; their odds
    "veto": 1,  # 1 at rest wavelengths that templates miss and at sky lines
}

Features = Callable[[dict[str, jax.Array], dict[str, jax.Array]], dict[str, jax.Array]]


def make_features(config: Any) -> tuple[Features, dict[str, jax.Array]]:
    """Features of one spectrum, and the constants (templates) they need, which belong into the checkpoint.

    Returns:
        features(example, constants) -> {"x": (P, C) channels, "snr": (P,) best filter S/N, "mask": (P,) bool good}
        from example {"flux" (P,), "ivar" (P,), "z" ()}; and constants {"loglam0" (), "templates" (K, M)}.

    Raises:
        UserError: a channel of config.model.channels is not known.
    """
    unknown = [name for name in config.model.channels if name not in CHANNELS]
    if unknown:
        raise UserError(f"config.model.channels has {unknown}, expected some of {sorted(CHANNELS)}")
    library = continua.read_library(config.sim.continuum)
    constants = {
        "loglam0": jnp.float32(library.loglam0),
        "templates": jnp.asarray(make_templates(config, library), jnp.float32),
    }
    loglam = grid.window(*config.data.window)
    names = tuple(config.model.channels)
    masked = masked_lines(config)

    def features(example: dict[str, jax.Array], constants: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return _features(example, constants, loglam, names, masked, tuple(config.sim.redshift))

    return features, constants


def make_templates(config: Any, library: continua.Library) -> np.ndarray:
    """Mean galaxy and the first axes of the scatter about it, as seen through the window: (K, M), rest frame."""
    (low, high), (nearest, farthest) = config.data.window, config.sim.redshift
    return continua.principal(library, config.model.get("templates", 6), (low / (1 + farthest), high / (1 + nearest)))


def _features(example, constants, loglam, names, masked, redshift) -> dict[str, jax.Array]:
    wave = jnp.asarray(grid.wave(loglam), jnp.float32)
    mask = (example["ivar"] > 0) & ~lens_mask(wave, example["z"], masked)
    ivar = jnp.where(mask, example["ivar"], 0.0)
    model = fit_continuum(example, ivar, constants, loglam)
    pull = (example["flux"] - model) * jnp.sqrt(ivar)
    scale = scatter(pull, mask)
    snr = filter_bank(pull / scale, ivar)
    channels = {
        "flux": jnp.where(mask, example["flux"], 0.0)[None],
        "scaled": jnp.where(mask, example["flux"] / typical_error(loglam), 0.0)[None],
        "residual": jnp.clip(pull / scale, -CLIP, CLIP)[None],
        "snr": jnp.clip(snr, -CLIP, CLIP),
        "log_error": jnp.where(mask, -0.5 * jnp.log(jnp.where(mask, ivar, 1.0)) - np.log(ERROR_SCALE), 0.0)[None],
        "mask": mask.astype(jnp.float32)[None],
        "continuum": jnp.log1p(jnp.maximum(model * jnp.sqrt(ivar), 0.0))[None],
        "scale": jnp.full((1, len(loglam)), 1.0) * jnp.log(scale),
        "veto": _veto(example["z"], loglam)[None],
    }
    if "blind" in names:
        error, basis = typical_error(loglam), templates.Basis(constants["loglam0"], constants["templates"])
        without = example["flux"] - blind.fit_blind(example["flux"], error, mask, basis, loglam, redshift)
        channels["blind"] = jnp.clip(jnp.where(mask, without / error, 0.0), -CLIP, CLIP)[None]
    line = marginal_snr(snr)
    if "companions" in names:
        others, odds = companions.beside(snr[companions.FILTER], mask)
        channels["companions"] = jnp.concatenate([jnp.clip(others, -CLIP, CLIP), odds[None]])
        line = companions.joint_snr(line, odds)
    x = jnp.stack([row for name in names for row in channels[name]], axis=1)  # by rows: turned together they are slow
    return {"x": x, "snr": jnp.where(mask, line, 0.0), "mask": mask}


def typical_error(loglam: np.ndarray) -> jax.Array:
    """Error (P,) of a pixel of a faint galaxy, 1e-17 erg/s/cm2/A: BOSS's median curve with its airglow lines."""
    instrument = noise.make_instrument(loglam)
    return instrument.error * jnp.sqrt(1 + instrument.airglow)


def fit_continuum(example, ivar: jax.Array, constants: dict[str, jax.Array], loglam: np.ndarray) -> jax.Array:
    """The galaxy (P,), in the unit of the flux: templates and polynomials, near what a passive galaxy of its flux is.

    example {"flux" (P,), "z" ()}; ivar (P,), 0 = not fitted; constants and loglam (P,) as in `make_features`.
    """
    basis = templates.Basis(constants["loglam0"], constants["templates"])
    design = templates.make_design(basis, float(loglam[0]), len(loglam), example["z"])
    mean = design[0]
    brightness = jnp.sum(ivar * mean * example["flux"]) / jnp.maximum(jnp.sum(ivar * mean**2), 1e-6)
    brightness = jnp.maximum(brightness, FAINTEST)
    kinds = (1, len(constants["templates"]) - 1, templates.NUM_POLYNOMIALS)
    relative = np.repeat([np.inf, TEMPLATE_WIDTH, POLYNOMIAL_WIDTH], kinds).astype(np.float32)
    floor = np.repeat([0.0, 0.0, POLYNOMIAL_FLOOR], kinds).astype(np.float32)
    return templates.fit_templates(example["flux"], ivar, design, brightness * relative + floor)[0]


def marginal_snr(snr: jax.Array) -> jax.Array:
    """S/N (P,) of a line of unknown shape: exp(S^2 / 2) is the mean of exp(snr_k^2 / 2) over the filters (K, P)."""
    half_square = 0.5 * jnp.maximum(snr, 0.0) ** 2 + jnp.log(jnp.array(PRIOR))[:, None]
    return jnp.sqrt(2 * jnp.maximum(jax.nn.logsumexp(half_square, axis=0), 1e-6))


def scatter(pull: jax.Array, mask: jax.Array) -> jax.Array:
    """Factor by which the stated errors are too small: the clipped scatter of the pulls (P,); scalar.

    Its own error is 2 %, which costs S/N as any other step does, and most errors are right: departures from 1 within
    some times that are shrunk towards 1.
    """
    log_scale = jnp.log(jnp.clip(robust.clipped_scatter(pull, mask), 0.3, 10.0))
    return jnp.exp(log_scale * (1 - jnp.exp(-((log_scale / 0.09) ** 2))))


def filter_bank(pull: jax.Array, ivar: jax.Array) -> jax.Array:
    """Matched-filter S/N (K, P) for the profiles of `FILTERS`; `pull` (P,) is residual over error."""
    root = jnp.sqrt(ivar)
    residual = jnp.where(root > 0, pull / jnp.where(root > 0, root, 1.0), 0.0)
    return jnp.stack([filters.matched_filter(residual, ivar, filters.line_kernel(*shape))[1] for shape in FILTERS])


def _veto(z: jax.Array, loglam: np.ndarray) -> jax.Array:
    """1 within 5 pixels of the empirical rest lines at `z` and of the airglow lines, else 0; (P,)."""
    pixel = jnp.arange(len(loglam), dtype=jnp.float32)
    rest = grid.pixel(np.array(lines.EMPIRICAL_REST), loglam).astype(np.float32) + jnp.log10(1 + z) / grid.STEP
    sky = grid.pixel(np.array([*lines.SKY_LINES, *lines.AIRGLOW, *lines.NIGHT_SKY]), loglam).astype(np.float32)
    near = [jnp.abs(pixel - line) <= 5 for line in (*rest, *sky)]  # one by one: XLA makes one pass of them
    return functools.reduce(jnp.logical_or, near).astype(jnp.float32)
