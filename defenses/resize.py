"""Resizing there and back, bilinear both ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import cv2
import numpy as np
import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Tensor

from advbench.defenses.base import PixelDefense
from advbench.images import Image


def _other_size(value: float) -> float:
    if value == 1:
        raise ValueError("1 changes no pixel; give a factor such as 0.5")
    return value


Scale = Annotated[float, Field(ge=0.05, le=4), AfterValidator(_other_size)]


class Resize(PixelDefense):
    """Scale the image and scale it back.

    Attributes:
        scale: factors of the side, 0.05 to 4.
    """

    name: ClassVar[str] = "resize"
    strength_field: ClassVar[str | None] = "scale"

    scale: tuple[Scale, ...] = Field(default=(0.9, 0.7, 0.5), min_length=1)

    def smooth(self, images: Tensor, strength: float | None) -> Tensor:
        """The same two linear maps, without rounding."""
        assert strength is not None
        there = F.interpolate(images, _scaled(images.shape[2:], strength), mode="bilinear")
        return F.interpolate(there, images.shape[2:], mode="bilinear")

    def filter(self, image: Image, strength: float | None, key: tuple[object, ...]) -> Image:
        assert strength is not None
        height, width = image.shape[:2]
        size = _scaled((height, width), strength)[::-1]
        there = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        back = cv2.resize(there, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(back, dtype=np.uint8)


def _scaled(sides: Sequence[int], scale: float) -> list[int]:
    """Height and width at a scale, at least 1 each."""
    return [max(1, round(side * scale)) for side in sides]
