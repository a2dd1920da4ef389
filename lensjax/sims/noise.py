"""Noise of BOSS spectra, and what is wrong with it: every function draws for one spectrum of P pixels.

Each makes one draw from its key, of all the numbers it needs: a call of the generator takes longer to compile than
everything that is done with its numbers.

The numbers were measured on public BOSS spectra (DR12-DR16) of galaxies at z > 0.3: median error by wavelength,
spread between objects, line-spread function, and the lag correlation of the pulls (+0.16, -0.13, +0.05 at 1-3 pixels).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.physics import grid, lines

# Median error per pixel of galaxies, 1e-17 erg/s/cm2/A, against observed wavelength, A.
ERROR_WAVE = (3650.0, 3750.0, 3900.0, 4100.0, 4300.0, 4500.0, 4700.0, 4900.0)
ERROR = (2.35, 1.17, 0.67, 0.52, 0.42, 0.37, 0.34, 0.32)
ERROR_SPREAD = 0.30  # standard deviation of ln(error) between objects: a factor 1.8 each way at 2 sigma
ERROR_TILT = 0.10  # of ln(error) from the blue to the red end
SKY_LEVEL = 4.0  # subtracted sky, same unit: sets how much a bright galaxy adds to the noise
LSF_WAVE, LSF_PIXELS = (3900.0, 4300.0, 4900.0), (1.25, 1.08, 0.95)  # sigma of the line-spread function
HG_4359 = 2.5  # noise variance of the strongest airglow line in units of the sky continuum's
MOVING_AVERAGE = (0.208, -0.153, 0.056)  # of white noise, gives the autocorrelation
ERROR_RIPPLE = 0.03  # rms structure of ln(error) on the scale of two pixels
COUNTS_SLOPE = 0.019  # of ln(reported error) with the pull of the same pixel: the pipeline's errors follow the counts


class Dirt(NamedTuple):
    """How often and how badly real spectra break the noise model; each scales with an object's own dirt in 0..1."""

    spike_rate: float = 0.05  # chance of each of three unflagged cosmic rays
    spike_sigma: tuple[float, float] = (5.0, 40.0)  # their height in errors, log-uniform
    airglow_sigma: float = 2.0  # rms residual at Hg 4359 in errors; weaker lines as the root of their strength
    error_factor: float = 1.5  # reported errors are wrong by up to this factor, log-uniform each way
    wiggle: float = 0.02  # rms flux-calibration ripple, fraction of the continuum
    feature: float = 0.08  # rms misfit at the empirical rest wavelengths, fraction of the continuum


class Instrument(NamedTuple):
    """Fixed arrays (P,) of a window: wavelength (A), median error, LSF sigma (pixels), airglow strength and place."""

    wave: jax.Array
    error: jax.Array
    lsf: jax.Array
    airglow: jax.Array  # (P,) sky emission in lines, in units of the sky continuum
    residuals: jax.Array  # (2 A, P) peak and dipole of each airglow line, scaled by the root of its strength
    stellar_pixels: jax.Array  # (S,) where the lines of a star at rest fall, hydrogen first
    ripple: jax.Array  # (R, P) smooth bumps that add to a calibration ripple of unit variance


def make_instrument(loglam: np.ndarray) -> Instrument:
    """The BOSS blue arm on the pixels `loglam` (P,)."""
    wave = grid.wave(loglam)
    lsf = np.interp(wave, LSF_WAVE, LSF_PIXELS)
    places = grid.pixel(np.array(list(lines.AIRGLOW)), loglam)
    strengths = np.array(list(lines.AIRGLOW.values()))
    x = np.arange(len(wave)) - places[:, None]
    bumps = np.exp(-0.5 * x**2 / 1.2) * np.sqrt(strengths)[:, None]
    airglow = HG_4359 * (strengths[:, None] * np.exp(-0.5 * (x / 1.2) ** 2)).sum(0)
    error = np.exp(np.interp(wave, ERROR_WAVE, np.log(ERROR)))
    knots = np.exp(-0.5 * ((np.arange(len(wave)) - np.arange(0, len(wave) + 1, 40)[:, None]) / 30) ** 2)
    ripple = knots / np.sqrt((knots**2).sum(0))
    stellar = grid.pixel(np.array((*lines.STELLAR_BALMER, *lines.STELLAR_METALS)), loglam)
    fields = (wave, error, lsf, airglow, np.concatenate([bumps, bumps * x]), stellar, ripple)
    return Instrument(*(jnp.asarray(field, jnp.float32) for field in fields))


def draw_error(key: jax.Array, instrument: Instrument, continuum: jax.Array) -> jax.Array:
    """True noise standard deviation (P,): median curve, this object's depth, tilt and ripple, sky lines, photons."""
    pixels = instrument.wave.shape[0]
    white = jax.random.normal(key, (pixels + 4,))
    ripple = (
        ERROR_RIPPLE * (white[:pixels] + 2 * white[1 : pixels + 1] + white[2 : pixels + 2]) / np.float32(np.sqrt(6))
    )
    shape = ERROR_SPREAD * white[-1] + ERROR_TILT * white[-2] * jnp.linspace(-1.0, 1.0, pixels) + ripple
    photons = 1 + 0.7 * jnp.maximum(continuum, 0) / SKY_LEVEL + instrument.airglow
    return instrument.error * jnp.exp(shape) * jnp.sqrt(photons)


def draw_noise(key: jax.Array, error: jax.Array, correlation: jax.Array | float) -> jax.Array:
    """Gaussian noise (P,) of standard deviation `error` (P,); correlation: 0 white, 1 as the pipeline's, or between."""
    if isinstance(correlation, (int, float)) and correlation == 0:
        return error * jax.random.normal(key, error.shape)
    taps = (1.0, *(correlation * tap for tap in MOVING_AVERAGE))
    white = jax.random.normal(key, (error.shape[0] + len(taps) - 1,))
    smooth = sum(tap * white[i : i + error.shape[0]] for i, tap in enumerate(taps))
    return error * smooth / jnp.sqrt(sum(tap * tap for tap in taps))


def draw_reported_error(key: jax.Array, error: jax.Array, setting: Dirt, dirt: jax.Array) -> jax.Array:
    """The error (P,) that the pipeline writes: wrong by a factor and a tilt."""
    factor, tilt = jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0) * jnp.array(
        [np.log(setting.error_factor), 0.1]
    )
    return error * jnp.exp(dirt * (factor + tilt * jnp.linspace(-1.0, 1.0, error.shape[0])))


def follow_counts(ivar: jax.Array, signal: jax.Array, error: jax.Array) -> jax.Array:
    """Inverse variances (P,) that the pipeline writes where `signal` (P,), all that is not continuum, adds counts.

    Its errors are those of the counts that it sees, not of the counts that it should have expected: pixels that
    fluctuate high, and lines, are given larger errors.
    """
    return ivar * jnp.exp(-2 * COUNTS_SLOPE * jnp.clip(signal / error, -5.0, 20.0))


def draw_spikes(key: jax.Array, error: jax.Array, setting: Dirt, dirt: jax.Array) -> jax.Array:
    """Unflagged cosmic rays (P,): up to three, of one pixel or, one in four, shared by two."""
    num, pixels = 3, error.shape[0]
    chance, where, high, split = jax.random.uniform(key, (4, num))
    place = (where * (pixels - 1)).astype(jnp.int32)
    lowest, highest = setting.spike_sigma
    height = lowest * (highest / lowest) ** high * error[place] * (chance < setting.spike_rate * dirt)
    share = jnp.maximum(3.2 * split - 2.4, 0.0)  # of the second pixel: none in three of four, else up to 0.8
    return jnp.zeros_like(error).at[place].add(height * (1 - share)).at[place + 1].add(height * share)


def draw_airglow(key: jax.Array, instrument: Instrument, error: jax.Array, setting: Dirt, dirt: jax.Array) -> jax.Array:
    """Sky-subtraction residuals (P,): at each airglow line a peak and a dipole of the line-spread function."""
    height = setting.airglow_sigma * dirt * jax.random.normal(key, (instrument.residuals.shape[0],))
    return error * (height @ instrument.residuals)


def draw_misfit(key: jax.Array, instrument: Instrument, z: jax.Array, setting: Dirt, dirt: jax.Array) -> jax.Array:
    """Relative departure (P,) of a galaxy from any template: calibration ripple and features at fixed rest lines."""
    pixels, knots = instrument.wave.shape[0], instrument.ripple.shape[0]
    rest = jnp.asarray(lines.EMPIRICAL_REST, jnp.float32)
    white = jax.random.normal(key, (knots + rest.shape[0],))
    ripple = setting.wiggle * white[:knots] @ instrument.ripple
    place = jnp.log(rest * (1 + z) / instrument.wave[0]) / np.float32(np.log(10) * grid.STEP)
    height = setting.feature * white[knots:]
    x = jnp.round(place).astype(jnp.int32)[:, None] + jnp.arange(-14, 15)[None, :]
    bumps = height[:, None] * jnp.exp(-0.5 * ((x - place[:, None]) / 4.0) ** 2)
    inside = jnp.where(x < 0, pixels, x)  # a negative index would wrap; one past the end is dropped
    return dirt * ripple.at[inside].add(bumps, mode="drop")


def draw_stellar_lines(key: jax.Array, instrument: Instrument) -> jax.Array:
    """Transmission (P,) of a star's absorption lines at rest: hydrogen and metals, deeper than any galaxy's.

    From hot stars, hydrogen alone, to cool ones, metals alone. A core, of metals hardly wider than the instrument's,
    and damped wings leave shoulders that look like lines where a galaxy's template, with its broad lines, is fitted.
    """
    place, num = instrument.stellar_pixels, instrument.stellar_pixels.shape[0]
    hydrogen = np.arange(num) < len(lines.STELLAR_BALMER)
    u = jax.random.uniform(key, (num + 6,))
    strength, width = u[num : num + 2], u[num + 2 : num + 4]
    depth = jnp.where(hydrogen, 0.75 * strength[0], 0.85 * strength[1]) * (0.4 + 0.6 * u[:num])
    core = jnp.where(hydrogen, 1.5 + 8.0 * width[0] ** 2, 1.3 + 3.0 * width[1] ** 2)
    wings = jnp.where(hydrogen, 0.6 * u[num + 4], 0.3 * u[num + 5])
    x = (jnp.arange(instrument.wave.shape[0], dtype=jnp.float32)[None] - place[:, None]) / core[:, None]
    profile = (1 - wings[:, None]) * jnp.exp(-0.5 * x**2) + wings[:, None] / (1 + 0.5 * x**2)
    return jnp.prod(1 - depth[:, None] * profile, axis=0)


def draw_mask(key: jax.Array, num_pixels: int) -> jax.Array:
    """Which pixels are good (P,): up to two flagged runs of 1-8 pixels; now and then, as in SDSS-I/II, no blue end."""
    u = jax.random.uniform(key, (8,))
    active = (u[0:2] < 0.3)[:, None]
    start = u[2:4, None] * num_pixels
    length = 1 + 8 * u[4:6, None]
    x = jnp.arange(num_pixels)[None]
    runs = (active & (x >= start) & (x < start + length)).any(0)
    short = (u[6] < 0.03) & (x[0] < 40 * u[7])
    return ~(runs | short)
