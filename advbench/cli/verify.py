"""``advbench verify``: every byte of what was generated."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from advbench.cli.options import json_option, out_option
from advbench.cli.progress import Progress
from advbench.errors import AdvbenchError


@click.command()
@out_option
@json_option
def verify(out: Path, as_json: bool) -> int:
    """Check all shards below --out: file sums against the index, every decoded image against its
    hash, every residual against its budget, orphans and leftovers. Exit code 1 on any problem.

    The content sha256 identifies the images whatever files they lie in: an interrupted and resumed
    run has the one of a run that was not interrupted.
    """
    from advbench.shards.verify import verify as run

    root = out / "shards"
    if not root.is_dir():
        raise AdvbenchError(f"{root}: no shards there; make some with advbench generate")
    with Progress() as progress:
        report = run(root, progress.counting("verifying", "shards"))
    if as_json:
        click.echo(json.dumps({**asdict(report), "damaged": report.damaged}, indent=2))
        return int(bool(report.problems))
    for path, problem in report.problems:
        click.echo(f"{path}: {problem}")
    if report.problems:
        click.echo(
            f"{len(report.damaged)} files with problems; run the generate command that made them "
            "again with --repair"
        )
    else:
        click.echo(f"{report.shards} shards, {report.images} images: all sound")
        click.echo(f"content sha256 {report.content_sha256}")
    return int(bool(report.problems))
