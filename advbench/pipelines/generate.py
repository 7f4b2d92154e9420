"""Build an anti-forensics dataset: originals, then adversarial images, shard by shard.

What is finished is kept: a run continues wherever the last one ended, adds intensities or images
to what is there, and never makes an image twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from advbench.attacks.base import Attack
from advbench.attacks.batching import images_at_once
from advbench.datasets.dataset import Dataset
from advbench.datasets.manifest import Row
from advbench.engines import local
from advbench.engines.units import WorkUnit
from advbench.errors import AdvbenchError, DamagedShardError
from advbench.files import remove_stale_temporaries
from advbench.pipelines.provenance import provenance, victim_identity
from advbench.pixels import Image, Mask
from advbench.shards.index import write_index
from advbench.shards.reader import Originals, Shard, ShardEntry, list_shards
from advbench.shards.schema import ADVERSARIAL, ORIGINALS, AdversarialRecord, Original, Settings
from advbench.shards.writer import write_adversarial, write_originals
from advbench.victims.base import Victim

SHARD_BYTES = 96 << 20


@dataclass(frozen=True)
class Request:
    """What to generate.

    Attributes:
        rows: the images, in order.
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


@dataclass
class Summary:
    """What a run did."""

    made: int = 0
    reused: int = 0
    repaired: list[str] = field(default_factory=list)
    passes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Task:
    """One attack at the intensities that are missing, on some images of one shard."""

    attack: Attack
    rows: tuple[Row, ...]


# Called with what is being done, the passes done and all passes of the run.
Progress = Callable[[str, int, int], None]


def generate(request: Request, progress: Progress = lambda what, done, total: None) -> Summary:
    """Make what is missing; see the module.

    Raises:
        AdvbenchError: an image that cannot be read, an output folder made with other settings, a
            damaged shard (without ``repair``).
        OSError: the disk is full or the folder read-only; finished shards stay.
    """
    started = time.perf_counter()
    root = request.out / "shards"
    summary = Summary()
    if root.is_dir():
        remove_stale_temporaries(root)
    try:
        _prepare_originals(request, root, summary)
        tasks = missing_tasks(request, root, summary)
        total = sum(unit.cost for unit in tasks)
        done = 0

        def work(unit: WorkUnit[Task]) -> None:
            nonlocal done
            for passes in _execute(request, root, unit.payload):
                done += passes
                progress(unit.name, done, total)
            made = len(unit.payload.rows) * len(unit.payload.attack.intensities)
            summary.made += made
            summary.passes = done

        for _ in local.run(tasks, work):
            pass
    finally:
        if root.is_dir() and any(root.iterdir()):
            _finish_index(root)
    summary.seconds = time.perf_counter() - started
    return summary


def settings_of(request: Request, attack: Attack, intensity: float) -> Settings:
    """The provenance key of one variant."""
    return Settings(
        kind=ADVERSARIAL,
        dataset=request.name,
        space=request.victim.space,
        victim=victim_identity(request.victim),
        variant=attack.variant_name(intensity),
        attack=attack.variant_spec(intensity),
        budget=attack.budget(intensity),
        seed=request.seed,
        precision="fp32",
    )


def fit_mask(mask: Mask, image: Image) -> Mask:
    """The mask at an image's size, nearest neighbour."""
    if mask.shape == image.shape[:2]:
        return mask
    size = (image.shape[1], image.shape[0])
    return cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0


def _prepare_originals(request: Request, root: Path, summary: Summary) -> None:
    settings = Settings(kind=ORIGINALS, dataset=request.name, space=request.victim.space)
    present = _present(request, root, settings, summary)
    sources: dict[str, tuple[str, str]] = {}
    for entry in present:
        with Shard(entry.path) as shard:
            for number, sample_id in enumerate(entry.sample_ids):
                image = shard.sha256_of(number, "source_sha256")
                sources[sample_id] = (image, shard.sha256_of(number, "mask_sha256"))
    for row in request.rows:
        own = (row.pixels_sha256, row.maskbits_sha256)
        if sources.get(row.sample_id, own) != own:
            raise AdvbenchError(
                f"{root / settings.folder}: made from another dataset named {request.name} "
                f"({row.sample_id} differs); give another --out"
            )
    for chunk in _chunks(request):
        missing = [row for row in chunk if row.sample_id not in sources]
        if not missing:
            continue
        records = [
            Original(
                row.sample_id,
                row.kind,
                row.source_group,
                request.victim.fit(request.dataset.image(row)),
                request.dataset.mask(row),
                row.pixels_sha256,
            )
            for row in missing
        ]
        path = _new_path(request, root, settings, missing[0])
        write_originals(path, settings, records, provenance(request.victim.device))


def missing_tasks(request: Request, root: Path, summary: Summary) -> list[WorkUnit[Task]]:
    """What is to be done: per attack and shard, intensities that miss the same images together;
    what is there is counted in ``summary``."""
    units = []
    for attack in sorted(request.attacks, key=lambda attack: attack.passes()):
        present: dict[float, set[str]] = {}
        for intensity in attack.intensities:
            entries = _present(request, root, settings_of(request, attack, intensity), summary)
            present[intensity] = {name for entry in entries for name in entry.sample_ids}
        for chunk in _chunks(request):
            groups: dict[tuple[Row, ...], list[float]] = {}
            for intensity, names in present.items():
                missing = tuple(row for row in chunk if row.sample_id not in names)
                summary.reused += len(chunk) - len(missing)
                if missing:
                    groups.setdefault(missing, []).append(intensity)
            for rows, intensities in groups.items():
                part = attack.only(intensities)
                parts = [settings_of(request, part, value).sha256 for value in intensities]
                units.append(
                    WorkUnit(
                        f"{attack.name} on {len(rows)} images",
                        (*parts, *(row.sample_id for row in rows)),
                        part.passes() * len(rows),
                        Task(part, rows),
                    )
                )
    return units


def _execute(request: Request, root: Path, task: Task) -> Iterator[int]:
    """Do a task; yields the passes done as it goes."""
    attack, victim = task.attack, request.victim
    space = Settings(kind=ORIGINALS, dataset=request.name, space=victim.space)
    originals = Originals(list_shards(root, str(space.folder)))
    records: dict[str, list[AdversarialRecord]] = {
        attack.variant_name(intensity): [] for intensity in attack.intensities
    }
    started = time.perf_counter()
    for rows in _same_shapes(task.rows, originals, images_at_once(victim.device)):
        pairs = [originals.get(row.sample_id) for row in rows]
        images = np.stack([image for image, _ in pairs])
        masks = np.stack([fit_mask(mask, image) for image, mask in pairs])
        results = attack.run(
            victim,
            torch.from_numpy(images).permute(0, 3, 1, 2),
            torch.from_numpy(masks),
            [row.sample_id for row in rows],
            request.seed,
        )
        for variant, result in results.items():
            for row, original, stored, detail in zip(
                rows, images, result.images, result.details, strict=True
            ):
                records[variant].append(
                    AdversarialRecord(
                        row.sample_id,
                        original,
                        np.ascontiguousarray(stored.permute(1, 2, 0).numpy()),
                        detail.loss_first,
                        detail.loss_last,
                        detail.zero_gradients,
                    )
                )
        yield attack.passes() * len(rows)
    made = provenance(
        victim.device, attack.passes() * len(task.rows), time.perf_counter() - started
    )
    for intensity in attack.intensities:
        settings = settings_of(request, attack, intensity)
        path = _new_path(request, root, settings, task.rows[0])
        write_adversarial(path, settings, records[attack.variant_name(intensity)], made)


def _present(
    request: Request, root: Path, settings: Settings, summary: Summary
) -> list[ShardEntry]:
    """The sound shards of these settings that are there.

    Raises:
        AdvbenchError: shards of other settings lie in their place.
        DamagedShardError: one cannot be read, and it was not asked to repair.
    """
    folder = root / settings.folder
    entries = []
    for path in sorted(folder.glob("shard-*.h5")):
        try:
            with Shard(path) as shard:
                if request.repair:
                    _check_fully(shard, root)
                entry = ShardEntry(
                    path, shard.settings, tuple(shard.sample_ids), shard.content_sha256
                )
        except DamagedShardError:
            if not request.repair:
                raise
            # The index keeps rows of files that look unchanged; a repaired one may look so.
            (root / "index.csv").unlink(missing_ok=True)
            path.unlink()
            summary.repaired.append(path.relative_to(root).as_posix())
            continue
        if entry.settings.sha256 != settings.sha256:
            what = ", ".join(settings.differences(entry.settings))
            raise AdvbenchError(
                f"{folder}: made with other settings ({what}); use those or give another --out"
            )
        entries.append(entry)
    return entries


def _check_fully(shard: Shard, root: Path) -> None:
    shard.check_content()
    if shard.settings.kind == ADVERSARIAL:
        space = Settings(kind=ORIGINALS, dataset=shard.settings.dataset, space=shard.settings.space)
        originals = Originals(list_shards(root, str(space.folder)))
        for number, sample_id in enumerate(shard.sample_ids):
            if sample_id in originals:
                shard.adversarial(number, originals.get(sample_id)[0])


def weight(request: Request, row: Row) -> int:
    """Bytes of an image in memory, at the victim's working size."""
    side = request.victim.working_side
    return 3 * (side * side if side else row.height * row.width)


def _chunks(request: Request) -> list[list[Row]]:
    """The rows in shards of bounded size: the same chunks at every run."""
    chunks: list[list[Row]] = [[]]
    size = 0
    for row in request.rows:
        bytes_ = weight(request, row)
        if chunks[-1] and (len(chunks[-1]) >= request.shard_size or size + bytes_ > SHARD_BYTES):
            chunks.append([])
            size = 0
        chunks[-1].append(row)
        size += bytes_
    return chunks if chunks[0] else []


def _same_shapes(rows: Sequence[Row], originals: Originals, batch: int) -> Iterator[list[Row]]:
    """Runs of rows that can be stacked."""
    run: list[Row] = []
    shape: tuple[int, ...] | None = None
    for row in rows:
        image, _ = originals.get(row.sample_id)
        if run and (image.shape != shape or len(run) >= batch):
            yield run
            run = []
        shape = image.shape
        run.append(row)
    if run:
        yield run


def _new_path(request: Request, root: Path, settings: Settings, first: Row) -> Path:
    """A shard is numbered by the place of its first image in the dataset."""
    number = next(
        index for index, row in enumerate(request.dataset.rows) if row.sample_id == first.sample_id
    )
    return root / settings.folder / f"shard-{number:06d}.h5"


def _finish_index(root: Path) -> None:
    try:
        write_index(root)
    except (DamagedShardError, OSError):
        # What went wrong is told by the error that is on its way, or by `advbench verify`.
        return
