"""``index.csv``: one row a shard, written last; it can be rebuilt, so a kill costs nothing."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from advbench.errors import AdvbenchError
from advbench.files import file_sha256, write_atomically
from advbench.shards.reader import list_shards

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
    "first",
    "last",
    "settings_sha256",
    "content_sha256",
)


def write_index(root: Path) -> None:
    """List every shard below ``root``; rows of files whose size has not changed are kept, so that
    only new shards are read whole."""
    known = {row["path"]: row for row in read_index(root)} if (root / "index.csv").exists() else {}
    rows = []
    for entry in list_shards(root):
        path = entry.path.relative_to(root).as_posix()
        old = known.get(path)
        settings = entry.settings
        if (
            old
            and old["content_sha256"] == entry.content_sha256
            and old["bytes"] == str(entry.path.stat().st_size)
        ):
            rows.append(old)
            continue
        victim = settings.victim or {}
        values = (
            path,
            file_sha256(entry.path),
            entry.path.stat().st_size,
            settings.kind,
            settings.dataset,
            settings.space,
            victim.get("name", ""),
            victim.get("weights_sha256", ""),
            settings.variant or "",
            len(entry.sample_ids),
            entry.sample_ids[0],
            entry.sample_ids[-1],
            settings.sha256,
            entry.content_sha256,
        )
        rows.append({name: str(value) for name, value in zip(COLUMNS, values, strict=True)})
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(root / "index.csv", buffer.getvalue().encode())


def read_index(root: Path) -> list[dict[str, str]]:
    """The rows of ``index.csv``.

    Raises:
        AdvbenchError: it is missing or no index.
    """
    path = root / "index.csv"
    if not path.is_file():
        raise AdvbenchError(f"{path}: no index; run the generate command again, it completes it")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
            if tuple(reader.fieldnames or ()) != COLUMNS or any(None in row for row in rows):
                raise ValueError("columns differ")
    except (ValueError, csv.Error) as error:
        raise AdvbenchError(
            f"{path}: no valid index ({error}); remove it and run the generate command again"
        ) from error
    return rows
