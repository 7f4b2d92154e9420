"""``advbench leaderboard``: defenses ranked, as CSV derived from records."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advbench.cli.options import json_option, out_option
from advbench.cli.site import site
from advbench.errors import AdvbenchError

if TYPE_CHECKING:
    import pandas as pd


@click.group()
def leaderboard() -> None:
    """Rank defenses by what they recover."""


leaderboard.add_command(site)


@leaderboard.command()
@click.option(
    "--records",
    type=click.Path(path_type=Path, exists=True),
    help="A folder or file of records [OUT/records].",
)
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the CSVs [OUT/leaderboard].",
)
@click.option("--with-records", is_flag=True, help="Write DATASET.parquet, all records, beside it.")
@click.option(
    "--tuned-on",
    metavar="DATASET",
    help="Show each defense at the one strength that ranks first on this dataset, which is left "
    "out, such as builtin-val.",
)
@out_option
@json_option
def build(
    records: Path | None,
    to: Path | None,
    with_records: bool,
    tuned_on: str | None,
    out: Path,
    as_json: bool,
) -> None:
    """Write DATASET.csv for each dataset: the defenses of each victim by mean RP over the attacks.

    The same records give the same bytes. What each column means: docs/leaderboard.md.

    \b
    advbench leaderboard build
    advbench leaderboard build --records builtin.parquet --to rebuilt
    advbench leaderboard build --tuned-on builtin-val --to tuned
    """
    import pandas as pd

    from advbench.files import write_atomically
    from advbench.scores.leaderboard import leaderboard as ranked
    from advbench.scores.leaderboard import tuned
    from advbench.scores.records import read_records, write_merged
    from advbench.scores.tables import as_csv

    folder = to or out / "leaderboard"
    every = read_records(records or out / "records")
    if tuned_on:
        validation = every[every.dataset == tuned_on]
        if not len(validation):
            raise AdvbenchError(
                f"--tuned-on {tuned_on}: no records of it; there are "
                f"{', '.join(sorted(set(every.dataset)))}"
            )
        others = every[every.dataset != tuned_on]
        if not len(others):
            raise AdvbenchError(f"--tuned-on {tuned_on}: there are no records of another dataset")
        parts = [tuned(part, validation) for _, part in others.groupby("dataset")]
        every = pd.concat(parts, ignore_index=True)
    boards = {str(name): ranked(part) for name, part in every.groupby("dataset")}
    for name in boards:
        if not re.fullmatch("[A-Za-z0-9_-]+", name):
            raise AdvbenchError(f"{records or out / 'records'}: {name!r} is no name of a dataset")
    for name, board in boards.items():
        write_atomically(folder / f"{name}.csv", as_csv(board))
        if with_records:
            write_merged(folder / f"{name}.parquet", every[every.dataset == name])
    if as_json:
        plain = {name: json.loads(b.to_json(orient="records")) for name, b in boards.items()}
        click.echo(json.dumps(plain, indent=2))
        return
    for name, board in boards.items():
        _show(name, board)
    click.echo(f"leaderboards in {folder}")


def _show(name: str, board: pd.DataFrame) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    table = Table(title=f"{name}: RP %, attacks averaged over their intensities")
    shown = ["rank", "victim", "weights", "defense"]
    numbers = [c for c in board.columns if c.endswith("_rp")]
    for column in shown:
        table.add_column(column)
    for column in [*numbers, "n"]:
        table.add_column(column.removesuffix("_rp"), justify="right")
    for row in board.to_dict("records"):
        strength = "" if row["strength"] != row["strength"] else f" {row['strength']:g}"
        cells = [_text(row["rank"]), row["victim"], row["weights"], row["defense"] + strength]
        table.add_row(*cells, *(_text(row[c]) for c in numbers), _text(row["n"]))
    console.print(table)


def _text(value: Any) -> str:
    import pandas as pd

    if pd.isna(value):
        return "–"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
