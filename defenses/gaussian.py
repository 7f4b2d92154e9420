"""White Gaussian noise, keyed per image."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import AfterValidator, Field

from advbench.defenses.base import PixelDefense
from advbench.images import Image
from advbench.rng import numpy_stream


def _felt(value: float) -> float:
    # Below, not one of a million values is rounded to another grey level.
    if value < 0.1:
        raise ValueError(f"{value:g} changes no pixel; it is in grey levels: 5 means 5/255")
    return value


Sigma = Annotated[float, Field(gt=0, le=255), AfterValidator(_felt)]


class Gaussian(PixelDefense):
    """Add noise, round to the nearest grey level, clip.

    Attributes:
        sigma: standard deviations in grey levels.
    """

    name: ClassVar[str] = "gaussian"
    strength_field: ClassVar[str | None] = "sigma"
    random: ClassVar[bool] = True

    sigma: tuple[Sigma, ...] = Field(default=(2.0, 5.0, 10.0), min_length=1)

    def filter(self, image: Image, strength: float | None, key: tuple[object, ...]) -> Image:
        assert strength is not None
        noise = numpy_stream(*key).standard_normal(image.shape, dtype=np.float32) * strength
        return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)
