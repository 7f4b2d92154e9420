"""Tell how a victim takes the largest image of a run, and refuse one that memory cannot hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

from advbench.datasets.manifest import Row
from advbench.errors import AdvbenchError
from advbench.inference.footprint import (
    Footprint,
    device_memory,
    footprint,
    forward_footprint,
    gigabytes,
)
from advbench.inference.runner import BatchRunner
from advbench.pipelines.cells import Cell
from advbench.victims.base import Victim

# Smaller images are not asked about: every victim takes them, and asking costs two passes.
LARGE = 1_500_000


def check_memory(victim: Victim, rows: Sequence[Row], memory: int | None = None) -> str:
    """Say how the largest image is taken by a gradient pass; empty where none is large, or where
    the victim has no gradients.

    Args:
        memory: bytes that there are; what the victim's device has by default.

    Raises:
        AdvbenchError: a pass of it does not fit, alone or as often as threads make one.
    """
    image, size = _largest({row.image: (row.height, row.width) for row in rows})
    if not image or not victim.differentiable:
        return ""
    needed = footprint(victim, *size)
    at_once = _at_once(victim, victim.reentrant)
    return _checked(victim, image, size, needed, at_once=at_once, memory=memory)


def check_forward(
    victim: Victim,
    sides: Mapping[str, tuple[int, int]],
    cells: Sequence[Cell],
    *,
    alone: bool = False,
    memory: int | None = None,
) -> str:
    """Say how the largest image is taken by a pass without gradients, behind each of ``cells``;
    empty where none is large.

    Args:
        sides: height and width of each image, by name.
        alone: one image at a time, however many threads there are.
        memory: as for :func:`check_memory`.

    Raises:
        AdvbenchError: as :func:`check_memory`.
    """
    image, size = _largest(sides)
    if not image:
        return ""
    defenses = [
        partial(
            cell.defense.defend,
            strength=cell.strength,
            keys=cell.defense.keys([image], cell.strength, 0),
        )
        for cell in cells
    ]
    needed = forward_footprint(victim, *size, defenses)
    reentrant = victim.reentrant and all(cell.defense.reentrant for cell in cells)
    at_once = _at_once(victim, reentrant and not alone)
    return _checked(victim, image, size, needed, at_once=at_once, memory=memory)


def _largest(sides: Mapping[str, tuple[int, int]]) -> tuple[str, tuple[int, int]]:
    """Find the largest image, with its height and width; no name where none is large."""
    image = max(sides, key=lambda name: math.prod(sides[name]), default="")
    if not image or math.prod(sides[image]) < LARGE:
        return "", (0, 0)
    return image, sides[image]


def _at_once(victim: Victim, reentrant: bool) -> int:
    cpu = victim.device.type == "cpu"
    return BatchRunner(victim.device).images_at_once if cpu and reentrant else 1


def _checked(
    victim: Victim,
    image: str,
    sides: tuple[int, int],
    needed: Footprint,
    *,
    at_once: int,
    memory: int | None,
) -> str:
    """Say how an image is taken, or refuse it where ``at_once`` such passes do not fit."""
    size = f"{sides[1]}×{sides[0]}"
    there = device_memory(victim.device) if memory is None else memory
    told = f"victim {victim.name}: {image} of {size} {needed}"
    if needed.bytes > there:
        how = " (dataset import --list)" if needed.kind == "gradient" else ""
        remedy = f"leave such images out{how}, or take a machine with more"
        if needed.how == "whole":
            remedy += ", or a victim that resizes or tiles (wrap has side= and tile=)"
        raise AdvbenchError(f"{told}; there are {gigabytes(there)}: {remedy}")
    if needed.bytes * at_once > there:
        remedy = f"set OMP_NUM_THREADS={there // needed.bytes}"
        raise AdvbenchError(f"{told}, {at_once} at once; there are {gigabytes(there)}: {remedy}")
    return f"largest image {size} {needed}"
