"""A unit of work: small enough to lose, keyed by its content; and what every engine promises."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from advbench.errors import AdvbenchError, first_line

T = TypeVar("T")
R = TypeVar("R")

# Does a payload; called with how much of the unit's cost is done, as it goes.
Advance = Callable[[int], None]
Work = Callable[[T, Advance], R]


@dataclass(frozen=True)
class WorkUnit(Generic[T]):
    """Describe what is to be done.

    Attributes:
        name: for progress and messages.
        parts: what decides the result; the key is their hash.
        cost: in any unit that is the same for all units of a run.
        payload: what the worker needs.
    """

    name: str
    parts: tuple[str, ...]
    cost: int
    payload: T

    @property
    def key(self) -> str:
        """The content key: equal for equal work, whoever does it."""
        return hashlib.sha256("\n".join(self.parts).encode()).hexdigest()


class Engine(Protocol):
    """Run units somewhere."""

    def run(
        self,
        work: Work[T, R],
        units: Sequence[WorkUnit[T]],
        progress: Callable[[str, int, int], None],
    ) -> Iterator[R]:
        """Do each unit once, in any order; units of equal keys are one.

        Args:
            work: is pickled where it goes to another process.
            progress: called with a unit's name, the cost that is done and that of all.

        Raises:
            AdvbenchError: what ``work`` raised, work that cannot be pickled, or a unit whose worker
                died again and again.
        """


def once_each(units: Sequence[WorkUnit[T]]) -> list[WorkUnit[T]]:
    """The first of those of equal keys."""
    return list({unit.key: unit for unit in reversed(units)}.values())[::-1]


def not_sent(error: Exception) -> AdvbenchError:
    """Build the error of work that cannot be pickled."""
    return AdvbenchError(
        f"the work cannot go to other processes ({first_line(error)}); make the plug-in one that "
        "can be pickled, or take --engine local --workers 1"
    )
