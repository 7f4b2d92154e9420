"""Find the scores of exported images among the records below the output folder."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from advbench.exports.selection import Group
from advbench.scores.cells import in_papers_order, measure
from advbench.scores.records import read_records


def scores_of(out: Path, groups: Sequence[Group], hashes: Collection[str]) -> list[dict[str, Any]]:
    """Measure the undefended victims on the exported images and their originals.

    Args:
        hashes: sha256 of the pixels of what is exported; records of other images are left out.

    Returns:
        a row a dataset, victim, attack and intensity: ``n`` images and, as text, ``f1``, ``rp``
        and ``mcc``; nothing where nothing was scored.

    Raises:
        AdvbenchError: damaged records.
    """
    if not any((out / "records").rglob("*.parquet")):
        return []
    records = read_records(out / "records")
    victims = {(group.dataset, group.victim) for group in groups}
    pairs = zip(records.dataset, records.victim, strict=True)
    exported = np.array([pair in victims for pair in pairs], dtype=np.bool_)
    undefended = (records.defense == "none") & (records.threat != "adaptive")
    kept = records[undefended & exported & records.image_sha256.isin(hashes)]
    rows: list[dict[str, Any]] = []
    for cells in measure(kept) if len(kept) else []:
        table = cells.table.sort_values("intensity")
        for attack in in_papers_order(table.attack):
            for row in table[table.attack == attack].to_dict("records"):
                shown = attack if attack == "original" else f"{attack} {row['intensity']:g}"
                scores = {"f1": _text(row["f1"], 3), "rp": _text(row["rp"], 0)}
                scores |= {"mcc": _text(row["mcc"], 3), "n": row["n"], "mark": row["mark"]}
                rows.append({**cells.victim, "attack": shown, **scores})
    return rows


def _text(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
