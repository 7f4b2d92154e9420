"""Measure what each attack leaves of a victim's F1 and MCC, beside the passes that it takes.

    python benchmarks/attack_strength.py [--victim ifosn] [--images 4] [--eps 1 --eps 3]

On validation images: attacks are chosen by this table, and scored on others. The last row takes of
each image the attack that leaves least (F1 + MCC): what the others are to be held against.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
import torch
from timing import put_out, table_options

import advbench
from advbench.attacks.base import Attack
from advbench.attacks.losses import LossName
from advbench.cli.progress import Progress
from advbench.pipelines.agreement import Sample
from advbench.pipelines.load import cache_folder, load_dataset
from advbench.scores.counts import Counts, f1, mcc
from advbench.scores.protocols import protocol
from advbench.victims.base import Victim

GRID: list[tuple[str, dict[str, Any]]] = [
    ("noise", {}),
    ("fgsm", {}),
    ("pgd", {"profile": "paper"}),
    *(("pgd", {"iterations": steps}) for steps in (5, 10, 20, 50, 100)),
    ("pgd", {"restarts": 5}),
    *((name, {"iterations": steps}) for name in ("bim", "mifgsm") for steps in (20, 100)),
    ("pgn", {"profile": "quick"}),
    ("pgn", {"neighbours": 5}),
    ("pgn", {}),
    *(("apgd", {"loss": loss}) for loss in get_args(LossName)),
    ("apgd", {"loss": "dice", "iterations": 100}),
    ("apgd", {"loss": "dice", "restarts": 5}),
    ("ensemble", {}),
]


@click.command()
@click.option("--victim", "name", default="ifosn", show_default=True)
@click.option("--images", "count", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--eps", "budgets", type=int, multiple=True, default=(1, 3), show_default=True)
@click.option("--attack", "only", multiple=True, help="All.")
@table_options
def main(
    name: str,
    count: int,
    budgets: tuple[int, ...],
    only: tuple[str, ...],
    *,
    csv_path: Path | None,
    as_json: bool,
) -> None:
    """Print the table."""
    victim = advbench.load_victim(name)
    samples = some(victim, count)
    grid = [entry for entry in GRID if not only or entry[0] in only]
    found: list[dict[str, Any]] = []
    every: dict[int, list[np.ndarray]] = {eps: [] for eps in budgets}

    def add(what: str, passes: object, left: dict[int, np.ndarray]) -> None:
        row: dict[str, Any] = {"victim": name, "attack": what, "passes": passes}
        for eps, scores in left.items():
            row |= {f"f1_{eps}": scores[:, 0].mean(), f"mcc_{eps}": scores[:, 1].mean()}
        rounded = {k: round(float(v), 3) if "_" in k else v for k, v in row.items()}
        found.append(rounded | {"images": count})

    clean = np.array([scores(victim, sample.image, sample.truth) for _, sample in samples])
    add("original", 0, dict.fromkeys(budgets, clean))
    with Progress() as progress:
        for number, (attack_name, settings) in enumerate(grid):
            attack: Attack = advbench.load_attack(attack_name, eps=budgets, **settings)
            left = attacked(victim, attack, samples, budgets)
            for eps in budgets:
                every[eps].append(left[eps])
            label = " ".join([attack_name, *(f"{k}={v}" for k, v in settings.items())])
            # FGSM's one gradient serves all budgets.
            add(label, -(-attack.passes() // len(budgets)), left)
            progress.update("attacking", number + 1, len(grid), "attacks")
    add("the strongest, image by image", "", {eps: strongest(s) for eps, s in every.items()})
    put_out(found, csv_path, as_json, lambda row: "  ".join(f"{k} {v}" for k, v in row.items()))


def some(victim: Victim, count: int) -> list[tuple[str, Sample]]:
    """Choose every so many of the validation images, so that all their photographs take part."""
    dataset = load_dataset("builtin", cache_folder(), "val")
    rows = dataset.select("val", label=1)
    chosen = rows[:: max(1, len(rows) // count)][:count]
    return [(row.sample_id, Sample.of(victim, dataset, row)) for row in chosen]


def attacked(
    victim: Victim,
    attack: Attack,
    samples: Sequence[tuple[str, Sample]],
    budgets: Sequence[int],
) -> dict[int, np.ndarray]:
    """Measure the F1 and MCC that are left, by budget: images × 2."""
    left: dict[int, list[tuple[float, float]]] = {eps: [] for eps in budgets}
    for name, sample in samples:
        made = attack(victim, sample.image, sample.truth, [name])
        for eps in budgets:
            left[eps].append(scores(victim, made[attack.variant_name(eps)], sample.truth))
    return {eps: np.array(values) for eps, values in left.items()}


def scores(victim: Victim, image: torch.Tensor, truth: torch.Tensor) -> tuple[float, float]:
    """Compute F1 and MCC of one uint8 image 1×3×H×W."""
    with torch.inference_mode():
        probability = victim(image)[0, 0].numpy()
    counts: Counts = protocol("f1/v1").counts(probability, truth[0].numpy(), victim.threshold)
    return float(f1(counts)), float(mcc(counts))


def strongest(found: Sequence[np.ndarray]) -> np.ndarray:
    """Take of each image the F1 and MCC whose sum is lowest; ``found``: attacks × images × 2."""
    stacked = np.stack(found)
    return stacked[stacked.sum(-1).argmin(0), np.arange(stacked.shape[1])]


if __name__ == "__main__":
    main()
