"""Read shards: one file, the originals of a dataset, a few open files."""

from __future__ import annotations

import json
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar

import numpy as np

from advbench.errors import AdvbenchError, DamagedShardError, first_line
from advbench.files import check_regular, obstacle
from advbench.images import Image, Mask, mask_sha256, pixels_sha256, restore
from advbench.shards import plain
from advbench.shards.schema import (
    COLUMNS,
    DIGEST,
    FIRST_SCHEMA,
    MAX_PIXELS,
    ORIGINALS,
    SCHEMA,
    TEXT,
    AdversarialRecord,
    Original,
    Provenance,
    Settings,
    content_sha256,
    first_content_sha256,
    largest_difference,
    psnr,
    text_sha256,
)

T = TypeVar("T")
_READ_ERRORS = (
    OSError,
    KeyError,
    ValueError,
    RuntimeError,
    TypeError,
    AttributeError,
    OverflowError,
)
_SAMPLE = re.compile(r"[a-z0-9_-]+/[A-Za-z0-9_.-]+")
_MAX_RECORDS = 1 << 20


class Shard:
    """One shard, open for reading, its settings and columns checked against their hashes.

    Any file may be given: links, types, layouts and sizes are checked before anything is read.

    Raises:
        DamagedShardError: wherever the file is not what was written.
        AdvbenchError: it cannot be read now (in use, not permitted), is no shard, or is one of a
            newer advbench.
    """

    def __init__(self, path: Path, source: BinaryIO | None = None) -> None:
        self.path, self._on_disk = path, source is None
        if source is None:
            check_regular(path)
        self._file = self._guarded(lambda: plain.open_plain(source or path))
        try:
            self._read_head()
        except BaseException:
            self._file.close()
            raise

    def _read_head(self) -> None:
        self.schema = self._guarded(self._schema_of)
        if self.schema not in (SCHEMA, FIRST_SCHEMA):
            raise AdvbenchError(
                f"{self.path}: no shard that this advbench reads (schema {self.schema!r}); update "
                "advbench, or remove the file"
            )
        self.settings = self._guarded(
            lambda: Settings.from_json(plain.text_attribute(self._file, "settings"))
        )
        made = self._guarded(lambda: plain.text_attribute(self._file, "provenance"))
        self.provenance: dict[str, Any] = self._guarded(lambda: _provenance(made))
        count = self._guarded(lambda: plain.count_attribute(self._file, "n_records"))
        if not 0 < count <= _MAX_RECORDS:
            raise self._damaged("no number of records")
        self._columns: dict[str, Any] = self._guarded(lambda: self._read_columns(count))
        self._images = self._guarded(lambda: plain.subgroup(self._file, "records"))
        self._texts = self._guarded(self._decode)
        self.sample_ids = self.texts("sample_id")
        self.content_sha256 = self._guarded(
            lambda: plain.text_attribute(self._file, "content_sha256")
        )
        self._check_head(made)

    def _schema_of(self) -> str:
        try:
            return plain.text_attribute(self._file, "schema")
        except plain.NotPlainError:
            return ""

    def _read_columns(self, count: int) -> dict[str, Any]:
        group = plain.subgroup(self._file, "index")
        found = {}
        for name, kind in COLUMNS[self.settings.kind].items():
            if kind == TEXT:
                found[name] = plain.texts(group, name, count)
            elif kind == DIGEST:
                found[name] = plain.numbers(group, name, (count, 32), "|u1")
            else:
                found[name] = plain.numbers(group, name, (count,), kind)
        return found

    def _decode(self) -> dict[str, list[str]]:
        return {
            name: [bytes(value).decode() for value in self._columns[name]]
            for name, kind in COLUMNS[self.settings.kind].items()
            if kind == TEXT
        }

    def _check_head(self, made: str) -> None:
        settings = self.settings
        hashed = content_sha256 if self.schema == SCHEMA else first_content_sha256
        if self.content_sha256 != self._guarded(lambda: hashed(settings, self._columns)):
            raise self._damaged("its settings or its index are not what was written")
        stored = {"settings_sha256": settings.sha256, "kind": settings.kind}
        if self.schema == SCHEMA:
            stored["provenance_sha256"] = text_sha256(made)
        found = self._guarded(lambda: {n: plain.text_attribute(self._file, n) for n in stored})
        for name, value in stored.items():
            if found[name] != value:
                raise self._damaged(f"{name} is not that of its content")
        if len(set(self.sample_ids)) < len(self.sample_ids):
            raise self._damaged("it holds an image twice")
        if not all(map(_SAMPLE.fullmatch, self.sample_ids)):
            raise self._damaged("it holds an image whose name is no sample id")
        if plain.members(self._images) != len(self.sample_ids):
            raise self._damaged("the number of images is not that of its index")

    def column(self, name: str) -> Any:
        """A column of the index, one value a record."""
        return self._columns[name]

    def texts(self, name: str) -> list[str]:
        """A column of text."""
        return self._texts[name]

    def sha256_of(self, number: int, column: str = "image_sha256") -> str:
        """A hash of the index as hexadecimal digits."""
        return bytes(self._columns[column][number]).hex()

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
        if self.schema == FIRST_SCHEMA:  # whose hash does not cover these columns
            self.check_noise(number, image, original)
        return image

    def check_noise(self, number: int, image: Image, original: Image) -> None:
        """Compare an adversarial image with what the index says of it, and with the budget."""
        name, largest = self.sample_ids[number], largest_difference(image, original)
        if largest != self.column("linf")[number]:
            raise self._damaged(f"{name} differs by {largest} grey levels, not as its index says")
        if not np.isclose(psnr(image, original), self.column("psnr")[number], rtol=1e-5):
            raise self._damaged(f"{name} has another psnr than its index says")
        if self.settings.budget is not None and largest > self.settings.budget:
            raise self._damaged(
                f"{name} differs by {largest} grey levels, the budget is {self.settings.budget}"
            )

    def record(self, number: int, original: Image | None = None) -> Original | AdversarialRecord:
        """Read what the shard was given of one image.

        Args:
            original: of an adversarial image.
        """
        name = self.sample_ids[number]
        if original is None:
            image, mask = self.original(number)
            kind, group = (self.texts(column)[number] for column in ("kind", "source_group"))
            return Original(name, kind, group, image, mask, self.sha256_of(number, "source_sha256"))
        return AdversarialRecord(
            name,
            original,
            self.adversarial(number, original),
            float(self.column("loss_first")[number]),
            float(self.column("loss_last")[number]),
            int(self.column("zero_gradients")[number]),
        )

    def residual(self, number: int) -> Any:
        """The stored residual (int8 H×W×3), or None where the full image is stored."""
        return self._array(number, "residual") if self.column("encoding")[number] else None

    def check_content(self) -> None:
        """Read every array (HDF5 checks its own sums) and compare what needs no other shard."""
        for number in range(len(self.sample_ids)):
            if self.settings.kind == ORIGINALS:
                self.original(number)
            else:
                self._array(number, "residual" if self.column("encoding")[number] else "image")

    def _restored(self, number: int, original: Image) -> Image:
        noise = self.residual(number)
        if noise is None:
            return self._array(number, "image")
        if noise.shape != original.shape:
            raise self._damaged(f"{self.sample_ids[number]} has another shape than its original")
        return restore(original, noise)

    def _array(self, number: int, name: str) -> Any:
        return self._guarded(lambda: self._read_array(number, name))

    def _read_array(self, number: int, name: str) -> Any:
        group = plain.subgroup(self._images, f"{number:06d}")
        if name == "mask":
            return plain.numbers(group, name, plain.plane_shape(group, name, MAX_PIXELS), "|u1")
        height, width = (int(self._columns[side][number]) for side in ("height", "width"))
        if not (0 < height <= MAX_PIXELS and 0 < width <= MAX_PIXELS // height):
            raise plain.NotPlainError(f"an image of {width}×{height} pixels")
        kind = "|i1" if name == "residual" else "|u1"
        return plain.numbers(group, name, (height, width, 3), kind)

    def _guarded(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except _READ_ERRORS as error:
            own_fault = isinstance(error, plain.NotPlainError) or not self._on_disk
            kept_from = None if own_fault else obstacle(self.path, error)
            raise kept_from or self._damaged(first_line(error)) from error

    def _damaged(self, reason: str) -> DamagedShardError:
        return DamagedShardError(
            f"{self.path}: damaged ({reason}); run the same generate command with --repair"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def _provenance(text: str) -> dict[str, Any]:
    found = vars(Provenance(**json.loads(text)))
    texts = [found[name] for name in ("advbench_version", "created_utc", "device")]
    numbers = [found[name] for name in ("passes", "seconds", "batch")]
    if not (
        all(isinstance(value, str) for value in texts)
        and all(isinstance(value, int | float) for value in numbers)
        and isinstance(found["versions"], dict)
    ):
        raise plain.NotPlainError("the provenance is none")
    return found


@dataclass(frozen=True)
class ShardEntry:
    """A shard as the store lists it.

    Attributes:
        unchanged: images that the attack left as they were.
        zero_gradients: of the attack, by image; those without any are left out.
    """

    path: Path
    settings: Settings
    sample_ids: tuple[str, ...]
    content_sha256: str
    unchanged: frozenset[str] = frozenset()
    zero_gradients: Mapping[str, int] = field(default_factory=dict)


def entry_of(path: Path) -> ShardEntry:
    """Read a shard's head and index, no image."""
    with Shard(path) as shard:
        names = tuple(shard.sample_ids)
        found = path, shard.settings, names, shard.content_sha256
        if shard.settings.kind == ORIGINALS:
            return ShardEntry(*found)
        linf, zero = (shard.column(name).tolist() for name in ("linf", "zero_gradients"))
        return ShardEntry(
            *found,
            frozenset(name for name, largest in zip(names, linf, strict=True) if not largest),
            {name: count for name, count in zip(names, zero, strict=True) if count},
        )


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
        shard, number = self._find(sample_id)
        return shard.original(number)

    def sides(self, sample_id: str) -> tuple[int, int]:
        """Height and width; reads no image.

        Raises:
            AdvbenchError: as :meth:`get`.
        """
        shard, number = self._find(sample_id)
        return int(shard.column("height")[number]), int(shard.column("width")[number])

    def about(self, sample_id: str) -> tuple[str, str]:
        """Kind of forgery and source group."""
        shard, number = self._find(sample_id)
        return shard.texts("kind")[number], shard.texts("source_group")[number]

    def _find(self, sample_id: str) -> tuple[Shard, int]:
        if sample_id not in self._where:
            raise AdvbenchError(
                f"the original of {sample_id} is missing; run the same generate command again"
            )
        path, number = self._where[sample_id]
        return self._open(path), number


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
