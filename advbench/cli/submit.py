"""``advbench submit``, ``leaderboard check`` and ``leaderboard add``: defenses sent by others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.cli.options import (
    device_option,
    json_option,
    named,
    out_option,
    plugin_option,
    several,
    weights_option,
)

if TYPE_CHECKING:
    from advbench.submissions.check import Checked


@click.command()
@click.argument("defense")
@click.option("--to", type=click.Path(path_type=Path), required=True, help="The archive to write.")
@named("--dataset", default="builtin", show_default=True)
@click.option("--title", default="", help="What the defense is, in a line.")
@click.option("--reference", default="", help="A paper or an address.")
@click.option("--contact", default="", help="Whom to ask.")
@out_option
def submit(
    defense: str, to: Path, dataset: str, title: str, *, reference: str, contact: str, out: Path
) -> None:
    """Pack the records of DEFENSE below --out into one archive for a leaderboard.

    It holds the records of the defense and of the undefended victims, the specifications and
    hashes of what they stand on, and no image.

    \b
    advbench submit ansm --to ansm.zip
    advbench leaderboard check ansm.zip
    """
    from advbench.datasets.builtin.editions import recorded_name
    from advbench.submissions.pack import SubmissionJob
    from advbench.submissions.pack import submit as run

    recorded = recorded_name(dataset)
    board = run(SubmissionJob(out, to, recorded, defense, title, reference, contact))
    click.echo(f"submission: {to} ({len(board)} rows, {to.stat().st_size / 1e3:.0f} kB)")


@click.command()
@click.argument("archive", type=click.Path(path_type=Path))
@click.option(
    "--against",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where DATASET.parquet is [the leaderboards of this version].",
)
@click.option("--static", is_flag=True, help="Into the static leaderboard of a dataset.")
@click.option(
    "--rerun", type=click.IntRange(min=1), metavar="N", help="Score N records again, from --out."
)
@click.option("--seed", type=int, help="Draws those [none, so that nobody knows them].")
@several("--ansm-weights", metavar="PATH", help="Networks of train ansm, to score again with.")
@weights_option
@device_option
@out_option
@plugin_option
@json_option
def check(
    archive: Path,
    against: Path | None,
    static: bool,
    rerun: int | None,
    *,
    seed: int | None,
    ansm_weights: Sequence[str],
    weights: str | None,
    device: str,
    out: Path,
    as_json: bool,
) -> None:
    """Check a submission: form, hashes, protocol, images, coverage, and every number anew.

    Exit code 2 and the reason where it is refused. With --rerun a random sample is decoded,
    defended and scored again from the shards below --out.

    \b
    advbench leaderboard check ansm.zip
    advbench leaderboard check mine.zip --plugin mine:Mine --rerun 50
    """
    from advbench.submissions.check import check as run

    with resources.as_file(resources.files("advbench.manifests") / "leaderboards") as published:
        checked = run(archive, against or published, static)
    again = None
    if rerun:
        from advbench.inference.devices import torch_device
        from advbench.pipelines.config import with_networks
        from advbench.pipelines.verbs import load_identified
        from advbench.submissions.rerun import rerun as score_again

        where = torch_device(device)
        again = score_again(
            checked,
            out,
            rerun,
            lambda identity: load_identified(identity, weights, where),
            given=with_networks(ansm_weights),
            seed=seed,
        )
    _tell(archive, checked, None if again is None else len(again), as_json)


@click.command()
@click.argument("archive", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="The folder with the leaderboard's .parquet and .csv.",
)
@click.option("--static", is_flag=True, help="Into the static leaderboard of a dataset.")
def add(archive: Path, to: Path, static: bool) -> None:
    """Check a submission and merge it into the leaderboard of its dataset.

    \b
    advbench leaderboard add ansm.zip --to manifests/leaderboards
    """
    from advbench.submissions.check import check as run
    from advbench.submissions.merge import add as merge

    checked = run(archive, to, static)
    board = merge(checked, static)
    click.echo(
        f"{checked.claims.defense} added to {checked.against.with_suffix('.csv')}, "
        f"now {len(board)} rows"
    )


def _tell(archive: Path, checked: Checked, again: int | None, as_json: bool) -> None:
    claims, judged = checked.claims, checked.gates
    failed = judged[judged.verdict == "FAIL"]
    if as_json:
        found = {
            "archive": str(archive),
            "defense": claims.defense,
            "dataset": claims.dataset,
            "records": len(checked.records),
            "threats": sorted(set(checked.records.threat)),
            "rerun": again,
            "board": json.loads(checked.board.to_json(orient="records")),
            "gates": json.loads(judged.to_json(orient="records")),
        }
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(
        f"{archive}: holds; {claims.defense} on {claims.dataset}, {len(checked.records)} records, "
        f"threat models {', '.join(sorted(set(checked.records.threat)))}"
    )
    if again is not None:
        click.echo(f"{again} records scored again, to the same F1")
    for row in failed.to_dict("records"):
        click.echo(f"gate {row['gate']} FAIL before {row['victim']}: {row['told']}")
