"""Read shards: one file, the whole store, and a map-style dataset over it."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

import h5py

from advbench.errors import AdvbenchError, DamagedShardError, first_line
from advbench.images import Image, Mask, mask_sha256, pixels_sha256, restore
from advbench.shards.schema import ADVERSARIAL, ORIGINALS, SCHEMA, Settings, content_sha256

T = TypeVar("T")
_READ_ERRORS = (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError)


class Shard:
    """One shard, open for reading.

    Raises:
        DamagedShardError: wherever the file is not what was written.
    """

    def __init__(self, path: Path, source: BinaryIO | None = None) -> None:
        self.path = path
        self._file = self._guarded(lambda: h5py.File(source or path, "r"))
        attributes: dict[str, Any] = self._guarded(lambda: dict(self._file.attrs))
        if attributes.get("schema") != SCHEMA:
            raise self._damaged(f"schema {attributes.get('schema')!r} is not {SCHEMA}")
        self.settings = self._guarded(lambda: Settings.from_json(attributes["settings"]))
        self.content_sha256 = str(attributes.get("content_sha256"))
        self.provenance: dict[str, Any] = self._guarded(
            lambda: json.loads(attributes["provenance"])
        )
        self.sample_ids = self.texts("sample_id")
        if len(self.sample_ids) != attributes.get("n_records"):
            raise self._damaged("the number of records is not the one noted")

    def column(self, name: str) -> Any:
        """A column of the index, one value a record; read once."""
        if name not in self._cache:
            self._cache[name] = self._guarded(lambda: self._file[f"index/{name}"][:])
        return self._cache[name]

    def texts(self, name: str) -> list[str]:
        """A column of text."""
        column = self.column(name)
        return self._guarded(lambda: [bytes(v).decode() for v in column])

    def sha256_of(self, number: int, column: str = "image_sha256") -> str:
        """A hash of the index as hexadecimal digits."""
        return self._guarded(lambda: bytes(self.column(column)[number]).hex())

    def original(self, number: int) -> tuple[Image, Mask]:
        """Image and mask of a shard of originals, checked against their hashes."""
        image = self._array(number, "image")
        mask = self._array(number, "mask").astype(bool)
        if pixels_sha256(image) != self.sha256_of(number) or mask_sha256(mask) != self.sha256_of(
            number, "mask_sha256"
        ):
            raise self._damaged(f"{self.sample_ids[number]} is not what was written")
        return image, mask

    def adversarial(self, number: int, original: Image) -> Image:
        """The adversarial image, decoded and checked against its hash."""
        if pixels_sha256(original) != self.sha256_of(number, "original_sha256"):
            raise self._damaged(f"{self.sample_ids[number]} was made from another original")
        image = self._restored(number, original)
        if pixels_sha256(image) != self.sha256_of(number):
            raise self._damaged(f"{self.sample_ids[number]} is not what was written")
        return image

    def residual(self, number: int) -> Any:
        """The stored residual (int8 H×W×3), or None where the full image is stored."""
        return self._array(number, "residual") if self.column("encoding")[number] else None

    def check_content(self) -> None:
        """Read every array (HDF5 checks its own sums) and compare all hashes that need no other
        shard: originals against theirs, and the index against the content's sum."""
        columns = ("image_sha256", "mask_sha256")
        if self.settings.kind == ADVERSARIAL:
            columns = ("original_sha256", "image_sha256")
        hashed = []
        for number, sample_id in enumerate(self.sample_ids):
            if self.settings.kind == ORIGINALS:
                self.original(number)
            else:
                self._array(number, "residual" if self.column("encoding")[number] else "image")
            hashed.append((sample_id, *(self.sha256_of(number, column) for column in columns)))
        if content_sha256(self.settings.sha256, hashed) != self.content_sha256:
            raise self._damaged("its index is not what was written")

    def _restored(self, number: int, original: Image) -> Image:
        noise = self.residual(number)
        if noise is None:
            return self._array(number, "image")
        if noise.shape != original.shape:
            raise self._damaged(f"{self.sample_ids[number]} has another shape than its original")
        return restore(original, noise)

    @cached_property
    def _cache(self) -> dict[str, Any]:
        return {}

    def _array(self, number: int, name: str) -> Any:
        return self._guarded(lambda: self._file[f"records/{number:06d}/{name}"][:])

    def _guarded(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except FileNotFoundError as error:
            raise AdvbenchError(f"{self.path}: no such shard") from error
        except _READ_ERRORS as error:
            raise self._damaged(first_line(error)) from error

    def _damaged(self, reason: str) -> DamagedShardError:
        return DamagedShardError(
            f"{self.path}: damaged ({reason}); run the same generate command with --repair"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


@dataclass(frozen=True)
class ShardEntry:
    """A shard as the store lists it."""

    path: Path
    settings: Settings
    sample_ids: tuple[str, ...]
    content_sha256: str


def list_shards(root: Path, folder: str = "") -> list[ShardEntry]:
    """All shards below ``root/folder``, by path; reads heads and indexes, not images.

    Raises:
        DamagedShardError: one of them cannot be opened.
    """
    entries = []
    for path in sorted((root / folder).rglob("shard-*.h5")):
        with Shard(path) as shard:
            entries.append(
                ShardEntry(path, shard.settings, tuple(shard.sample_ids), shard.content_sha256)
            )
    return entries


class Originals:
    """The originals of one dataset and working size, by sample id."""

    def __init__(self, entries: list[ShardEntry]) -> None:
        self._where = {
            sample_id: (entry.path, number)
            for entry in entries
            if entry.settings.kind == ORIGINALS
            for number, sample_id in enumerate(entry.sample_ids)
        }
        self._open = Handles()

    def __contains__(self, sample_id: str) -> bool:
        return sample_id in self._where

    def get(self, sample_id: str) -> tuple[Image, Mask]:
        """Image and mask.

        Raises:
            AdvbenchError: there is no such original.
        """
        if sample_id not in self._where:
            raise AdvbenchError(
                f"the original of {sample_id} is missing; run the same generate command again"
            )
        path, number = self._where[sample_id]
        return self._open(path).original(number)

    def about(self, sample_id: str) -> tuple[str, str]:
        """Kind of forgery and source group."""
        path, number = self._where[sample_id]
        shard = self._open(path)
        return shard.texts("kind")[number], shard.texts("source_group")[number]


class ShardDataset:
    """Every adversarial image below an output folder, as a map-style dataset.

    An item is a dict: ``image`` and ``original`` (uint8 H×W×3), ``mask`` (bool, at the ground
    truth's size), ``sample_id``, ``dataset``, ``victim``, ``variant``. Files are opened where they
    are read, so it works in the workers of a torch ``DataLoader``.
    """

    def __init__(self, folder: str | Path) -> None:
        root = Path(folder) / "shards"
        if not root.is_dir():
            raise AdvbenchError(f"{root}: no shards there; make some with advbench generate")
        entries = list_shards(root)
        groups: dict[tuple[str, str], list[ShardEntry]] = {}
        for entry in entries:
            groups.setdefault((entry.settings.dataset, entry.settings.space), []).append(entry)
        self._originals = {key: Originals(group) for key, group in groups.items()}
        self._items = [
            (entry, number)
            for entry in entries
            if entry.settings.kind == ADVERSARIAL
            for number in range(len(entry.sample_ids))
        ]
        self._open = Handles()

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        entry, number = self._items[index]
        settings = entry.settings
        originals = self._originals[settings.dataset, settings.space]
        original, mask = originals.get(entry.sample_ids[number])
        assert settings.victim is not None
        return {
            "image": self._open(entry.path).adversarial(number, original),
            "original": original,
            "mask": mask,
            "sample_id": entry.sample_ids[number],
            "dataset": settings.dataset,
            "victim": settings.victim["name"],
            "variant": settings.variant,
        }


class Handles:
    """A few open shards per process, the last used; handles survive neither fork nor pickling."""

    def __init__(self, limit: int = 8) -> None:
        self._limit = limit
        self._shards: OrderedDict[Path, Shard] = OrderedDict()
        self._process = os.getpid()

    def __call__(self, path: Path) -> Shard:
        if self._process != os.getpid():
            self._shards, self._process = OrderedDict(), os.getpid()
        shard = self._shards.pop(path, None) or Shard(path)
        self._shards[path] = shard
        while len(self._shards) > self._limit:
            self._shards.popitem(last=False)[1].__exit__(None, None, None)
        return shard

    def close(self) -> None:
        """Close them all."""
        while self._shards:
            self._shards.popitem()[1].__exit__(None, None, None)

    def __getstate__(self) -> dict[str, Any]:
        return {"_limit": self._limit, "_shards": OrderedDict(), "_process": -1}
