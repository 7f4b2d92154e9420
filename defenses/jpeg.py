"""JPEG compression by the real codec (libjpeg-turbo through OpenCV, 4:2:0 chroma)."""

from __future__ import annotations

from typing import Annotated, ClassVar

import cv2
import numpy as np
from advbench.defenses.base import PixelDefense
from pydantic import Field

from advbench.pixels import Image

Quality = Annotated[int, Field(ge=1, le=100)]


class JPEG(PixelDefense):
    """Compress and decompress.

    Attributes:
        quality: libjpeg qualities, 1 to 100.
    """

    name: ClassVar[str] = "jpeg"
    strength_field: ClassVar[str | None] = "quality"

    quality: tuple[Quality, ...] = Field(default=(90, 70, 50), min_length=1)

    def filter(self, image: Image, strength: float, key: tuple[object, ...]) -> Image:
        parameters = [cv2.IMWRITE_JPEG_QUALITY, int(strength)]
        _, data = cv2.imencode(".jpg", image[..., ::-1], parameters)
        return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])
