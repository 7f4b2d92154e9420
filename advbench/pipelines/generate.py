"""Build an anti-forensics dataset: originals, then adversarial images, shard by shard.

What is finished is kept: a run continues wherever the last one ended, adds intensities or images
to what is there, and never makes an image twice.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from advbench.datasets.manifest import Row
from advbench.engines.local import Local
from advbench.engines.units import Engine, WorkUnit
from advbench.errors import AdvbenchError
from advbench.images import mask_sha256, to_unit
from advbench.inference.numerics import deterministic_mode
from advbench.pipelines.agreement import check_agreement
from advbench.pipelines.making import (
    AttackTask,
    Effect,
    GenerationJob,
    make_adversarial,
    make_originals,
    originals_settings,
    settings_of,
)
from advbench.pipelines.sizes import check_memory
from advbench.progress import TaskProgress
from advbench.shards.reader import Shard, ShardEntry
from advbench.shards.schema import Settings
from advbench.sources import is_own

__all__ = [
    "GenerationCounts",
    "GenerationJob",
    "generate",
    "missing_originals",
    "missing_tasks",
    "weight",
]

SHARD_BYTES = 96 << 20
_REPEATED = 1e-3  # of probabilities; a GPU sums in no fixed order


@dataclass
class GenerationCounts:
    """Count what a run did.

    Attributes:
        agreement: of numerics that are not exact, how far they agree.
        effects: per variant that was made, how many images and gradients came to nothing.
        earlier: the same of what an earlier run made and this one reuses.
    """

    made: int = 0
    reused: int = 0
    repaired: list[str] = field(default_factory=list)
    passes: int = 0
    seconds: float = 0.0
    agreement: str | None = None
    effects: dict[str, Effect] = field(default_factory=dict)
    earlier: dict[str, Effect] = field(default_factory=dict)

    def warnings(self, victim: str) -> list[str]:
        """Tell of each variant that came to nothing on some images, a line each."""
        return [
            f"warning: {victim} under {variant}{when}: {effect}; such scores say nothing of "
            "robustness, see docs/gates.md"
            for when, effects in (("", self.effects), (", made earlier", self.earlier))
            for variant, effect in effects.items()
            if str(effect)
        ]


def generate(
    job: GenerationJob,
    progress: TaskProgress = lambda what, done, total: None,
    engine: Engine | None = None,
) -> GenerationCounts:
    """Make what is missing; see the module.

    Args:
        engine: where units run; in this process by default.

    Raises:
        AdvbenchError: an image that cannot be read or that memory cannot hold, an output folder
            made with other settings, a damaged shard (without ``repair``), numerics under which
            attacks are not as strong, a victim that gives another map of the same image each time.
        OSError: the disk is full or the folder read-only; finished shards stay.
    """
    started = time.perf_counter()
    store = job.store
    counts = GenerationCounts()
    store.tidy()
    store.check_index()
    engine = engine or Local()
    try:
        originals = missing_originals(job, counts)
        tasks = missing_tasks(job, counts)
        check_memory(job.victim, [row for unit in tasks for row in unit.payload.rows])
        if tasks and job.victim.numerics != "exact":
            counts.agreement = str(check_agreement(job))
        if tasks and not is_own(type(job.victim)):
            _check_repeats(job)
        passes = sum(unit.cost for unit in tasks)

        def resized(what: str, done: int, total: int) -> None:
            progress(what, 0, passes)

        for _ in engine.run(partial(make_originals, job), originals, resized):
            pass
        for made in engine.run(partial(make_adversarial, job), tasks, progress):
            counts.made += made.images
            counts.passes += made.passes
            for variant, effect in made.effects.items():
                counts.effects[variant] = counts.effects.get(variant, Effect()) + effect
    except BaseException:
        with suppress(AdvbenchError, OSError):
            store.write_index()
        raise
    store.write_index()
    counts.seconds = time.perf_counter() - started
    return counts


def _check_repeats(job: GenerationJob) -> None:
    """Refuse a plug-in victim whose maps cannot be repeated, and so neither can its scores."""
    victim, row = job.victim, job.rows[0]
    image = torch.from_numpy(victim.fit(job.dataset.image(row)).copy()).permute(2, 0, 1)[None]
    x = to_unit(image.to(victim.device))
    with deterministic_mode(victim.network, victim.numerics), torch.inference_mode():
        first, second = victim.probabilities(x), victim.probabilities(x)
    if float((first - second).abs().max()) > _REPEATED:
        raise AdvbenchError(
            f"victim {victim.name}: gives two maps of the same image ({row.sample_id}) at two "
            "passes; it must draw no random numbers and keep nothing from pass to pass"
        )


def missing_originals(
    job: GenerationJob, counts: GenerationCounts
) -> list[WorkUnit[tuple[Row, ...]]]:
    """The originals that are to be stored, shard by shard.

    Raises:
        AdvbenchError: those that are there are of another dataset of the same name.
    """
    settings = originals_settings(job)
    sources: dict[str, tuple[str, ...]] = {}
    for entry in _present(job, settings, counts):
        with Shard(entry.path) as shard:
            columns = [
                [shard.sha256_of(number, name) for number in range(len(entry.sample_ids))]
                for name in ("source_sha256", "mask_sha256")
            ]
            columns += [shard.texts(name) for name in ("kind", "source_group")]
        sources |= dict(zip(entry.sample_ids, zip(*columns, strict=True), strict=True))
    for row in job.rows:
        own = (row.pixels_sha256, row.maskbits_sha256 or _nothing_forged(row))
        if sources.get(row.sample_id, own)[:2] != own:
            raise AdvbenchError(
                f"{job.store.root / settings.folder}: made from another dataset named "
                f"{job.name} ({row.sample_id} differs); give another --out"
            )

    def is_there(row: Row) -> bool:
        """Tell whether an original is stored, with all that its manifest says of it now."""
        return sources.get(row.sample_id, ())[2:] == (row.kind, row.source_group)

    units = []
    for chunk in _chunks(job):
        missing = tuple(row for row in chunk if not is_there(row))
        if missing:
            parts = (settings.sha256, *(row.sample_id for row in missing))
            units.append(WorkUnit(f"{len(missing)} originals", parts, len(missing), missing))
    return units


def missing_tasks(job: GenerationJob, counts: GenerationCounts) -> list[WorkUnit[AttackTask]]:
    """Find what is to be done: per attack and shard, intensities that miss the same images
    together; what is there is counted in ``counts``."""
    units = []
    wanted = {row.sample_id for row in job.rows}
    for attack in sorted(job.attacks, key=lambda attack: attack.passes()):
        present: dict[float, set[str]] = {}
        for intensity in attack.intensities:
            settings = settings_of(job, attack, intensity)
            entries = _present(job, settings, counts)
            effect = sum((Effect.stored(entry, wanted) for entry in entries), Effect())
            counts.earlier[str(settings.variant)] = effect
            present[intensity] = {name for entry in entries for name in entry.sample_ids}
        for whole in _chunks(job):
            chunk = [row for row in whole if row.label == 1 or attack.attacks_authentic]
            groups: dict[tuple[Row, ...], list[float]] = {}
            for intensity, names in present.items():
                missing = tuple(row for row in chunk if row.sample_id not in names)
                counts.reused += len(chunk) - len(missing)
                if missing:
                    groups.setdefault(missing, []).append(intensity)
            for rows, intensities in groups.items():
                part = attack.only(intensities)
                parts = [settings_of(job, part, value).sha256 for value in intensities]
                units.append(
                    WorkUnit(
                        f"{attack.label} on {len(rows)} images",
                        (*parts, *(row.sample_id for row in rows)),
                        part.passes() * len(rows),
                        AttackTask(part, rows),
                    )
                )
    return units


def _present(job: GenerationJob, settings: Settings, counts: GenerationCounts) -> list[ShardEntry]:
    """The shards of these settings that are there, after repair where that is asked for."""
    if job.repair:
        counts.repaired += job.store.repair(settings)
    return job.store.of(settings)


def _nothing_forged(row: Row) -> str:
    """The hash of an authentic image's mask."""
    return mask_sha256(np.zeros((row.height, row.width), dtype=bool))


def weight(job: GenerationJob, row: Row) -> int:
    """Bytes of an image in memory, at the victim's working size."""
    side = job.victim.working_side
    return 3 * (side * side if side else row.height * row.width)


def _chunks(job: GenerationJob) -> list[list[Row]]:
    """The rows in shards of bounded size: the same chunks at every run."""
    chunks: list[list[Row]] = [[]]
    size = 0
    for row in job.rows:
        bytes_ = weight(job, row)
        if chunks[-1] and (len(chunks[-1]) >= job.shard_size or size + bytes_ > SHARD_BYTES):
            chunks.append([])
            size = 0
        chunks[-1].append(row)
        size += bytes_
    return chunks if chunks[0] else []
