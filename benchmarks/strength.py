"""Measure how strong attacks at fast numerics are beside exact ones, and how much faster.

    python benchmarks/strength.py [--victim ifosn] [--numerics fast] [--images 32] [--csv PATH]

One row per victim and attack: the difference of the mean F1 in RP points with its paired 95 %
interval over source photographs, as the gate before ``generate --numerics`` has it, for six attacks
instead of three; the share of the gradient that keeps its sign; and how many times faster the fast
gradient is, in turns with the exact one.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from timing import put_out, ratio, table_options, turns

import advbench
from advbench.attacks.base import Attack
from advbench.attacks.gradient import InputGradient
from advbench.cli.progress import Progress
from advbench.images import to_unit
from advbench.inference.fast import with_numerics
from advbench.inference.numerics import deterministic_mode
from advbench.inference.runner import BatchRunner
from advbench.pipelines.agreement import Sample, measured
from advbench.pipelines.load import cache_folder, load_dataset
from advbench.registry import VICTIMS
from advbench.victims.base import Numerics, Victim

SPEED_REPEATS, GRADIENTS = 7, 4
SETTINGS: dict[str, dict[str, Any]] = {
    "fgsm": {"eps": 3},
    "bim": {"eps": 3},
    "pgd": {"eps": 1},
    "mifgsm": {"eps": 3},
    "pgn": {"eps": 3, "profile": "quick"},
    "cw": {"steps": 50},
}


@click.command()
@click.option("--victim", "names", multiple=True, help="All.")
@click.option("--attack", "attacks", type=click.Choice(list(SETTINGS)), multiple=True, help="All.")
@click.option("--numerics", type=click.Choice(["fast", "bf16"]), default="fast")
@click.option("--images", "count", type=click.IntRange(min=2), default=32, show_default=True)
@click.option("--size", type=click.Choice(["small", "full"]), default="small", show_default=True)
@click.option("--device", default="cpu", show_default=True)
@table_options
def main(
    names: tuple[str, ...],
    attacks: tuple[str, ...],
    numerics: Numerics,
    count: int,
    *,
    size: str,
    device: str,
    csv_path: Path | None,
    as_json: bool,
) -> None:
    """Print the table."""
    names, attacks = names or tuple(VICTIMS.standard()), attacks or tuple(SETTINGS)
    dataset = load_dataset("builtin", cache_folder())
    # Every so many, so that there are as many source photographs as there can be.
    every = dataset.select("test", label=1)
    rows = every[:: max(1, len(every) // count)][:count]
    found: list[dict[str, Any]] = []
    with Progress() as progress:
        for name in names:
            weights = "builtin" if size == "small" else None
            exact = advbench.load_victim(name, size=size, weights=weights, device=device)
            twin = with_numerics(exact, numerics)
            samples = [Sample.of(exact, dataset, row) for row in rows]
            faster = speed(exact, twin, samples[0])
            for each in attacks:
                attack: Attack = advbench.load_attack(each, **SETTINGS[each])
                result = measured(twin, samples, [attack])
                (difference,) = result.differences
                found.append(
                    {
                        "victim": name,
                        "numerics": numerics,
                        "images": count,
                        "attack": difference.attack,
                        "rp": round(difference.rp, 3),
                        "low": round(difference.low, 3),
                        "high": round(difference.high, 3),
                        "signs": round(result.signs, 5),
                        **{f"faster{key[5:]}": value for key, value in faster.items()},
                    }
                )
                progress.update("comparing", len(found), len(names) * len(attacks), "attacks")
    put_out(
        found,
        csv_path,
        as_json,
        lambda row: "  ".join(f"{key} {value}" for key, value in row.items()),
    )


def speed(exact: Victim, twin: Victim, sample: Sample) -> dict[str, float]:
    """Measure how many times faster a gradient is; median, smallest and largest."""
    x, y = to_unit(sample.image.to(exact.device)), sample.truth[:, None].float().to(exact.device)

    def gradients(victim: Victim) -> None:
        with deterministic_mode(victim.network, victim.numerics), BatchRunner(x.device) as runner:
            runner.map(range(GRADIENTS), lambda rows: [InputGradient(victim, y, runner)(x)])
            if torch.cuda.is_available():
                torch.cuda.synchronize()

    work = {"exact": partial(gradients, exact), "fast": partial(gradients, twin)}
    turns(work, 1)
    return ratio(turns(work, SPEED_REPEATS), "exact", "fast")


if __name__ == "__main__":
    main()
