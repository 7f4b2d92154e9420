"""Time one GPU: a gradient of each full victim at each numerics and batch, Table III from it.

    python benchmarks/gpu_check.py [--device cuda] [--seconds 330] [--csv PATH]

Random weights, random images at the working size (IF-OSN, which has none: 512²). ``ms`` is one
image's forward and backward pass, the median of ``--repeats`` batches; ``repeatable``, two such
passes gave the same bits; ``alone``, so did an image without its batch-mates, which a GPU does not
promise. ``hours`` is what the passes of Table III on this victim take at that speed, an even spread
over GPUs assumed for ``hours_8``; where a victim works at native size, in proportion to the pixels.
A batch that does not fit is told, and so is what ``--seconds`` leave no time for.
"""

from __future__ import annotations

import gc
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from table3_cost import DATASETS, SIDE
from timing import put_out, table_options, turns
from torch import Tensor

import advbench
from advbench.attacks.gradient import InputGradient
from advbench.inference.fast import with_numerics
from advbench.inference.numerics import deterministic_mode
from advbench.pipelines.provenance import device_name
from advbench.pipelines.suites.suite import read_suite
from advbench.registry import VICTIMS
from advbench.victims.base import Numerics, Victim

MODES: tuple[Numerics, ...] = ("exact", "fast", "bf16")


@click.command()
@click.option("--victim", "names", multiple=True, help="All.")
@click.option("--numerics", "modes", type=click.Choice(MODES), multiple=True, help="All.")
@click.option("--batch", "batches", type=click.IntRange(min=1), multiple=True, default=(1, 8, 32))
@click.option("--size", type=click.Choice(["small", "full"]), default="full", show_default=True)
@click.option("--device", default="cuda", show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--seconds", type=click.FloatRange(min=0), default=330, show_default=True)
@table_options
def main(
    *,
    names: tuple[str, ...],
    modes: tuple[Numerics, ...],
    batches: tuple[int, ...],
    size: str,
    device: str,
    repeats: int,
    seconds: float,
    csv_path: Path | None,
    as_json: bool,
) -> None:
    """Print the table."""
    until = time.monotonic() + seconds
    rows: list[dict[str, Any]] = []
    for name in names or VICTIMS.standard():
        exact = advbench.load_victim(name, size=size, weights=None, device=device)
        for mode in modes or MODES:
            victim = with_numerics(exact, mode)
            for batch in batches:
                about = {"victim": name, "numerics": mode, "batch": batch}
                if time.monotonic() > until:
                    rows.append(about | _note("no time"))
                    continue
                try:
                    found = measured(victim, batch, repeats)
                except torch.OutOfMemoryError:
                    found = _note("does not fit")
                rows.append(about | found)
                gc.collect()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
    rows = [{"device": device_name(torch.device(device))} | row for row in rows]
    put_out(
        rows,
        csv_path,
        as_json,
        lambda row: "  ".join(f"{key} {value}" for key, value in row.items()),
    )


def _note(why: str) -> dict[str, Any]:
    return dict.fromkeys(("side", "ms", "repeatable", "alone", "hours", "hours_8"), "") | {
        "note": why
    }


def measured(victim: Victim, batch: int, repeats: int) -> dict[str, Any]:
    """One row."""
    side = victim.working_side or SIDE
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(batch, 3, side, side, generator=generator).to(victim.device)
    y = (torch.rand(batch, 1, side, side, generator=generator) > 0.9).float().to(victim.device)

    def gradient(images: Tensor, truth: Tensor) -> Tensor:
        return InputGradient(victim, truth)(images)

    with deterministic_mode(victim.network, victim.numerics):
        first = gradient(x, y)
        repeatable = torch.equal(first, gradient(x, y))
        alone = torch.equal(first[:1], gradient(x[:1], y[:1]))
        taken = turns({"batch": partial(gradient, x, y)}, repeats)["batch"]
    one = median(taken) / batch
    hours = one * _passes(victim) / 3600
    return {
        "side": side,
        "ms": round(1000 * one, 3),
        "repeatable": repeatable,
        "alone": alone,
        "hours": round(hours, 2),
        "hours_8": round(hours / 8, 2),
        "note": "",
    }


def _passes(victim: Victim) -> float:
    """Passes of Table III on this victim, counted in images of the measured size."""
    suite = read_suite("paper")
    each = sum(attack.passes() for attack in suite.build_attacks())
    sizes = [DATASETS[name] for name in suite.datasets]
    if victim.working_side:
        return float(each * sum(count for count, _ in sizes))
    return each * sum(count * megapixels for count, megapixels in sizes) * 1e6 / SIDE**2


if __name__ == "__main__":
    main()
