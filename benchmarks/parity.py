"""What folding batch normalisation, the layout of tensors and torch.compile change.

    python benchmarks/parity.py [--victim ifosn] [--images 4] [--csv PATH]

Each row compares the small victim as it is (channels-last, nothing folded) with the same one folded
(convolution + batch normalisation where one follows the other), in contiguous layout, or behind
torch.compile: how many times faster a gradient is, once it is compiled, the share of pixels of FGSM
and PGD images (φ = 3) that differ, and the largest difference of F1 on them. Rounding turns the
signs of the smallest gradients, and an iterated attack then goes another way.
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
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

import advbench
from advbench.attacks.gradient import InputGradient
from advbench.cli.progress import Progress
from advbench.images import fit_mask, to_tensor, to_unit
from advbench.inference.numerics import deterministic_mode
from advbench.inference.runner import BatchRunner
from advbench.pipelines.agreement import f1_of
from advbench.pipelines.load import cache_folder, load_dataset
from advbench.registry import VICTIMS
from advbench.victims.base import Victim

SPEED_REPEATS, GRADIENTS = 7, 4


def fold(victim: Victim, image: Tensor) -> Victim:
    """A copy in which each batch normalisation is part of the convolution before it, where a
    forward pass shows that it has one of its own."""
    twin = copy.deepcopy(victim)
    made_by: dict[int, nn.Conv2d] = {}
    outputs: list[Tensor] = []  # kept, so that no two have the same id
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def after(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            made_by[id(output)] = module
            outputs.append(output)
        elif isinstance(module, nn.BatchNorm2d) and id(inputs[0]) in made_by:
            pairs.append((made_by[id(inputs[0])], module))

    hooks = [module.register_forward_hook(after) for module in twin.network.modules()]
    with torch.no_grad():
        twin.logits(image)
    for hook in hooks:
        hook.remove()
    for pair in dict.fromkeys(pairs):
        if any(len({one[k] for one in pairs if one[1 - k] is pair[1 - k]}) > 1 for k in (0, 1)):
            continue  # shared by several
        _absorb(twin.network, *pair)
    return twin


def _absorb(network: nn.Module, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    (name,) = (name for name, module in network.named_modules() if module is norm)
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())


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
    "folded": fold,
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


if __name__ == "__main__":
    main()
