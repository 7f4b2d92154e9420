"""Tiles of a large image, and their maps blended as IF-OSN's authors blend them, differentiably.

The authors store each tile's map as uint8 (rounded), blend, and truncate the result to uint8.
Neither step has a gradient and both are left out: the authors' probability lies at most 0.5/255
above and less than 1.5/255 below the one blended here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

SIDE = 896
STRIDE = 448


class Tile(NamedTuple):
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def area(self) -> tuple[slice, slice]:
        """Rows and columns that it covers."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def tile_visits(height: int, width: int, side: int = SIDE, stride: int = STRIDE) -> list[Tile]:
    """Tiles in the authors' raster order, repeats included.

    Along each axis: origins every ``stride`` while a tile fits, then one aligned to the far border,
    whether or not it was there before. An axis shorter than ``side`` has one tile of its length.
    """
    rows, columns = _origins(height, side, stride), _origins(width, side, stride)
    size = min(height, side), min(width, side)
    return [Tile(top, left, *size) for top, left in product(rows, columns)]


def _origins(length: int, side: int, stride: int) -> list[int]:
    return [*range(0, length - side + 1, stride), max(0, length - side)]


def blend_weights(
    height: int, width: int, side: int = SIDE, stride: int = STRIDE
) -> dict[Tile, Tensor]:
    """Final weight of each distinct tile, float64 h×w on the CPU; at a pixel they sum to 1.

    The authors blend tile after tile: a pixel not yet seen takes the new tile, another takes
    ``w * new + (1 - w) * old`` with w the tent of the tile. A tile's final weight is its w times
    the product of 1 - w over the later ones. A repeated tile damps what lies below it again, so it
    cannot be dropped from the order; its map is the same each time, so its weights add up.
    """
    tiles = tile_visits(height, width, side, stride)
    tent = torch.outer(_tent(tiles[0].height), _tent(tiles[0].width))
    seen = torch.zeros(height, width, dtype=torch.bool)
    shares = []
    for tile in tiles:
        shares.append(torch.where(seen[tile.area], tent, 1.0))
        seen[tile.area] = True
    weights = {tile: torch.zeros_like(tent) for tile in tiles}
    kept = torch.ones(height, width, dtype=torch.float64)
    for tile, share in zip(reversed(tiles), reversed(shares), strict=True):
        weights[tile] += share * kept[tile.area]
        kept[tile.area] *= 1 - share
    return weights


def _tent(length: int) -> Tensor:
    """1 in the middle, 0 in the outer sixths."""
    position = (torch.arange(length, dtype=torch.float64) + 0.5) * 3 / length - 0.5
    return (1 - (position - 1).abs()).clamp(min=0)


def blend_logits(logits: Sequence[Tensor], weights: dict[Tile, Tensor]) -> Tensor:
    """Logit of the blended probabilities: maps N×1×h×w in the order of ``weights`` → N×1×H×W.

    Summed as logarithms, ``log Σ w p - log Σ w (1 - p)``, so that tiles that agree keep their
    gradient however saturated they are.
    """
    tiles = list(weights)
    # A weight of 0 is a logarithm of -inf: exp brings it back to 0, value and gradient.
    scales = [weight.log().to(logits[0]) for weight in weights.values()]
    forged, pristine = (
        _log_sum(
            [F.logsigmoid(sign * z) + scale for z, scale in zip(logits, scales, strict=True)], tiles
        )
        for sign in (1, -1)
    )
    return forged - pristine


def _log_sum(terms: list[Tensor], tiles: list[Tile]) -> Tensor:
    """logsumexp per pixel over the tiles that cover it."""
    height = max(tile.top + tile.height for tile in tiles)
    width = max(tile.left + tile.width for tile in tiles)
    with torch.no_grad():
        highest = terms[0].new_full((*terms[0].shape[:2], height, width), -torch.inf)
        for tile, term in zip(tiles, terms, strict=True):
            here = highest[(..., *tile.area)]
            torch.maximum(here, term, out=here)
    total = torch.zeros_like(highest)
    for tile, term in zip(tiles, terms, strict=True):
        part = torch.exp(term - highest[(..., *tile.area)])
        right, below = width - tile.left - tile.width, height - tile.top - tile.height
        total = total + F.pad(part, (tile.left, right, tile.top, below))
    return highest + total.log()


def tiled_logits(
    network: Callable[[Tensor], Tensor], images: Tensor, side: int = SIDE, stride: int = STRIDE
) -> Tensor:
    """``network`` over the tiles of N×3×H×W, one at a time → logits N×1×H×W.

    An image that is one tile goes through ``network`` as it is. Of more tiles, only one has its
    activations in memory: the backward pass computes each tile's again.
    """
    height, width = images.shape[-2:]
    # The authors visit a tile of the full side four times; blending a map with itself is the map.
    if height <= side and width <= side:
        return network(images)
    weights = blend_weights(height, width, side, stride)
    crops = [images[(..., *tile.area)] for tile in weights]
    if torch.is_grad_enabled():
        maps: list[Tensor] = [checkpoint(network, crop, use_reentrant=False) for crop in crops]
    else:
        maps = [network(crop) for crop in crops]
    return blend_logits(maps, weights)
