"""Bring images of any size to the size that a network takes, differentiably, and its map back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from advbench.victims.ifosn.tiling import tiled_logits

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Fitting:
    """Say which sizes a network takes.

    Attributes:
        side: of the square that it takes, in pixels; None where it takes many sizes.
        pad: whether a smaller image is padded with black at right and bottom to ``side``, and a
            larger one cut into overlapping tiles of it; else images are resized.
        multiple: without ``side``, both sides of an image are padded to multiples of this by
            repeating the border.
        smallest: without ``side``, and at least to this.
        tile: without ``side``, larger images are cut into overlapping tiles of this side; None
            where the network sees any image whole.
    """

    side: int | None = None
    pad: bool = False
    multiple: int = 1
    smallest: int = 1
    tile: int | None = None

    @property
    def working_side(self) -> int | None:
        """The square that images are resized to before they are attacked, None for native size."""
        return None if self.pad else self.side

    @property
    def tile_side(self) -> int | None:
        """The side of tiles of a larger image, None where it is seen whole or resized."""
        if self.side is None:
            return self.tile
        return self.side if self.pad else None

    def run(self, network: Network, images: Tensor) -> Tensor:
        """Logits N×1×H×W of images N×3×H×W, where ``network`` takes only what fits."""
        if self.side is None:
            if self.tile is None:
                return self._padded(network, images)
            return tiled_logits(
                lambda tile: self._padded(network, tile), images, self.tile, self.tile // 2
            )
        if self.pad:
            return tiled_logits(
                lambda tile: _black_padded(network, tile, int(self.side or 0)),
                images,
                self.side,
                self.side // 2,
            )
        size = images.shape[2:]
        if size == (self.side, self.side):
            return network(images)
        square = F.interpolate(
            images, (self.side, self.side), mode="bilinear", antialias=True, align_corners=False
        )
        return F.interpolate(network(square), size, mode="bilinear", align_corners=False)

    def _padded(self, network: Network, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        below, right = (
            max(-(-length // self.multiple), -(-self.smallest // self.multiple)) * self.multiple
            - length
            for length in (height, width)
        )
        if not below and not right:
            return network(images)
        padded = F.pad(images, (0, right, 0, below), mode="replicate")
        return network(padded)[..., :height, :width]


def _black_padded(network: Network, images: Tensor, side: int) -> Tensor:
    height, width = images.shape[2:]
    padded = F.pad(images, (0, side - width, 0, side - height))
    return network(padded)[..., :height, :width]
