"""``advbench verify``: every byte of what was generated."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from advbench.cli.options import json_option, out_option
from advbench.cli.progress import Progress
from advbench.errors import AdvbenchError
from advbench.escaping import visible


@click.command()
@click.option(
    "--reindex",
    is_flag=True,
    help="Where every shard is sound, write index.csv anew: missing shards are given up.",
)
@out_option
@json_option
def verify(reindex: bool, out: Path, as_json: bool) -> int:
    """Check all shards below --out: every decoded image against its hash, every residual against
    its budget, that no image is there twice, every value of the index, orphans and leftovers. Exit
    code 1 on any problem.

    The content sha256 identifies the images whatever files they lie in: an interrupted and resumed
    run has the one of a run that was not interrupted.
    """
    from advbench.shards.store import ShardStore
    from advbench.shards.verify import verify as run

    root = out / "shards"
    if not root.is_dir():
        raise AdvbenchError(f"{root}: no shards there; make some with advbench generate")
    with Progress() as progress:
        report = run(root, progress.counting("verifying", "shards"))
        if reindex and not report.unsound:
            ShardStore(root).write_index(anew=True)
            report = run(root, progress.counting("verifying", "shards"))
    if as_json:
        found = asdict(report) | {"problems": report.problems, "damaged": report.damaged}
        click.echo(json.dumps(found, indent=2))
        return int(bool(report.problems))
    for path, problem in report.problems:
        click.echo(f"{visible(path)}: {visible(problem)}")
    if report.problems:
        click.echo(f"{len(report.damaged)} files with problems")
    else:
        click.echo(f"{report.shards} shards, {report.images} images: all sound")
        click.echo(f"content sha256 {report.content_sha256}")
    return int(bool(report.problems))
