"""Measure what each defense adds to an image: milliseconds and memory, fp32, batch 1.

    python benchmarks/defense_speed.py [--side 512] [--device cpu] [--threads N] [--csv PATH]

Every conventional defense at its first strength, and ANSM of both sizes with random weights. Memory
is what a call adds at its peak to the loaded network, as in ``victim_speed.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from timing import put_out, table_options
from torch import Tensor
from victim_speed import MIB, Device, timed

import advbench
from advbench.cli.progress import Progress
from advbench.defenses.ansm.network import SIZES, AnsmNetwork, Size
from advbench.registry import DEFENSES

Work = Callable[[Tensor], Tensor]


def defenses(device: str) -> Iterator[tuple[str, int, Callable[[], Work]]]:
    """Name, parameters, and what loads it."""
    for name in DEFENSES.standard():
        if name in ("none", "ansm"):
            continue
        defense = advbench.load_defense(name)
        strength = defense.strengths[0]
        work = partial(defense.defend, strength=strength, keys=[("image",)])
        yield defense.variant_name(strength), 0, partial(_itself, work)
    for size in SIZES:
        count = sum(parameter.numel() for parameter in AnsmNetwork(size).parameters())
        yield f"ansm ({size})", count, partial(_network, size, device)


def _itself(work: Work) -> Work:
    return work


def _network(size: Size, device: str) -> AnsmNetwork:
    return AnsmNetwork(size).eval().requires_grad_(False).to(device)


@click.command()
@click.option("--side", type=click.IntRange(min=1), default=512, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="By default what torch chooses.")
@click.option("--repeats", type=click.IntRange(min=1), default=10, show_default=True)
@table_options
def main(
    side: int,
    device: str,
    threads: int | None,
    repeats: int,
    *,
    csv_path: Path | None,
    as_json: bool,
) -> None:
    """Print the table."""
    if threads:
        torch.set_num_threads(threads)
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    where = Device(device)
    rows: list[dict[str, Any]] = []
    todo = list(defenses(device))
    with Progress() as progress, torch.inference_mode():
        for name, parameters, load in todo:
            work = load()
            loaded = where.level()
            times = timed(partial(work, image), repeats, where.wait)
            rows.append(
                {
                    "defense": name,
                    "side": side,
                    "parameters": parameters,
                    "ms": round(median(times), 1),
                    "ms_min": round(min(times), 1),
                    "ms_max": round(max(times), 1),
                    "peak_mib": round((where.peak() - loaded) / MIB, 1),
                }
            )
            progress.update("measuring", len(rows), len(todo), "defenses")
    put_out(
        rows,
        csv_path,
        as_json,
        lambda row: (
            f"{row['defense']:<16} {row['parameters']:>10,} parameters  {row['ms']:8.1f} ms "
            f"({row['ms_min']} to {row['ms_max']})  {row['peak_mib']:8.1f} MiB"
        ),
    )


if __name__ == "__main__":
    main()
