"""``advbench reproduce``: the paper's tables, ours beside the published ones, and its figures."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advbench.cli.figures import FIGURES, figure
from advbench.cli.grid import Column, show, terminal
from advbench.cli.groups import Group
from advbench.cli.options import (
    by_victim,
    parse_settings,
    reproduction_options,
    several,
)
from advbench.cli.progress import Progress
from advbench.errors import AdvbenchError
from advbench.escaping import rich_text
from advbench.registry import VICTIMS

if TYPE_CHECKING:
    import pandas as pd

TABLES = {
    "table3": "ANSM under six attacks.",
    "table4": "Depth of the layers that ANSM aligns.",
    "table5": "Pixels or features: PwR beside FFA.",
    "table6": "FFA and MgR, alone and together.",
}
ABLATED = ("ifosn", "code")  # the victims of the paper's Tables IV to VI


@click.command()
@several("--victim", help="Victims, or all [all for table3, ifosn,code for the others].")
@several("--dataset", help="Names or folders [all that are here].")
@click.option("--train-dataset", help="What the ablations' networks learn from [the --dataset].")
@several("--weights", metavar="VICTIM=PATH", help="Checkpoints of victims [the built-in ones].")
@several("--ansm-weights", metavar="PATH", help="table3: networks of train ansm [the shipped].")
@click.option(
    "--start", metavar="PATH", help="table4 to 6: what the networks begin from, see train ansm."
)
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="A field of the recipe.")
@reproduction_options
def table(
    victim: Sequence[str],
    dataset: Sequence[str],
    train_dataset: str | None,
    *,
    weights: Sequence[str],
    ansm_weights: Sequence[str],
    start: str | None,
    pairs: Sequence[str],
    profile: str,
    limit: int | None,
    size: Any,
    device: str,
    out: Path,
    as_json: bool,
) -> None:
    """Make what a table of the ANSM paper needs, score it, and print it beside the paper's figures.

    Run the same command again to resume; --limit N takes N test images.

    \b
    advbench reproduce table3 --victim ifosn --limit 20
    advbench reproduce table5 --victim ifosn --set epochs_first=5
    """
    name = str(click.get_current_context().info_name)
    default = ("all",) if name == "table3" else ABLATED
    from advbench.pipelines.config import VictimChoice, expand

    chosen = expand(VICTIMS, victim or default)
    checkpoints = by_victim(weights, chosen)
    if name == "table3" and (pairs or train_dataset or start):
        raise AdvbenchError(
            "table3 trains nothing: --set, --start and --train-dataset are for table4 to 6"
        )
    if name != "table3" and ansm_weights:
        raise AdvbenchError(f"{name} trains its own networks: --ansm-weights is for table3")

    from advbench.files import write_atomically
    from advbench.inference.devices import torch_device
    from advbench.pipelines.load import datasets_here, load_dataset
    from advbench.pipelines.reproduce import ReproductionJob
    from advbench.pipelines.reproduce import reproduce as run
    from advbench.scores.tables import as_csv

    where = torch_device(device)
    split: Any = "test" if name == "table3" else "train"
    with Progress() as progress:

        def opened(which: str) -> Any:
            return load_dataset(which, out, split, progress)

        victims = [
            VictimChoice(size=size, weights=checkpoints.get(one) or "builtin").load(one, where)
            for one in chosen
        ]
        datasets = [opened(one) for one in dataset]
        if not dataset:
            needed = ["test"] if name == "table3" or train_dataset else ["test", "train", "val"]
            here = [opened(one) for one in datasets_here(out)]
            datasets = [d for d in here if all(d.select(part, label=1) for part in needed)]
        job = ReproductionJob(
            out,
            datasets,
            victims,
            limit,
            profile=profile,
            weights=ansm_weights,
            training=opened(train_dataset) if train_dataset else None,
            recipe=parse_settings(pairs),
            start=start,
        )
        found = run(name, job, progress.measured_in("steps"))
    path = out / "reproduce" / ("-".join([name, *victim]) + ".csv")
    write_atomically(path, as_csv(found))
    if as_json:
        click.echo(json.dumps(json.loads(found.to_json(orient="records")), indent=2))
        return
    _show(name, found)
    click.echo(f"table: {path}")


def _show(table: str, found: pd.DataFrame) -> None:
    """Print our figures beside the paper's, a table each dataset and victim."""
    console = terminal()
    column = "defense" if table == "table3" else "strategy"
    said = ["F1 (RP %, with half of its 95 % interval), attacks are means over their intensities"]
    if table == "table3":
        said.append("paper: where it has not the dataset, the mean RP over its four")
    if found.weights.str.startswith("builtin").any():
        said.append(
            "weights 'builtin' know the built-in data only: the paper's figures beside them show "
            "what its networks did on real forgeries"
        )
    keys = ["dataset", "victim", "weights"]
    for (dataset, victim, weights), rows in found.groupby(keys, sort=False):
        plain = rows.to_dict("records")
        ours = [_figures(r["f1"], r["rp"], (r["rp_high"] - r["rp_low"]) / 2) for r in plain]
        paper = [_figures(row["published_f1"], row["published_rp"]) for row in plain]
        counts = rows.n.astype(int).map(str) + "/" + rows.photographs.astype(int).map(str)
        show(
            console,
            f"{table}: {victim} ({weights}) on {dataset}",
            [Column(column, rows[column].tolist()), Column("attack", rows.attack.tolist())],
            [
                Column("ours", ours),
                Column("paper", paper),
                Column("images/photographs", counts.tolist()),
            ],
            caption="; ".join(said),
        )
        for note, marked in rows[rows.note != ""].groupby("note", sort=False):
            cells = ", ".join(f"{r[column]} {r['attack']}" for r in marked.to_dict("records"))
            console.print(rich_text(f"{note}: {cells}"), highlight=False)


def _figures(f1: float, rp: float, half: float = math.nan) -> str:
    if math.isnan(f1) and math.isnan(rp):
        return "-"
    first = "" if math.isnan(f1) else f"{f1:.3f} "
    spread = "" if math.isnan(half) else f" ±{half:.1f}"
    return f"{first}({rp:.1f}{spread})" if not math.isnan(rp) else f"{first}(-)"


@click.group(cls=Group)
def reproduce() -> None:
    """Make what a table or figure of the ANSM paper needs, and show it."""


def _under(name: str, command: click.Command, about: str) -> click.Command:
    """The command under a name of its own."""
    own = copy.copy(command)
    own.name, own.short_help = name, about
    return own


for each, commands in ((table, TABLES), (figure, FIGURES)):
    for named, about in commands.items():
        reproduce.add_command(_under(named, each, about))
