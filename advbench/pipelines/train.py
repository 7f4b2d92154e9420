"""Train a victim on a dataset: the training split teaches, the validation split chooses."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from advbench.datasets.dataset import Dataset
from advbench.datasets.manifest import Row
from advbench.engines.processes import Processes
from advbench.errors import AdvbenchError
from advbench.images import Image, Mask
from advbench.training.data import Examples
from advbench.training.loop import Report, Steps
from advbench.training.recipe import Recipe
from advbench.training.victim import train
from advbench.victims.base import Size, Victim


def train_victim(
    victim_class: type[Victim],
    size: Size,
    dataset: Dataset,
    recipe: Recipe,
    folder: Path,
    *,
    device: str = "cpu",
    report: Report = lambda epoch: None,
    steps: Steps = lambda done, total: None,
    processes: Processes | None = None,
    start: Victim | None = None,
) -> Path:
    """:func:`advbench.training.victim.train` on a dataset; authentic images take part in
    training with empty masks, validation is on forged ones.

    Raises:
        AdvbenchError: the dataset has no training or no validation split.
    """
    training, validation = dataset.select("train"), dataset.select("val", label=1)
    for split, rows in (("train", training), ("val", validation)):
        if not rows:
            raise AdvbenchError(f"dataset {dataset.id} has no {split} split to train with")
    source = {
        "id": dataset.id,
        "version": dataset.info.version,
        "content_sha256": dataset.info.content_sha256,
        "training_images": len(training),
    }
    return train(
        victim_class,
        size,
        examples(dataset, training),
        examples(dataset, validation),
        source=source,
        recipe=recipe,
        folder=folder,
        device=device,
        report=report,
        steps=steps,
        processes=processes,
        start=start,
    )


def examples(dataset: Dataset, rows: list[Row]) -> Examples:
    """Rows of a dataset as the training loop takes them."""

    def load(number: int) -> tuple[Image, Mask]:
        row = rows[number]
        image = dataset.image(row)
        mask = dataset.mask(row) if row.mask else np.zeros(image.shape[:2], dtype=np.bool_)
        return image, mask

    return Examples([row.sample_id for row in rows], load)
