"""Images as PNG files, residuals as images."""

from __future__ import annotations

import numpy as np

from advbench.codec import encode_png
from advbench.images import Image, Mask

_ZERO = np.uint8(128)


def mask_png(mask: Mask) -> bytes:
    """bool H×W as a grey PNG of 0 and 255."""
    return encode_png(mask.astype(np.uint8) * np.uint8(255))


def residual_image(adversarial: Image, original: Image) -> Image:
    """``adversarial - original + 128`` modulo 256: grey where nothing differs.

    Modulo 256 every difference has an inverse, also one that does not fit in int8.
    """
    return np.add(np.subtract(adversarial, original), _ZERO)


def from_residual_image(stored: Image, original: Image) -> Image:
    """The adversarial image; the inverse of :func:`residual_image`."""
    return np.add(original, np.subtract(stored, _ZERO))
