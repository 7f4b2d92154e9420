"""Train ANSM for a victim: pairs of originals and FGSM images of the training split."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from advbench.attacks.fgsm import FGSM
from advbench.datasets.dataset import Dataset
from advbench.datasets.manifest import Row
from advbench.defenses.ansm import training
from advbench.defenses.ansm.network import Size
from advbench.defenses.ansm.recipe import AnsmRecipe
from advbench.engines.processes import Processes
from advbench.errors import AdvbenchError
from advbench.images import Image, Mask, pixels_sha256, to_tensor
from advbench.pipelines.provenance import victim_identity
from advbench.pipelines.train import examples
from advbench.progress import Count as Progress
from advbench.shards.reader import Shard
from advbench.shards.store import ShardStore
from advbench.training.data import Examples, at_working_size
from advbench.training.loop import Report, Steps
from advbench.victims.base import Victim


def train_ansm(
    victim: Victim,
    size: Size,
    dataset: Dataset,
    recipe: AnsmRecipe,
    *,
    folder: Path,
    shards: Path,
    limit: int | None = None,
    progress: Progress = lambda done, total: None,
    report: Report = lambda epoch: None,
    steps: Steps = lambda done, total: None,
    processes: Processes | None = None,
    start: training.Start | None = None,
    after: Path | None = None,
) -> Path:
    """:func:`advbench.defenses.ansm.training.train` on a dataset's forged images.

    Args:
        shards: where ``generate`` may have written FGSM images of the training split; what is not
            there is made on the fly and kept in memory.
        limit: the first so many training images.
        progress: of the pairs.
        start: weights to begin from, random ones otherwise.
        after: folder of a run of the first stage alone, to go on after.

    Raises:
        AdvbenchError: the dataset has no training or no validation split, or ``start`` is no
            network of this size.
    """
    rows = {
        "train": dataset.select("train", label=1, limit=limit),
        "val": dataset.select("val", label=1),
    }
    for split, chosen in rows.items():
        if not chosen:
            raise AdvbenchError(f"dataset {dataset.id} has no {split} split to train with")
    _try_crop(victim, recipe.crop)
    attack = FGSM.create(eps=(recipe.eps,))
    every = [*rows["train"], *rows["val"]]
    originals = at_working_size(examples(dataset, every), victim)
    adversarial = _stored(shards, dataset.id, victim, attack, originals=originals)
    _complete(victim, attack, originals, adversarial, progress=progress)
    made = {split: _pairs(victim, dataset, rows[split], adversarial) for split in rows}
    source = {
        "id": dataset.id,
        "version": dataset.info.version,
        "training_images": len(rows["train"]),
        "attack": attack.variant_spec(recipe.eps),
        "content_sha256": content_of(every),
    }
    return training.train(
        victim,
        size,
        made["train"],
        made["val"],
        source=source,
        recipe=recipe,
        folder=folder,
        report=report,
        steps=steps,
        processes=processes,
        start=start,
        after=after,
    )


def _try_crop(victim: Victim, side: int) -> None:
    """Before the pairs are made, which takes a while.

    Raises:
        AdvbenchError: the victim takes no image of this side.
    """
    try:
        with torch.inference_mode():
            victim.logits(torch.zeros(1, 3, side, side, device=victim.device))
    except AdvbenchError as error:
        hint = f"; give --set crop={victim.working_side}" if victim.working_side else ""
        raise AdvbenchError(f"--set crop={side}: {error}{hint}") from error


def content_of(rows: Sequence[Row]) -> str:
    """Hash of images and masks, and of what they are called."""
    lines = "".join(f"{row.sample_id},{row.pixels_sha256},{row.maskbits_sha256}\n" for row in rows)
    return hashlib.sha256(lines.encode()).hexdigest()


def _stored(
    shards: Path, dataset: str, victim: Victim, attack: FGSM, *, originals: Examples
) -> dict[str, Image]:
    """Adversarial images of these originals that lie in shards of this victim and attack."""
    (intensity,) = attack.intensities
    specification = attack.variant_spec(intensity)
    numbers = {name: number for number, name in enumerate(originals.names)}
    found: dict[str, Image] = {}
    below = f"{victim.name}/{attack.variant_name(intensity)}"
    folders = [f"{dataset}-{split}/{below}" for split in ("train", "val")]
    store = ShardStore(shards)
    for entry in itertools.chain.from_iterable(store.entries(one) for one in folders):
        settings = entry.settings
        if settings.victim != victim_identity(victim) or settings.attack != specification:
            continue
        with Shard(entry.path) as shard:
            for number, sample_id in enumerate(entry.sample_ids):
                if sample_id not in numbers:
                    continue
                original, _ = originals.load(numbers[sample_id])
                if shard.sha256_of(number, "original_sha256") == pixels_sha256(original):
                    found[sample_id] = shard.adversarial(number, original)
    return found


def _complete(
    victim: Victim,
    attack: FGSM,
    originals: Examples,
    adversarial: dict[str, Image],
    *,
    progress: Progress,
) -> None:
    """Make the adversarial images that are missing."""
    for number, name in enumerate(originals.names):
        if name not in adversarial:
            image, mask = originals.load(number)
            images = to_tensor(image)
            masks = torch.from_numpy(mask.copy())[None]
            (result,) = attack(victim, images, masks, [name]).values()
            adversarial[name] = result[0].permute(1, 2, 0).numpy()
        progress(number + 1, len(originals.names))


def _pairs(
    victim: Victim, dataset: Dataset, rows: Sequence[Row], adversarial: Mapping[str, Image]
) -> Examples:
    """Original and adversarial image side by side, H×W×6, at the victim's working size."""
    fitted = at_working_size(examples(dataset, list(rows)), victim)

    def load(number: int) -> tuple[Image, Mask]:
        image, mask = fitted.load(number)
        return np.concatenate([image, adversarial[fitted.names[number]]], 2), mask

    return Examples(fitted.names, load)
