"""Train ANSM for a victim: pairs of originals and FGSM images of the training split."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from advbench.attacks.fgsm import FGSM
from advbench.datasets.dataset import Dataset
from advbench.defenses.ansm import training
from advbench.defenses.ansm.network import Size
from advbench.defenses.ansm.recipe import AnsmRecipe
from advbench.errors import AdvbenchError
from advbench.images import Image, Mask, pixels_sha256, to_tensor
from advbench.pipelines.fresh import fresh_forgeries, open_validation
from advbench.pipelines.provenance import victim_identity
from advbench.pipelines.train import examples, rows_to_train_with, source_of, try_crop
from advbench.progress import CountProgress
from advbench.shards.reader import Shard
from advbench.shards.store import ShardStore
from advbench.training.data import Examples, FreshExamples, at_working_size, joined
from advbench.training.loop import TrainingRun
from advbench.victims.base import Victim


def train_ansm(
    victim: Victim,
    size: Size,
    dataset: Dataset,
    recipe: AnsmRecipe,
    *,
    run: TrainingRun,
    shards: Path,
    limit: int | None = None,
    fresh: int = 0,
    photographs: Path | None = None,
    progress: CountProgress = lambda done, total: None,
    start: training.Start | None = None,
    after: Path | None = None,
) -> Path:
    """:func:`advbench.defenses.ansm.training.train` on a dataset's forged images.

    Args:
        shards: where ``generate`` may have written FGSM images of the training split; what is not
            there is made on the fly and kept in memory.
        limit: the first so many training images.
        fresh: how many forgeries to make anew for each epoch, in place of the training split; for
            recipes whose noise is made on the fly.
        photographs: as in :func:`advbench.pipelines.train.train_victim`.
        progress: of the pairs.
        start: weights to begin from, random ones otherwise.
        after: folder of a run of the first stage alone, to go on after.

    Raises:
        AdvbenchError: the dataset has no training or no validation split, ``start`` is no network
            of this size, or stored pairs are asked of fresh forgeries.
    """
    if fresh and recipe.noise == "stored":
        raise AdvbenchError("--fresh: give --set noise=varied (or fgsm, several), made on the fly")
    rows, held_out = rows_to_train_with(dataset, fresh, label=1, limit=limit)
    try_crop(victim, recipe.crop)
    attack = FGSM.create(eps=(recipe.eps,))
    source = source_of(dataset, rows, held_out, fresh=fresh, photographs=photographs)
    source["attack"] = attack.variant_spec(recipe.eps)
    more = [open_validation(photographs)] if fresh and photographs else []
    validation = at_working_size(joined(examples(dataset, held_out), *more), victim)
    originals = at_working_size(examples(dataset, rows), victim)
    stored = recipe.noise == "stored"
    attacked = joined(originals, validation) if stored else validation
    adversarial = _stored(shards, dataset.id, victim, attack, originals=attacked)
    _complete(victim, attack, attacked, adversarial, progress=progress)
    learnt: Examples | FreshExamples = _pairs(originals, adversarial) if stored else originals
    if fresh:
        learnt = at_working_size(fresh_forgeries(fresh, photographs, recipe.seed), victim)
    return training.train(
        victim,
        size,
        learnt,
        _pairs(validation, adversarial),
        source=source,
        recipe=recipe,
        run=run,
        start=start,
        after=after,
    )


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
    progress: CountProgress,
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


def _pairs(originals: Examples, adversarial: Mapping[str, Image]) -> Examples:
    """Original and adversarial image side by side, H×W×6, at the victim's working size."""

    def load(number: int) -> tuple[Image, Mask]:
        image, mask = originals.load(number)
        return np.concatenate([image, adversarial[originals.names[number]]], 2), mask

    return Examples(originals.names, load)
