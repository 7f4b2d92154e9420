"""Tell how a victim takes the largest image of a run, and refuse one that memory cannot hold."""

from __future__ import annotations

from collections.abc import Sequence

from advbench.datasets.manifest import Row
from advbench.errors import AdvbenchError
from advbench.inference.footprint import Footprint, device_memory, footprint, gigabytes
from advbench.inference.runner import BatchRunner
from advbench.victims.base import Victim

# Smaller images are not asked about: every victim takes them, and asking costs two passes.
LARGE = 1_500_000


def largest_footprint(victim: Victim, rows: Sequence[Row]) -> tuple[Row, Footprint] | None:
    """The largest of these images above 1.5 million pixels and what a gradient pass of it needs;
    None where there is none, or where the victim has no gradients."""
    largest = max(rows, key=lambda row: row.height * row.width, default=None)
    if largest is None or largest.height * largest.width < LARGE or not victim.differentiable:
        return None
    return largest, footprint(victim, largest.height, largest.width)


def check_memory(victim: Victim, rows: Sequence[Row], memory: int | None = None) -> str:
    """Say how the largest image is taken; empty where none is large.

    Args:
        memory: bytes that there are; what the victim's device has by default.

    Raises:
        AdvbenchError: a gradient pass of it does not fit, alone or as often as threads make one.
    """
    found = largest_footprint(victim, rows)
    if found is None:
        return ""
    row, needed = found
    size = f"{row.width}×{row.height}"
    there = device_memory(victim.device) if memory is None else memory
    cpu = victim.device.type == "cpu"
    at_once = BatchRunner(victim.device).images_at_once if cpu and victim.reentrant else 1
    told = f"victim {victim.name}: {row.image} of {size} {needed}"
    if needed.bytes > there:
        remedy = "leave such images out (dataset import --list), or take a machine with more"
        if needed.how == "whole":
            remedy += ", or a victim that resizes or tiles (wrap has side= and tile=)"
        raise AdvbenchError(f"{told}; there are {gigabytes(there)}: {remedy}")
    if needed.bytes * at_once > there:
        remedy = f"set OMP_NUM_THREADS={there // needed.bytes}"
        raise AdvbenchError(f"{told}, {at_once} at once; there are {gigabytes(there)}: {remedy}")
    return f"largest image {size} {needed}"
