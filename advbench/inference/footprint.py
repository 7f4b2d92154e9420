"""Estimate what one pass of an image holds in memory, before an image is too large."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from advbench.memory import main_memory
from advbench.victims.base import Victim

# Sides of the images that are tried; what a larger one holds follows from how the two differ.
SIDES = (128, 256)
# Measured: a pass takes a tenth more than it keeps for its backward pass, and four times the
# largest tensor of it: outputs that are not kept, gradients and the kernels' own copies.
MORE, LARGEST = 1.1, 4
# Of a tiled pass: four maps a pixel with their weights, the image, its gradient and their copies.
TILED_BYTES_PER_PIXEL = 500
# The same of a pass without gradients: a tenth more than the tensors that are alive at once, the
# largest of them once more, and the largest parameter, of which a kernel makes a copy in its own
# order. Beside it stand the decoded image, its copies and its map.
FORWARD_MORE, FORWARD_LARGEST = 1.1, 1
FORWARD_TILED_BYTES_PER_PIXEL = 120
BESIDE_BYTES_PER_PIXEL = 45

How = Literal["resized", "tiled", "whole"]
# Bytes that a pass of a square of this side takes.
Taken = Callable[[int], int]


@dataclass(frozen=True)
class Footprint:
    """Say how a victim takes an image, and what a pass of it needs.

    Attributes:
        how: ``resized`` to a square of ``side``, ``tiled`` in tiles of ``side``, or seen ``whole``.
        side: in pixels; 0 where the image is seen whole.
        bytes: estimated, of one pass.
        kind: of the pass: ``gradient``, forth and back, or ``forward``.
    """

    how: How
    side: int
    bytes: int
    kind: Literal["gradient", "forward"] = "gradient"

    def __str__(self) -> str:
        taken = {
            "resized": f"resized to {self.side}×{self.side}",
            "tiled": f"in tiles of {self.side}",
            "whole": "whole",
        }[self.how]
        return f"{taken}, about {gigabytes(self.bytes)} a {self.kind} pass"


def footprint(victim: Victim, height: int, width: int) -> Footprint:
    """Estimate a gradient pass of an image of this size, from passes of small images.

    Runs the victim on images of 128 and 256 pixels, or on its square, and counts what autograd
    keeps of them. What is kept may grow faster than the number of pixels, as with attention over
    all of them: the two sizes tell by which power.
    """
    return _footprint(victim, (height, width), partial(_kept, victim), TILED_BYTES_PER_PIXEL)


def forward_footprint(
    victim: Victim,
    height: int,
    width: int,
    defenses: Sequence[Callable[[Tensor], Tensor]] = (),
) -> Footprint:
    """Estimate a pass without gradients in the same way, by the tensors that are alive at once.

    Args:
        defenses: functions of float N×3×H×W, each before the victim; of the victim's pass and
            theirs, the one that takes most counts.
    """
    took = partial(_alive, victim.probabilities, victim.device)
    found = _footprint(victim, (height, width), took, FORWARD_TILED_BYTES_PER_PIXEL)
    taken = [found.bytes]
    for defend in defenses:
        took, side = partial(_alive, defend, victim.device), victim.working_side
        taken.append(took(side) if side else _extrapolated(took, height * width))
    most = max(taken) + BESIDE_BYTES_PER_PIXEL * height * width
    most += max((p.nbytes for p in victim.network.parameters()), default=0)
    return replace(found, bytes=most, kind="forward")


def device_memory(device: torch.device) -> int:
    """Bytes that a process may take on a device: a GPU's own, or main memory."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return main_memory()


def gigabytes(count: int) -> str:
    """Format bytes as gigabytes with one digit behind the point, two below one."""
    return f"{count / 1e9:.{1 if count >= 1e9 else 2}f} GB"


def _footprint(victim: Victim, sides: tuple[int, int], taken: Taken, tiled: int) -> Footprint:
    """Estimate a pass from those of small squares; ``tiled`` are bytes a pixel beside a tile's."""
    if victim.working_side is not None:
        return Footprint("resized", victim.working_side, taken(victim.working_side))
    (height, width), tile = sides, victim.tile_side
    if tile is None or max(sides) <= tile:
        return Footprint("whole", 0, _extrapolated(taken, height * width))
    of_a_tile = _extrapolated(taken, min(height, tile) * min(width, tile))
    return Footprint("tiled", tile, of_a_tile + tiled * height * width)


def _extrapolated(taken: Taken, pixels: int) -> int:
    small, large = map(taken, SIDES)
    growth = math.log(SIDES[1] ** 2 / SIDES[0] ** 2)
    power = max(1.0, math.log(large / small) / growth) if small and large else 1.0
    return int(large * (pixels / SIDES[1] ** 2) ** power)


def _kept(victim: Victim, side: int) -> int:
    """Bytes that a gradient pass takes, by what it keeps for its backward pass."""
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


def _alive(work: Callable[[Tensor], Tensor], device: torch.device, side: int) -> int:
    """Bytes that ``work`` takes on a square image, by the tensors that are alive at once."""
    image = torch.full((1, 3, side, side), 0.5, device=device)
    with torch.inference_mode():
        work(image)  # a wrapped module is inspected at its first pass
        with _Alive() as alive:
            work(image)
    return int(FORWARD_MORE * alive.most + FORWARD_LARGEST * alive.largest)


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follow the storages that operators return until they are freed.

    Attributes:
        most: bytes of those that were alive at once.
        largest: bytes of the largest.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = self.largest = self._now = 0
        self._followed: set[int] = set()

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = operator(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._follow(tensor.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        place, size = storage.data_ptr(), storage.nbytes()
        if not size or place in self._followed:
            return
        self._followed.add(place)
        weakref.finalize(storage, self._free, place, size)
        self._now += size
        self.most, self.largest = max(self.most, self._now), max(self.largest, size)

    def _free(self, place: int, size: int) -> None:
        self._followed.discard(place)
        self._now -= size
