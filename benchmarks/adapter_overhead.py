"""Measure what an adapter costs: a forward-backward pass of a victim and of its bare module.

    python benchmarks/adapter_overhead.py [--victim NAME …] [--pairs N] [--side N] [--csv PATH]

``wrap`` is torchvision's LR-ASPP (MobileNetV3, two classes) behind :func:`advbench.wrap`; the
others are ``imdlbenco:NAME`` and ``forensichub:NAME``, ``NAME@SIDE`` too, with random weights. The
bare module is given the same image, normalised beforehand. Both do in turns one pass, in eval mode
and frozen, and the gradient of the map's weighted sum with respect to the image; where no gradient
reaches it, the map alone. The first pass of a victim, which is made twice, does not count.

Time is the processor time of this process, which other work on the machine disturbs less than the
clock on the wall. Ratios are taken pair by pair: their median and quartiles. Memory is what a pass
adds at its peak to what the process holds, the median of ``--memory`` passes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import click
import torch
from timing import put_out, table_options, turns
from torch import Tensor
from torchvision.models.segmentation import lraspp_mobilenet_v3_large
from victim_speed import MIB, Device

import advbench
from advbench.cli.progress import Progress
from advbench.inference.numerics import deterministic_mode
from advbench.victims.adapters.contract import ContractVictim
from advbench.victims.adapters.module import ModuleVictim

Clock = Callable[[], float]
PARTS = ("bare", "victim")


@click.command()
@click.option("--victim", "names", multiple=True, default=("wrap",), show_default=True)
@click.option("--side", type=click.IntRange(min=32), default=256, show_default=True,
              help="Of victims that take any size.")  # fmt: skip
@click.option("--pairs", type=click.IntRange(min=2), default=20, show_default=True)
@click.option("--memory", type=click.IntRange(min=1), default=3, show_default=True)
@table_options
def main(
    names: tuple[str, ...],
    side: int,
    pairs: int,
    *,
    memory: int,
    csv_path: Path | None,
    as_json: bool,
) -> None:
    """Print the table."""
    rows: list[dict[str, Any]] = []
    with Progress() as progress:
        for name in names:
            progress.update(f"measuring {name}", len(rows), len(names), "victims")
            rows.append(measured(name, side=side, pairs=pairs, memory=memory))
            progress.update(f"measuring {name}", len(rows), len(names), "victims")
    put_out(rows, csv_path, as_json, line)


def measured(
    name: str, *, side: int, pairs: int, memory: int, clock: Clock = time.process_time
) -> dict[str, Any]:
    """One row of the table."""
    victim = wrapped() if name == "wrap" else advbench.load_victim(name, weights=None)
    side = victim.reading.fitting.side or side
    work = passes(victim, side)
    with deterministic_mode(victim.network):
        for do in work.values():
            do()
        peaks = {part: [] for part in PARTS}
        for _ in range(memory):
            for part in PARTS:
                peaks[part].append(added(work[part]))
        taken = turns(work, pairs, clock)
    ratios = [v / b for b, v in zip(*(taken[part] for part in PARTS), strict=True)]
    low, middle, high = quantiles(ratios, n=4)
    return {
        "victim": name,
        "side": side,
        "gradient": victim.differentiable,
        "pairs": pairs,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        **{f"{part}_s": round(median(taken[part]), 4) for part in PARTS},
        "ratio": round(middle, 4),
        "ratio_quarter": round(low, 4),
        "ratio_three_quarters": round(high, 4),
        **{f"{part}_mib": round(median(peaks[part]) / MIB, 1) for part in PARTS},
    }


def wrapped() -> ModuleVictim:
    """torchvision's LR-ASPP, as docs/other-localizers.md wraps it."""
    torch.manual_seed(0)
    module = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=2)
    return advbench.wrap(module, output="two-class", key="out", multiple=32)


def passes(victim: ModuleVictim, side: int) -> Mapping[str, Callable[[], Tensor]]:
    """A pass of the bare module and one of the victim; each returns the image's gradient."""
    stream = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, side, side, generator=stream)
    weight = torch.randn(1, 1, side, side, generator=stream)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (victim.reading.mean, victim.reading.std))
    prepared = (image - mean) / std
    nothing = torch.zeros(1, 1, side, side)
    named = {"mask": nothing, "edge_mask": nothing, "label": torch.zeros(1)}

    def bare(x: Tensor) -> Tensor:
        if isinstance(victim, ContractVictim):
            return victim.network(image=x, **named)[victim.reading.key]
        found = victim.network(x)[victim.reading.key]
        return found[:, 1:] - found[:, :1]

    def one(network: Callable[[Tensor], Tensor], given: Tensor) -> Tensor:
        if not victim.differentiable:
            with torch.inference_mode():
                return network(given)
        x = given.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((network(x) * weight).sum(), x)
        return gradient

    return {
        "bare": lambda: one(bare, prepared),
        "victim": lambda: one(victim.logits, image),
    }


def added(work: Callable[[], object]) -> int:
    """Bytes that a pass adds at its peak."""
    device = Device("cpu")
    before = device.level()
    work()
    return device.peak() - before


def line(row: Mapping[str, Any]) -> str:
    """A row as it is printed."""
    return (
        f"{row['victim']:<24}{row['side']:>5}  {row['bare_s']:8.3f} s {row['victim_s']:8.3f} s  "
        f"× {row['ratio']:.3f} ({row['ratio_quarter']:.3f}–{row['ratio_three_quarters']:.3f})  "
        f"{row['bare_mib']:7.0f} {row['victim_mib']:7.0f} MiB"
    )


if __name__ == "__main__":
    main()
