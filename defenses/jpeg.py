"""JPEG compression by the real codec."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from advbench.codec import through_jpeg
from advbench.defenses.base import PixelDefense
from advbench.defenses.soft_jpeg import soft_jpeg
from advbench.images import Image

Quality = Annotated[int, Field(ge=1, le=100)]


class JPEG(PixelDefense):
    """Compress and decompress.

    Attributes:
        quality: libjpeg qualities, 1 to 100.
    """

    name: ClassVar[str] = "jpeg"
    strength_field: ClassVar[str | None] = "quality"

    quality: tuple[Quality, ...] = Field(default=(90, 70, 50), min_length=1)

    def smooth(self, images: Tensor, strength: float | None) -> Tensor:
        """The codec's arithmetic with a soft rounding of the coefficients."""
        assert strength is not None
        return soft_jpeg(images, int(strength))

    def filter(self, image: Image, strength: float | None, key: tuple[object, ...]) -> Image:
        assert strength is not None
        return through_jpeg(image, int(strength))
