"""Train the writer of ``relocalise`` for a victim, on a dataset and the maps of a localizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from advbench.datasets.dataset import Dataset
from advbench.defenses.relocalise.training import RelocaliseRecipe, RelocaliseTask, marked_by
from advbench.pipelines.fresh import fresh_forgeries, photographs_sha256
from advbench.pipelines.train import examples, rows_to_train_with
from advbench.pipelines.train_ansm import content_of, try_crop
from advbench.training.data import Examples, FreshExamples, at_working_size, changed
from advbench.training.loop import TrainingRun, fit
from advbench.victims.base import Victim


def train_relocalise(
    victim: Victim,
    localizer: Victim,
    dataset: Dataset,
    recipe: RelocaliseRecipe,
    *,
    run: TrainingRun,
    fresh: int = 0,
    photographs: Path | None = None,
) -> Path:
    """Train on a dataset's images, authentic ones too; validate on forged ones.

    Args:
        fresh, photographs: as in :func:`advbench.pipelines.train.train_victim`.

    Raises:
        AdvbenchError: the dataset has no training or no validation split, the victim takes no
            crop of the recipe's side, or as :func:`advbench.training.loop.fit`.
    """
    rows, held_out = rows_to_train_with(dataset, fresh)
    try_crop(victim, recipe.crop)
    source: dict[str, Any] = {
        "id": dataset.id,
        "version": dataset.info.version,
        "training_images": f"{fresh} fresh ones an epoch" if fresh else len(rows),
        "content_sha256": content_of([*rows, *held_out]),
    }
    learnt: Examples | FreshExamples = examples(dataset, rows)
    if fresh:
        learnt = fresh_forgeries(fresh, photographs, recipe.seed)
        source["content_sha256"] += photographs_sha256(photographs)
    mark = marked_by(localizer)
    return fit(
        RelocaliseTask(victim, localizer, recipe, source),
        changed(at_working_size(learnt, victim), mark),
        changed(at_working_size(examples(dataset, held_out), victim), mark),
        run,
    )
