"""The median filter, each channel on its own."""

from __future__ import annotations

from typing import Annotated, ClassVar

import cv2
import numpy as np
from pydantic import AfterValidator, Field

from advbench.defenses.base import PixelDefense
from advbench.images import Image


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("a kernel has an odd side, such as 3 or 5")
    return value


Kernel = Annotated[int, Field(ge=3, le=255), AfterValidator(_odd)]


class Median(PixelDefense):
    """Each value becomes the median of its neighbourhood; borders are replicated.

    Attributes:
        kernel: odd sides of the square neighbourhood, in pixels.
    """

    name: ClassVar[str] = "median"
    strength_field: ClassVar[str | None] = "kernel"

    kernel: tuple[Kernel, ...] = Field(default=(3, 5, 7), min_length=1)

    def filter(self, image: Image, strength: float, key: tuple[object, ...]) -> Image:
        return np.asarray(cv2.medianBlur(image, int(strength)), dtype=np.uint8)
