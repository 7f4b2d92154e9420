"""Verify shards offline: every byte, every image, every budget, and the index against the files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from advbench.errors import AdvbenchError, DamagedShardError
from advbench.files import temporaries
from advbench.progress import CountProgress
from advbench.shards import index
from advbench.shards.index import REBUILD, Row, read_index, row_of
from advbench.shards.reader import Originals, Shard, ShardEntry, entry_of
from advbench.shards.schema import ADVERSARIAL

REPAIR = "run the generate command that made it again with --repair"
_SHOWN = 60  # characters of a value of the index

# Path (relative to the shards' root), and what is wrong with it and what mends it.
Problem = tuple[str, str]


@dataclass
class Report:
    """Hold what verification found.

    Attributes:
        unsound: of shards, and of files that do not belong there.
        unlisted: of the index alone: shards that it misses, or lists otherwise than they are.
        content_sha256: identity of all sound images, whatever files they lie in.
    """

    shards: int = 0
    images: int = 0
    unsound: list[Problem] = field(default_factory=list)
    unlisted: list[Problem] = field(default_factory=list)
    content_sha256: str = ""

    @property
    def problems(self) -> list[Problem]:
        """All of them."""
        return self.unsound + self.unlisted

    @property
    def damaged(self) -> list[str]:
        """Paths with problems, each once."""
        return sorted({path for path, _ in self.problems})


def verify(root: Path, progress: CountProgress = lambda done, total: None) -> Report:
    """Check all shards below ``root``.

    Checked are that each file opens, its settings, shapes, every decoded image against its hash,
    the residual against the budget and the index, the original it refers to, that no image is there
    twice, every value of ``index.csv``, and what an interrupted run left.
    """
    report = Report()
    for temporary in sorted(temporaries(root)):
        name = temporary.relative_to(root).as_posix()
        report.unsound.append((name, "left by an interrupted run; the next run removes it"))
    paths = sorted(root.rglob("shard-*.h5"))
    entries = _sound_heads(root, paths, report)
    _check_index(root, paths, entries, report)
    originals = {
        pictures: Originals([e for e in entries if _pictures(e) == pictures])
        for pictures in set(map(_pictures, entries))
    }
    identities: list[str] = []
    places: dict[tuple[str, str], str] = {}
    for number, entry in enumerate(entries):
        progress(number, len(entries))
        name = entry.path.relative_to(root).as_posix()
        try:
            identities += _check_images(entry, originals[_pictures(entry)])
        except AdvbenchError as error:
            report.unsound.append((name, _message(error, entry.path)))
        for sample_id in entry.sample_ids:
            other = places.setdefault((entry.settings.sha256, sample_id), name)
            if other != name:
                report.unsound.append((name, f"holds {sample_id}, as {other} does; {REPAIR}"))
        report.images += len(entry.sample_ids)
    progress(len(entries), len(entries))
    report.shards = len(paths)
    report.content_sha256 = hashlib.sha256("\n".join(sorted(identities)).encode()).hexdigest()
    return report


def _sound_heads(root: Path, paths: list[Path], report: Report) -> list[ShardEntry]:
    entries = []
    for path in paths:
        name = path.relative_to(root).as_posix()
        try:
            entry = entry_of(path)
        except AdvbenchError as error:
            report.unsound.append((name, _message(error, path)))
            continue
        if path.parent != root / entry.settings.folder:
            problem = f"belongs into {entry.settings.folder}; move it there, or remove it"
            report.unsound.append((name, problem))
        entries.append(entry)
    return entries


def _check_index(root: Path, paths: list[Path], entries: list[ShardEntry], report: Report) -> None:
    try:
        rows = read_index(root)
    except AdvbenchError as error:
        report.unlisted.append((index.FILE, _message(error, root / index.FILE)))
        return
    present = {path.relative_to(root).as_posix() for path in paths}
    for name in sorted(rows.keys() - present):
        report.unlisted.append(
            (
                name,
                "stands in the index, but the file is missing; run the generate command that made "
                "it again, or give it up: advbench verify --reindex",
            )
        )
    for entry in entries:
        name = entry.path.relative_to(root).as_posix()
        if name not in rows:
            problem = f"not in the index; run the generate command that made it again, or {REBUILD}"
            report.unlisted.append((name, problem))
        else:
            _compare_row(name, rows[name], row_of(root, entry), report)


def _compare_row(name: str, listed: Row, found: Row, report: Report) -> None:
    for column in index.COLUMNS:
        if listed[column] != found[column]:
            value = repr(listed[column])
            shown = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
            what = f"differs from the {column} in the index ({shown}); {REPAIR}, or {REBUILD}"
            report.unlisted.append((name, what))


def _pictures(entry: ShardEntry) -> tuple[str, str]:
    """Tell which originals a shard belongs to: dataset and working size."""
    return entry.settings.dataset, entry.settings.space


def _check_images(entry: ShardEntry, originals: Originals) -> list[str]:
    """Decode every image of a shard; returns a line of identity for each."""
    settings = entry.settings
    lines = []
    with Shard(entry.path) as shard:
        for number, sample_id in enumerate(entry.sample_ids):
            if settings.kind == ADVERSARIAL:
                original, _ = originals.get(sample_id)
                shard.check_noise(number, shard.adversarial(number, original), original)
            else:
                shard.original(number)
            lines.append(f"{settings.sha256},{sample_id},{shard.sha256_of(number)}")
    return lines


def _message(error: AdvbenchError, path: Path) -> str:
    """The error without its path, which stands before it already."""
    text = str(error).removeprefix(f"{path}: ")
    if isinstance(error, DamagedShardError):
        return f"{text.partition('; run ')[0]}; {REPAIR}"
    return text
