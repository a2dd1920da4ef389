"""Mock quasar spectra with, or without, Mg II absorbers (Zhao et al. 2019, section 2.2, and what that leaves out).

`make_simulator(config)` returns `simulate(key)`: one spectrum and its truth, a pure function of the key. The caller
vmaps. An absorber is a Gaussian optical depth, so that lines saturate: W2796 / W2803 goes from 2 to 1 by the curve of
growth. The laws that a config chooses from:

absorber_law
    "paper"     W2796 as observed, and W of both lines above 0.3 A and three times its error (Zhao et al. 2019).
    "paper2796" the same of the stronger line alone, as their text can also be read.
    "observed"  W2796 of the catalogue of Zhu & Menard (2013): 5/50/95 % = 0.24/0.85/2.84 A.
    "snr"       signal-to-noise of the doublet near uniform in `snr_range`; of `strong_fraction` log W2796 uniform in
                STRONG_EW, so that the strong lines of bright quasars are known too: for training.
    "ew"        log of W2796 uniform in `ew_range`, whatever the spectrum: of `search.inject_absorbers` alone.
width_law
    "paper"     FWHM N(1.7, 0.7) A at rest as seen through the line-spread function.
    "growth"    optical depths that rise with W2796, as observed doublet ratios ask for.
    "mixed"     the one or the other, each for half of the absorbers.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri

from lensjax.core.errors import UserError
from lensjax.physics import grid, lines, quasar
from lensjax.sims import absorption, lya, noise, plate, quasars
from lensjax.sims.draws import between_log, two_piece

LAWS, WIDTHS = ("paper", "paper2796", "observed", "snr"), ("paper", "growth", "mixed")
EW_LAW = (0.24, 0.85, 2.84)  # A, 5/50/95 %
LEAST_EW, LEAST_SNR, MOST_EW = 0.3, 3.0, 6.0
STRONG_EW = (1.0, MOST_EW)  # A
FWHM_LAW = (1.7, 0.7)  # A at rest
WIDTH_LIMITS = (0.08, 2.5)  # A: standard deviation of the optical depth
DEPTH_LAW = (0.45, 0.5, 0.35)  # log10 of the depth at 2796: at W = 0.85 A, slope with log W, scatter
TYPICAL_WIDTH = 0.5  # A: of the line whose error W is compared with before it is drawn
ASSOCIATED = 5000.0  # km/s
EDGE = 20  # pixels at either end of the window without a line
DIRT = noise.Dirt(feature=0.0, spike_rate=0.3, airglow_sigma=1.2, error_factor=1.3, wiggle=0.02)
SECOND_WIDTH = lines.MGII[1] / lines.MGII[0]  # A of one velocity at 2803 over that at 2796
ANGSTROM = lines.MGII[0] * math.log(10) * grid.STEP  # rest A of a pixel at 2796

Truth = dict[str, jax.Array]


def make_simulator(config: Any) -> Callable[[jax.Array], Truth]:
    """One-example simulator of `config.sim` on `config.data.window`.

    Returns `simulate(key)` -> dict of float32: flux, ivar, wdisp (P,), z (); truth label (); of the S = max_absorbers
    slots, strongest first, 0 where there is none, z_abs, ew_2796, ew_2803, fwhm (A at rest, of the optical depth) and
    absorber_snr (of the doublet: true profile, true noise) (S,); pixel_label (P,) 1 at the pixel of every 2796; wave
    (A, of the first slot's 2796) and snr (); kind () 0; and for the oracle (P,) continuum (all but the first slot's
    doublet), sigma, artefact and profile, what the doublet of the first slot takes per A of W2796, or would have taken:
    flux = continuum + artefact + ew_2796 profile + noise.
    """
    sim = config.sim
    if sim.absorber_law not in LAWS or sim.width_law not in WIDTHS:
        raise UserError(f"absorber_law {sim.absorber_law!r}, width_law {sim.width_law!r}: expected {LAWS}, {WIDTHS}")
    loglam = grid.window(*config.data.window)
    instrument, _, _ = plate.make_instrument(loglam)
    library = quasars.make_quasars(quasars.read_library(sim.continuum))
    rendering = absorption.make_rendering(instrument.lsf, loglam)

    def simulate(key: jax.Array) -> Truth:
        keys = jax.random.split(key, 13)
        u = jax.random.uniform(keys[0], (8,), minval=1e-6)
        dirt = sim.dirt * jnp.maximum(u[0] - sim.clean_fraction, 0.0) / max(1 - sim.clean_fraction, 1e-6)
        z = sim.redshift[0] + (sim.redshift[1] - sim.redshift[0]) * u[1]
        bright = sim.brightness[0] * jnp.exp(sim.brightness[1] * jnp.clip(ndtri(u[2]), -2.5, 2.5))
        quasar_flux = bright * quasars.draw_continuum(keys[1], library, z, loglam)
        correlation = jnp.minimum(2 * u[3], 1.0) if sim.dirt else 0.0
        observed = lya.observe(keys[2:9], instrument, quasar_flux, z, dirt, correlation, DIRT)
        slots = draw_absorbers(keys[9], sim, instrument, observed, z)
        doublets, others = absorption.render_systems(keys[10], rendering, slots, sim, z)
        troughs = absorption.draw_troughs(keys[11], rendering, z, sim.bal_fraction)
        return finish(sim, instrument, observed, z, slots, doublets, others * troughs)

    return simulate


def draw_absorbers(key: jax.Array, sim: Any, instrument: Any, observed: Truth, z: jax.Array) -> Truth:
    """Absorbers of one quasar, strongest first: there, pixel (of 2796), z_abs, ew, depth, width (A at rest), (S,).

    depth: optical depth of 2796 at its centre; width: its standard deviation. observed: continuum, sigma, ivar (P,).
    The first is drawn whether it is there or not.
    """
    number = sim.max_absorbers
    u = jax.random.uniform(key, (9, number), minval=1e-6)
    place = jnp.arange(observed["ivar"].shape[0])
    good = observed["ivar"] > 0
    ratio = observed["continuum"] / observed["sigma"]
    shift = round(math.log10(lines.MGII[1] / lines.MGII[0]) / grid.STEP)
    usable = good & jnp.roll(good, -shift) & (ratio > sim.least_pixel_snr) & (place >= EDGE)
    usable = usable & (place < place.shape[0] - EDGE - shift) & quasar.search_window(instrument.wave, z)
    near = instrument.wave > lines.MGII[0] * (1 + z) * np.float32(math.exp(-ASSOCIATED / grid.C_KMS))
    pixel = _places(u[:3], usable, usable & near, sim.associated_fraction)
    z_abs = instrument.wave[0] * jnp.exp(pixel * np.float32(math.log(10) * grid.STEP)) / lines.MGII[0] - 1
    nearest = jnp.clip(pixel.astype(jnp.int32), 0, place.shape[0] - 1)
    lsf = instrument.lsf[nearest] * np.float32(ANGSTROM)
    error = ew_error(1 / jnp.maximum(ratio[nearest], 1e-3), jnp.hypot(lsf, TYPICAL_WIDTH))
    least = jnp.maximum(LEAST_EW, LEAST_SNR * error)
    if sim.absorber_law == "paper":
        least = both_above(least, draw_shape(u[4], least, lsf, sim.width_law)[1])
    ew = draw_ew(u[3], u[8], sim, error, least)
    if sim.width_law == "mixed":
        both = [draw_shape(u[4], ew, lsf, law) for law in ("paper", "growth")]
        depth, width = (jnp.where(u[7] < 0.5, *pair) for pair in zip(*both, strict=True))
    else:
        depth, width = draw_shape(u[4], ew, lsf, sim.width_law)
    more = jnp.cumprod(jnp.where(jnp.arange(number) == 0, 1.0, u[5] < sim.more_absorbers))
    label = (u[6, 0] < sim.absorber_fraction) & usable.any()
    there = label & (more > 0)
    order = jnp.argsort(jnp.where(there, -ew / error, 1 + jnp.arange(number)))
    slots = {"pixel": pixel, "z_abs": z_abs, "ew": ew, "depth": depth, "width": width, "there": there}
    return {name: values[order] for name, values in slots.items()}


def _places(u: jax.Array, usable: jax.Array, near: jax.Array, share: float) -> jax.Array:
    """Fractional pixels (S,): any of the usable ones, or, with chance `share`, of those near the quasar. u: (3, S)."""
    ranks = jnp.cumsum(jnp.stack([usable, near]), axis=1)
    which = ((u[2] < share) & near.any()).astype(jnp.int32)
    wanted = u[0] * ranks[which, -1]
    return jnp.sum(ranks[which] <= wanted[:, None], axis=1) + u[1] - 0.5


def ew_error(noise_ratio: jax.Array, sigma: jax.Array) -> jax.Array:
    """Error (A at rest) of W2796 by the matched filter. noise_ratio: error over continuum of a pixel. sigma: A."""
    pixels = 2 * math.sqrt(math.pi) * sigma / ANGSTROM
    return noise_ratio * jnp.sqrt(pixels) * np.float32(ANGSTROM)


def both_above(least: jax.Array, width: jax.Array) -> jax.Array:
    """W2796 (A at rest) of absorbers whose W2803 is `least`. width: of the optical depth at 2796, A."""
    depth = absorption.depth_of(least / (width * np.float32(SECOND_WIDTH))) / np.float32(absorption.SECOND)
    return absorption.growth(depth) * width


def draw_ew(u: jax.Array, strong: jax.Array, sim: Any, error: jax.Array, least: jax.Array) -> jax.Array:
    """W2796 (S,), A at rest, by the config's law from uniform numbers u and strong (S,).

    error, least: (S,), A: of W2796, and the least that "paper" allows.
    """
    if sim.absorber_law == "snr":
        low, high = sim.snr_range
        both = 1.25  # S/N of the doublet over that of 2796
        ew = jnp.clip((low + (high - low) * u) * error / both, 0.05, MOST_EW)
        return jnp.where(strong < sim.strong_fraction, between_log(STRONG_EW, u), ew)
    if sim.absorber_law == "ew":
        return between_log(sim.ew_range, u)
    if sim.absorber_law in ("paper", "paper2796"):
        share = _ew_share(least)
        u = share + (1 - share) * u
    return jnp.clip(two_piece(u, EW_LAW), 0.02, MOST_EW)


def _ew_share(ew: jax.Array) -> jax.Array:
    """Share of the observed absorbers with less than `ew`: the inverse of the two-piece law."""
    low, middle, high = np.log(EW_LAW)
    x = jnp.log(ew) - middle
    return ndtr(np.float32(1.6449) * x / jnp.where(x < 0, middle - low, high - middle))


def draw_shape(u: jax.Array, ew: jax.Array, lsf: jax.Array, law: str) -> tuple[jax.Array, jax.Array]:
    """Optical depth at the centre of 2796, and its standard deviation (A at rest). ew, lsf (sigma): A at rest."""
    x = jnp.clip(ndtri(u), -2.5, 2.5)
    if law == "paper":
        fwhm = jnp.maximum(FWHM_LAW[0] + FWHM_LAW[1] * x, 0.2)
        total = fwhm / np.float32(2 * math.sqrt(2 * math.log(2)))
        width = jnp.sqrt(jnp.maximum(total**2 - lsf**2, WIDTH_LIMITS[0] ** 2))
    else:
        start, slope, scatter = DEPTH_LAW
        log_depth = start + slope * jnp.log10(ew / EW_LAW[1]) + scatter * x
        width = jnp.clip(ew / absorption.growth(10**log_depth), *WIDTH_LIMITS)
    width = jnp.maximum(width, ew / absorption.MOST_GROWTH)
    return absorption.depth_of(ew / width), width


def finish(
    sim: Any, instrument: Any, observed: Truth, z: jax.Array, slots: Truth, doublets: jax.Array, others: jax.Array
) -> Truth:
    """The spectrum with its absorbers, and its truth. doublets (S, P), others (P,): transmissions."""
    there = slots["there"]
    active = jnp.where(there[:, None], doublets, 1.0)
    rest = others * jnp.prod(active[1:], axis=0)
    quasar_flux, sigma = observed["continuum"], observed["sigma"]
    continuum = quasar_flux * rest
    profile = continuum * (doublets[0] - 1) / slots["ew"][0]
    noisy = observed["flux"] - quasar_flux - observed["artefact"]
    ew = jnp.where(there, slots["ew"], 0.0)
    model = continuum + ew[0] * profile
    ivar = observed["ivar"]
    flux = model + observed["artefact"] + noisy
    if sim.dirt:
        ivar = noise.follow_counts(ivar, observed["artefact"] + noisy, sigma)
    good = ivar > 0
    taken = model[None] * (1 / jnp.maximum(active, 1e-3) - 1)  # what each slot takes of what the others leave
    snr = jnp.sqrt(jnp.sum(jnp.where(good[None], (taken / sigma[None]) ** 2, 0.0), axis=1))
    z_abs = jnp.where(there, slots["z_abs"], 0.0)
    nearest = jnp.where(there, jnp.round(slots["pixel"]).astype(jnp.int32), flux.shape[0])
    second = absorption.growth(slots["depth"] * absorption.SECOND) * slots["width"] * np.float32(SECOND_WIDTH)
    fwhm = slots["width"] * np.float32(2 * math.sqrt(2 * math.log(2)))
    return {
        "flux": jnp.where(good, flux, 0.0),
        "ivar": ivar,
        "wdisp": instrument.lsf,
        "z": z,
        "label": there[0].astype(jnp.float32),
        "kind": jnp.float32(0.0),
        "z_abs": z_abs,
        "ew_2796": ew,
        "ew_2803": jnp.where(there, second, 0.0),
        "fwhm": jnp.where(there, fwhm, 0.0),
        "absorber_snr": jnp.where(there, snr, 0.0),
        "pixel_label": jnp.zeros(flux.shape).at[nearest].set(1.0, mode="drop"),
        "wave": jnp.where(there[0], lines.MGII[0] * (1 + z_abs[0]), 0.0),
        "snr": jnp.where(there[0], snr[0], 0.0),
        "continuum": continuum,
        "sigma": sigma,
        "artefact": observed["artefact"],
        "profile": profile,
    }
