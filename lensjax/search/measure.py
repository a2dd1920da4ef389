"""What is measured of every hit before anything is decided: continuum, line, rivals, neighbours."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.fit import companions, lya, oii, robust, templates
from lensjax.physics import filters, grid, lines
from lensjax.search import matched_filter
from lensjax.search.spectra import Chunk, Columns
from lensjax.sims.lya import lens_mask, masked_lines

NEAR = 10  # pixels each way that belong to the line: the continuum is fitted without them
RECENTRE = 6  # pixels that a scorer's wavelength may be off the peak of the filter
I_BAND = (6900.0, 8200.0)  # A: SDSS i, half maximum
AB_ZERO = 3.631e-20  # erg/s/cm2/Hz


def make_measure(config: Any, loglam: np.ndarray) -> Callable[[Chunk, Columns], Columns]:
    """measure(chunk, hits) -> (n,) columns of the chunk's hits. hits: columns wave and z of all hits, (M,).

    config: data.window, sim.continuum, search and vet. loglam: (P,), wider than data.window.
    """
    subtract = jax.jit(jax.vmap(make_subtraction(config, loglam)))

    def measure(chunk: Chunk, hits: Columns) -> Columns:
        z = np.nan_to_num(hits["z"][chunk.rows], nan=0.0).astype(np.float32)
        place = grid.pixel(hits["wave"][chunk.rows], loglam).astype(np.float32)
        padded = [_pad(x, config.vet.chunk) for x in (chunk.flux, chunk.ivar, z, place)]
        out = {name: np.asarray(x)[: len(z)] for name, x in jax.device_get(subtract(*padded)).items()}
        residual, ivar, model = (out.pop(name) for name in ("residual", "ivar", "model"))
        position = out.pop("position").astype(np.float64)
        columns = {**out, **_measure_line(residual, ivar, model, position, loglam, chunk.wdisp)}
        columns |= _measure_rivals(chunk, residual, ivar, position, loglam, z, columns, config.vet)
        columns |= _measure_neighbours(chunk, position, columns, ivar)
        return {**columns, "mag_i": magnitude(chunk.flux, chunk.ivar, loglam), "readable": chunk.readable}

    return measure


def _pad(values: np.ndarray, size: int) -> np.ndarray:
    """Zeros behind, so that every chunk has one shape."""
    return np.pad(values, [(0, size - len(values))] + [(0, 0)] * (values.ndim - 1))


def make_subtraction(config: Any, loglam: np.ndarray) -> Callable[..., dict[str, jax.Array]]:
    """subtract(flux (P,), ivar (P,), z, pixel of the hit) -> dict, for one spectrum.

    residual, ivar, model (P,): without the galaxy; errors widened by `robust.noise_scale`; what was subtracted. Inside
    data.window templates and polynomials are fitted to the window alone, as the scorers do; outside, to the whole.
    position: pixel of the filter's peak near the hit. noise_scale; noise: error of a pixel at the line; bad_fraction:
    of the pixels around it; pixel_fraction: of the filter's signal, from one pixel; num_hits: of the filter in the
    window; filter_snr: at the position; contrast: of the peak over the galaxy.
    """
    window = grid.window(*config.data.window)
    first = grid.index0(window) - grid.index0(loglam)
    inside = slice(first, first + len(window))
    fit, wave = make_continuum(config), jnp.asarray(grid.wave(loglam), jnp.float32)
    settings = config.search.matched_filter
    kernel = filters.gaussian_kernel(settings.sigma, settings.taps)

    def subtract(flux: jax.Array, ivar: jax.Array, z: jax.Array, place: jax.Array) -> dict[str, jax.Array]:
        x = jnp.arange(len(loglam), dtype=jnp.float32)
        masked = lens_mask(wave, z, masked_lines(config))
        weight = jnp.where(masked | (jnp.abs(x - place) <= NEAR), 0.0, ivar)
        model = fit(flux, weight, loglam, z)
        model = model.at[inside].set(fit(flux[inside], weight[inside], window, z))
        residual = jnp.where(ivar > 0, flux - model, 0.0)
        scale = robust.noise_scale(residual[inside], weight[inside])
        ivar = ivar / scale**2
        used = jnp.where(masked, 0.0, ivar)[inside]
        _, snr = filters.matched_filter(residual[inside], used, kernel)
        near = jnp.abs(x[inside] - place) <= RECENTRE
        best = jnp.argmax(jnp.where(near, snr, -jnp.inf)) + first
        line = jnp.abs(x - best) <= NEAR
        good = (line & (ivar > 0)).sum()
        return {
            "residual": residual,
            "ivar": ivar,
            "model": model,
            "position": best,
            "noise_scale": scale,
            "noise": jnp.sqrt(good / jnp.maximum(jnp.sum(jnp.where(line, ivar, 0.0)), 1e-30)),
            "bad_fraction": (2 * NEAR + 1 - good) / jnp.float32(2 * NEAR + 1),
            "pixel_fraction": pixel_fraction(residual * ivar, best, kernel),
            "num_hits": matched_filter.count_blocks(snr >= settings.threshold),
            "filter_snr": snr[best - first],
            "continuum": model[best],
        }

    return subtract


def make_continuum(config: Any) -> Callable[..., jax.Array]:
    """continuum(flux (P,), ivar (P,), loglam (P,), z) -> templates and polynomials fitted, (P,).

    Where the templates reach less than half of the pixels (sky fibers have any redshift), polynomials alone.
    """
    basis = matched_filter.load_basis(config)

    def fit(flux: jax.Array, ivar: jax.Array, loglam: np.ndarray, z: jax.Array) -> jax.Array:
        design = templates.make_design(basis, float(loglam[0]), len(loglam), z)
        reached = jnp.any(design[: len(basis.vectors)] != 0, axis=0)
        useful = jnp.mean(reached) >= 0.5
        row = (jnp.arange(len(design)) >= len(basis.vectors))[:, None]
        design = jnp.where(useful | row, design, 0.0)
        return templates.fit_templates(flux, jnp.where(reached | ~useful, ivar, 0.0), design)[0]

    return fit


def pixel_fraction(signal: jax.Array, place: jax.Array, kernel: np.ndarray) -> jax.Array:
    """Largest share that one pixel has in the filter's signal at `place`: see `matched_filter.lone_pixels`.

    signal: (P,) flux x ivar. Returns () in 0..; infinite where there is no positive signal.
    """
    half = len(kernel) // 2
    part = kernel * jax.lax.dynamic_slice(jnp.pad(signal, half), (place,), (len(kernel),))
    total = part.sum()
    return jnp.where(total > 0, part.max() / jnp.where(total > 0, total, 1.0), jnp.inf)


def _measure_line(residual, ivar, model, position, loglam, wdisp) -> Columns:
    """`lya.fit_lines`, and the height of its profile over the noise and over the galaxy."""
    rows = np.arange(len(position)), position.astype(int)
    out = lya.fit_lines(residual, ivar, position, loglam, wdisp, model)
    width = np.maximum(out["sigma"] / grid.PIXEL_KMS, 0.1) * out["wave"] * lya.ANGSTROM_PER_PIXEL
    peak = out["flux"] / (width * np.sqrt(2 * np.pi))  # of a Gaussian: within 5 % for any skewness
    level = np.maximum(model[rows], 1e-3)
    fitted = {"fit_status": out.pop("status"), "fit_snr": out.pop("snr")}
    return {**out, **fitted, "peak": peak, "contrast": peak / level, "lsf": wdisp[rows] * grid.PIXEL_KMS}


def _measure_rivals(chunk: Chunk, residual, ivar, position, loglam, z, line: Columns, settings) -> Columns:
    """[OII] and lines of nearby galaxies; companions on lines of the foreground galaxy or the sky do not count."""
    out = oii.fit_doublet(residual, ivar, position, loglam)
    pixel = np.arange(len(loglam))
    trusted = chunk.ivar.copy()  # with the errors as stated: the scatter of each place widens them
    for wave in lines.NIGHT_SKY:
        trusted[:, np.abs(pixel - grid.pixel(np.array(wave), loglam)) <= settings.oii.sky_pixels] = 0
    for rest in lines.LENS_EMISSION:
        place = grid.pixel(rest * (1 + z.astype(np.float64)), loglam)
        trusted[np.abs(pixel - place[:, None]) <= settings.oii.lens_pixels] = 0
    out |= companions.measure_companions(residual, trusted, out["z_oii"], out["oii_sigma"], loglam)
    odds = companions.oii_odds(out, line["chi2"], settings.oii)
    nearby = companions.nearby_odds(residual, trusted, line, loglam, settings.oii)
    return {**out, "oii_delta_chi2": line["chi2"] - out["oii_chi2"], "oii_odds": odds, "nearby_odds": nearby}


def _measure_neighbours(chunk: Chunk, position, columns: Columns, ivar: np.ndarray) -> Columns:
    """The brighter of the two fibers beside: flux at the line's place over the line's own, and its S/N; NaN if none."""
    sigma = columns["sigma"] / grid.PIXEL_KMS
    offset = np.zeros(len(position))
    found = []
    for side in (0, 1):
        y, w = (lya.cut(values[:, side], position) for values in (chunk.beside_flux, chunk.beside_ivar))
        found.append(companions.fit_profile(y, w, offset, sigma))
    flux, error = (np.stack(both) for both in zip(*found, strict=True))
    brighter = np.argmax(flux, axis=0)[None]
    flux, error = (np.take_along_axis(values, brighter, axis=0)[0] for values in (flux, error))
    own, _ = companions.fit_profile(lya.cut(chunk.flux, position), lya.cut(ivar, position), offset, sigma)
    there = np.isfinite(error)
    ratio = np.where(there, flux / np.where(own > 0, own, np.inf), np.nan)
    return {"neighbour_ratio": ratio, "neighbour_snr": np.where(there, flux / error, np.nan)}


def magnitude(flux: np.ndarray, ivar: np.ndarray, loglam: np.ndarray) -> np.ndarray:
    """AB magnitude (N,) of (N, P) spectra in a box in place of the SDSS i filter; NaN without data or flux there."""
    wave = grid.wave(loglam)
    inside = (wave > I_BAND[0]) & (wave < I_BAND[1])
    weight = (ivar[:, inside] > 0) * wave[inside] ** 2  # photons: f_lambda lambda dlambda, pixels are dln lambda
    per_angstrom = (weight * flux[:, inside]).sum(1) * 1e-17 / np.maximum((weight).sum(1), 1e-30)
    pivot = np.sqrt(I_BAND[0] * I_BAND[1])
    density = per_angstrom * pivot**2 / 2.99792458e18  # erg/s/cm2/Hz
    return np.where(density > 0, -2.5 * np.log10(np.where(density > 0, density, 1.0) / AB_ZERO), np.nan)
