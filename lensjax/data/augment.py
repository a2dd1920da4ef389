"""Views of a cutout: the six augmentations of Stein et al. (2022, section 3.1 and appendix B), in their order.

A seventh, "gain", is not of the paper: it makes the object brighter or fainter, and redder or bluer, so that neither is
what tells a small sample's objects apart.

Everything is for one example and runs on the device; the caller vmaps. Blur and noise only make up what an image lacks
of the drawn PSF and noise, so the image's own are followed through every step: dust and interpolation change them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from lensjax.core.errors import UserError
from lensjax.physics.bands import BANDS, FWHM, PIXEL, transmission
from lensjax.sims.draws import lognormal

Example = dict[str, jax.Array]
STEPS = ("gain", "extinction", "rotation", "scale", "blur", "crop", "noise")
INTERPOLATION_BLUR = 1 / 6  # pixel^2: what a linear interpolation adds to a PSF's variance, mean of f (1 - f)
# Autocorrelation, along one axis, of white noise that was interpolated linearly: lag 0, mean of f^2 + (1 - f)^2; lag 1.
INTERPOLATED_NOISE = (2 / 3, 1 / 6)
SHARPEST = 1e-3  # pixels: a blur that is none


class View(NamedTuple):
    """What chance decides about a view. Standard deviations in pixels and nanomaggies a pixel."""

    gain: jax.Array  # (B,) factors of the flux
    ebv: jax.Array  # () magnitudes of dust in front of it
    own_psf: jax.Array  # (B,) of an image that does not say
    own_noise: jax.Array  # (B,)
    psf: jax.Array  # (B,) to reach
    noise: jax.Array  # (B,) to reach
    grain: jax.Array  # (S, S, B) unit normals
    angle: jax.Array  # () radians
    flip: jax.Array  # () 1 or -1
    scale: jax.Array  # ()
    shift: jax.Array  # (2,) int32, of the crop


def make_augment(settings: Any) -> Callable[[jax.Array, Example], jax.Array]:
    """augment(key, example) -> a view (S, S, B), nanomaggies a pixel, of S = settings.size pixels.

    settings: config.augment. example: image (H, H, B) nanomaggies; psfsize (B,) FWHM in arcsec and noise (B,)
    nanomaggies a pixel, NaN where unknown (then drawn, as the paper does); ebv () magnitudes. A step that
    settings.steps leaves out changes nothing; the crop is then central.
    Raises UserError for a step that does not exist, for laws of different numbers of bands, for extinction in other
    bands than g, r, z, and (at tracing) for images smaller than the view and its jitter.
    """
    unknown = [step for step in settings.steps if step not in STEPS]
    if unknown:
        raise UserError(f"config.augment.steps has {unknown[0]!r}: expected some of {', '.join(STEPS)}.")
    _check_bands(settings)
    on = {step: step in settings.steps for step in STEPS}
    moved = on["rotation"] or on["scale"]

    def augment(key: jax.Array, example: Example) -> jax.Array:
        image, view = example["image"], draw_view(key, settings)
        check_size(image.shape[0], settings.size, settings.jitter if on["crop"] else 0)
        psf = _known(example["psfsize"] / FWHM / PIXEL, view.own_psf)
        noise = _known(example["noise"], view.own_noise)
        if on["gain"]:
            image, noise = image * view.gain[None, None], noise * view.gain
        if on["extinction"]:
            factor = transmission(view.ebv - example["ebv"])
            image, noise = image * factor[None, None], noise * factor
        if moved:
            angle, flip = (view.angle, view.flip) if on["rotation"] else (jnp.zeros(()), jnp.ones(()))
            scale = view.scale if on["scale"] else jnp.ones(())
            image = resample(image, angle, flip, scale)
            psf = jnp.sqrt(jnp.square(psf * scale) + INTERPOLATION_BLUR)
        blur = lacking(view.psf, psf) if on["blur"] else jnp.zeros_like(psf)
        corner = (image.shape[0] - settings.size) // 2 + (view.shift if on["crop"] else jnp.zeros_like(view.shift))
        image = blur_and_crop(image, blur, corner, settings.size)
        if on["noise"]:
            added = lacking(view.noise, noise * remaining_noise(blur, moved))
            image = image + added[None, None] * view.grain
        return image

    return augment


def _check_bands(settings: Any) -> None:
    bands = len(settings.noise)
    if len(settings.psf) != bands:
        raise UserError(
            f"config.augment.psf has laws of {len(settings.psf)} bands and config.augment.noise of {bands}: give one "
            "law a band in either."
        )
    if "extinction" in settings.steps and bands != len(BANDS):
        raise UserError(
            f"config.augment.noise has laws of {bands} bands, and the dust is known in {', '.join(BANDS)}: leave "
            "'extinction' out of config.augment.steps."
        )


def draw_view(key: jax.Array, settings: Any) -> View:
    """A view's numbers, all from one draw of unit normals: XLA is slow to compile a random generator for each."""
    size, laws = settings.size, [settings.ebv, *settings.psf, *settings.noise, *settings.psf, *settings.noise]
    bands, grain = len(settings.psf), size * size * len(settings.psf)
    normal = jax.random.normal(key, (grain + len(laws) + 6 + bands,))
    normal, brightness, colour = normal[: -bands - 1], normal[-1], normal[-bands - 1 : -1]
    levels = lognormal(laws, normal[grain:-5])
    own_psf, own_noise, psf, noise = levels[1:].reshape(4, bands)
    turn, mirror, stretch, *shift = jax.scipy.special.ndtr(normal[-5:])  # uniform in (0, 1)
    low, high = settings.scale
    jitter = settings.jitter
    return View(
        10 ** (-0.4 * (settings.brightness * brightness + settings.colour * colour)),
        levels[0],
        own_psf,
        own_noise,
        psf,
        noise,
        grain=normal[:grain].reshape(size, size, bands),
        angle=2 * jnp.pi * turn,
        flip=jnp.where(mirror < 0.5, -1.0, 1.0),
        scale=low + (high - low) * stretch,
        shift=jnp.clip(jnp.floor((2 * jitter + 1) * jnp.stack(shift)).astype(jnp.int32) - jitter, -jitter, jitter),
    )


def check_size(size: int, view: int, jitter: int) -> None:
    """UserError for an image of `size` pixels that has no room for the crop."""
    if size < view + 2 * jitter:
        raise UserError(
            f"cutouts of {size} pixels are too small for views of {view} pixels and a jitter of {jitter}: "
            f"give cutouts of {view + 2 * jitter} pixels, or lower config.augment.size or config.augment.jitter."
        )


def centre(image: jax.Array, size: int) -> jax.Array:
    """The central (size, size, B) of an image (H, H, B): the view without any augmentation."""
    check_size(image.shape[0], size, 0)
    start = (image.shape[0] - size) // 2
    return image[start : start + size, start : start + size]


def _known(value: jax.Array, otherwise: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(value), value, otherwise)


def lacking(target: jax.Array, own: jax.Array) -> jax.Array:
    """What to add in quadrature to reach the target: sqrt(max(0, target^2 - own^2))."""
    return jnp.sqrt(jnp.maximum(jnp.square(target) - jnp.square(own), 0.0))


def resample(image: jax.Array, angle: jax.Array, flip: jax.Array, scale: jax.Array) -> jax.Array:
    """The image (H, H, B) flipped left to right (flip -1), turned by `angle` and enlarged by `scale`, about its centre.

    Steps 2 and 3 in one bilinear interpolation. Surface brightness is kept, so the flux grows as scale^2: the object
    comes nearer. Beyond the edges the image is mirrored.
    """
    middle = (image.shape[0] - 1) / 2
    offset = (jnp.arange(image.shape[0]) - middle) / scale
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    y = middle + cos * offset[:, None] + sin * offset[None]
    x = middle + flip * (cos * offset[None] - sin * offset[:, None])
    return jax.vmap(lambda band: map_coordinates(band, [y, x], 1, "mirror"), in_axes=-1, out_axes=-1)(image)


def blur_and_crop(image: jax.Array, sigma: jax.Array, corner: jax.Array, size: int) -> jax.Array:
    """Rows and columns corner .. corner + size - 1 of the image (H, H, B) blurred by Gaussians sigma (B,), pixels.

    Steps 4 and 5 as two matrix products: pixels that are cropped away need no blur. Light from beyond the edges is
    taken to be as the rest under the Gaussian (weights sum to one).
    """
    rows, columns = (_gaussian_rows(sigma, start, size, image.shape[0]) for start in corner)
    planes = jnp.moveaxis(image, -1, 0)
    return jnp.moveaxis(rows @ planes @ columns.transpose(0, 2, 1), 0, -1)


def _gaussian_rows(sigma: jax.Array, start: jax.Array, size: int, pixels: int) -> jax.Array:
    """(B, size, pixels): the weights of every pixel of an axis in each blurred one."""
    distance = (jnp.arange(size) + start)[:, None] - jnp.arange(pixels)[None]
    weight = jnp.exp(-0.5 * jnp.square(distance[None] / jnp.maximum(sigma, SHARPEST)[:, None, None]))
    return weight / weight.sum(-1, keepdims=True)


def remaining_noise(sigma: jax.Array, interpolated: bool) -> jax.Array:
    """Fraction (B,) of an image's white noise (its standard deviation) that interpolation and blur leave.

    A Gaussian of weights k leaves, along one axis, sum_ij k_i k_j rho(i - j) of the variance, rho the noise's
    autocorrelation; two axes multiply.
    """
    reach = 16  # pixels, beyond any blur's tail
    kernel = _gaussian_rows(sigma, jnp.asarray(reach), 1, 2 * reach + 1)[:, 0]
    zero, one = INTERPOLATED_NOISE if interpolated else (1.0, 0.0)
    return zero * jnp.square(kernel).sum(-1) + 2 * one * (kernel[:, 1:] * kernel[:, :-1]).sum(-1)
