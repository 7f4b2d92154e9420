"""The static site of leaderboards: a page a dataset, each row with what it stands on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from advbench.errors import AdvbenchError
from advbench.escaping import csv_text
from advbench.files import write_atomically
from advbench.report.page import render
from advbench.scores.cells import defense_label
from advbench.scores.floors import with_floors
from advbench.scores.gates import gates
from advbench.scores.leaderboard import leaderboard
from advbench.scores.records import read_records
from advbench.scores.tables import as_csv

_ROW = ["victim", "size", "weights_sha256", "protocol", "defense", "strength"]
# Columns that a row's own section shows, not the table.
_LONG = {
    "worst_over",
    "size",
    "protocol",
    "weights_sha256",
    "defense_spec",
    "content_sha256",
    "version",
}


@dataclass(frozen=True)
class SiteFiles:
    """Count what was written: pages by dataset, rows in all."""

    pages: dict[str, Path]
    rows: int


def site(source: Path, to: Path) -> SiteFiles:
    """Write the site of all leaderboards of a folder.

    Args:
        source: a folder with DATASET.parquet, the records, and DATASET.csv, built from them.
        to: the folder of the pages.

    Raises:
        AdvbenchError: there is no leaderboard, or a CSV does not follow from its records.
    """
    found = sorted(source.glob("*.parquet"))
    if not found:
        raise AdvbenchError(
            f"{source}: no records there; make them with: advbench leaderboard build --with-records"
        )
    pages, boards, rows = {}, [], 0
    for path in found:
        name = path.stem
        if not re.fullmatch("[A-Za-z0-9_-]+", name):
            raise AdvbenchError(f"{path}: {name!r} is no name of a dataset")
        records, listed = read_records(path), path.with_suffix(".csv")
        board = leaderboard(records)
        if not listed.is_file() or listed.read_bytes() != as_csv(board):
            raise AdvbenchError(
                f"{listed}: does not follow from {path.name}; build it again with: "
                f"advbench leaderboard build --records {path} --to {source}"
            )
        described = _rows(name, board, records)
        for row in described:
            write_atomically(to / row["records"], _records_csv(row.pop("own")))
        write_atomically(to / path.name, path.read_bytes())
        write_atomically(to / listed.name, listed.read_bytes())
        about = {
            "name": name,
            "images": records.sample_id.nunique(),
            "photographs": records.source_group.nunique(),
            "victims": sorted(set(records.victim)),
            "defenses": sorted(set(records.defense) - {"none"}),
            "labels": sorted(set(records.weights)),
            "threats": sorted(set(records.threat)),
            "files": [(file, _sha256(to / file)) for file in (listed.name, path.name)],
        }
        boards.append(about)
        pages[name] = to / f"{name}.html"
        columns = [column for column in board.columns if column not in _LONG]
        page = render("board.html.jinja", board=about, columns=columns, rows=described)
        write_atomically(pages[name], page)
        rows += len(described)
    write_atomically(to / "index.html", render("boards.html.jinja", boards=boards))
    return SiteFiles(pages, rows)


def _rows(name: str, board: pd.DataFrame, records: pd.DataFrame) -> list[dict[str, Any]]:
    """Each row of a board: its cells, and what it stands on."""
    judged, records = gates(records), with_floors(records)
    found = []
    for number, row in enumerate(board.to_dict("records"), 1):
        own = _of_row(records, row)
        found.append(
            {
                "id": f"row-{number}",
                "title": f"{defense_label(row['defense'], row['strength'])} before {row['victim']}",
                "cells": {str(column): _cell(str(column), value) for column, value in row.items()},
                "about": {column: str(row[column]) for column in sorted(_LONG & set(row))},
                "specification": _indented(str(row.get("defense_spec", ""))),
                "gates": _of_row(judged, row).to_dict("records"),
                "records": f"{name}/row-{number}.csv",
                "n_records": len(own),
                "own": own,
            }
        )
    return found


def _of_row(table: pd.DataFrame, row: Mapping[Any, Any]) -> pd.DataFrame:
    keep = pd.Series(True, index=table.index)
    for column in _ROW:
        same = table[column].isna() if pd.isna(row[column]) else table[column] == row[column]
        keep &= same
    return table[keep]


def _cell(column: str, value: Any) -> tuple[str, str | None]:
    """A cell as printed, and the number that it sorts by, None for text."""
    if isinstance(value, str):
        return value, None
    if pd.isna(value):
        return "–", ""
    number = float(value)
    whole = column in ("rank", "n", "photographs", "strength")
    text = f"{number:g}" if whole else f"{number:.{1 if 'rp' in column else 3}f}"
    return text, repr(number)


def _indented(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2)
    except ValueError:
        return text


def _records_csv(records: pd.DataFrame) -> bytes:
    plain = records.copy()
    for column in plain.select_dtypes(["object", "string"]).columns:
        plain[column] = plain[column].map(lambda value: csv_text(str(value)))
    text: str = plain.to_csv(index=False, lineterminator="\n")
    return text.encode()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
