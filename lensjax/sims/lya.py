"""Mock spectra of galaxies with, or without, a background emission line (Li et al. 2018, section 3.2).

`make_simulator(config)` returns `simulate(key)`: one spectrum and its truth, a pure function of the key. The caller
vmaps. The laws that a config chooses from:

line_law
    "paper"   Gaussian peak above 1.5e-17 erg/s/cm2/A. The paper gives the floor and no law above it; ours is
              floor + exponential of mean `PAPER_PEAK_SCALE`.
    "lesser"  line flux of the 361 candidates of Cao et al. (2020, MNRAS 499, 3610): 5/50/95 % = 6.3/13.5/46.
    "snr"     matched-filter signal-to-noise uniform in `snr_range`: for training, and for completeness curves.
line_profile
    "gaussian"    FWHM N(300, 200) km/s, above 0.5 A (the paper).
    "skewnormal"  sigma and shape of the 361 candidates: 110/170/297 km/s, 0.6/3.2/9.6; `mirror_fraction` of them
                  mirrored.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri

from lensjax.core.errors import UserError
from lensjax.physics import grid, lines, profiles
from lensjax.sims import continua, noise
from lensjax.sims.draws import between, two_piece

PAPER_PEAK, PAPER_PEAK_SCALE = 1.5, 2.0  # 1e-17 erg/s/cm2/A
MASK_HALF_WIDTH = 10  # pixels around a line of the lens that no method looks at
Z_ERROR = 1e-4  # of the lens redshift over 1 + z: 30 km/s
LOST_RATE, LOST_BRIGHTNESS = 0.25, 40.0  # objects at a wrong redshift, up to 40 times as bright: stars among galaxies
STAR_RATE = 0.5  # of these, at z = 0, as the pipeline knows most stars, with a star's continuum
STAR_SLOPE = (-3.0, 4.0)  # of it, d ln(flux) / d ln(wavelength)
EDGE = 8  # pixels at either end of the window that hold no line centre
FLUX_LAW = (6.3, 13.5, 46.0)  # 1e-17 erg/s/cm2, 5/50/95 %
SIGMA_LAW = (110.0, 170.0, 297.0)  # km/s
ALPHA_LAW = (0.6, 3.2, 9.6)
OII_COMPANIONS = ((lines.HBETA, 0.3), (lines.OIII[0], 0.17), (lines.OIII[1], 0.5), (lines.HALPHA, 1.0))

DIRT = noise.Dirt()  # of training mocks
LAWS, PROFILES = ("paper", "lesser", "snr"), ("gaussian", "skewnormal")


def make_simulator(config) -> Callable[[jax.Array], dict[str, jax.Array]]:
    """One-example simulator of `config.sim` on `config.data.window`, lines off the lens's `config.data.masked_lines`.

    Returns `simulate(key)` -> dict of float32: flux, ivar, wdisp (P,), z (); truth label, kind (0 none, 1 Lyman-alpha,
    2 background [OII]), wave (A, of the profile's mean; 0 without a line), snr (true profile, true noise), line_flux,
    line_sigma (km/s), line_alpha, peak; and for the oracle (P,) continuum, sigma, artefact (spikes, airglow, misfit:
    what is neither galaxy, line nor noise) and profile, of the unit flux that the line has, or would have had.
    """
    sim = config.sim
    if sim.line_law not in LAWS or sim.line_profile not in PROFILES:
        raise UserError(f"line_law {sim.line_law!r}, line_profile {sim.line_profile!r}: expected of {LAWS}, {PROFILES}")
    loglam = grid.window(*config.data.window)
    instrument = noise.make_instrument(loglam)
    library = continua.read_library(sim.continuum)
    basis = continua.make_continua(library, loglam, tuple(sim.redshift), sim.num_eigenvectors)
    masked = masked_lines(config)

    def simulate(key: jax.Array) -> dict[str, jax.Array]:
        keys = jax.random.split(key, 11)
        u = jax.random.uniform(keys[0], (10,), minval=1e-6)
        dirt = sim.dirt * jnp.maximum(u[0] - sim.clean_fraction, 0.0) / max(1 - sim.clean_fraction, 1e-6)
        row, z = continua.snap(basis, draw_redshift(u[1:4], sim.redshift))
        lost = u[6] < LOST_RATE * dirt
        brightness = draw_brightness(u[4]) * jnp.where(lost, LOST_BRIGHTNESS ** u[7], 1.0)
        shape, star = continua.draw_continuum(keys[1], basis, row, len(loglam)), u[5] < STAR_RATE
        colour = (instrument.wave / instrument.wave[-1]) ** between(STAR_SLOPE, u[8])
        continuum = brightness * jnp.where(lost & star, colour, shape)
        wrong = jnp.where(star, 0.0, between(sim.redshift, (u[5] - STAR_RATE) / (1 - STAR_RATE)))
        z = jnp.where(lost, wrong, z + dirt * Z_ERROR * (1 + z) * ndtri(u[5]))
        absorbed = jnp.where(lost, noise.draw_stellar_lines(keys[10], instrument), 1.0) if sim.dirt else 1.0
        correlation = jnp.minimum(2 * u[9], 1.0) if sim.dirt else 0.0  # as measured in one half, weaker in the other
        galaxy = observe(keys[2:9], instrument, continuum * absorbed, z, dirt, correlation)
        line = draw_line(keys[9], sim, instrument, galaxy, z, masked)
        flux = galaxy["flux"] + line.pop("model")
        if sim.dirt:
            galaxy["ivar"] = noise.follow_counts(galaxy["ivar"], flux - galaxy["continuum"], galaxy["sigma"])
        flux = jnp.where(galaxy["ivar"] > 0, flux, 0.0)
        return {**galaxy, "flux": flux, "z": z, "wdisp": instrument.lsf, **line}

    return simulate


def draw_redshift(u: jax.Array, limits: tuple[float, float]) -> jax.Array:
    """Seven in ten as BOSS galaxies above z = 0.3, N(0.55, 0.1); the rest uniform, so that no redshift is strange.

    `u`: three uniform numbers.
    """
    low, high = limits
    boss = 0.55 + 0.1 * ndtri(u[0])
    flat = between(limits, u[1])
    return jnp.where((u[2] < 0.7) & (boss >= low) & (boss < high), boss, flat)


def draw_brightness(u: jax.Array) -> jax.Array:
    """Mean flux over 4800-5000 A from a uniform number: lognormal, median 0.55, a factor 2 each way."""
    return 0.55 * jnp.exp(0.7 * jnp.clip(ndtri(u), -3.0, 3.0))


def observe(keys, instrument, continuum, z, dirt, correlation, setting=DIRT) -> dict[str, jax.Array]:
    """The galaxy as the pipeline gives it, without a background line: flux, ivar; truth continuum, sigma, artefact."""
    km, ke, kn, kr, ks, ka, kb = keys
    sigma = noise.draw_error(ke, instrument, continuum)
    reported = noise.draw_reported_error(kr, sigma, setting, dirt)
    good = noise.draw_mask(kb, sigma.shape[0])
    artefact = (
        continuum * noise.draw_misfit(km, instrument, z, setting, dirt)
        + noise.draw_spikes(ks, sigma, setting, dirt)
        + noise.draw_airglow(ka, instrument, sigma, setting, dirt)
    )
    flux = continuum + artefact + noise.draw_noise(kn, sigma, correlation)
    ivar = jnp.where(good, reported**-2.0, 0.0)
    return {"flux": flux, "ivar": ivar, "continuum": continuum, "sigma": sigma, "artefact": artefact}


def masked_lines(config: Any) -> tuple[float, ...]:
    """Lines of the lens that are masked, Angstrom at rest: config.data.masked_lines, else those of section 3.3."""
    return tuple(config.data.get("masked_lines", lines.LENS_LINES))


def lens_mask(wave: jax.Array, z: jax.Array, rest_lines: Sequence[float] = lines.LENS_LINES) -> jax.Array:
    """True (P,) within 10 pixels of lines of the lens at its redshift, by default those of section 3.3.

    wave: (P,) Angstrom. rest_lines: Angstrom, by default [NeV] 3347, 3427, [OII] 3727, [NeIII] 3869.
    """
    rest = jnp.asarray(rest_lines, jnp.float32)
    distance = jnp.abs(jnp.log(wave[:, None] / (rest * (1 + z))[None, :])) / np.float32(np.log(10) * grid.STEP)
    return (distance <= MASK_HALF_WIDTH).any(1)


def draw_line(key, sim, instrument, galaxy, z, rest_lines) -> dict[str, jax.Array]:
    """A line, or none.

    Args:
        key: of one draw.
        sim: config.sim.
        instrument: `noise.Instrument` of the window.
        galaxy: ivar (P,), true noise sigma (P,), 1e-17 erg/s/cm2/A.
        z: () lens redshift.
        rest_lines: of the lens, Angstrom, which are avoided.

    Returns:
        model (P,) in the unit of the flux, zero without a line; profile (P,) of unit flux; label and truth, scalars.
    """
    u = jax.random.uniform(key, (8,), minval=1e-6)
    usable = (galaxy["ivar"] > 0) & ~lens_mask(instrument.wave, z, rest_lines)
    pixel = draw_pixel(u[0:2], usable)
    nearest = pixel.astype(jnp.int32)
    angstrom = instrument.wave[nearest] * np.float32(np.log(10) * grid.STEP)  # per pixel
    omega_kms, alpha = draw_line_shape(u[2:5], sim, angstrom)
    omega, skew = profiles.blur(omega_kms / np.float32(grid.PIXEL_KMS), alpha, instrument.lsf[nearest])
    profile = profiles.pixel_profile(instrument.wave.shape[0], pixel, omega, skew)
    oii = u[5] < sim.oii_fraction
    if sim.oii_fraction > 0:
        profile = jnp.where(oii, _oii_profile(instrument, pixel, omega), profile)
    profile = profile / angstrom
    unit_snr = jnp.sqrt(jnp.sum(jnp.where(usable, (profile / galaxy["sigma"]) ** 2, 0.0)))
    flux = draw_line_flux(u[6], sim, profile, unit_snr)
    label = u[7] < sim.line_fraction
    wave = instrument.wave[0] * jnp.exp(pixel * np.float32(np.log(10) * grid.STEP))
    truth = {
        "wave": wave,
        "snr": flux * unit_snr,
        "line_flux": flux,
        "line_sigma": omega_kms,
        "line_alpha": jnp.where(oii, 0.0, alpha),
        "peak": flux * profile.max(),
        "kind": 1.0 + oii,
    }
    truth = {name: jnp.where(label, value, 0.0) for name, value in truth.items()}
    model = jnp.where(label, flux, 0.0) * profile
    return {"model": model, "profile": profile, "label": label.astype(jnp.float32), **truth}


def draw_pixel(u: jax.Array, usable: jax.Array) -> jax.Array:
    """Line centre in fractional pixels from two uniform numbers: any usable pixel `EDGE` away from the ends; scalar."""
    x = jnp.arange(usable.shape[0])
    rank = jnp.cumsum(usable & (x >= EDGE) & (x < usable.shape[0] - EDGE))
    return jnp.sum(rank <= u[0] * rank[-1]) + u[1] - 0.5


def draw_line_shape(u: jax.Array, sim, angstrom: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Scale (km/s, before the line-spread function) and shape of a line from three uniform numbers.

    `angstrom` is the width of a pixel.
    """
    if sim.line_profile == "gaussian":
        floor = ndtr((0.5 / angstrom * np.float32(grid.PIXEL_KMS) - 300.0) / 200.0)  # of FWHM: 0.5 A
        fwhm = 300.0 + 200.0 * ndtri(jnp.clip(floor + (1 - floor) * u[0], 1e-6, 1 - 1e-6))
        return fwhm / np.float32(2 * np.sqrt(2 * np.log(2))), jnp.float32(0.0)
    mirror = jnp.where(u[2] < sim.mirror_fraction, -1.0, 1.0)
    return two_piece(u[0], SIGMA_LAW), mirror * two_piece(u[1], ALPHA_LAW)


def draw_line_flux(u: jax.Array, sim, profile: jax.Array, unit_snr: jax.Array) -> jax.Array:
    """Line flux, 1e-17 erg/s/cm2, by the config's law from a uniform number."""
    if sim.line_law == "paper":
        return (PAPER_PEAK - PAPER_PEAK_SCALE * jnp.log(u)) / profile.max()
    if sim.line_law == "lesser":
        return two_piece(u, FLUX_LAW)
    low, high = sim.snr_range
    return (low + (high - low) * u) / jnp.maximum(unit_snr, 1e-6)


def _oii_profile(instrument, pixel: jax.Array, omega: jax.Array) -> jax.Array:
    """[OII] doublet of unit flux at `pixel`, with Hbeta, [OIII] and Halpha where they fall in the window, (P,)."""
    num = instrument.wave.shape[0]
    rest, share = np.array([(lines.OII_DOUBLET[0], 0.45), (lines.OII_DOUBLET[1], 0.55), *OII_COMPANIONS], np.float32).T
    places = pixel + np.log10(rest / lines.OII) / np.float32(grid.STEP)
    share = share * (lines.OII / rest)  # a pixel is wider there: the flux of each counts, not that of its pixels
    return share @ jax.vmap(lambda place: profiles.pixel_profile(num, place, omega, jnp.float32(0.0)))(places)
