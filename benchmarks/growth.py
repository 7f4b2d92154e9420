"""Measure how an attack grows: with images, PGN's neighbours, the side, and on a GPU with the
batch.

    python benchmarks/growth.py [--victim ifosn] [--csv PATH]

Each row has the seconds a pass (forward and backward, of one image) and, against the row before it
of the same kind, the exponent: 1 where twice as much takes twice as long.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from timing import put_out, table_options, turns

import advbench
from advbench.attacks.base import Attack
from advbench.attacks.pgn import PGN
from advbench.cli.progress import Progress
from advbench.victims.base import Victim

# What grows, how much of it, the attack, images, side, batch.
Case = tuple[str, int, Attack, int, int, int | None]


@click.command()
@click.option("--victim", "name", default="ifosn", show_default=True)
@click.option("--size", type=click.Choice(["small", "full"]), default="small", show_default=True)
@click.option("--side", type=click.IntRange(min=32), default=256, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@table_options
def main(
    name: str,
    size: str,
    side: int,
    repeats: int,
    *,
    device: str,
    csv_path: Path | None,
    as_json: bool,
) -> None:
    """Print the table."""
    victim = advbench.load_victim(name, size=size, weights=None, device=device)
    rows: list[dict[str, Any]] = []
    todo = list(cases(side if victim.working_side is None else victim.working_side, victim))
    with Progress() as progress:
        for number, (what, amount, attack, images, pixels, batch) in enumerate(todo):
            seconds = measured(victim, attack, images, pixels, batch=batch, repeats=repeats)
            before = rows[-1] if rows and rows[-1]["grows"] == what else None
            exponent = (
                math.log(seconds / before["seconds"]) / math.log(amount / before["amount"])
                if before
                else math.nan
            )
            rows.append(
                {
                    "grows": what,
                    "amount": amount,
                    "seconds": round(seconds, 4),
                    "seconds_a_pass": round(seconds / images / attack.passes(), 5),
                    "exponent": round(exponent, 2),
                }
            )
            progress.update("measuring", number + 1, len(todo), "cases")
    put_out(
        rows,
        csv_path,
        as_json,
        lambda row: (
            f"{row['grows']:<12} {row['amount']:>4}  {row['seconds']:8.3f} s  "
            f"{1000 * row['seconds_a_pass']:8.2f} ms a pass  exponent {row['exponent']:.2f}"
        ),
    )


def cases(side: int, victim: Victim) -> Iterator[Case]:
    """List what is measured, smallest first."""
    bim = advbench.load_attack("bim", eps=3, iterations=5)
    for images in (2, 4, 8, 16):
        yield "images", images, bim, images, side, None
    for neighbours in (4, 8, 16):
        pgn = PGN(eps=(3.0,), iterations=1, neighbours=neighbours)
        yield "neighbours", neighbours, pgn, 2, side, None
    if victim.working_side is None:
        for pixels in (side // 2, side, 2 * side):
            yield "side", pixels, bim, 4, pixels, None
    if victim.device.type == "cuda":
        for batch in (1, 4, 16):
            yield "batch", batch, bim, 16, side, batch


def measured(
    victim: Victim, attack: Attack, images: int, side: int, *, batch: int | None, repeats: int
) -> float:
    """Median seconds."""
    stream = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, side, side), generator=stream, dtype=torch.uint8)
    masks = torch.zeros(images, side, side, dtype=torch.bool)
    masks[:, : side // 2] = True
    ids = [str(number) for number in range(images)]
    attack.brief().run(victim, pixels[:1], masks[:1], ids[:1])
    return median(
        turns({"": lambda: attack.run(victim, pixels, masks, ids, batch=batch)}, repeats)[""]
    )


if __name__ == "__main__":
    main()
