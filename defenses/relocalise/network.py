"""The writer: draws a map into a picture, in two textures."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# The most that a pixel is changed by, in grey levels.
LEVELS = 120


class Writer(nn.Module):
    """Adds one texture where a map says forged and another elsewhere, whatever the picture shows.

    Args:
        side: of both textures, in pixels.

    Attributes:
        forged, authentic: 3×side×side; their tanh, times ``LEVELS``, is what is added.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.forged = nn.Parameter(torch.randn(3, side, side) / 2)
        self.authentic = nn.Parameter(torch.randn(3, side, side) / 2)

    def forward(self, images: Tensor, marks: Tensor) -> Tensor:
        """Images N×3×H×W in [0, 1] and a map N×1×H×W in [0, 1] → images of the same shape."""
        forged, authentic = (_tiled(tile, images) for tile in (self.forged, self.authentic))
        drawn = marks * forged + (1 - marks) * authentic
        return (images + LEVELS / 255 * drawn).clamp(0, 1)


def _tiled(tile: Tensor, images: Tensor) -> Tensor:
    """Repeat a texture from the top left corner over the height and width of images."""
    height, width = images.shape[2:]
    side = tile.shape[-1]
    whole = tile.tanh().repeat(1, -(-height // side), -(-width // side))
    return whole[:, :height, :width]
