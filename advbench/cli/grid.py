"""Print tables that fit the terminal: columns that have no room stand in a block below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 80  # where the output is no terminal
BEST, WORST = "*", "!"
STYLES = {BEST: "bold green", WORST: "bold red", "": ""}


@dataclass(frozen=True)
class Column:
    """A column of text cells, a cell a row; a cell may have several lines.

    Attributes:
        marks: of each cell :data:`BEST`, :data:`WORST` or nothing, which the first line shows.
    """

    header: str
    cells: Sequence[str]
    marks: Sequence[str] = ()

    @property
    def width(self) -> int:
        """The widest line, with room for a mark."""
        lines = [line for cell in (self.header, *self.cells) for line in cell.split("\n")]
        return max(map(len, lines)) + any(self.marks)


def terminal(stderr: bool = False) -> Console:
    """Open a console as wide as the terminal, or 80 columns."""
    from rich.console import Console

    # Names hold no markup: [edit] and :smile: are text.
    plain = partial(Console, stderr=stderr, markup=False, emoji=False)
    console = plain()
    return console if console.is_terminal else plain(width=WIDTH)


def show(
    console: Console,
    title: str,
    names: Sequence[Column],
    figures: Sequence[Column],
    *,
    caption: str,
) -> None:
    """Print a table in as many blocks as it needs, the names at the left of each.

    Args:
        names: columns of text; figures: columns of numbers.
        caption: what is the same in all rows, and what the cells say.
    """
    from advbench.escaping import rich_text

    console.print(rich_text(title), style="bold")
    for block in _blocks(console.width, names, figures):
        console.print(_table(names, block))
    console.print(rich_text(caption), style="dim", highlight=False)
    console.print()


def extremes(values: Sequence[float], counted: Sequence[bool]) -> list[str]:
    """Mark the highest and the lowest of the counted values, where they differ."""
    finite = [v for v, c in zip(values, counted, strict=True) if c and not math.isnan(v)]
    if len(finite) < 2 or max(finite) == min(finite):
        return [""] * len(values)
    marks = {max(finite): BEST, min(finite): WORST}
    return [marks.get(v, "") if c else "" for v, c in zip(values, counted, strict=True)]


def _blocks(width: int, names: Sequence[Column], figures: Sequence[Column]) -> list[list[Column]]:
    left = width - sum(name.width + 1 for name in names)
    blocks: list[list[Column]] = []
    room = 0
    for column in figures:
        if not blocks or column.width + 1 > room:
            blocks.append([])
            room = left
        blocks[-1].append(column)
        room -= column.width + 1
    return blocks or [[]]


def _table(names: Sequence[Column], figures: Sequence[Column]) -> Any:
    from rich.table import Table

    from advbench.escaping import rich_text

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="underline")
    for column in names:
        table.add_column(rich_text(column.header), overflow="fold")
    for column in figures:
        table.add_column(rich_text(column.header), justify="right", overflow="fold")
    for row in range(len(names[0].cells)):
        cells = [_cell(column.cells[row]) for column in names]
        cells += [
            _cell(column.cells[row], column.marks[row] if column.marks else None)
            for column in figures
        ]
        table.add_row(*cells)
    return table


def _cell(text: str, mark: str | None = None) -> Any:
    """The lines of a cell, escaped; in a column of marks the first line leaves room for one."""
    from rich.text import Text

    from advbench.escaping import visible

    lines = [visible(line) for line in text.split("\n")]
    if mark is not None:
        lines = [f"{line}{mark or ' '}" if not i else f"{line} " for i, line in enumerate(lines)]
    shown = Text(lines[0], style=STYLES[mark or ""])
    for line in lines[1:]:
        shown.append(f"\n{line}", style="not bold dim")
    return shown
