"""The local engine: units one after another, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from advbench.engines.units import WorkUnit

T = TypeVar("T")
R = TypeVar("R")


def run(units: Iterable[WorkUnit[T]], work: Callable[[WorkUnit[T]], R]) -> Iterator[R]:
    """Do each unit once; equal keys are done once."""
    done: set[str] = set()
    for unit in units:
        if unit.key not in done:
            done.add(unit.key)
            yield work(unit)
