"""Resizing there and back, bilinear both ways."""

from __future__ import annotations

from typing import Annotated, ClassVar

import cv2
import numpy as np
from pydantic import Field

from advbench.defenses.base import PixelDefense
from advbench.images import Image

Scale = Annotated[float, Field(ge=0.05, le=4)]


class Resize(PixelDefense):
    """Scale the image and scale it back.

    Attributes:
        scale: factors of the side, 0.05 to 4.
    """

    name: ClassVar[str] = "resize"
    strength_field: ClassVar[str | None] = "scale"

    scale: tuple[Scale, ...] = Field(default=(0.9, 0.7, 0.5), min_length=1)

    def filter(self, image: Image, strength: float, key: tuple[object, ...]) -> Image:
        height, width = image.shape[:2]
        size = (max(1, round(width * strength)), max(1, round(height * strength)))
        there = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        back = cv2.resize(there, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(back, dtype=np.uint8)
