"""``advbench leaderboard``: defenses ranked, as CSV derived from records."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from advbench.cli.board import show_board, tell_missing
from advbench.cli.groups import Group
from advbench.cli.options import UserPath, json_option, out_option
from advbench.cli.site import site
from advbench.cli.submit import add, check
from advbench.errors import AdvbenchError


@click.group(cls=Group)
def leaderboard() -> None:
    """Rank defenses by what they recover."""


for command in (site, check, add):
    leaderboard.add_command(command)


@leaderboard.command()
@click.option(
    "--records",
    type=UserPath(exists=True),
    help="A folder or file of records [OUT/records].",
)
@click.option(
    "--to",
    type=UserPath(file_okay=False),
    help="Folder of the CSVs [OUT/leaderboard].",
)
@click.option("--with-records", is_flag=True, help="Write all records as a .parquet beside it.")
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
    *,
    out: Path,
    as_json: bool,
) -> None:
    """Write DATASET.csv for each dataset: the defenses of each victim by their worst case.

    Where no defense was attacked through itself it is DATASET-static.csv. The same records give
    the same bytes. What each column means: docs/leaderboard.md.

    \b
    advbench leaderboard build
    advbench leaderboard build --records builtin.parquet --to rebuilt
    advbench leaderboard build --tuned-on builtin-val --to tuned
    """
    import pandas as pd

    from advbench.datasets.builtin.editions import recorded_name
    from advbench.files import write_atomically
    from advbench.scores.leaderboard import board_name, missing_cells, tuned
    from advbench.scores.leaderboard import leaderboard as ranked
    from advbench.scores.records import read_records, write_merged
    from advbench.scores.tables import as_csv

    folder = to or out / "leaderboard"
    every = read_records(records or out / "records")
    if tuned_on:
        tuned_on = recorded_name(tuned_on)
        validation = every[every.dataset == tuned_on]
        if not len(validation):
            raise AdvbenchError(
                f"--tuned-on {tuned_on}: no records of it; there are "
                f"{', '.join(sorted(set(every.dataset)))}"
            )
        others = every[every.dataset != tuned_on]
        if not len(others):
            raise AdvbenchError(f"--tuned-on {tuned_on}: there are no records of another dataset")
        chosen = [tuned(part, validation) for _, part in others.groupby("dataset")]
        every = pd.concat(chosen, ignore_index=True)
    parts = {board_name(part): part for _, part in every.groupby("dataset")}
    for name in parts:
        if not re.fullmatch("[A-Za-z0-9_-]+", name):
            raise AdvbenchError(f"{records or out / 'records'}: {name!r} is no name of a dataset")
    boards = {name: ranked(part) for name, part in parts.items()}
    for name, board in boards.items():
        write_atomically(folder / f"{name}.csv", as_csv(board))
        if with_records:
            write_merged(folder / f"{name}.parquet", parts[name])
    if as_json:
        plain = {name: json.loads(b.to_json(orient="records")) for name, b in boards.items()}
        click.echo(json.dumps(plain, indent=2))
        return
    for name, board in boards.items():
        show_board(name, board)
    for part in parts.values():
        tell_missing(missing_cells(part))
    click.echo(f"leaderboards in {folder}")
