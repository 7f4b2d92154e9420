"""A folder that Hugging Face ``datasets`` loads: Parquet with images, and a card that names them.

One configuration a dataset and victim, one row an adversarial image, everything in the row. Rows of
one photograph follow each other, so that Parquet's dictionaries store its original and its masks
once for all its variants.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from advbench.exports.columns import COLUMNS, Column, Row
from advbench.exports.croissant import Distribution, FileObject, FileSet, Table
from advbench.exports.format import SHARD_BYTES, Format
from advbench.exports.photographs import Photograph
from advbench.exports.selection import Group

ROW_GROUP_BYTES = 32 << 20
PICTURES = ("image", "original", "mask", "mask_native")
RESIDUALS = ("residual",)
# What repeats from row to row; nothing else is worth a dictionary or an index.
_REPEATED = ("original", "mask", "mask_native")
_ARROW = {"text": pa.string(), "integer": pa.int64(), "number": pa.float64()}
_HUGGING_FACE = {"text": "string", "integer": "int64", "number": "float64"}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


class HuggingFaceFolder(Format):
    """Parquet files of bounded size."""

    name = "huggingface"
    locations: ClassVar[Sequence[Column]] = (
        Column("file", "text", "path of the Parquet file"),
        Column("row", "integer", "number of the row in that file, from 0"),
    )

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        super().__init__(folder, shard_bytes)
        self._writer: pq.ParquetWriter | None = None
        self._path = ""
        self._numbers: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []
        # Bytes of pictures in the open row group and in the open file, and rows in that file.
        self._pending = self._bytes = self._count = 0
        self._configurations: dict[str, tuple[str, ...]] = {}

    def add(self, photograph: Photograph, with_images: bool) -> Iterator[tuple[str, Row]]:
        file = f"{photograph.name}.png"
        pictures = PICTURES if with_images else RESIDUALS
        fixed = photograph.pictures() if with_images else {}
        shared = {name: _picture(data, file) for name, data in fixed.items()}
        rows, told = [], []
        size = sum(map(len, fixed.values()))
        for attacked in photograph.attacked():
            data = photograph.published(attacked, with_images)
            own = _picture(data, f"{attacked.variant}-{file}")
            rows.append(attacked.row | shared | {"image" if with_images else "residual": own})
            told.append((attacked.identity, attacked.row))
            size += len(data)
        if self._writer and self._bytes + size > self.shard_bytes:
            self._close()
        if self._writer is None:
            self._open(photograph.group, pictures)
        for number, (identity, row) in enumerate(told, start=self._count):
            yield identity, row | {"file": self._path, "row": number}
        self._rows += rows
        self._count += len(rows)
        self._bytes += size
        self._pending += size
        if self._pending >= ROW_GROUP_BYTES:
            self._flush()

    def end_group(self, group: Group) -> None:
        self._close()

    def distribution(self, sums: dict[str, str]) -> Distribution:
        files = [path for path in sums if path.endswith(".parquet")]
        found = Distribution([FileObject(path, "Parquet", _MIME) for path in files])
        for name, pictures in self._configurations.items():
            # Not "inside" these files: readers would look for files in them, as in an archive.
            pattern = f"{_folder(name)}/*.parquet"
            found.file_sets.append(
                FileSet(f"{name}-files", f"configuration {name}", (pattern,), _MIME)
            )
            found.tables.append(
                Table(name, f"{name}, images included", f"{name}-files", COLUMNS, pictures)
            )
        return found

    def front_matter(self, groups: Sequence[Group]) -> dict[str, object]:
        splits: dict[str, list[str]] = {}
        for group in groups:
            own = splits.setdefault(_configuration(group), [])
            if group.split not in own:
                own.append(group.split)
        images = sum(group.images for group in groups)
        return {
            "pretty_name": "advbench: adversarial images of forgery localizers",
            "license": "other",
            "license_name": "see-terms",
            "task_categories": ["image-segmentation"],
            "tags": ["image-forensics", "forgery-localization", "adversarial", "advbench"],
            "size_categories": [next((t for most, t in _SIZES if images < most), "n>1M")],
            "configs": [
                {
                    "config_name": name,
                    "data_files": [
                        {"split": split, "path": f"{_folder(name)}/{split}-*.parquet"}
                        for split in own
                    ],
                }
                for name, own in splits.items()
            ],
        }

    def example(self, group: Group, with_images: bool) -> str:
        names = ("image", "original", "mask") if with_images else RESIDUALS
        shown = ", ".join(f'row["{name}"]' for name in names)
        return (
            "import datasets\n"
            f'data = datasets.load_dataset(".", "{_configuration(group)}", split="{group.split}")\n'
            f'row = data[0]; print(row["sample_id"], row["variant"], {shown})  # PIL images'
        )

    def _open(self, group: Group, pictures: tuple[str, ...]) -> None:
        name = _configuration(group)
        stem = f"{_folder(name)}/{group.split}"
        number = self._numbers.get(stem, 0)
        self._numbers[stem] = number + 1
        self._configurations[name] = pictures
        self._path = f"{stem}-{number:05d}.parquet"
        path = self.folder / self._path
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = [column.name for column in COLUMNS]
        self._writer = pq.ParquetWriter(
            path,
            _schema(pictures),
            use_dictionary=[*texts, *(f"{name}.bytes" for name in pictures if name in _REPEATED)],
            # Beyond this size a column would be written plain, every repetition in full.
            dictionary_pagesize_limit=1 << 30,
            compression=dict.fromkeys(texts, "zstd")
            | {f"{name}.{part}": "none" for name in pictures for part in ("bytes", "path")},
            write_statistics=texts,
            write_page_checksum=True,
        )
        self._count = self._bytes = self._pending = 0

    def _flush(self) -> None:
        if self._rows and self._writer:
            table = pa.Table.from_pylist(self._rows, schema=self._writer.schema)
            self._writer.write_table(table, row_group_size=len(self._rows))
        self._rows, self._pending = [], 0

    def _close(self) -> None:
        self._flush()
        if self._writer:
            self._writer.close()
        self._writer = None


_MIME = "application/x-parquet"


def _configuration(group: Group) -> str:
    return f"{group.dataset_id}-{group.victim}"


def _folder(configuration: str) -> str:
    return f"data/{configuration}"


def _picture(data: bytes, file: str) -> dict[str, bytes | str]:
    return {"bytes": data, "path": file}


def _schema(pictures: Sequence[str]) -> pa.Schema:
    """The columns, and beside them what tells ``datasets`` which are images."""
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields = [(name, image) for name in pictures]
    fields += [(column.name, _ARROW[column.type]) for column in COLUMNS]
    features: dict[str, Any] = {name: {"_type": "Image"} for name in pictures}
    features |= {c.name: {"dtype": _HUGGING_FACE[c.type], "_type": "Value"} for c in COLUMNS}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(fields, metadata=metadata)
