"""Train the writer of ``relocalise`` for a victim, on a dataset and the maps of a localizer."""

from __future__ import annotations

from pathlib import Path

from advbench.datasets.dataset import Dataset
from advbench.defenses.relocalise.training import RelocaliseRecipe, RelocaliseTask, marked_by
from advbench.pipelines.fresh import fresh_forgeries
from advbench.pipelines.train import examples, rows_to_train_with, source_of, try_crop
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
    source = source_of(dataset, rows, held_out, fresh=fresh, photographs=photographs)
    learnt: Examples | FreshExamples = examples(dataset, rows)
    if fresh:
        learnt = fresh_forgeries(fresh, photographs, recipe.seed)
    mark = marked_by(localizer)
    return fit(
        RelocaliseTask(victim, localizer, recipe, source),
        changed(at_working_size(learnt, victim), mark),
        changed(at_working_size(examples(dataset, held_out), victim), mark),
        run,
    )
