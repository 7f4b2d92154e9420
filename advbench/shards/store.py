"""The shards of an output folder: what is there, each image once, and the index over them.

Every verb asks the store. It writes under a lock that holds across processes and machines
(:mod:`advbench.locks`): an image that is there with the same settings is not added again, and one
folder holds shards of one settings only. Nothing is removed on account of what may pass: a file in
use, a permission, a failing disk.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from advbench.errors import AdvbenchError, DamagedShardError
from advbench.files import obstacle, remove_stale_temporaries, try_lock, write_atomically
from advbench.images import Image
from advbench.locks import folder_lock
from advbench.shards import index
from advbench.shards.index import Row, read_index, row_of
from advbench.shards.reader import Originals, Shard, ShardEntry, entry_of
from advbench.shards.schema import (
    ADVERSARIAL,
    FIRST_SCHEMA,
    ORIGINALS,
    AdversarialRecord,
    Original,
    Provenance,
    Settings,
)
from advbench.shards.writer import encode

Signature = tuple[int, int, int]

_NAMED = 3  # of many files, those that a message names


class ShardStore:
    """The folder ``shards`` of an output folder, which need not be there yet.

    Heads of shards are read once for as long as their files stay the same. A copy that goes to
    another process begins anew.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._heads: dict[Path, tuple[Signature, ShardEntry]] = {}
        self._rows: tuple[Signature, dict[str, Row]] | None = None

    def __reduce__(self) -> tuple[type[ShardStore], tuple[Path]]:
        return ShardStore, (self.root,)

    def entries(self, folder: str = "") -> list[ShardEntry]:
        """All shards, or those below a folder, by path; reads heads and indexes, not images.

        Raises:
            DamagedShardError: one of them is not what was written.
            AdvbenchError: one cannot be read now or lies in the wrong place, or an image is there
                twice.
        """
        found = list(self._entries(folder))
        places: dict[tuple[str, str], Path] = {}
        for entry in found:
            self._check_place(entry)
            for sample_id in entry.sample_ids:
                other = places.setdefault((entry.settings.sha256, sample_id), entry.path)
                if other != entry.path:
                    raise AdvbenchError(
                        f"{entry.path}: holds {sample_id}, as {other.name} beside it does; run the "
                        "same generate command with --repair"
                    )
        return found

    def of(self, settings: Settings) -> list[ShardEntry]:
        """The shards of these settings.

        Raises:
            AdvbenchError: as :meth:`entries`, or shards of other settings lie in their place.
        """
        found = self.entries(str(settings.folder))
        for entry in found:
            if entry.settings.sha256 != settings.sha256:
                what = ", ".join(settings.differences(entry.settings))
                raise AdvbenchError(
                    f"{entry.path.parent}: made with other settings ({what}); use those or give "
                    "another --out"
                )
        return found

    def originals(self, dataset: str, space: str) -> Originals:
        """The originals of a dataset at a working size.

        Raises:
            AdvbenchError: as :meth:`entries`.
        """
        settings = Settings(kind=ORIGINALS, dataset=dataset, space=space)
        return Originals(self.entries(str(settings.folder)))

    def add(
        self,
        settings: Settings,
        records: Sequence[Original] | Sequence[AdversarialRecord],
        made: Provenance,
        number: int,
    ) -> None:
        """Write a shard of those images that are not there yet; of originals that are there, bring
        kind and source group up to date.

        Args:
            number: of the shard. Where one of that number holds other images, a hash of the
                images is added to its name.

        Raises:
            ValueError: an image is not within the budget of its settings.
            AdvbenchError: as :meth:`of`.
            OSError: the disk is full or the folder read-only; nothing is left behind.
        """
        data = encode(settings, records, made)
        with folder_lock(self.root):
            entries = self.of(settings)
            there = set(chain.from_iterable(entry.sample_ids for entry in entries))
            for entry in entries:
                self._update(entry, {r.sample_id: r for r in records if isinstance(r, Original)})
            new: Any = [record for record in records if record.sample_id not in there]
            if not new:
                return
            if len(new) < len(records):
                data = encode(settings, new, made)
            path = self._free_path(settings, number, [record.sample_id for record in new])
            self._forget({path})
            write_atomically(path, data)

    def repair(self, settings: Settings) -> list[str]:
        """Remove what is damaged or there twice among the shards of these settings.

        Returns:
            paths of the shards that were removed or written anew, relative to the root.

        Raises:
            AdvbenchError: a shard cannot be read or removed now; it stays.
        """
        folder = self.root / settings.folder
        if not folder.is_dir():
            return []
        repaired = []
        with folder_lock(self.root):
            paths = self._paths(str(settings.folder))
            seen: set[tuple[str, str]] = set()
            for path in paths:
                try:
                    entry = self._checked(path)
                except DamagedShardError:
                    _remove(path)
                    repaired.append(path)
                    continue
                key = entry.settings.sha256
                own = [name for name in entry.sample_ids if (key, name) not in seen]
                seen |= {(key, name) for name in own}
                if len(own) < len(entry.sample_ids):
                    self._keep_only(entry, own)
                    repaired.append(path)
            self._forget(paths)
        return [path.relative_to(self.root).as_posix() for path in repaired]

    def compare(self, wanted: Callable[[Row], bool] = lambda row: True) -> None:
        """Compare the index with the shards, as far as its rows are wanted.

        Raises:
            AdvbenchError: no index, or shards that it lists are missing or are others.
        """
        rows = {path: row for path, row in read_index(self.root).items() if wanted(row)}
        there = {self._name(entry.path): entry for entry in self._entries()}
        lost = [rows[path] for path in rows if path not in there]
        if lost:
            images = sum(len(row["samples"].split()) for row in lost)
            raise AdvbenchError(
                f"{self.root}: shards that index.csv lists are missing ({_some(lost)}), "
                f"with {images} images; run the generate command that made them again, or give "
                "them up: advbench verify --reindex"
            )
        other = [
            row
            for path, row in rows.items()
            if row != row_of(self.root, there[path], row["sha256"])
        ]
        if other:
            raise AdvbenchError(
                f"{self.root}: shards are not those that index.csv lists ({_some(other)}); run the "
                "generate command that made them again with --repair, or take them as they are: "
                "advbench verify --reindex"
            )

    def write_index(self, anew: bool = False) -> None:
        """Write a row for every shard. The row of a shard that cannot be read stays, and so does
        that of a missing one, until its images are there again.

        Args:
            anew: forget what the index says.

        Raises:
            AdvbenchError: the index that is there is damaged.
        """
        if not anew and self._is_indexed():
            return
        with folder_lock(self.root):
            known = self._known() if not anew else {}
            rows: dict[str, Row] = {}
            there: set[tuple[str, str]] = set()
            for path in self._paths():
                name = self._name(path)
                try:
                    entry = self._entry(path)
                except AdvbenchError:
                    if name in known:
                        rows[name] = known[name]
                    continue
                old = known.get(name)
                kept = old is not None and old == row_of(self.root, entry, old["sha256"])
                rows[name] = old if old and kept else row_of(self.root, entry)
                there |= {(entry.settings.sha256, sample_id) for sample_id in entry.sample_ids}
            for name, row in known.items():
                samples = {(row["settings_sha256"], each) for each in row["samples"].split()}
                if name not in rows and not samples <= there:
                    rows[name] = row
            self._write(rows.values())

    def check_index(self) -> None:
        """Complain of an index that cannot be completed, before any work is done.

        Raises:
            AdvbenchError: it is damaged or of another version.
        """
        self._known()

    def tidy(self) -> None:
        """Remove what killed runs left."""
        if self.root.is_dir():
            remove_stale_temporaries(self.root)

    def _is_indexed(self) -> bool:
        """Tell whether every shard has its row and every row its shard."""
        known, paths = self._known(), self._paths()
        entries = self._readable("")
        return len(paths) == len(entries) == len(known) and all(
            row is not None and row == row_of(self.root, entry, row["sha256"])
            for entry in entries
            for row in [known.get(self._name(entry.path))]
        )

    def _paths(self, folder: str = "") -> list[Path]:
        return sorted((self.root / folder).rglob("shard-*.h5"))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _entries(self, folder: str = "") -> Iterator[ShardEntry]:
        for path in self._paths(folder):
            yield self._entry(path)

    def _readable(self, folder: str) -> list[ShardEntry]:
        found = []
        for path in self._paths(folder):
            with suppress(AdvbenchError):
                found.append(self._entry(path))
        return found

    def _entry(self, path: Path) -> ShardEntry:
        signature = _signature(path)
        known = self._heads.get(path)
        if known is None or known[0] != signature:
            known = self._heads[path] = (signature, entry_of(path))
        return known[1]

    def _check_place(self, entry: ShardEntry) -> None:
        if entry.path.parent != self.root / entry.settings.folder:
            raise AdvbenchError(
                f"{entry.path}: belongs into {self.root / entry.settings.folder}; move it there, "
                "or remove it"
            )

    def _checked(self, path: Path) -> ShardEntry:
        """Check every image of a shard, adversarial ones as far as their originals are sound."""
        entry = self._entry(path)
        settings = entry.settings
        folder = Settings(kind=ORIGINALS, dataset=settings.dataset, space=settings.space).folder
        originals = Originals(self._readable(str(folder)))
        with Shard(path) as shard:
            shard.check_content()
            for number, sample_id in enumerate(entry.sample_ids):
                original = _sound(originals, sample_id)
                if settings.kind == ADVERSARIAL and original is not None:
                    shard.check_noise(number, shard.adversarial(number, original), original)
            row = self._known().get(self._name(path))
            # The first schema has no hash of its own for some columns.
            if shard.schema == FIRST_SCHEMA and row and row != row_of(self.root, entry):
                raise DamagedShardError(f"{path}: damaged (differs from its row in the index)")
        return entry

    def _keep_only(self, entry: ShardEntry, names: Collection[str]) -> None:
        """Write a shard anew without some of its images, or remove it where none is left."""
        if not names:
            _remove(entry.path)
            return
        settings = entry.settings
        folder = Settings(kind=ORIGINALS, dataset=settings.dataset, space=settings.space).folder
        originals = Originals(self._readable(str(folder)))
        records: Any = []
        with Shard(entry.path) as shard:
            for number, name in enumerate(entry.sample_ids):
                if name in names:
                    attacked = settings.kind == ADVERSARIAL
                    records.append(
                        shard.record(number, originals.get(name)[0] if attacked else None)
                    )
            data = encode(settings, records, Provenance(**shard.provenance))
        write_atomically(entry.path, data)

    def _update(self, entry: ShardEntry, told: Mapping[str, Original]) -> None:
        if told.keys().isdisjoint(entry.sample_ids):
            return
        with Shard(entry.path) as shard:
            before: Any = [shard.record(number) for number in range(len(entry.sample_ids))]
            made = Provenance(**shard.provenance)
        after = [
            replace(old, kind=new.kind, source_group=new.source_group)
            for old in before
            for new in [told.get(old.sample_id, old)]
        ]
        if any(
            (old.kind, old.source_group) != (new.kind, new.source_group)
            for old, new in zip(before, after, strict=True)
        ):
            self._forget({entry.path})
            write_atomically(entry.path, encode(entry.settings, after, made))

    def _free_path(self, settings: Settings, number: int, names: Sequence[str]) -> Path:
        path = self.root / settings.folder / f"shard-{number:06d}.h5"
        if not path.exists():
            return path
        digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
        return path.with_stem(f"{path.stem}-{digest[:16]}")

    def _known(self) -> Mapping[str, Row]:
        """The rows of the index, read once for as long as it stays the same."""
        path = self.root / index.FILE
        if not path.exists():
            return {}
        signature = _signature(path)
        if self._rows is None or self._rows[0] != signature:
            self._rows = signature, read_index(self.root)
        return self._rows[1]

    def _forget(self, paths: Iterable[Path]) -> None:
        """Drop the rows of files that are written anew, which may look as they did."""
        known = self._known()
        names = set(map(self._name, paths)) & known.keys()
        if names:
            self._write(row for name, row in known.items() if name not in names)

    def _write(self, rows: Iterable[Row]) -> None:
        write_atomically(self.root / index.FILE, index.to_csv(rows))


def _signature(path: Path) -> Signature:
    """Return what changes with a file."""
    try:
        status = path.stat()
    except OSError as error:
        raise obstacle(path, error) or error from error
    return status.st_ino, status.st_size, status.st_mtime_ns


def _sound(originals: Originals, sample_id: str) -> Image | None:
    try:
        return originals.get(sample_id)[0]
    except AdvbenchError:
        return None


def _remove(path: Path) -> None:
    """Remove a shard unless somebody has it open."""
    try:
        with path.open("r+b") as file:
            try_lock(file, fcntl.LOCK_EX)
            path.unlink()
    except OSError as error:
        raise obstacle(path, error) or error from error


def _some(rows: Sequence[Row]) -> str:
    names = [row["path"] for row in rows[:_NAMED]]
    more = len(rows) - _NAMED
    return ", ".join([*names, f"and {more} more"] if more > 0 else names)
