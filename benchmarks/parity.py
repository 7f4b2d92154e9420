"""Measure what fast numerics, the layout of tensors and torch.compile change.

    python benchmarks/parity.py [--victim ifosn] [--images 4] [--csv PATH]

Each row compares the small victim as it is (channels-last, nothing folded) with the same one at
fast numerics (batch normalisation folded), in contiguous layout, or behind torch.compile: how many
times faster a gradient is, once it is compiled, the share of pixels of FGSM and PGD images (φ = 3)
that differ, and the largest difference of F1 on them. Rounding turns the signs of the smallest
gradients, and an iterated attack then goes another way.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from timing import put_out, ratio, table_options, turns
from torch import Tensor

import advbench
from advbench.attacks.gradient import InputGradient
from advbench.cli.progress import Progress
from advbench.images import fit_mask, to_tensor, to_unit
from advbench.inference.fast import with_numerics
from advbench.inference.numerics import deterministic_mode
from advbench.inference.runner import BatchRunner
from advbench.pipelines.load import cache_folder, load_dataset
from advbench.registry import VICTIMS
from advbench.scores.protocols import protocol
from advbench.victims.base import Victim

SPEED_REPEATS, GRADIENTS = 7, 4


def fast(victim: Victim, image: Tensor) -> Victim:
    """A twin at fast numerics: batch normalisation folded."""
    return with_numerics(victim, "fast")


def contiguous(victim: Victim, image: Tensor) -> Victim:
    """A copy in PyTorch's default layout."""
    twin = copy.deepcopy(victim)
    twin.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return twin


def compiled(victim: Victim, image: Tensor) -> Victim:
    """A copy whose logits are made by ``torch.compile``."""
    twin = copy.deepcopy(victim)
    twin.logits = torch.compile(twin.logits)  # type: ignore[method-assign]
    return twin


WAYS: dict[str, Callable[[Victim, Tensor], Victim]] = {
    "fast": fast,
    "contiguous": contiguous,
    "compiled": compiled,
}


@click.command()
@click.option("--victim", "names", multiple=True, help="All.")
@click.option("--way", "ways", type=click.Choice(list(WAYS)), multiple=True, help="All.")
@click.option("--images", "count", type=click.IntRange(min=1), default=4, show_default=True)
@table_options
def main(
    names: tuple[str, ...],
    ways: tuple[str, ...],
    count: int,
    csv_path: Path | None,
    *,
    as_json: bool,
) -> None:
    """Print the table."""
    names, ways = names or tuple(VICTIMS.standard()), ways or tuple(WAYS)
    dataset = load_dataset("builtin", cache_folder())
    rows = dataset.select("test", label=1, limit=count)
    found: list[dict[str, Any]] = []
    with Progress() as progress:
        for name in names:
            victim = advbench.load_victim(name)
            pairs = [(victim.fit(dataset.image(row)), dataset.mask(row)) for row in rows]
            images = [to_tensor(image) for image, _ in pairs]
            masks = [torch.from_numpy(fit_mask(mask, image).copy())[None] for image, mask in pairs]
            for way in ways:
                other = WAYS[way](victim, to_unit(images[0]))
                row = compared(victim, other, images, masks)
                found.append({"victim": name, "way": way, **row})
                progress.update("comparing", len(found), len(ways) * len(names), "ways")
    put_out(
        found,
        csv_path,
        as_json,
        lambda row: "  ".join(f"{key} {value}" for key, value in row.items()),
    )


def compared(
    victim: Victim, other: Victim, images: list[Tensor], masks: list[Tensor]
) -> dict[str, Any]:
    """One row."""
    both = {"exact": victim, "other": other}
    y = masks[0][:, None].float()
    with deterministic_mode(victim.network), deterministic_mode(other.network):
        x = to_unit(images[0])

        def gradients(seen: Victim) -> None:
            runner.map(range(GRADIENTS), lambda rows: [InputGradient(seen, y, runner)(x)])

        work = {key: partial(gradients, seen) for key, seen in both.items()}
        with BatchRunner(victim.device) as runner:
            turns(work, 1)
            speed = ratio(turns(work, SPEED_REPEATS), "exact", "other")["ratio"]
    row: dict[str, Any] = {"faster": speed}
    for name in ("fgsm", "pgd"):
        attack = advbench.load_attack(name, eps=3)
        pixels, scores = [], []
        for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
            made = {
                key: next(iter(attack(v, image, mask, [str(number)]).values()))
                for key, v in both.items()
            }
            pixels.append((made["exact"] != made["other"]).any(1).double().mean().item())
            f1 = {key: f1_of(victim, made[key], mask) for key in both}
            scores.append(abs(f1["exact"] - f1["other"]))
        row[f"{name}_pixels"] = round(sum(pixels) / len(pixels), 5)
        row[f"{name}_f1"] = round(max(scores), 4)
    return row


def f1_of(victim: Victim, image: Tensor, truth: Tensor) -> float:
    """F1 under f1/v1 of an image uint8 1×3×H×W; truth bool 1×H×W."""
    rule = protocol("f1/v1")
    with torch.inference_mode():
        map_ = victim.probabilities(to_unit(image))[0, 0].numpy()
    return rule.f1_of_map(map_, truth[0].numpy(), victim.threshold)


if __name__ == "__main__":
    main()
