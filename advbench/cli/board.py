"""A leaderboard in the terminal: ranks, what they follow from, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from advbench.cli.grid import Column, show, terminal
from advbench.escaping import rich_text, visible

if TYPE_CHECKING:
    import pandas as pd

    from advbench.scores.missing import Missing

MOST_TOLD = 8  # rows that lack something


def show_board(name: str, board: pd.DataFrame) -> None:
    """Print each victim's rows: the rank, what it follows from, and RP under each attack."""
    from advbench.scores.cells import defense_label

    console = terminal()
    for victim, rows in board.groupby("victim", sort=False):
        labels = [defense_label(d, s) for d, s in zip(rows.defense, rows.strength, strict=True)]
        names = [
            Column("rank", ["-" if math.isnan(r) else f"{r:.0f}" for r in _floats(rows, "rank")]),
            Column("defense", labels),
        ]
        figures = [
            _column(rows, "worst MCC", "worst_mcc", 3),
            _column(rows, "lead", "lead", 3),
            _column(rows, "MCC", "original_mcc", 3),
            *(
                _column(rows, c.removesuffix("_rp").replace("_", " "), c, 0)
                for c in rows.columns
                if c.endswith("_rp")
            ),
            _column(rows, "lost F1 up to", "lost_f1_bound", 2),
        ]
        if rows.n_authentic.max():
            marked, framed = 100 * rows.marked_authentic, 100 * rows.framed_authentic
            percent = rows.assign(marked=marked, framed=framed)
            figures += [_column(percent, f"{what} %", what, 1) for what in ("marked", "framed")]
        figures.append(Column("gates", [gates.partition(" ")[0] for gates in rows.gates]))
        first = rows.iloc[0]
        caption = (
            "worst MCC, below it ± half of its 95 % interval: of each image the lowest over all "
            "attacks up to 3 grey levels; lead: before the next row, on the same images; then MCC "
            "and RP % on originals, RP % under each attack and its mean; lost F1: with 95 % "
            f"confidence, of all photographs of the kind; {first.n:.0f} forged images of "
            f"{first.photographs:.0f} photographs, {first.n_authentic} authentic ones; weights "
            f"{first.weights}, {first.protocol}"
        )
        show(console, f"{name}: {victim}", names, figures, caption=caption)
        for note, others in rows[rows.note != ""].groupby("note", sort=False):
            text = ", ".join(labels[place] for place in rows.index.get_indexer(others.index))
            console.print(rich_text(f"no rank: {text}: {note}"), highlight=False)
        console.print()


def _floats(rows: pd.DataFrame, name: str) -> list[float]:
    return rows[name].astype("Float64").to_numpy(float, na_value=math.nan).tolist()


def _column(rows: pd.DataFrame, header: str, name: str, digits: int) -> Column:
    """Figures, and below each half of its interval where it has one."""
    ends = [
        _floats(rows, f"{name}_{end}") if f"{name}_{end}" in rows else [math.nan] * len(rows)
        for end in ("low", "high")
    ]
    cells = []
    for value, low, high in zip(_floats(rows, name), *ends, strict=True):
        half = "" if math.isnan(low) else f"\n±{(high - low) / 2:.{digits}f}"
        cells.append("-" if math.isnan(value) else f"{value:.{digits}f}{half}")
    return Column(header, cells)


def tell_missing(lacking: Sequence[Missing]) -> None:
    """Print the commands that fill what is missing."""
    from advbench.scores.cells import defense_label

    for one in lacking[:MOST_TOLD]:
        label = defense_label(one.about["defense"], one.about["strength"])
        click.echo(visible(f"{label} before {one.about['victim']} {one}; fill it with:"))
        for command in one.commands:
            click.echo(f"  {visible(command)}")
    if len(lacking) > MOST_TOLD:
        click.echo(f"{len(lacking) - MOST_TOLD} more rows have not met all; see the column note")
