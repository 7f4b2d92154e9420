"""The median filter, each channel on its own."""

from __future__ import annotations

from typing import Annotated, ClassVar

import cv2
import numpy as np
import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Tensor

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

    def smooth(self, images: Tensor, strength: float | None) -> Tensor:
        """The same median of unrounded values; its gradient goes to the middle value alone."""
        assert strength is not None
        kernel = int(strength)
        padded = F.pad(images, [kernel // 2] * 4, mode="replicate")
        windows = padded.unfold(2, kernel, 1).unfold(3, kernel, 1).flatten(4)
        return windows.sort(-1).values[..., kernel * kernel // 2]

    def filter(self, image: Image, strength: float | None, key: tuple[object, ...]) -> Image:
        assert strength is not None
        return np.asarray(cv2.medianBlur(image, int(strength)), dtype=np.uint8)
