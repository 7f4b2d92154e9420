"""Estimate what one gradient pass of an image holds in memory, before an image is too large."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from advbench.memory import main_memory
from advbench.victims.base import Victim

# Sides of the images that are tried; what a larger one holds follows from how the two differ.
SIDES = (128, 256)
# Measured: a pass takes a tenth more than it keeps for its backward pass, and four times the
# largest tensor of it: outputs that are not kept, gradients and the kernels' own copies.
MORE, LARGEST = 1.1, 4
# Of a tiled pass: four maps a pixel with their weights, the image, its gradient and their copies.
TILED_BYTES_PER_PIXEL = 500

How = Literal["resized", "tiled", "whole"]


@dataclass(frozen=True)
class Footprint:
    """Say how a victim takes an image, and what a gradient pass of it needs.

    Attributes:
        how: ``resized`` to a square of ``side``, ``tiled`` in tiles of ``side``, or seen ``whole``.
        side: in pixels; 0 where the image is seen whole.
        bytes: estimated, of one pass forth and back.
    """

    how: How
    side: int
    bytes: int

    def __str__(self) -> str:
        taken = {
            "resized": f"resized to {self.side}×{self.side}",
            "tiled": f"in tiles of {self.side}",
            "whole": "whole",
        }[self.how]
        return f"{taken}, about {gigabytes(self.bytes)} a gradient pass"


def footprint(victim: Victim, height: int, width: int) -> Footprint:
    """Estimate it for an image of this size, from passes of small images.

    Runs the victim on images of 128 and 256 pixels, or on its square, and counts what autograd
    keeps of them. What is kept may grow faster than the number of pixels, as with attention over
    all of them: the two sizes tell by which power.
    """
    if victim.working_side is not None:
        side = victim.working_side
        return Footprint("resized", side, _taken(victim, side))
    tile = victim.tile_side
    if tile is None or max(height, width) <= tile:
        return Footprint("whole", 0, _extrapolated(victim, height * width))
    of_a_tile = _extrapolated(victim, min(height, tile) * min(width, tile))
    return Footprint("tiled", tile, of_a_tile + TILED_BYTES_PER_PIXEL * height * width)


def device_memory(device: torch.device) -> int:
    """Bytes that a process may take on a device: a GPU's own, or main memory."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return main_memory()


def gigabytes(count: int) -> str:
    """Format bytes as gigabytes with one digit behind the point, two below one."""
    return f"{count / 1e9:.{1 if count >= 1e9 else 2}f} GB"


def _extrapolated(victim: Victim, pixels: int) -> int:
    small, large = (_taken(victim, side) for side in SIDES)
    growth = math.log(SIDES[1] ** 2 / SIDES[0] ** 2)
    power = max(1.0, math.log(large / small) / growth) if small and large else 1.0
    return int(large * (pixels / SIDES[1] ** 2) ** power)


def _taken(victim: Victim, side: int) -> int:
    """Bytes that a pass of a square takes, by what it keeps for its backward pass."""
    parameters = {p.untyped_storage().data_ptr() for p in victim.network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    image = torch.full((1, 3, side, side), 0.5, device=victim.device, requires_grad=True)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        logits = victim.logits(image)
    # The graph is alive until here: no storage was freed and its place taken by another.
    found = MORE * sum(kept.values()) + LARGEST * max(kept.values(), default=0)
    del logits
    return int(found)
