"""A unit of work: small enough to lose, keyed by its content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class WorkUnit(Generic[T]):
    """What is to be done.

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
