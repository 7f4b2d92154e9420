"""``advbench evaluate``: defenses on all shards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advbench.cli.options import (
    chosen,
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
    torch_device,
    weights_option,
)
from advbench.cli.progress import Progress
from advbench.cli.tables import write_tables
from advbench.errors import AdvbenchError
from advbench.registry import DEFENSES, VICTIMS

if TYPE_CHECKING:
    from advbench.defenses.base import Defense
    from advbench.engines.units import Engine
    from advbench.victims.base import Victim

# Fields of defenses whose option has another name.
OPTIONS = {"weights": "ansm-weights"}


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
@several("--ansm-weights", metavar="PATH", help="Networks of train ansm [the shipped ones].")
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
    sigma: Sequence[float],
    pairs: Sequence[str],
    victim: Sequence[str],
    dataset: Sequence[str],
    protocol: str,
    ansm_weights: Sequence[str],
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
    strengths = {"quality": quality, "scale": scale, "kernel": kernel, "sigma": sigma}
    settings = parse_settings(pairs) | ({"weights": tuple(ansm_weights)} if ansm_weights else {})
    defenses = build_defenses(chosen(DEFENSES, defense), strengths, settings)

    from advbench.pipelines.evaluate import Request
    from advbench.pipelines.evaluate import evaluate as run
    from advbench.scores import protocols

    request = Request(
        out,
        defenses,
        protocols.protocol(protocol),
        tuple(victim),
        tuple(dataset),
        limit,
        seed,
        where_possible="all" in defense,
    )
    where = torch_device(device)

    def load(identity: dict[str, str]) -> Victim:
        return load_identified(identity, weights, where)

    with Progress() as progress:
        summary = run(request, load, progress.measured_in("images × defenses"), engine)
    found = write_tables(out)
    if as_json:
        click.echo(json.dumps(asdict(summary) | found.as_json(), indent=2))
        return
    found.show()
    for reason in summary.left_out:
        click.echo(f"left out: {reason}")
    click.echo(
        f"{summary.scored} scored, {summary.reused} were there; "
        f"records in {out / 'records'}, tables in {out / 'tables'}"
    )


def load_identified(identity: dict[str, str], weights: str | None, device: str) -> Victim:
    """The victim that shards were made with."""
    label = identity["weights"]
    source: str | None = weights or "builtin"
    seed = 0
    if label.startswith("random:"):
        source, seed = None, int(label.removeprefix("random:"))
    elif not weights and label.startswith("file:"):
        raise AdvbenchError(
            f"victim {identity['name']}: the shards were made with a checkpoint whose sha256 "
            f"begins with {label.removeprefix('file:')}; give it with --weights PATH"
        )
    return VICTIMS.get(identity["name"]).load(
        size=identity["size"], weights=source, device=device, seed=seed
    )


def build_defenses(
    names: Sequence[str], strengths: dict[str, Sequence[float]], settings: dict[str, Any]
) -> list[Defense]:
    """Specifications of the defenses; each takes the options that it knows.

    Raises:
        AdvbenchError: an option that none of the defenses takes.
    """
    classes = [DEFENSES.get(name) for name in names]
    given = {key: tuple(values) for key, values in strengths.items() if values} | settings
    for key in given:
        if all(key not in c.model_fields for c in classes):
            known = sorted({OPTIONS.get(f, f) for c in classes for f in c.model_fields})
            raise AdvbenchError(
                f"--{OPTIONS.get(key, key)} is no option of {', '.join(names)}; "
                f"there are {', '.join(known) or 'none'}"
            )
    return [
        c.create(**{key: value for key, value in given.items() if key in c.model_fields})
        for c in classes
    ]
