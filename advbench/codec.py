"""Encode pictures: JPEG by libjpeg-turbo through OpenCV (4:2:0 chroma), PNG by Pillow."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image as PillowImage

from advbench.images import Image


def encode_jpeg(image: Image, quality: int) -> bytes:
    """An RGB image as the bytes of a JPEG file; ``quality`` 1 to 100."""
    good, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not good:
        raise ValueError(f"cannot encode an image of shape {image.shape}")
    return data.tobytes()


def through_jpeg(image: Image, quality: int) -> Image:
    """Compress an RGB image and decode it again at ``quality``."""
    data = np.frombuffer(encode_jpeg(image, quality), np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if decoded is None:
        raise ValueError(f"cannot decode an image of shape {image.shape}")
    return np.ascontiguousarray(decoded[..., ::-1]).astype(np.uint8)


def encode_png(pixels: Image, level: int = 4) -> bytes:
    """Encode uint8 H×W×3 RGB, or H×W grey, as a PNG file; the same bytes every time.

    Args:
        level: of compression. Above 4 photographs stay as large, and residuals shrink by a
            twentieth at half the speed.
    """
    buffer = io.BytesIO()
    PillowImage.fromarray(pixels).save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()
