"""``index.csv``: one row a shard, written last.

It says which shards there have been, so that one that is lost is missed. Every byte of it follows
from the shards.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from advbench.errors import AdvbenchError
from advbench.files import file_sha256
from advbench.shards.reader import ShardEntry

FILE = "index.csv"
COLUMNS = (
    "path",
    "sha256",
    "bytes",
    "kind",
    "dataset",
    "space",
    "victim",
    "weights_sha256",
    "variant",
    "n_records",
    "samples",
    "settings_sha256",
    "content_sha256",
)
REBUILD = "advbench verify --reindex writes it anew from the shards that are there"

Row = dict[str, str]


def row_of(root: Path, entry: ShardEntry, sha256: str | None = None) -> Row:
    """Describe a shard as its row of the index does.

    Args:
        sha256: of the file, where it is known.
    """
    settings = entry.settings
    victim = settings.victim or {}
    values = (
        entry.path.relative_to(root).as_posix(),
        sha256 or file_sha256(entry.path),
        entry.path.stat().st_size,
        settings.kind,
        settings.dataset,
        settings.space,
        victim.get("name", ""),
        victim.get("weights_sha256", ""),
        settings.variant or "",
        len(entry.sample_ids),
        " ".join(entry.sample_ids),
        settings.sha256,
        entry.content_sha256,
    )
    return {name: str(value) for name, value in zip(COLUMNS, values, strict=True)}


def to_csv(rows: Iterable[Row]) -> bytes:
    """Write the file's bytes: sorted by path, UTF-8, LF."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda row: row["path"]))
    return buffer.getvalue().encode()


def read_index(root: Path) -> dict[str, Row]:
    """Read the rows of ``index.csv`` by path.

    Raises:
        AdvbenchError: it is missing, or not as it was written.
    """
    path = root / FILE
    if not path.is_file():
        raise AdvbenchError(
            f"{path}: no index; run the generate command again, it completes it, or {REBUILD}"
        )
    data = path.read_bytes()
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8"), newline=""), strict=True)
        rows = list(reader)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError("its columns are not those of this version")
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("a row is cut")
        if len({row["path"] for row in rows}) < len(rows) or to_csv(rows) != data:
            raise ValueError("not as it was written")
    except (ValueError, csv.Error) as error:
        raise AdvbenchError(f"{path}: no valid index ({error}); {REBUILD}") from error
    return {row["path"]: row for row in rows}
