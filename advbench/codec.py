"""The real JPEG codec: libjpeg-turbo through OpenCV, 4:2:0 chroma."""

from __future__ import annotations

import cv2
import numpy as np

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
