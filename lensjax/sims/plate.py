"""Mock fibers over the whole range of BOSS: galaxies, background [OII] emitters with all their lines, blank sky.

`sims/lya.py` makes the search window alone, as dirty as a network should be trained on. These are made to be searched:
as clean and as dirty as real plates, with lines as rare as a config says, red enough for a nearer galaxy to show its
other lines.

Measured on public BOSS spectra (11 galaxies, 4 sky fibers, run2d v5_9_0): reported error, its excess at sky lines, the
scatter of flux over error, line-spread function, pixels flagged BRIGHTSKY, unflagged outliers.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from lensjax.core.errors import UserError
from lensjax.physics import grid, lines, profiles
from lensjax.sims import continua, lya, noise
from lensjax.sims.draws import between, two_piece

# Median reported error of galaxies, 1e-17 erg/s/cm2/A, less the photons of the galaxy; from 5000 A as in noise.ERROR.
RED_WAVE = (5000, 5200, 5500, 5700, 5900, 6050, 6300, 6500, 6700, 7100, 7500, 7900, 8300, 9100, 9300, 9500, 9700, 9950)
RED_ERROR = (0.32, 0.28, 0.27, 0.28, 0.33, 0.32, 0.27, 0.23, 0.20, 0.19, 0.19, 0.20, 0.20, 0.19, 0.21, 0.28, 0.29, 0.45)
SCATTER_WAVE, SCATTER = (5000, 5500, 7000, 8300), (1.0, 0.90, 0.88, 0.84)  # of flux over reported error: 1 if right
LSF_WAVE = (3700, 3900, 4300, 4900, 5600, 6000, 6300, 7000, 8000, 9000, 9500, 9950)
LSF_PIXELS = (1.38, 1.25, 1.08, 0.94, 0.88, 0.91, 0.96, 0.89, 0.815, 0.735, 0.724, 0.77)

# Sky lines (A) and the noise variance that each adds at its peak, in units of the continuum's. Beyond BRIGHT the
# pixels around them are flagged in nine of ten spectra.
BRIGHT, BRIGHT_PIXELS = 7320.0, 2.0
SKY_VARIANCE = {
    5462.6: 2.5, 5578.9: 60.0, 5891.1: 6.6, 5897.6: 4.0, 6302.3: 4.7, 6366.5: 1.4, 6831.2: 2.1, 6865.9: 3.5,
    6924.7: 1.6, 6951.8: 1.9, 7242.7: 6.0, 7277.8: 6.7, 7306.3: 1.1, 7318.1: 4.2, 7331.6: 1.6, 7343.4: 5.4,
    7360.4: 1.3, 7372.2: 3.9, 7404.6: 2.1, 7526.6: 2.5, 7573.6: 1.5, 7717.9: 5.0, 7753.5: 6.4, 7796.5: 4.8,
    7810.9: 1.4, 7823.5: 6.4, 7856.0: 6.2, 7872.3: 1.8, 7892.2: 2.2, 7915.9: 7.7, 7934.1: 1.4, 7967.1: 6.0,
    7981.8: 2.0, 7996.5: 9.4, 8016.8: 1.7, 8027.9: 7.1, 8064.9: 2.2, 8290.9: 9.5, 8300.4: 10.7, 8313.8: 1.9,
    8346.4: 40.0, 8367.6: 1.5, 8384.9: 3.5, 8402.3: 19.0, 8417.8: 4.0, 8433.3: 42.0, 8454.7: 5.3, 8468.4: 22.0,
    8495.7: 2.8, 8507.5: 5.9, 8629.8: 4.2, 8661.6: 4.2, 8770.0: 14.0, 8780.1: 23.0, 8794.3: 2.9, 8830.8: 71.0,
    8853.2: 1.5, 8869.5: 5.9, 8887.9: 30.0, 8906.4: 7.2, 8922.8: 66.0, 8945.4: 7.0, 8959.8: 26.0, 8990.8: 7.4,
    9003.3: 14.0, 9040.7: 2.4, 9053.2: 4.8, 9105.4: 2.3, 9315.4: 44.0, 9326.1: 49.0, 9341.1: 6.7, 9379.9: 170.0,
    9405.9: 2.0, 9423.2: 7.2, 9442.8: 60.0, 9462.4: 16.0, 9479.8: 52.0, 9506.0: 13.0, 9521.4: 27.0, 9556.5: 7.9,
    9569.7: 28.0, 9611.7: 2.0, 9625.0: 3.1, 9671.6: 2.3, 9685.0: 6.1, 9702.9: 6.1, 9723.0: 7.4, 9740.9: 2.1,
    9794.9: 34.0,
}  # fmt: skip
SATURATED = 5.0  # SKY_VARIANCE from which residuals are as strong as at Hg 4359

# What the errors do not mention. Of 19,000 blue pixels one is above 4 sigma where chance gives 0.6; flux over error at
# Hg 4359 has rms 0.9, at unflagged sky lines of the red 1.1-1.25; errors are right within 6 %.
SURVEY_DIRT = noise.Dirt(spike_rate=0.18, airglow_sigma=0.9, error_factor=1.12)
SKY_REDSHIFT = 1.7  # the pipeline fits sky fibers at any redshift below

# Background [OII] emitters. Flux ratios: median, scatter in dex, of local star-forming galaxies as observed (Kewley et
# al. 2004, AJ 127, 2002; Moustakas et al. 2006, ApJ 642, 775).
OII_SIGMA = (30.0, 65.0, 120.0)  # km/s, 5/50/95 %
DOUBLET = (1.1, 1.45)  # 3730 over 3727, uniform: electron densities of 300 to 10 per cm3
HALPHA_OII = (1.3, 0.25)
HALPHA_HBETA = (4.0, 0.08)  # case B behind A_V of 1
OIII_HBETA = (0.9, 0.35)
OIII_RATIO = 2.98  # 5008 over 4960

KINDS = ("galaxy", "lya", "oii", "sky")
COMPANIONS = ("hbeta", "oiii_4960", "oiii", "halpha")


def make_plate_simulator(config: Any) -> Callable[[jax.Array], dict[str, jax.Array]]:
    """One-fiber simulator of `config.mock` on `config.mock.window`; continua and line shapes are of `config.sim`.

    Returns simulate(key) -> flux, ivar, wdisp (P,), z, and the truth of sims/lya.py, with kind the place in KINDS,
    label 1 for Lyman-alpha alone, and snr_NAME of COMPANIONS, the true signal-to-noise of the other lines of [OII]
    emitters. Lines lie within config.data.window.

    Raises UserError for a window that the continua do not fill, or an unknown line law.
    """
    mock, sim = config.mock, config.sim
    if mock.line_law not in lya.LAWS or sim.line_profile not in lya.PROFILES:
        raise UserError(f"mock.line_law {mock.line_law!r}, sim.line_profile {sim.line_profile!r}: see sims/lya.py.")
    loglam = grid.window(*mock.window)
    instrument, reported, flagged = make_instrument(loglam)
    basis = _make_continua(sim, loglam)
    first, last = grid.window(*config.data.window)[[lya.EDGE, -1 - lya.EDGE]]
    inside = jnp.asarray((loglam >= first) & (loglam <= last) & ~flagged)

    def simulate(key: jax.Array) -> dict[str, jax.Array]:
        keys = jax.random.split(key, 11)
        u = jax.random.uniform(keys[0], (10,), minval=1e-6)
        sky = u[8] < mock.sky_fraction
        lost = (u[6] < mock.lost_rate) & ~sky
        row, z = continua.snap(basis, lya.draw_redshift(u[1:4], sim.redshift))
        brightness = lya.draw_brightness(u[4]) * jnp.where(lost, lya.LOST_BRIGHTNESS ** u[7], 1.0)
        continuum = brightness * continua.draw_continuum(keys[1], basis, row, len(loglam))
        # none at z = 0, as in sims/lya.py: the pre-selection would drop it, and it would test no cut
        star = jnp.where(lost, noise.draw_stellar_lines(keys[10], instrument), 1.0)
        z = jnp.where(lost, between(sim.redshift, u[5]), z + lya.Z_ERROR * (1 + z) * ndtri(u[5]))
        z = jnp.where(sky, SKY_REDSHIFT * u[5], z)
        continuum = jnp.where(sky, 0.0, continuum * star)
        dirt = mock.dirt * u[0]
        galaxy = lya.observe(keys[2:9], instrument, continuum, z, dirt, correlation=1.0, setting=SURVEY_DIRT)
        galaxy["ivar"] = jnp.where(flagged, 0.0, galaxy["ivar"] / reported**2)
        kind = jnp.where(
            sky, 3, jnp.where(u[9] < mock.lya_rate, 1, jnp.where(u[9] < mock.lya_rate + mock.oii_rate, 2, 0))
        )
        line = draw_line(keys[9], config, instrument, galaxy, z, kind, inside)
        flux = galaxy["flux"] + line.pop("model")
        ivar = noise.follow_counts(galaxy["ivar"], flux - continuum, galaxy["sigma"])
        flux = jnp.where(ivar > 0, flux, 0.0)
        return {**galaxy, "flux": flux, "ivar": ivar, "z": z, "wdisp": instrument.lsf, **line}

    return simulate


def make_instrument(loglam: np.ndarray) -> tuple[noise.Instrument, jax.Array, np.ndarray]:
    """Both arms on the pixels `loglam` (P,): with the true error; reported over true (P,); flagged (P,) bool."""
    wave, blue = grid.wave(loglam), noise.make_instrument(loglam)
    error = np.interp(wave, (*noise.ERROR_WAVE, *RED_WAVE), np.log((*noise.ERROR, *RED_ERROR)))
    scatter = np.interp(wave, SCATTER_WAVE, SCATTER)
    places, variance = grid.pixel(np.array(list(SKY_VARIANCE)), loglam), np.array(list(SKY_VARIANCE.values()))[:, None]
    x = np.arange(len(wave)) - places[:, None]
    bumps = np.exp(-0.5 * x**2 / 1.2) * np.sqrt(np.minimum(variance / SATURATED, 1.0))
    airglow = blue.airglow + (variance * np.exp(-0.5 * (x / 1.2) ** 2)).sum(0)
    flagged = (np.abs(x).min(0) <= BRIGHT_PIXELS) & (wave > BRIGHT)
    fields = {
        "error": np.exp(error) * scatter,
        "lsf": np.interp(wave, LSF_WAVE, LSF_PIXELS),
        "airglow": airglow,
        "residuals": np.concatenate([blue.residuals, bumps, bumps * x]),
    }
    instrument = blue._replace(**{name: jnp.asarray(value, jnp.float32) for name, value in fields.items()})
    return instrument, jnp.asarray(1 / scatter, jnp.float32), flagged


def _make_continua(sim: Any, loglam: np.ndarray) -> continua.Continua:
    """All vectors of the library: six in each bin would spend themselves on the bright red end."""
    library = continua.read_library(sim.continuum)
    return continua.make_continua(library, loglam, tuple(sim.redshift), len(library.vectors))


def draw_line(key, config, instrument, galaxy, z, kind, inside) -> dict[str, jax.Array]:
    """The line or lines of a fiber of `kind`, or none: model (P,) in the unit of the flux, and the truth.

    inside: (P,) bool, where lines may be; the rest as in `lya.draw_line`.
    """
    u, v = jnp.split(jax.random.uniform(key, (14,), minval=1e-6), [7])
    usable = (galaxy["ivar"] > 0) & ~lya.lens_mask(instrument.wave, z, lya.masked_lines(config)) & inside
    pixel = lya.draw_pixel(u[0:2], usable)
    nearest, wave = pixel.astype(jnp.int32), instrument.wave[0] * jnp.exp(pixel * _LN_STEP)
    omega_kms, alpha = lya.draw_line_shape(u[2:5], config.sim, wave * _LN_STEP)
    omega, skew = profiles.blur(omega_kms / np.float32(grid.PIXEL_KMS), alpha, instrument.lsf[nearest])
    single = profiles.pixel_profile(instrument.wave.shape[0], pixel, omega, skew) / (wave * _LN_STEP)
    emitter, oii_kms = draw_oii(v, instrument, wave)
    oii, present = kind == 2, (kind == 1) | (kind == 2)
    profile = jnp.where(oii, emitter[:2].sum(0), single)
    good = galaxy["ivar"] > 0
    unit_snr = _signal_to_noise(profile, galaxy["sigma"], good)
    flux = lya.draw_line_flux(u[5], config.mock, profile, unit_snr)
    others = flux * jax.vmap(lambda x: _signal_to_noise(x, galaxy["sigma"], good))(emitter[2:])
    truth = {
        "wave": wave,
        "snr": flux * unit_snr,
        "line_flux": flux,
        "line_sigma": jnp.where(oii, oii_kms, omega_kms),
        "line_alpha": jnp.where(oii, 0.0, alpha),
        "peak": flux * profile.max(),
    }
    truth = {name: jnp.where(present, value, 0.0) for name, value in truth.items()}
    truth |= {f"snr_{name}": jnp.where(oii, others[i], 0.0) for i, name in enumerate(COMPANIONS)}
    model = jnp.where(present, flux, 0.0) * jnp.where(oii, emitter.sum(0), single)
    return {"model": model, "profile": profile, "label": (kind == 1).astype(jnp.float32), "kind": kind, **truth}


_LN_STEP = np.float32(np.log(10) * grid.STEP)


def _signal_to_noise(profile: jax.Array, sigma: jax.Array, good: jax.Array) -> jax.Array:
    """Of a profile (P,) in its own weights, scalar."""
    return jnp.sqrt(jnp.sum(jnp.where(good, (profile / sigma) ** 2, 0.0)))


def draw_oii(u: jax.Array, instrument: noise.Instrument, wave: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Lines of a galaxy whose [OII] is at `wave`, from five uniform numbers: profiles (6, P) per A, and km/s.

    The two of the doublet, together of unit flux; COMPANIONS with the flux that they have then, zero beyond the range.
    """
    ratio = between(DOUBLET, u[0])
    halpha, hbeta, oiii = (
        median * 10 ** (scatter * jnp.clip(ndtri(x), -2.5, 2.5))
        for (median, scatter), x in zip((HALPHA_OII, HALPHA_HBETA, OIII_HBETA), u[1:4], strict=True)
    )
    hbeta = halpha / hbeta
    share = jnp.stack([1 / (1 + ratio), ratio / (1 + ratio), hbeta, hbeta * oiii / OIII_RATIO, hbeta * oiii, halpha])
    rest = np.array((*lines.OII_DOUBLET, lines.HBETA, *lines.OIII, lines.HALPHA), np.float32)
    centre = wave * (rest / np.float32(lines.OII))
    place = jnp.log(centre / instrument.wave[0]) / _LN_STEP
    kms = two_piece(u[4], OII_SIGMA)
    lsf = instrument.lsf[jnp.clip(place.astype(jnp.int32), 0, instrument.lsf.shape[0] - 1)]
    omega = jnp.sqrt((kms / np.float32(grid.PIXEL_KMS)) ** 2 + lsf**2)
    shape = jax.vmap(lambda x, w: profiles.pixel_profile(instrument.wave.shape[0], x, w, jnp.float32(0.0)))
    return shape(place, omega) * (share / (centre * _LN_STEP))[:, None], kms
