"""Work that takes turns, and tables of what it took."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import click
import torch

F = TypeVar("F", bound=Callable[..., Any])
Work = Callable[[], object]


def turns(
    work: Mapping[str, Work], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each, one after the other, again and again, so that all see the same machine."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repeats):
        for name, do in work.items():
            started = clock()
            do()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken[name].append(clock() - started)
    return taken


def ratio(taken: Mapping[str, Sequence[float]], above: str, below: str) -> dict[str, float]:
    """Median, smallest and largest of ``above`` ÷ ``below``, turn by turn."""
    found = [a / b for a, b in zip(taken[above], taken[below], strict=True)]
    return {
        "ratio": round(median(found), 3),
        "ratio_min": round(min(found), 3),
        "ratio_max": round(max(found), 3),
    }


def grid_ratios(rows: Sequence[Mapping[str, Any]], victim: str) -> dict[str, float]:
    """Weigh the attacks of a victim as the paper's grid does: peers ÷ exact, exact ÷ fast."""
    own = [row for row in rows if row["victim"] == victim]
    total = {
        key: sum(row[f"{key}_s"] * row["grid_part"] for row in own)
        for key in ("user", "layout", "exact", "fast")
    }
    return {
        "user": round(total["user"] / total["exact"], 2),
        "layout": round(total["layout"] / total["exact"], 2),
        "fast": round(total["exact"] / total["fast"], 2),
    }


def table_options(command: F) -> F:
    """``--csv`` and ``--json`` of a script that ends with :func:`put_out`."""
    command = click.option("--json", "as_json", is_flag=True)(command)
    path = click.Path(path_type=Path, dir_okay=False)
    return click.option("--csv", "csv_path", type=path)(command)


def put_out(
    rows: Sequence[Mapping[str, Any]],
    csv_path: Path | None,
    as_json: bool,
    line: Callable[[Mapping[str, Any]], str],
) -> None:
    """Write the table where it is asked for; print it as JSON, or line by line."""
    if csv_path:
        write_csv(csv_path, rows)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(line(row))


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line a row, columns in the order of the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
