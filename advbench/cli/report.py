"""``advbench report``: one HTML file that shows an output folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from advbench.cli.options import (
    UserPath,
    device_option,
    json_option,
    out_option,
    plugin_option,
    several,
    weights_option,
)


@click.command()
@click.option(
    "--to",
    type=UserPath(dir_okay=False),
    help="The file to write [OUT/report/index.html].",
)
@several("--dataset", help="Only these datasets [all that there are records of].")
@several("--victim", help="Only these victims.")
@several("--ansm-weights", metavar="PATH", help="Networks of train ansm, for the maps.")
@click.option("--maps/--no-maps", default=True, help="Run victims for the maps of the gallery.")
@click.option(
    "--megabytes",
    type=click.FloatRange(min=0),
    default=8.0,
    show_default=True,
    help="The most that pictures may take.",
)
@weights_option
@device_option
@out_option
@plugin_option
@json_option
def report(
    to: Path | None,
    dataset: Sequence[str],
    victim: Sequence[str],
    ansm_weights: Sequence[str],
    *,
    maps: bool,
    megabytes: float,
    weights: str | None,
    device: str,
    out: Path,
    as_json: bool,
) -> None:
    """Write one self-contained HTML page: verdicts, tables, curves, a gallery, all scores.

    It is derived from the records and shards below --out and loads nothing from a network. Victims
    run on a few images, for their maps.

    \b
    advbench report
    advbench report --victim ifosn --no-maps --to report.html
    """
    from advbench.datasets.builtin.editions import recorded_name
    from advbench.inference.devices import torch_device
    from advbench.pipelines.config import with_networks
    from advbench.pipelines.verbs import load_identified
    from advbench.report.build import ReportJob, build

    where = torch_device(device)
    datasets = [recorded_name(name) for name in dataset]
    page = to or out / "report" / "index.html"
    job = ReportJob(out, page, datasets, victim, megabytes, with_networks(ansm_weights))
    made = build(job, (lambda i: load_identified(i, weights, where)) if maps else None)
    if as_json:
        found = {"path": str(made.path), "bytes": made.bytes, "records": made.records}
        click.echo(json.dumps(found | {"notes": made.notes}, indent=2))
        return
    for note in made.notes:
        click.echo(note)
    click.echo(f"report: {made.path} ({made.bytes / 1e6:.1f} MB, {made.records} records)")
