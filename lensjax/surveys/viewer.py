"""The colours of the Legacy Surveys' viewer (legacysurvey.org/viewer), and back from its pictures to flux.

Lupton et al. (2004) stretch of g, r, z: with t_b = f_b s_b + m and I = mean_b max(0, t_b),
rgb = t_b arcsinh(Q I) / (sqrt(Q) I), red is z, green r and blue g, clipped to 0 and 1.
"""

import io
import pathlib

import numpy as np

from lensjax.core.errors import UserError
from lensjax.surveys.block import BadFile

SCALES = (6.0, 3.4, 2.2)  # s of g, r, z
OFFSET, SOFTENING = 0.03, 20.0  # m, Q
PICTURES = (".png", ".jpg", ".jpeg")


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Viewer colours (..., H, W, 3) between 0 and 1, of flux (..., H, W, 3) in g, r, z, nanomaggies a pixel."""
    stretched = np.asarray(image, np.float64) * SCALES + OFFSET
    intensity = np.maximum(stretched, 0).mean(axis=-1, keepdims=True)
    return np.clip(stretched * _ratio(intensity), 0, 1)[..., ::-1]


def from_rgb(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flux (..., H, W, 3) in g, r, z of viewer colours, and where it is known: bool (..., H, W).

    It is not where a colour was clipped, at 0 or 1; what is given there is a limit. Eight bits leave an error of about
    1e-4 nanomaggies a pixel where the sky is dark.
    """
    rgb = np.asarray(rgb, np.float64)[..., ::-1]
    intensity = np.sinh(np.sqrt(SOFTENING) * rgb.mean(axis=-1, keepdims=True)) / SOFTENING
    flux = (rgb / _ratio(intensity) - OFFSET) / SCALES
    return flux.astype(np.float32), np.all((rgb > 0) & (rgb < 1), axis=-1)


def _ratio(intensity: np.ndarray) -> np.ndarray:
    """arcsinh(Q I) / (sqrt(Q) I), whose limit at 0 is sqrt(Q)."""
    safe = np.maximum(intensity, 1e-12)
    return np.where(intensity > 1e-12, np.arcsinh(SOFTENING * safe) / (np.sqrt(SOFTENING) * safe), np.sqrt(SOFTENING))


def read_picture(path) -> tuple[np.ndarray, np.ndarray]:
    """Flux (H, W, 3) and where it is known (H, W), of a PNG or JPEG that was saved from the viewer; else BadFile.

    The first row is the lowest of the picture, as in a FITS image.
    """
    image_module = _pillow()
    try:
        with image_module.open(path) as picture:
            rgb = np.asarray(picture.convert("RGB"), np.float32) / 255
    except (OSError, ValueError, SyntaxError) as error:
        raise BadFile(f"not a picture that can be read ({error}): save it from the viewer again") from None
    return from_rgb(rgb[::-1])


def write_picture(path, image: np.ndarray) -> None:
    """Save flux (H, W, 3) in g, r, z as the viewer would show it, the first row lowest; the suffix says how."""
    _picture(image).save(pathlib.Path(path))


def to_png(image: np.ndarray) -> bytes:
    """PNG of flux (H, W, 3) in g, r, z, nanomaggies a pixel, as `write_picture` saves it."""
    buffer = io.BytesIO()
    _picture(image).save(buffer, "png")
    return buffer.getvalue()


def _picture(image: np.ndarray):
    return _pillow().fromarray(np.round(to_rgb(image[::-1]) * 255).astype(np.uint8))


def _pillow():
    try:
        from PIL import Image
    except ImportError:
        raise UserError("pictures need the package pillow: pip install 'lensjax[cutouts]'") from None
    return Image
