"""From surface brightness to an image: a supersampled canvas, its blur by Fourier transform, pixels and noise.

A canvas is wider than the image by a margin, so that nothing blurs around from the other edge. Its transform is kept
up to the Nyquist frequency of the image's pixels only: no ground-based PSF leaves anything beyond.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.physics.bands import PIXEL


class Canvas(NamedTuple):
    """Geometry of the canvas, in numpy: constants of the compiled program.

    size: pixels of the image, margin: pixels around it, step: samples of a pixel along one axis.
    centres: (M,) arcsec from the centre of the image, of the samples of either axis, M = (size + 2 margin) step.
    fx, fy: (m // 2 + 1,), (m,) cycles per arcsec of the kept frequencies, m = size + 2 margin.
    """

    size: int
    margin: int
    step: int
    centres: np.ndarray
    fx: np.ndarray
    fy: np.ndarray

    @property
    def pixels(self) -> int:
        """Pixels along an axis, margins included."""
        return len(self.fy)

    @property
    def frequency(self) -> np.ndarray:
        """(m, m // 2 + 1) cycles per arcsec, in any direction."""
        return np.hypot(self.fy[:, None], self.fx[None, :]).astype(np.float32)

    def inner(self, pixels: int) -> np.ndarray:
        """Centres (arcsec) of the samples of the central `pixels` of an axis; all of them where there are no more."""
        start = max((self.pixels - pixels) // 2, 0) * self.step
        return self.centres[start : len(self.centres) - start]

    @property
    def corner(self) -> float:
        """Arcsec from the first pixel's centre to the centre of the image."""
        return (self.margin + (self.size - 1) / 2) * PIXEL


def make_canvas(size: int, step: int, margin: int) -> Canvas:
    """Canvas of a (size, size) image of 0.262" pixels; the margin makes the total even."""
    pixels = size + 2 * margin + size % 2
    centres = ((np.arange(pixels * step) + 0.5) / step - margin - size / 2) * PIXEL
    fx, fy = np.fft.rfftfreq(pixels, PIXEL), np.fft.fftfreq(pixels, PIXEL)
    return Canvas(size, margin, step, *(a.astype(np.float32) for a in (centres, fx, fy)))


def spectrum(canvas: Canvas, maps: jax.Array) -> jax.Array:
    """Transform of the pixels' fluxes, (..., m, m // 2 + 1), of surface brightness (..., M, M) per square arcsec.

    A sample stands for its light at its place, which the pixel then integrates: a phase and a sinc.
    """
    half = canvas.pixels // 2
    full = jnp.fft.rfft2(maps)[..., : half + 1]
    kept = jnp.concatenate([full[..., :half, :], full[..., -half:, :]], axis=-2)
    shift = (canvas.step - 1) / 2 * PIXEL / canvas.step  # from a pixel's first sample to its centre
    rows, columns = (np.exp(2j * np.pi * f * shift) * np.sinc(f * PIXEL) for f in (canvas.fy, canvas.fx))
    response = np.outer(rows, columns) * (PIXEL / canvas.step) ** 2
    return kept * np.broadcast_to(response, kept.shape).astype(np.complex64)


def inner_spectrum(canvas: Canvas, light: jax.Array, centres: np.ndarray) -> jax.Array:
    """`spectrum` (m, m // 2 + 1) of surface brightness (s, s) at `centres` (s,) of either axis alone, dark elsewhere.

    By matrices, for these frequencies only: no padding, and a third of the time of the fast transform of the canvas.
    """
    place = (centres.astype(np.float64) + canvas.corner)[None, :]
    rows, columns = (
        np.exp(-2j * np.pi * f[:, None] * place) * np.sinc(f * PIXEL)[:, None] * PIXEL / canvas.step
        for f in (canvas.fy, canvas.fx)
    )
    right = np.concatenate([columns.real, columns.imag]).T.astype(np.float32)
    left = np.concatenate([rows.real, rows.imag]).astype(np.float32)
    highest = jax.lax.Precision.HIGHEST
    product = jnp.dot(left, jnp.dot(light, right, precision=highest), precision=highest)
    m, n = len(canvas.fy), len(canvas.fx)
    real = product[:m, :n] - product[m:, n:]
    return jax.lax.complex(real, product[:m, n:] + product[m:, :n])


def points(canvas: Canvas, x: jax.Array, y: jax.Array, flux: jax.Array, width: jax.Array) -> jax.Array:
    """Transform (B, m, m // 2 + 1) of N Gaussians at x, y (N,), of flux (N, B) and width (N,); exact at any position.

    x, y and width, the standard deviation, 0 for points: arcsec.
    """

    def wave(frequency: np.ndarray, place: jax.Array) -> jax.Array:
        phase = np.float32(-2 * np.pi) * frequency[None, :] * (place[:, None] + np.float32(canvas.corner))
        size = jnp.exp(np.float32(-2 * np.pi**2) * (width[:, None] * frequency[None, :]) ** 2)
        size = size * np.sinc(frequency[None, :] * PIXEL).astype(np.float32)
        return jax.lax.complex(jnp.cos(phase) * size, jnp.sin(phase) * size)

    rows = flux.T[:, :, None] * wave(canvas.fy, y)[None]
    return jnp.einsum("bny,nx->byx", rows, wave(canvas.fx, x))


def blur(canvas: Canvas, spectra: jax.Array) -> jax.Array:
    """Image (B, S, S) of blurred spectra (B, m, m // 2 + 1)."""
    pixels = jnp.fft.irfft2(spectra, s=(canvas.pixels, canvas.pixels))
    inside = slice(canvas.margin, canvas.margin + canvas.size)
    return pixels[:, inside, inside]


def power(canvas: Canvas, spectra: jax.Array) -> jax.Array:
    """Sum of the squares of the image (B,) of spectra (B, m, m // 2 + 1), margins included: Parseval's theorem."""
    twice = np.full((1, 1, len(canvas.fx)), 2.0, np.float32)
    twice[..., [0, -1]] = 1.0  # the only columns without a mirror image
    return jnp.sum((spectra.real**2 + spectra.imag**2) * twice, axis=(1, 2)) / np.float32(canvas.pixels**2)


def paste(maps: jax.Array, stamps: jax.Array, flux: jax.Array, starts: jax.Array) -> jax.Array:
    """Canvas maps (B, M, M) with stamps (N, s, s), times flux (N, B), added at row, column (N, 2)."""

    def add(canvas, one):
        stamp, flux, start = one
        corner = (jnp.zeros((), start.dtype), start[0], start[1])
        old = jax.lax.dynamic_slice(canvas, corner, (len(flux), *stamp.shape))
        return jax.lax.dynamic_update_slice(canvas, old + flux[:, None, None] * stamp[None], corner), None

    return jax.lax.scan(add, maps, (stamps, flux, starts))[0]


def window(canvas: Canvas, x: jax.Array, y: jax.Array, samples: int):
    """Where a stamp of `samples` a side around x, y (N,) arcsec lies: starts (N, 2), and its offsets dx, dy from x, y.

    dx (N, 1, s), dy (N, s, 1), arcsec. Stamps that would reach beyond the canvas are moved inside; the offsets tell.
    """
    last = len(canvas.centres) - samples
    pitch, first = np.float32(PIXEL / canvas.step), canvas.centres[0]
    starts = [jnp.clip(jnp.round((place - first) / pitch) - samples // 2, 0, last) for place in (y, x)]
    steps = np.arange(samples, dtype=np.float32) * pitch + first
    dy, dx = (steps[None, :] + (start * pitch - place)[:, None] for start, place in zip(starts, (y, x), strict=True))
    return jnp.stack(starts, axis=1).astype(jnp.int32), dx[:, None, :], dy[:, :, None]


def add_noise(key: jax.Array, image: jax.Array, noise: jax.Array, sky: jax.Array) -> jax.Array:
    """Image (B, S, S) as observed: sigma^2 = noise^2 (1 + image / sky), the photons of the objects beside the sky's.

    noise (B,) of empty sky, and sky (B,), the sky's own brightness, in nanomaggies a pixel.
    """
    sigma = noise[:, None, None] * jnp.sqrt(1 + jnp.maximum(image, 0) / sky[:, None, None])
    return image + sigma * jax.random.normal(key, image.shape)
