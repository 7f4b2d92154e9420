"""The dataset manifest: ``dataset.json`` and ``manifest.csv`` beside each other.

One row an image; what was repaired or left out stays in the file with its reason. The schema is
``advbench.manifest/1``; every field is validated, and no path can leave the dataset's root.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from advbench.errors import AdvbenchError, first_fault
from advbench.files import write_atomically
from advbench.texts import read_text

SCHEMA = "advbench.manifest/1"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Split = Literal["train", "val", "test"]
Kind = Literal["splice", "copymove", "removal", "mixed", "unknown", "none"]


class Row(BaseModel):
    """One image of a dataset, as a line of ``manifest.csv``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sample_id: Annotated[str, Field(pattern=r"^[a-z0-9_-]+/[A-Za-z0-9_.-]+$", max_length=96)]
    split: Split
    label: Literal[0, 1]
    kind: Kind
    image: str
    mask: str
    image_sha256: Sha256 | Literal[""]
    mask_sha256: Sha256 | Literal[""]
    pixels_sha256: Sha256 | Literal[""]
    maskbits_sha256: Sha256 | Literal[""]
    height: Annotated[int, Field(ge=0)]
    width: Annotated[int, Field(ge=0)]
    orig_mode: str
    orig_format: str
    orig_name: str
    mask_rule: str
    mask_fix: Literal["none", "rot90", "transpose", "replaced", "union"]
    fg_fraction: Annotated[float, Field(ge=0, le=1)]
    source_group: str
    excluded: str
    flags: str
    provenance: str

    @field_validator("label", mode="before")
    @classmethod
    def _label_from_text(cls, value: Any) -> Any:
        return int(value) if value in ("0", "1") else value

    @field_validator("image", "mask")
    @classmethod
    def _stays_inside(cls, value: str) -> str:
        path = PurePosixPath(value)
        if value and (
            not path.parts
            or path.is_absolute()
            or ".." in path.parts
            or "\\" in value
            or ":" in path.parts[0]
        ):
            raise ValueError("the path must be relative and stay inside the dataset folder")
        return value

    @model_validator(mode="after")
    def _complete_unless_excluded(self) -> Self:
        if self.excluded:
            return self
        if (self.label == 1) != bool(self.mask) or bool(self.mask) != bool(self.maskbits_sha256):
            raise ValueError("a forged image needs a mask and its hash, an authentic one has none")
        if not (self.image and self.image_sha256 and self.pixels_sha256):
            raise ValueError("image, image_sha256 and pixels_sha256 are needed")
        if not (self.height and self.width):
            raise ValueError("height and width are needed")
        return self

    @property
    def name(self) -> str:
        """The sample id without its dataset."""
        return self.sample_id.partition("/")[2]


class DatasetInfo(BaseModel):
    """``dataset.json``: what the whole dataset is."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_id: Literal["advbench.manifest/1"] = Field(default="advbench.manifest/1", alias="schema")
    dataset_id: Annotated[str, Field(pattern=r"^[a-z0-9_-]+$", max_length=32)]
    title: str
    version: str
    licence: dict[str, str]
    citation: str = ""
    homepage: str = ""
    importer: dict[str, str]
    rules: dict[str, str]
    counts: dict[str, int]
    content_sha256: Sha256
    manifest_sha256: Sha256
    known_issues: list[str] = []


def counts_of(rows: Iterable[Row]) -> dict[str, int]:
    """Count the rows that are forged, authentic and excluded."""
    counts = {"forged": 0, "authentic": 0, "excluded": 0}
    for row in rows:
        key = "excluded" if row.excluded else "forged" if row.label else "authentic"
        counts[key] += 1
    return counts


def content_sha256(rows: Iterable[Row]) -> str:
    """The identity of a set of images: ids, decoded pixels and mask bits, in order of id."""
    digest = hashlib.sha256()
    for row in sorted(rows, key=lambda row: row.sample_id):
        if not row.excluded:
            digest.update(f"{row.sample_id},{row.pixels_sha256},{row.maskbits_sha256}\n".encode())
    return digest.hexdigest()


def rows_to_csv(rows: Iterable[Row]) -> bytes:
    """``manifest.csv``: UTF-8, LF, sorted by sample id, so that the file hashes stably."""
    buffer = io.StringIO()
    lines = [
        row.model_dump() | {"fg_fraction": f"{row.fg_fraction:.6f}"}
        for row in sorted(rows, key=lambda row: row.sample_id)
    ]
    # The writer's minimal quoting leaves a carriage return bare, which no reader takes.
    bare = any("\r" in value for line in lines for value in line.values() if isinstance(value, str))
    writer = csv.DictWriter(
        buffer,
        fieldnames=list(Row.model_fields),
        lineterminator="\n",
        quoting=csv.QUOTE_ALL if bare else csv.QUOTE_MINIMAL,
    )
    writer.writeheader()
    writer.writerows(lines)
    return buffer.getvalue().encode()


def write_manifest(folder: Path, rows: Sequence[Row], **info: Any) -> DatasetInfo:
    """Write ``manifest.csv``, then ``dataset.json``, into ``folder``; both appear whole or not.

    Args:
        folder: created where it is missing.
        rows: any order.
        info: the fields of :class:`DatasetInfo` that do not follow from the rows.
    """
    data = rows_to_csv(rows)
    described = DatasetInfo(
        counts=counts_of(rows),
        content_sha256=content_sha256(rows),
        manifest_sha256=hashlib.sha256(data).hexdigest(),
        **info,
    )
    write_atomically(folder / "manifest.csv", data)
    text = json.dumps(described.model_dump(by_alias=True), indent=2, ensure_ascii=False)
    write_atomically(folder / "dataset.json", (text + "\n").encode())
    return described


def read_manifest(folder: Path) -> tuple[DatasetInfo, list[Row]]:
    """Read and validate a manifest: rows, unique ids, and that the two files belong together.

    Raises:
        AdvbenchError: names the file, the line and what is wrong with it.
    """
    info_path, csv_path = folder / "dataset.json", folder / "manifest.csv"
    for path in (info_path, csv_path):
        if not path.is_file():
            raise AdvbenchError(
                f"{path}: no such file; a dataset folder holds dataset.json and manifest.csv "
                "(advbench dataset import writes them)"
            )
    try:
        info = DatasetInfo.model_validate_json(read_text(info_path))
    except ValidationError as error:
        raise AdvbenchError(f"{info_path}: {first_fault(error)}") from error
    data = csv_path.read_bytes()
    rows = _parse_rows(csv_path, data)
    if hashlib.sha256(data).hexdigest() != info.manifest_sha256:
        raise AdvbenchError(
            f"{csv_path}: differs from the sha256 in dataset.json; import the dataset again"
        )
    return info, rows


def _parse_rows(path: Path, data: bytes) -> list[Row]:
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        missing = set(Row.model_fields) - set(reader.fieldnames or ())
        if missing:
            raise AdvbenchError(
                f"{path}: column {', '.join(sorted(missing))} is missing; import the dataset again"
            )
        rows, seen = [], set()
        for line, fields in enumerate(reader, start=2):
            try:
                row = Row.model_validate(fields)
            except ValidationError as error:
                raise AdvbenchError(f"{path}, line {line}: {first_fault(error)}") from error
            if row.sample_id.casefold() in seen:
                raise AdvbenchError(f"{path}, line {line}: sample_id {row.sample_id} stands twice")
            seen.add(row.sample_id.casefold())
            rows.append(row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise AdvbenchError(f"{path}: no UTF-8 CSV file ({error}); import it again") from error
    return rows
