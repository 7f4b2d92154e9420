"""``advbench evaluate``: defenses on all shards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advbench.cli.options import (
    device_option,
    engine_options,
    json_option,
    limit_option,
    out_option,
    parse_settings,
    plugin_option,
    seed_option,
    several,
    several_numbers,
    weights_option,
)
from advbench.cli.progress import Progress
from advbench.cli.tables import write_tables
from advbench.registry import DEFENSES

if TYPE_CHECKING:
    from advbench.engines.units import Engine


@click.command()
@several("--defense", default=["none"], show_default=True, help="Defenses, or all there are.")
@several_numbers("--quality", help="Strengths of jpeg, 1 to 100 [90,70,50].")
@several_numbers("--scale", help="Strengths of resize [0.9,0.7,0.5].")
@several_numbers("--kernel", help="Strengths of median, odd pixels [3,5,7].")
@several_numbers("--sigma", help="Strengths of gaussian, in grey levels [2,5,10].")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="A setting of a defense.")
@several("--victim", help="Only these victims.")
@several("--dataset", help="Only these datasets.")
@click.option("--protocol", default="f1/v1", show_default=True, help="The F1 rule.")
@several(
    "--metrics",
    default=["auc,ssim"],
    show_default=True,
    metavar="auc|ssim|none",
    help="What takes time beside F1 and the counts.",
)
@several("--ansm-weights", metavar="PATH", help="Networks of train ansm [the shipped ones].")
@several("--relocalise-weights", metavar="PATH", help="Files of train relocalise [the shipped].")
@limit_option
@weights_option
@seed_option
@device_option
@engine_options
@out_option
@plugin_option
@json_option
def evaluate(
    defense: Sequence[str],
    quality: Sequence[float],
    scale: Sequence[float],
    kernel: Sequence[float],
    *,
    sigma: Sequence[float],
    pairs: Sequence[str],
    victim: Sequence[str],
    dataset: Sequence[str],
    protocol: str,
    metrics: Sequence[str],
    ansm_weights: Sequence[str],
    relocalise_weights: Sequence[str],
    limit: int | None,
    weights: str | None,
    seed: int,
    device: str,
    engine: Engine,
    out: Path,
    as_json: bool,
) -> None:
    """Decode the stored images, defend them, run the victim, score; write records and tables.

    The undefended victim is always scored, once, and reused. Tables are derived from all records
    below --out.

    \b
    advbench evaluate --defense jpeg
    advbench evaluate --defense all
    advbench evaluate --defense jpeg,median --quality 75 --kernel 3,5
    """
    from advbench.pipelines.config import EvaluateConfig, spread
    from advbench.pipelines.verbs import evaluate as run

    strengths = {"quality": quality, "scale": scale, "kernel": kernel, "sigma": sigma}
    files = {"weights": tuple(ansm_weights), "writers": tuple(relocalise_weights)}
    options = strengths | files | parse_settings(pairs)
    config = EvaluateConfig.parse(
        "evaluate",
        {
            "defenses": spread(DEFENSES, defense, options),
            "protocol": protocol,
            "victims": tuple(victim),
            "datasets": tuple(dataset),
            "weights": weights,
            "limit": limit,
            "seed": seed,
            "where_possible": "all" in defense,
            "metrics": () if metrics == ("none",) else tuple(metrics),
            "device": device,
            "out": out,
        },
    )
    with Progress() as progress:
        counts = run(config, feedback=progress, engine=engine)
    found = write_tables(out)
    if as_json:
        click.echo(json.dumps(asdict(counts) | found.as_json(), indent=2))
        return
    found.show()
    for reason in counts.left_out:
        click.echo(f"left out: {reason}")
    click.echo(
        f"{counts.scored} scored, {counts.reused} were there; "
        f"records in {out / 'records'}, tables in {out / 'tables'}"
    )
