"""Verify shards offline: every byte, every image, every budget, and the index against the files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from advbench.errors import AdvbenchError, DamagedShardError
from advbench.files import file_sha256, temporaries
from advbench.shards.index import read_index
from advbench.shards.reader import Originals, Shard, ShardEntry
from advbench.shards.schema import ADVERSARIAL, ORIGINALS


@dataclass
class Report:
    """What verification found.

    Attributes:
        problems: path (relative to the shards' root) and what is wrong with it.
        content_sha256: identity of all sound images, whatever files they lie in.
    """

    shards: int = 0
    images: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)
    content_sha256: str = ""

    @property
    def damaged(self) -> list[str]:
        """Paths with problems, each once."""
        return sorted({path for path, _ in self.problems})


def verify(root: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> Report:
    """Check all shards below ``root``.

    Checked are each file's sha256 against the index, that it opens, its settings, shapes, every
    decoded image against its hash, the residual against the budget, the original it refers to,
    files without a row, rows without a file, and what an interrupted run left.
    """
    report = Report()
    paths = sorted(root.rglob("shard-*.h5"))
    rows = {}
    try:
        rows = {row["path"]: row for row in read_index(root)}
    except AdvbenchError as error:
        report.problems.append(("index.csv", str(error).partition(": ")[2]))
    present = {path.relative_to(root).as_posix() for path in paths}
    for missing in sorted(rows.keys() - present):
        report.problems.append((missing, "stands in the index, but the file is missing"))
    for temporary in sorted(temporaries(root)):
        name = temporary.relative_to(root).as_posix()
        report.problems.append((name, "left by an interrupted run; the next run removes it"))

    entries, shards = [], []
    for path in paths:
        name = path.relative_to(root).as_posix()
        if rows and name not in rows:
            report.problems.append((name, "not in the index"))
        if name in rows and file_sha256(path) != rows[name]["sha256"]:
            report.problems.append((name, "differs from the sha256 in the index"))
        try:
            with Shard(path) as shard:
                shard.check_content()
                entry = ShardEntry(
                    path, shard.settings, tuple(shard.sample_ids), shard.content_sha256
                )
                entries.append(entry)
                shards.append(name)
                if path.parent != root / entry.settings.folder:
                    report.problems.append((name, f"belongs into {entry.settings.folder}"))
        except DamagedShardError as error:
            report.problems.append((name, _reason(error)))

    identities: list[str] = []
    for number, (name, entry) in enumerate(zip(shards, entries, strict=True)):
        progress(number, len(entries))
        originals = Originals(
            [e for e in entries if _same_pictures(e, entry) and e.settings.kind == ORIGINALS]
        )
        try:
            identities += _check_images(entry, originals)
        except AdvbenchError as error:
            report.problems.append((name, _reason(error)))
        report.images += len(entry.sample_ids)
    progress(len(entries), len(entries))
    report.shards = len(paths)
    report.content_sha256 = hashlib.sha256("\n".join(sorted(identities)).encode()).hexdigest()
    return report


def _check_images(entry: ShardEntry, originals: Originals) -> list[str]:
    """Decode every image of a shard; returns a line of identity for each."""
    settings = entry.settings
    lines = []
    with Shard(entry.path) as shard:
        for number, sample_id in enumerate(entry.sample_ids):
            if settings.kind == ADVERSARIAL:
                original, _ = originals.get(sample_id)
                image = shard.adversarial(number, original)
                largest = int(np.abs(image.astype(np.int16) - original).max(initial=0))
                if settings.budget is not None and largest > settings.budget:
                    raise DamagedShardError(
                        f"{entry.path}: {sample_id} differs by {largest} grey levels, the budget "
                        f"is {settings.budget}"
                    )
            else:
                shard.original(number)
            lines.append(f"{settings.sha256},{sample_id},{shard.sha256_of(number)}")
    return lines


def _same_pictures(one: ShardEntry, other: ShardEntry) -> bool:
    return (one.settings.dataset, one.settings.space) == (
        other.settings.dataset,
        other.settings.space,
    )


def _reason(error: AdvbenchError) -> str:
    text = str(error)
    return text.partition(": ")[2].partition("; run ")[0] or text
