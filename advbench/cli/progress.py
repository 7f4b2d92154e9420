"""Progress: a bar on a terminal, now and then a plain line elsewhere; always on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_LINE_SECONDS = 10.0


class Progress:
    """Shows what is being done, how much of it is done, and the time left."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._last = self._started = time.monotonic()
        if sys.stderr.isatty():
            import rich.progress
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

            self._bar = rich.progress.Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(unit),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )

    def note(self, text: str) -> None:
        """A line that stays."""
        if self._bar:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            click.echo(text, err=True)

    def update(self, what: str, done: int, total: int) -> None:
        """Called with counts; cheap enough to be called often."""
        if self._bar:
            if self._task is None:
                self._task = self._bar.add_task(what, total=total)
            self._bar.update(self._task, description=what, completed=done, total=total)
            return
        now = time.monotonic()
        if now - self._last >= _LINE_SECONDS:
            self._last = now
            left = (now - self._started) * (total - done) / max(done, 1)
            click.echo(f"{what}: {done}/{total} {self._unit}, {left:.0f} s left", err=True)

    def counts(self, what: str) -> _Counts:
        """For callers that give done and total alone."""
        return _Counts(self, what)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()


class _Counts:
    def __init__(self, progress: Progress, what: str) -> None:
        self._progress, self._what = progress, what

    def __call__(self, done: int, total: int) -> None:
        self._progress.update(self._what, done, total)
