"""Train a victim on a dataset: the training split teaches, the validation split chooses."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from advbench.datasets.dataset import Dataset
from advbench.datasets.manifest import Row
from advbench.errors import AdvbenchError
from advbench.images import Image, Mask
from advbench.pipelines.fresh import (
    fresh_forgeries,
    open_validation,
    photographs_sha256,
    processed_in_turn,
)
from advbench.training.data import Examples, FreshExamples
from advbench.training.loop import TrainingRun
from advbench.training.recipe import Recipe
from advbench.training.victim import train
from advbench.victims.base import Size, Victim


def train_victim(
    victim_class: type[Victim],
    size: Size,
    dataset: Dataset,
    recipe: Recipe,
    *,
    run: TrainingRun,
    fresh: int = 0,
    photographs: Path | None = None,
    device: str = "cpu",
    start: Victim | None = None,
) -> Path:
    """:func:`advbench.training.victim.train` on a dataset; authentic images take part in
    training with empty masks, validation is on forged ones.

    Args:
        fresh: how many forgeries to make anew for each epoch (:mod:`advbench.pipelines.fresh`), in
            place of the dataset's training split.
        photographs: where the packages of ``manifests/photographs.csv`` lie: the fresh forgeries
            are made from these photographs too, and validation is on ``open`` as well.

    Raises:
        AdvbenchError: the dataset has no training or no validation split, or photographs are not
            there.
    """
    rows, held_out = rows_to_train_with(dataset, fresh)
    validation = examples(dataset, held_out)
    training: Examples | FreshExamples = examples(dataset, rows)
    authentic = examples(dataset, dataset.select("val", label=0))
    source = {
        "id": dataset.id,
        "label": dataset.id,
        "version": dataset.info.version,
        "content_sha256": dataset.info.content_sha256,
        "training_images": len(rows),
    }
    if fresh:
        training = fresh_forgeries(fresh, photographs, recipe.seed)
        more = [open_validation(photographs)] if photographs else []
        validation = processed_in_turn(validation, *more)
        more = [open_validation(photographs, forged=False)] if photographs else []
        authentic = processed_in_turn(authentic, *more)
        source |= {
            "training_images": f"{fresh} fresh ones an epoch",
            "content_sha256": photographs_sha256(photographs),
        }
    return train(
        victim_class,
        size,
        training,
        validation,
        source=source,
        recipe=recipe,
        run=run,
        device=device,
        start=start,
        authentic=authentic,
    )


def rows_to_train_with(
    dataset: Dataset, fresh: int, *, label: int | None = None, limit: int | None = None
) -> tuple[list[Row], list[Row]]:
    """Choose the rows of a training and, forged ones alone, of its validation.

    Args:
        fresh: how many images are made anew for an epoch; with some, no training split is needed.
        label, limit: of the training rows, as in :meth:`Dataset.select`.

    Raises:
        AdvbenchError: the dataset has no training or no validation split.
    """
    rows, held_out = dataset.select("train", label, limit), dataset.select("val", label=1)
    for split, chosen in (("train", fresh or rows), ("val", held_out)):
        if not chosen:
            raise AdvbenchError(f"dataset {dataset.id} has no {split} split to train with")
    return rows, held_out


def source_of(
    dataset: Dataset,
    rows: Sequence[Row],
    held_out: Sequence[Row],
    *,
    fresh: int,
    photographs: Path | None,
) -> dict[str, Any]:
    """Describe what a defense is trained on, for its card.

    Args:
        rows, held_out, fresh: as of :func:`rows_to_train_with`.
        photographs: as in :func:`train_victim`.
    """
    content = content_of([*rows, *held_out])
    return {
        "id": dataset.id,
        "version": dataset.info.version,
        "training_images": f"{fresh} fresh ones an epoch" if fresh else len(rows),
        "content_sha256": content + (photographs_sha256(photographs) if fresh else ""),
    }


def content_of(rows: Sequence[Row]) -> str:
    """Hash of images and masks, and of what they are called."""
    lines = "".join(f"{row.sample_id},{row.pixels_sha256},{row.maskbits_sha256}\n" for row in rows)
    return hashlib.sha256(lines.encode()).hexdigest()


def try_crop(victim: Victim, side: int) -> None:
    """Check, before what takes a while, that the victim takes a crop.

    Raises:
        AdvbenchError: the victim takes no image of this side.
    """
    try:
        with torch.inference_mode():
            victim.logits(torch.zeros(1, 3, side, side, device=victim.device))
    except AdvbenchError as error:
        hint = f"; give --set crop={victim.working_side}" if victim.working_side else ""
        raise AdvbenchError(f"--set crop={side}: {error}{hint}") from error


def examples(dataset: Dataset, rows: list[Row]) -> Examples:
    """Rows of a dataset as the training loop takes them."""

    def load(number: int) -> tuple[Image, Mask]:
        row = rows[number]
        image = dataset.image(row)
        mask = dataset.mask(row) if row.mask else np.zeros(image.shape[:2], dtype=np.bool_)
        return image, mask

    return Examples([row.sample_id for row in rows], load)
