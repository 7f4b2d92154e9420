"""Let work tell what it is doing: notes that stay, and counts that move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

# Called with what is being done, how much of it is done, and how much there is.
TaskProgress = Callable[[str, int, int], None]
CountProgress = Callable[[int, int], None]


class Feedback(Protocol):
    """Takes what a user is to see while work goes on."""

    def note(self, text: str) -> None:
        """Show a line that stays."""

    def counting(self, what: str, unit: str) -> CountProgress:
        """Return what is to be called with the number done and of all."""

    def measured_in(self, unit: str) -> TaskProgress:
        """Return what is to be called with what is done, the number done and of all."""


class Silent:
    """Shows nothing."""

    def note(self, text: str) -> None:
        """Drop the line."""

    def counting(self, what: str, unit: str) -> CountProgress:
        """Return a function that does nothing."""
        return lambda done, total: None

    def measured_in(self, unit: str) -> TaskProgress:
        """Return a function that does nothing."""
        return lambda what, done, total: None
