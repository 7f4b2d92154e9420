"""Images as PNG files, residuals as images."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as PillowImage

from advbench.images import Image, Mask

# Above 4 photographs stay as large and residuals shrink by a twentieth at half the speed.
_LEVEL = 4
_ZERO = np.uint8(128)


def png(pixels: Image) -> bytes:
    """uint8 H×W×3 RGB, or H×W grey, as a PNG file; the same bytes every time."""
    buffer = io.BytesIO()
    PillowImage.fromarray(pixels).save(buffer, "PNG", compress_level=_LEVEL)
    return buffer.getvalue()


def mask_png(mask: Mask) -> bytes:
    """bool H×W as a grey PNG of 0 and 255."""
    return png(mask.astype(np.uint8) * np.uint8(255))


def residual_image(adversarial: Image, original: Image) -> Image:
    """``adversarial - original + 128`` modulo 256: grey where nothing differs.

    Modulo 256 every difference has an inverse, also one that does not fit in int8.
    """
    return np.add(np.subtract(adversarial, original), _ZERO)


def from_residual_image(stored: Image, original: Image) -> Image:
    """The adversarial image; the inverse of :func:`residual_image`."""
    return np.add(original, np.subtract(stored, _ZERO))
