"""From a quasar's spectrum to the input channels of the absorber-finding networks: the closed-form part of the search.

As in `tasks.features`: the network is given the matched filter's signal-to-noise of the Mg II doublet and what that
does not know. The continuum is local, as absorbers are narrow and quasars are not: eigenspectra at the quasar's
redshift carry its broad lines, a running mean what these miss, and only as far as the data demand it.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.core.errors import UserError
from lensjax.fit import templates
from lensjax.physics import filters, grid, lines, quasar
from lensjax.sims import continua, quasars
from lensjax.tasks import companions
from lensjax.tasks.features import CLIP, ERROR_SCALE, scatter

SIGMAS = (1.25, 1.8, 2.8)  # pixels: lines of 30-180 km/s through the line-spread function
RATIOS = (0.5, 0.95)  # 2803 over 2796: thin, saturated
PRIOR = np.array([[0.22, 0.14], [0.2, 0.2], [0.06, 0.18]])  # how often each pair fits best, roughly
LINE = 1  # of SIGMAS: the width with which single lines are looked for
SEPARATION = round(math.log10(lines.MGII[1] / lines.MGII[0]) / grid.STEP)  # 11 pixels
CIV_SEPARATION = round(math.log10(lines.CIV[1] / lines.CIV[0]) / grid.STEP)  # 7 pixels
BIN, SMOOTH = 8, 3.0  # pixels of a bin of the running mean, standard deviation of its kernel in bins
COARSE_FIT = 4  # pixels that the fit of eigenspectra sums: quasars are smooth over them
MISFIT = 0.04  # of the quasar's flux: by how much eigenspectra miss it, one standard deviation
ABSORBED, NEAR = 3.5, 4  # S/N of a line that the continuum leaves out, pixels each way
TEMPLATE_WIDTH = 3.0  # prior of a coefficient, in units of the quasar's mean flux
FOREST = 1216.0  # A at rest: blueward the forest hides the continuum

# Lines that say whether the doublet here is Mg II: pixels from its 2796 to FeII and MgI of the same absorber, ...
SUPPORT = tuple(round(math.log10(rest / lines.MGII[0]) / grid.STEP) for rest in (*lines.FEII, lines.MGI))
# ... and to the Mg II of the absorber whose FeII 2586, 2600 or 2374, 2382 it would be.
RIVALS = tuple(round(math.log10(lines.MGII[0] / rest) / grid.STEP) for rest in (lines.FEII[3], lines.FEII[1]))

# Channels with a value for every pixel, and how many.
FINE = {
    "flux": 1,  # rescaled as the paper does, less one, zero outside the search window: its only input
    "residual": 1,  # (flux - continuum) / error
    "line": len(SIGMAS),  # S/N of one absorption line of several widths
    "doublet": 1,  # S/N of Mg II, whichever its width and ratio
    "civ": 1,  # S/N of a doublet as far apart as C IV
    "support": 1,  # log odds that Fe II and Mg I of the same absorber give
    "rivals": 1,  # S/N of the Mg II of which this would be Fe II
}
# Channels that change slowly: their mean over config.model.fold pixels.
COARSE = {
    "log_error": 1,
    "mask": 1,
    "window": 1,  # 1 where Mg II may be
    "continuum": 1,  # log of the quasar's S/N per pixel
    "scale": 1,  # log of the factor by which the errors were rescaled
    "sky": 1,  # 1 at lines of the night sky
    "rest": 1,  # log of the wavelength in the quasar's frame over that of Mg II
}

Example = dict[str, jax.Array]


def make_features(config: Any) -> tuple[Callable[[Example, Example], Example], Example]:
    """Features of one spectrum, and the constants (eigenspectra) they need, which belong into the checkpoint.

    Returns:
        features(example, constants) -> {"x": (ceil(P / fold), C) channels, those of `fold` pixels side by side, "snr":
        (P,) S/N of Mg II whose 2796 is there, "mask": (P,) bool good and in the search window} from example {"flux"
        (P,), "ivar" (P,), "z" ()}; and constants {"loglam0" (), "templates" (K, M)}.

    Raises:
        UserError: a channel of config.model.channels is not known.
    """
    names = tuple(config.model.channels)
    unknown = [name for name in names if name not in FINE and name not in COARSE]
    if unknown:
        raise UserError(f"config.model.channels has {unknown}, expected some of {sorted({**FINE, **COARSE})}")
    loglam = grid.window(*config.data.window)
    sky = near_sky(loglam)

    def features(example: Example, constants: Example) -> Example:
        return _features(example, constants, loglam, names, sky, config.model.fold)

    return features, make_constants(config)


def make_constants(config: Any) -> Example:
    """Mean quasar and the first axes of the scatter about it, config.model.templates in all: templates (K, M).

    In the rest frame, from loglam0 () on.
    """
    library = quasars.read_library(config.sim.continuum)
    (low, high), (nearest, farthest) = config.data.window, config.sim.redshift
    rest = (max(low / (1 + farthest), FOREST), high / (1 + nearest))
    vectors = continua.principal(library, config.model.templates, rest)
    return {"loglam0": jnp.float32(library.loglam0), "templates": jnp.asarray(vectors, jnp.float32)}


def near_sky(loglam: np.ndarray) -> np.ndarray:
    """1 within 3 pixels of an airglow or city-light line, else 0; (P,) float32."""
    listed = np.array([*lines.SKY_LINES, *lines.AIRGLOW, *lines.NIGHT_SKY])
    places = grid.pixel(listed, loglam)
    return np.any(np.abs(np.arange(len(loglam))[:, None] - places) <= 3, axis=1).astype(np.float32)


def _features(example: Example, constants: Example, loglam: np.ndarray, names, sky: np.ndarray, fold: int) -> Example:
    wave, z = jnp.asarray(grid.wave(loglam), jnp.float32), example["z"]
    good = example["ivar"] > 0
    window = quasar.search_window(wave, z)
    model, ivar, scale = fit_continuum(example, constants, loglam)
    residual = model - example["flux"]  # absorption counts as positive
    sums = line_sums(residual, ivar)
    line, doublet = whole((line_snr(*sums), doublet_snr(*sums, SEPARATION)))
    civ = doublet_snr(*sums, CIV_SEPARATION)
    single = jnp.where(good, line[LINE], 0.0)
    odds = companions.beside(single, good, SUPPORT)[1]
    rivals = functools.reduce(jnp.maximum, companions.shifted(jnp.where(good, doublet, 0.0), RIVALS))
    root = jnp.sqrt(ivar)
    channels = {
        "residual": jnp.clip(-residual * root, -CLIP, CLIP)[None],
        "line": jnp.clip(line, -CLIP, CLIP),
        "doublet": jnp.clip(doublet, -CLIP, CLIP)[None],
        "civ": jnp.clip(civ, -CLIP, CLIP)[None],
        "support": jnp.clip(odds, -CLIP, CLIP)[None],
        "rivals": jnp.clip(rivals, -CLIP, CLIP)[None],
        "log_error": jnp.where(good, -0.5 * jnp.log(jnp.where(good, ivar, 1.0)) - np.log(ERROR_SCALE), 0.0)[None],
        "mask": good.astype(jnp.float32)[None],
        "window": window.astype(jnp.float32)[None],
        "continuum": jnp.log1p(jnp.maximum(model * root, 0.0))[None],
        "scale": jnp.full((1, len(loglam)), 1.0) * jnp.log(scale),
        "sky": jnp.asarray(sky)[None],
        "rest": (jnp.log(wave / np.float32(lines.MGII[0])) - jnp.log1p(z))[None],
    }
    if "flux" in names:
        channels["flux"] = quasar.rescale(example["flux"], example["ivar"], wave, z)[0][None]
    mask = good & window
    x = [side_by_side(channels[name], fold, name in COARSE) for name in names]
    return {"x": jnp.concatenate(x, axis=1), "snr": jnp.where(mask, doublet, 0.0), "mask": mask}


def whole(arrays: Any) -> Any:
    """The arrays, computed once: XLA would otherwise compute them anew inside every loop that uses them."""
    return jax.lax.optimization_barrier(arrays)


def side_by_side(channels: jax.Array, fold: int, mean: bool) -> jax.Array:
    """(C, P) -> (ceil(P / fold), C fold), the values of `fold` pixels one behind the other; or their mean, (..., C)."""
    if mean:
        return filters.rebin(channels, fold).T / fold
    rows = [filters.lengthen(row, 0, -len(row) % fold).reshape(-1, fold) for row in channels]
    return jnp.concatenate(rows, axis=1)  # row by row: turned together they are slow


def fit_continuum(example: Example, constants: Example, loglam: np.ndarray) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The quasar without its narrow absorbers (P,), inverse variance (P,) to judge it by, and the errors' factor ().

    Eigenspectra, then the running mean of what they leave, shrunk towards nothing where the noise exceeds MISFIT, both
    without the lines that stand out from the running mean of the flux. The inverse variance is the stated one over the
    square of the factor by which the pulls scatter more than they should. Blueward of FOREST nothing is fitted.
    """
    basis = templates.Basis(constants["loglam0"], constants["templates"])
    place = templates.place(basis, float(loglam[0]), example["z"])
    wave = jnp.asarray(grid.wave(loglam), jnp.float32)
    clear = wave > np.float32(FOREST) * (1 + example["z"])
    ivar = jnp.where(clear & templates.reached(basis.vectors.shape[1], place, len(loglam)), example["ivar"], 0.0)

    ivar = whole(ivar)
    first = running_mean(example["flux"], ivar, jnp.full_like(ivar, 1e4))
    line = line_snr(*line_sums(first - example["flux"], example["ivar"], SIGMAS[LINE : LINE + 1]))[0]
    weight = whole(jnp.where(widen(whole(jnp.abs(line) > ABSORBED)), 0.0, ivar))
    model = whole(_smooth_fit(example["flux"], weight, basis, place))
    scale = scatter((example["flux"] - model) * jnp.sqrt(ivar), ivar > 0)
    return model, example["ivar"] / scale**2, scale


def _smooth_fit(flux: jax.Array, ivar: jax.Array, basis: templates.Basis, place: templates.Place) -> jax.Array:
    """Eigenspectra under a prior, plus the shrunk running mean of the residual; (P,)."""
    gram, moment = templates.equations_at_rest(flux, ivar, basis, place, COARSE_FIT)
    level = moment[0] / jnp.maximum(gram[0, 0], 1e-9)  # of the mean quasar
    width = jnp.concatenate([jnp.full(1, jnp.inf), jnp.full(len(moment) - 1, TEMPLATE_WIDTH)])
    coefficient = templates.solve(gram, moment, width * jnp.maximum(level, 1e-2))
    model = templates.observe(coefficient @ basis.vectors, place, len(flux))
    return model + running_mean(flux - model, ivar, MISFIT * jnp.maximum(jnp.abs(model), 1e-2))


def running_mean(values: jax.Array, weight: jax.Array, spread: jax.Array) -> jax.Array:
    """Weighted mean over some 85 pixels of values (P,), shrunk: a prior of zero, give or take `spread` (P,), is added.

    In bins of BIN pixels, smoothed with a Gaussian of SMOOTH bins, and interpolated back.
    """
    kernel = filters.gaussian_kernel(SMOOTH, 6 * round(SMOOTH) + 1)
    kernel = kernel / kernel.max()  # a sum of weights, not a mean
    total, norm = (filters.correlate(filters.rebin(x, BIN), kernel) for x in (weight * values, weight))
    prior = filters.rebin(spread, BIN) / BIN
    mean = total / (norm + prior**-2.0)
    left = jnp.concatenate([mean[:1], mean, mean[-1:]])
    share = (np.arange(BIN, dtype=np.float32) + 0.5) / BIN - 0.5  # of a bin, from its centre
    before, after = np.maximum(-share, 0)[None], np.maximum(share, 0)[None]
    fine = mean[:, None] * (1 - before - after) + left[:-2, None] * before + left[2:, None] * after
    return fine.reshape(-1)[: len(values)]


def widen(flags: jax.Array) -> jax.Array:
    """True (P,) within NEAR pixels of a True."""
    padded = filters.lengthen(flags, NEAR, NEAR)
    copies = (padded[i : i + flags.shape[0]] for i in range(2 * NEAR + 1))
    return functools.reduce(jnp.logical_or, copies)


def line_sums(residual: jax.Array, ivar: jax.Array, sigmas: tuple[float, ...] = SIGMAS) -> tuple[jax.Array, jax.Array]:
    """The two sums of the matched filter for Gaussians of each width, (K, P) each: S/N is one over root of the other.

    residual, ivar: (P,), absorption positive. sigmas: K, pixels.
    """
    kernels = [filters.line_kernel(sigma, 0.0) for sigma in sigmas]
    signal = jnp.stack([filters.correlate(residual * ivar, kernel) for kernel in kernels])
    norm = jnp.stack([filters.correlate(ivar, kernel**2) for kernel in kernels])
    return whole((signal, norm))


def line_snr(signal: jax.Array, norm: jax.Array) -> jax.Array:
    """S/N from the sums of `line_sums`, any shape; 0 without data."""
    return jnp.where(norm > 0, signal * jax.lax.rsqrt(jnp.where(norm > 0, norm, 1.0)), 0.0)


def doublet_snr(signal: jax.Array, norm: jax.Array, separation: int) -> jax.Array:
    """S/N (P,) of the doublet, of the best width and ratio, whose first line is on the pixel.

    The sums of the filter over two lines are those of one line, shifted: no second pass over the pixels. The best
    hypothesis is that of the largest S^2 / 2 + log PRIOR; what comes out is the root of twice that.

    signal, norm: (K, P) of `line_sums` with SIGMAS. separation: pixels to the second line.
    """
    best = jnp.zeros(signal.shape[1])
    (first, second), (first_norm, second_norm) = (companions.shifted(x, (0, separation)) for x in (signal, norm))
    for k in range(len(SIGMAS)):
        for ratio, share in zip(RATIOS, PRIOR[k], strict=True):
            total, both = first[k] + ratio * second[k], first_norm[k] + ratio**2 * second_norm[k]
            square = jnp.maximum(total, 0.0) ** 2 / jnp.maximum(both, 1e-12)
            best = jnp.maximum(best, square + np.float32(2 * math.log(share)))
    return jnp.sqrt(best)
