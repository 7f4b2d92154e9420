"""``advbench generate``: victims × attacks on a dataset."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advbench.cli.options import (
    device_option,
    engine_options,
    json_option,
    limit_option,
    named,
    out_option,
    parse_settings,
    plugin_option,
    seed_option,
    several,
    several_numbers,
    size_option,
    weights_option,
)
from advbench.cli.progress import Progress
from advbench.errors import AdvbenchError
from advbench.registry import ATTACKS, VICTIMS

if TYPE_CHECKING:
    from advbench.engines.units import Engine
    from advbench.pipelines.config import GenerateConfig
    from advbench.pipelines.verbs import Generated


@click.command()
@several("--victim", default=["ifosn"], show_default=True, help="Victims, or all.")
@several("--attack", required=True, help="Attacks, or all.")
@several_numbers("--eps", help="Intensities φ in 1/255 of all attacks but cw [1,2,3].")
@several_numbers("--steps", help="Intensities of cw: numbers of steps [50,100,150,200,250].")
@click.option("--profile", default="default", help="paper, torchattacks, original, quick.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="A setting of an attack.")
@several("--through", metavar="DEFENSE", help="Attack victim and defense, as jpeg-90, ansm.")
@several("--ansm-weights", metavar="PATH", help="Networks for --through ansm [the shipped ones].")
@click.option(
    "--draws",
    type=click.IntRange(2, 1000),
    default=8,
    show_default=True,
    help="Of a random defense, in each gradient through it.",
)
@named("--surrogate", metavar="VICTIM", help="Attack this victim in place of each --victim.")
@click.option(
    "--images",
    type=click.Choice(["forged", "authentic", "all"]),
    default="forged",
    show_default=True,
    help="An authentic image is attacked to be marked.",
)
@named("--dataset", default="builtin", show_default=True, help="Name or folder.")
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test")
@limit_option
@weights_option
@size_option
@click.option("--shard-size", type=click.IntRange(1, 4096), default=64, show_default=True)
@click.option("--repair", is_flag=True, help="Check all that is there; make damaged shards again.")
@click.option(
    "--numerics",
    type=click.Choice(["exact", "fast", "bf16"]),
    default="exact",
    show_default=True,
    help="Of the passes; others than exact must be as strong on 32 images: docs/numerics.md.",
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
    *,
    profile: str,
    pairs: Sequence[str],
    through: Sequence[str],
    ansm_weights: Sequence[str],
    draws: int,
    surrogate: str | None,
    images: str,
    dataset: str,
    split: Any,
    limit: int | None,
    weights: str | None,
    size: str | None,
    shard_size: int,
    repair: bool,
    numerics: Any,
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
    advbench generate --attack pgd --set loss=dice --through jpeg-90,ansm
    advbench generate --attack noise,apgd --images authentic --limit 20
    advbench generate --attack cw --steps 50,250 --set variant=hinge --out hinge
    """
    from advbench.pipelines.config import GenerateConfig, expand, spread
    from advbench.pipelines.verbs import generate as run

    victims = expand(VICTIMS, victim)
    if weights and len(victims) > 1:
        raise AdvbenchError("--weights belongs to one victim; give one --victim with it")
    choice = {"size": size, "weights": weights or "builtin"}
    config = GenerateConfig.parse(
        "generate",
        {
            "victims": dict.fromkeys(victims, choice),
            "attacks": spread(
                ATTACKS, attack, {"eps": eps, "steps": steps} | parse_settings(pairs)
            ),
            "profile": profile,
            "through": through,
            "ansm_weights": ansm_weights,
            "draws": draws,
            "surrogate": surrogate,
            "images": images,
            "dataset": dataset,
            "split": split,
            "limit": limit,
            "shard_size": shard_size,
            "repair": repair,
            "numerics": numerics,
            "seed": seed,
            "device": device,
            "out": out,
        },
    )
    with Progress() as progress:
        found = run(config, feedback=progress, engine=engine)
        if not as_json:
            _tell(progress, found, config)
    if as_json:
        plain = [
            {"victim": made.victim.name, "dataset": made.dataset, **asdict(made.counts)}
            for made in found
        ]
        click.echo(json.dumps(plain, indent=2))


def _tell(progress: Progress, found: Sequence[Generated], config: GenerateConfig) -> None:
    """Print what was done before each victim."""
    for made in found:
        counts = made.counts
        progress.note(
            f"{made.victim.name} on {made.dataset}: {counts.made} adversarial images made, "
            f"{counts.reused} were there, {counts.passes} passes, "
            f"{counts.seconds:.1f} s; shards in {config.out / 'shards'}"
        )
        if counts.agreement:
            progress.note(f"numerics {config.numerics}: {counts.agreement}")
        for path in counts.repaired:
            progress.note(f"repaired: {path}")
