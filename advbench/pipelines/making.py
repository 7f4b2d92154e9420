"""Make shards: originals at a victim's working size, and what an attack makes of them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from advbench.attacks.base import Attack
from advbench.attacks.batch import Result
from advbench.datasets.dataset import Dataset
from advbench.datasets.manifest import Row
from advbench.engines.units import Advance
from advbench.images import fit_mask
from advbench.inference.numerics import deterministic_mode
from advbench.inference.runner import BatchRunner
from advbench.pipelines.provenance import attack_identity, provenance, victim_identity
from advbench.shards.reader import Originals, ShardEntry
from advbench.shards.schema import ADVERSARIAL, ORIGINALS, AdversarialRecord, Original, Settings
from advbench.shards.store import ShardStore
from advbench.victims.base import Victim


@dataclass(frozen=True)
class GenerationJob:
    """Choose what to generate.

    Attributes:
        rows: the images, in order.
        victim: whose passes run at its own numerics; other than exact ones must pass
            :func:`advbench.pipelines.agreement.check_agreement`.
        out: the output folder; shards lie in its ``shards``.
        shard_size: most images in a shard; fewer where they are large.
        repair: check every image that is there, and make damaged shards again.
    """

    dataset: Dataset
    rows: Sequence[Row]
    victim: Victim
    attacks: Sequence[Attack]
    out: Path
    seed: int = 0
    shard_size: int = 64
    repair: bool = False

    @property
    def name(self) -> str:
        """The dataset in shards, records and tables. Splits other than the test one stand apart,
        as in ``builtin-train``, so that no table mixes them with it."""
        splits = {row.split for row in self.rows} - {"test"}
        return "-".join([self.dataset.id, *sorted(splits)])

    @cached_property
    def store(self) -> ShardStore:
        """Open the store of the shards."""
        return ShardStore(self.out / "shards")


@dataclass(frozen=True)
class AttackTask:
    """One attack at the intensities that are missing, on some images of one shard."""

    attack: Attack
    rows: tuple[Row, ...]


def settings_of(job: GenerationJob, attack: Attack, intensity: float) -> Settings:
    """The provenance key of one variant.

    What was not made exactly is another attack, such as ``pgd~fast``, in names, records and tables.
    """
    variant, spec = attack.variant_name(intensity), attack_identity(attack, intensity)
    numerics = job.victim.numerics
    if numerics != "exact":
        label = str(spec["attack"])
        spec["attack"] = f"{label}~{numerics}"
        variant = spec["attack"] + variant.removeprefix(label)
    return Settings(
        kind=ADVERSARIAL,
        dataset=job.name,
        space=job.victim.space,
        victim=victim_identity(job.victim),
        variant=variant,
        attack=spec,
        budget=attack.budget(intensity),
        seed=job.seed,
        precision="fp32" if numerics == "exact" else numerics,
    )


def originals_settings(job: GenerationJob) -> Settings:
    """The provenance key of the originals."""
    return Settings(kind=ORIGINALS, dataset=job.name, space=job.victim.space)


def make_originals(job: GenerationJob, rows: Sequence[Row], advance: Advance) -> None:
    """Write the shard of these images as the victim sees them."""
    records = [
        Original(
            row.sample_id,
            row.kind,
            row.source_group,
            job.victim.fit(job.dataset.image(row)),
            job.dataset.mask(row),
            row.pixels_sha256,
        )
        for row in rows
    ]
    settings = originals_settings(job)
    made = provenance(job.victim.device)
    job.store.add(settings, records, made, _place(job, rows))
    advance(len(rows))


@dataclass(frozen=True)
class Effect:
    """Count the images of a variant that stayed as they were, and gradients that were zero.

    ``gradients`` is 0 where their number is unknown, as of images of an earlier run.
    """

    images: int = 0
    unchanged: int = 0
    gradients: int = 0
    zero: int = 0

    @classmethod
    def of(cls, originals: npt.NDArray[np.uint8], result: Result) -> Effect:
        """Count over a stack N×H×W×3 and what came of it."""
        before = torch.from_numpy(originals).permute(0, 3, 1, 2)
        same = (before == result.images).flatten(1).all(1)
        gradients = sum(detail.gradients for detail in result.details)
        zero = sum(detail.zero_gradients for detail in result.details)
        return cls(len(same), int(same.sum()), gradients, zero)

    @classmethod
    def stored(cls, entry: ShardEntry, names: Collection[str]) -> Effect:
        """Count over those images of a shard that are among ``names``."""
        own = set(entry.sample_ids).intersection(names)
        zero = sum(count for name, count in entry.zero_gradients.items() if name in own)
        return cls(len(own), len(entry.unchanged & own), 0, zero)

    def __add__(self, other: Effect) -> Effect:
        mine, theirs = vars(self), vars(other)
        return Effect(**{name: mine[name] + theirs[name] for name in mine})

    def __str__(self) -> str:
        """Tell what is remarkable; empty where all is as it should be."""
        told = []
        if self.unchanged:
            told.append(f"{self.unchanged} of {self.images} images are as they were")
        if self.zero:
            share = 100 * self.zero / self.gradients if self.gradients else 0
            told.append(f"{f'{share:.3g} %' if share else self.zero} of the gradients are zero")
        return ", ".join(told)


@dataclass(frozen=True)
class TaskCounts:
    """Count what a task came to: adversarial images, passes, and per variant its effect."""

    images: int
    passes: int
    effects: dict[str, Effect]


class _Passes:
    """Report passes as they are made, by any thread: as many in all as were planned, also where an
    attack tells of none, or made some again after memory ran out."""

    def __init__(self, advance: Advance) -> None:
        self._advance, self._left = advance, 0
        self._lock = threading.Lock()

    def plan(self, passes: int) -> None:
        """So many passes begin."""
        self._left = passes

    def add(self, passes: int) -> None:
        """So many were made."""
        with self._lock:
            passes = min(passes, self._left)
            self._left -= passes
            self._advance(passes)

    def settle(self) -> None:
        """All that were planned are made."""
        self.add(self._left)


def make_adversarial(job: GenerationJob, task: AttackTask, advance: Advance) -> TaskCounts:
    """Attack the images of a task and write a shard a variant; reports passes."""
    attack, victim = task.attack, job.victim
    originals = job.store.originals(job.name, victim.space)
    records: dict[str, list[AdversarialRecord]] = {
        attack.variant_name(intensity): [] for intensity in attack.intensities
    }
    effects = dict.fromkeys(records, Effect())

    def run(stacks: Sequence[Stack]) -> list[dict[str, Result]]:
        return [
            attack.run(
                victim,
                torch.from_numpy(stack.images).permute(0, 3, 1, 2),
                torch.from_numpy(stack.masks),
                stack.names,
                seed=job.seed,
                runner=runner,
            )
            for stack in stacks
        ]

    started = time.perf_counter()
    runner = BatchRunner(victim.device, reentrant=attack.is_reentrant(victim))
    counted = _Passes(advance)
    runner.on_pass = counted.add
    with (
        # Once around the threads, which would restore each other's settings.
        deterministic_mode(victim.network, victim.numerics),
        runner,
    ):
        for some in _batched(task.rows, runner.images_at_once):
            counted.plan(attack.passes() * len(some))
            stacks = list(_stacks(some, originals, victim.device))
            # Images of one size share the threads among them; others take one each.
            alone = runner.sized("images", 1)
            results = alone.map(stacks, run) if len(stacks) > 1 else run(stacks)
            for stack, found in zip(stacks, results, strict=True):
                for variant, result in found.items():
                    records[variant] += _records(stack, result)
                    effects[variant] += Effect.of(stack.images, result)
            counted.settle()
    passes = attack.passes() * len(task.rows)
    batch = runner.sized(attack.work_on(victim, stacks[-1].images.shape[1:3])).batch
    made = provenance(victim.device, passes, time.perf_counter() - started, batch)
    for intensity in attack.intensities:
        settings = settings_of(job, attack, intensity)
        own = records[attack.variant_name(intensity)]
        job.store.add(settings, own, made, _place(job, task.rows))
    return TaskCounts(len(task.rows) * len(attack.intensities), passes, effects)


@dataclass(frozen=True)
class Stack:
    """Images of one size: uint8 N×H×W×3, bool N×H×W, and their ids."""

    images: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.bool_]
    names: list[str]


def _stacks(rows: Sequence[Row], originals: Originals, device: torch.device) -> Iterator[Stack]:
    """Runs of equal sizes; on the CPU, where a run would keep to one thread beside others, one
    image each as soon as sizes differ."""
    pairs = [(row.sample_id, *originals.get(row.sample_id)) for row in rows]
    alone = device.type == "cpu" and len({image.shape for _, image, _ in pairs}) > 1
    for _, same in itertools.groupby(pairs, lambda pair: pair[0] if alone else pair[1].shape):
        names, images, masks = zip(*same, strict=True)
        fitted = [fit_mask(mask, image) for mask, image in zip(masks, images, strict=True)]
        yield Stack(np.stack(images), np.stack(fitted), list(names))


def _records(stack: Stack, result: Result) -> Iterator[AdversarialRecord]:
    for name, original, stored, detail in zip(
        stack.names, stack.images, result.images, result.details, strict=True
    ):
        yield AdversarialRecord(
            name,
            original,
            np.ascontiguousarray(stored.permute(1, 2, 0).numpy()),
            detail.loss_first,
            detail.loss_last,
            detail.zero_gradients,
        )


def _batched(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _place(job: GenerationJob, rows: Sequence[Row]) -> int:
    """The place of the first image in the dataset, by which a shard is numbered."""
    first = rows[0].sample_id
    return next(i for i, row in enumerate(job.dataset.rows) if row.sample_id == first)
