"""``advbench generate``: victims × attacks on a dataset."""

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
    size_option,
    torch_device,
    weights_option,
    weights_source,
)
from advbench.cli.progress import Progress
from advbench.errors import AdvbenchError
from advbench.registry import ATTACKS, VICTIMS

if TYPE_CHECKING:
    from advbench.attacks.base import Attack
    from advbench.engines.units import Engine

OTHER_NAMES = {"steps": "iterations"}


@click.command()
@several("--victim", default=["ifosn"], show_default=True, help="Victims, or all.")
@several("--attack", required=True, help="Attacks, or all.")
@several_numbers("--eps", help="Intensities φ in 1/255 of all attacks but cw [1,2,3].")
@several_numbers("--steps", help="Intensities of cw: numbers of steps [50,100,150,200,250].")
@click.option("--profile", default="default", help="paper, torchattacks, original, quick.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="A setting of an attack.")
@click.option("--dataset", default="builtin", show_default=True, help="Name or folder.")
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test")
@limit_option
@weights_option
@size_option
@click.option("--shard-size", type=click.IntRange(1, 4096), default=64, show_default=True)
@click.option("--repair", is_flag=True, help="Check all that is there; make damaged shards again.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "tf32", "bf16"]),
    default="fp32",
    help="Of the passes; less than fp32 must agree with it on 32 images, and is not exported.",
)
@seed_option
@device_option
@engine_options
@out_option
@plugin_option
@json_option
def generate(
    victim: Sequence[str],
    attack: Sequence[str],
    eps: Sequence[float],
    steps: Sequence[float],
    profile: str,
    pairs: Sequence[str],
    dataset: str,
    split: Any,
    limit: int | None,
    weights: str | None,
    size: str | None,
    shard_size: int,
    repair: bool,
    precision: Any,
    seed: int,
    device: str,
    engine: Engine,
    out: Path,
    as_json: bool,
) -> None:
    """Attack victims on a dataset and store the adversarial images as HDF5 shards.

    Run the same command again to resume; more images or intensities are added to what is there.

    \b
    advbench generate --victim ifosn --attack pgd --eps 3
    advbench generate --attack all --limit 20
    advbench generate --attack bim --set iterations=40 --set alpha=eps/4 --out bim40
    advbench generate --attack cw --steps 50,250 --set variant=hinge --out hinge
    """
    victims, names = chosen(VICTIMS, victim), chosen(ATTACKS, attack)
    attacks = build_attacks(names, profile, eps, steps, parse_settings(pairs))
    if weights and len(victims) > 1:
        raise AdvbenchError("--weights belongs to one victim; give one --victim with it")

    from advbench.pipelines.generate import Request
    from advbench.pipelines.generate import generate as run
    from advbench.pipelines.load import load_dataset

    where = torch_device(device)
    found: list[dict[str, Any]] = []
    with Progress() as progress:
        data = load_dataset(
            dataset, out, split, progress.note, progress.counting("building", "images")
        )
        rows = data.select(split, label=1, limit=limit)
        if not rows:
            raise AdvbenchError(f"dataset {dataset}: no forged images in its {split} split")
        for name in victims:
            model = VICTIMS.get(name).load(size=size, weights=weights_source(weights), device=where)
            request = Request(data, rows, model, attacks, out, seed, shard_size, repair, precision)
            summary = run(request, progress.measured_in("passes"), engine)
            found.append({"victim": name, "dataset": request.name, **asdict(summary)})
            if not as_json:
                progress.note(
                    f"{name} on {request.name}: {summary.made} adversarial images made, "
                    f"{summary.reused} were there, {summary.passes} passes, "
                    f"{summary.seconds:.1f} s; shards in {out / 'shards'}"
                )
                for path in summary.repaired:
                    progress.note(f"repaired: {path}")
    if as_json:
        click.echo(json.dumps(found, indent=2))


def build_attacks(
    names: Sequence[str],
    profile: str,
    eps: Sequence[float],
    steps: Sequence[float],
    settings: dict[str, Any],
) -> list[Attack]:
    """Specifications of the attacks; each takes the options that it knows.

    Raises:
        AdvbenchError: an option that none of the attacks takes.
    """
    classes = [ATTACKS.get(name) for name in names]
    for option, values in (("eps", eps), ("steps", steps)):
        if values and all(c.intensity_field != option for c in classes):
            theirs = classes[0].intensity_field
            other = OTHER_NAMES.get(option)
            hint = (
                f"; its number of gradient steps is --set {other}={values[0]:g}"
                if other in classes[0].model_fields
                else ""
            )
            raise AdvbenchError(
                f"--{option} is no option of {', '.join(names)}; the intensity is --{theirs}{hint}"
            )
    for key in settings:
        if all(key not in c.model_fields for c in classes):
            known = sorted({field for c in classes for field in c.model_fields})
            raise AdvbenchError(
                f"--set {key}: no setting of {', '.join(names)}; there are {', '.join(known)}"
            )
    attacks = []
    for cls in classes:
        own = {key: value for key, value in settings.items() if key in cls.model_fields}
        values = {"eps": eps, "steps": steps}.get(cls.intensity_field, ())
        if values:
            own[cls.intensity_field] = tuple(values)
        attacks.append(cls.create(profile, **own))
    return attacks
