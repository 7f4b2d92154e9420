"""Progress: a bar on a terminal, now and then a plain line elsewhere; always on standard error."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

import click

from advbench.escaping import visible
from advbench.progress import CountProgress, TaskProgress

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_LINE_SECONDS = 10.0


class Progress:
    """Shows what is being done, how much of it is done, and the time left.

    Args:
        quiet: show nothing.
        seconds: between two lines, where the output is no terminal.
    """

    def __init__(self, quiet: bool = False, seconds: float = _LINE_SECONDS) -> None:
        self._quiet, self._seconds = quiet, seconds
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._last = time.monotonic()
        self._measure = ("", 0)
        self._first: tuple[int, float] = 0, self._last
        if sys.stderr.isatty() and not quiet:
            import rich.progress
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

            self._bar = rich.progress.Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
                speed_estimate_period=3600,  # the average, since attacks take turns
            )

    def note(self, text: str) -> None:
        """A line that stays."""
        if self._quiet:
            return
        text = visible(text)
        if self._bar:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            click.echo(text, err=True)

    def update(self, what: str, done: int, total: int, unit: str = "") -> None:
        """Called with counts; cheap enough to be called often."""
        if self._quiet:
            return
        if self._bar:
            if self._task is None:
                self._task = self._bar.add_task(what, total=total, unit=unit)
            self._bar.update(self._task, description=what, completed=done, total=total, unit=unit)
            return
        now = time.monotonic()
        if (unit, total) != self._measure:
            self._measure, self._first = (unit, total), (done, now)
        if now - self._last >= self._seconds:
            self._last = now
            before, since = self._first  # what an earlier run did took none of this one's time
            left = (now - since) * (total - done) / max(done - before, 1)
            amount = f"{done}/{total} {unit}".rstrip()
            click.echo(f"{what}: {amount}, {left:.0f} s left", err=True)

    def counting(self, what: str, unit: str) -> CountProgress:
        """:meth:`update` for callers that give done and total alone."""
        return lambda done, total: self.update(what, done, total, unit)

    def measured_in(self, unit: str) -> TaskProgress:
        """:meth:`update` for callers that do not name a unit."""
        return lambda what, done, total: self.update(what, done, total, unit)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.stop()
