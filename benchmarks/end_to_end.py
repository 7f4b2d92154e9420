"""``generate`` and ``evaluate`` whole, against the attack or the victim alone, in turns.

    python benchmarks/end_to_end.py [--victim ifosn] [--size small] [--images 160] [--attack pgd]

What ``generate`` adds to the attack is reading, encoding, checking and writing; what ``evaluate``
adds to the victim is decoding, the defense, and the scores. Growth is measured by half the images.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from timing import put_out, ratio, table_options, turns

import advbench
from advbench.attacks.base import Attack
from advbench.cli.progress import Progress
from advbench.datasets.dataset import Dataset
from advbench.datasets.manifest import Row
from advbench.images import fit_mask, to_tensor
from advbench.inference.runner import BatchRunner
from advbench.memory import peak_memory
from advbench.pipelines.evaluate import EvaluationJob, evaluate
from advbench.pipelines.generate import GenerationJob, generate
from advbench.pipelines.load import cache_folder, load_dataset
from advbench.registry import DEFENSES
from advbench.scores.protocols import protocol
from advbench.victims.base import Victim


@click.command()
@click.option("--victim", "name", default="ifosn", show_default=True)
@click.option("--size", type=click.Choice(["small", "full"]), default="small", show_default=True)
@click.option("--images", "count", type=click.IntRange(min=2), default=160, show_default=True)
@click.option("--attack", "attack_name", default="pgd", show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@table_options
def main(
    name: str,
    size: str,
    count: int,
    attack_name: str,
    *,
    repeats: int,
    csv_path: Path | None,
    as_json: bool,
) -> None:
    """Print the table."""
    weights = "builtin" if size == "small" else "random"
    victim = advbench.load_victim(name, size=size, weights=weights)
    attack = advbench.load_attack(attack_name)
    dataset = load_dataset("builtin", cache_folder())
    rows = dataset.select("test", label=1, limit=count)
    # ANSM's shipped networks are for the small victims.
    defenses = [name for name in DEFENSES.standard() if size == "small" or name != "ansm"]
    found: list[dict[str, Any]] = []
    with Progress() as progress, tempfile.TemporaryDirectory() as where:
        for part in (rows[: len(rows) // 2], rows):
            found.append(
                generating(victim, attack, dataset, part, where=Path(where), repeats=repeats)
            )
            progress.update("measuring", len(found), 2 + len(defenses), "comparisons")
        for defense in defenses:
            found.append(evaluating(victim, defense, rows, Path(where), repeats=repeats))
            progress.update("measuring", len(found), 2 + len(defenses), "comparisons")
    put_out(
        found,
        csv_path,
        as_json,
        lambda row: (
            f"{row['victim']:<12} {row['what']:<18} {row['images']:>5} images  "
            f"whole {row['whole_s']:8.2f} s  alone {row['alone_s']:8.2f} s  "
            f"ratio {row['ratio']:.3f} ({row['ratio_min']:.3f} to {row['ratio_max']:.3f})  "
            f"peak {row['peak_mib']} MiB"
        ),
    )


def generating(
    victim: Victim, attack: Attack, dataset: Dataset, rows: list[Row], *, where: Path, repeats: int
) -> dict[str, Any]:
    """``generate`` against the attack on images that are in memory."""
    images = [victim.fit(dataset.image(row)) for row in rows]
    masks = [fit_mask(dataset.mask(row), image) for row, image in zip(rows, images, strict=True)]
    stacked = torch.cat([to_tensor(image) for image in images])
    truth = torch.stack([torch.from_numpy(mask.copy()) for mask in masks])
    ids = [row.sample_id for row in rows]
    runs = iter(range(1000))

    def whole() -> object:
        out = where / f"{len(rows)}-{next(runs)}"
        return generate(GenerationJob(dataset, rows, victim, [attack], out))

    def alone() -> object:
        return attack.run(victim, stacked, truth, ids)

    return _row(
        victim,
        f"generate {attack.name}",
        len(rows),
        turns({"whole": whole, "alone": alone}, repeats),
    )


def evaluating(
    victim: Victim, name: str, rows: list[Row], where: Path, *, repeats: int
) -> dict[str, Any]:
    """``evaluate`` at one strength, the undefended victim with it, against as many bare passes."""
    defense = advbench.load_defense(name)
    if defense.strength_field:
        defense = defense.model_copy(update={defense.strength_field: defense.strengths[:1]})
    out = where / f"{len(rows)}-0"
    variants = len(list((out / "shards").glob(f"*/{victim.name}/*")))
    cells = 1 if name == "none" else 2
    runs = iter(range(1000))

    def whole() -> object:
        records = where / f"records-{name}-{next(runs)}"
        wanted = EvaluationJob(out, [defense], protocol("f1/v1"), records=records)
        return evaluate(wanted, lambda identity: victim)

    side = victim.working_side or 256
    images = torch.zeros(1, 3, side, side)

    def alone() -> None:
        def work(some: Any) -> list[None]:
            for _ in range(cells * (1 + variants)):
                with torch.inference_mode():
                    victim.probabilities(images)
            return [None] * len(some)

        with BatchRunner(victim.device, reentrant=victim.reentrant) as runner:
            runner.map(range(len(rows)), work)

    taken = turns({"whole": whole, "alone": alone}, repeats)
    return _row(victim, f"evaluate {name}", len(rows), taken)


def _row(victim: Victim, what: str, images: int, taken: dict[str, list[float]]) -> dict[str, Any]:
    return {
        "victim": f"{victim.name}, {victim.size}",
        "what": what,
        "images": images,
        **{f"{name}_s": round(median(seconds), 3) for name, seconds in taken.items()},
        **ratio(taken, "whole", "alone"),
        "peak_mib": peak_memory() >> 20,
    }


if __name__ == "__main__":
    main()
