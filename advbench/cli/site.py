"""``advbench leaderboard site``: the leaderboards as static pages."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from advbench.cli.options import UserPath


@click.command()
@click.option("--to", type=UserPath(file_okay=False), required=True, help="The folder.")
@click.option(
    "--from",
    "source",
    type=UserPath(exists=True, file_okay=False),
    help="Where DATASET.csv and DATASET.parquet are [the published ones of this version].",
)
def site(to: Path, source: Path | None) -> None:
    """Write a static site: a page a dataset, each row with its records, gates and hashes.

    Each CSV must follow from the records beside it, to the byte.

    \b
    advbench leaderboard site --to site
    advbench leaderboard site --from advbench-data/leaderboard --to site
    """
    from advbench.report.site import site as write

    with resources.as_file(resources.files("advbench.manifests") / "leaderboards") as published:
        made = write(source or published, to)
    click.echo(f"site: {to / 'index.html'} ({len(made.pages)} leaderboards, {made.rows} rows)")
