"""The tables of a report: Table III's shape, the shards, and one row an image."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from advbench.escaping import visible
from advbench.report.curves import in_order
from advbench.scores.cells import defense_label
from advbench.shards.reader import Shard, ShardEntry
from advbench.shards.schema import ADVERSARIAL

MOST_ROWS = 20_000  # of the per-image table
_VICTIM = ["victim", "weights", "protocol"]


@dataclass(frozen=True)
class Wide:
    """One dataset's table of one threat model, the attacks across.

    Attributes:
        rows: per victim, defense and strength: names, and by attack a mean over intensities of
            ``f1``, ``rp`` with its widest interval, and ``mcc``.
        best: by victim and attack the highest RP of a defense.
    """

    dataset: str
    threat: str
    attacks: list[str]
    rows: list[dict[str, Any]]


def wide_tables(cells: pd.DataFrame) -> list[Wide]:
    """Table III's shape for each dataset and threat model, which are never mixed."""
    tables = []
    for (dataset, threat), part in cells.groupby(["dataset", "threat"], sort=False):
        attacks = [
            *(["original"] if "original" in set(part.attack) else []),
            *in_order(part.attack),
        ]
        rows = []
        for key, cell in part.groupby([*_VICTIM, "defense", "strength"], dropna=False):
            victim, weights, protocol, defense, strength = key
            by_attack = {
                str(attack): _mean(group) for attack, group in cell.groupby("attack", sort=False)
            }
            rows.append(
                {
                    "victim": victim,
                    "weights": weights,
                    "protocol": protocol,
                    "defense": defense_label(defense, strength),
                    "is_defended": defense != "none",
                    "cells": [by_attack.get(attack) for attack in attacks],
                    "n": int(cell.n.min()),
                    "photographs": int(cell.photographs.min()),
                }
            )
        rows.sort(key=lambda row: (row["victim"], row["weights"], row["is_defended"]))
        _mark_best(rows)
        tables.append(Wide(str(dataset), str(threat), attacks, rows))
    return tables


def _mean(group: pd.DataFrame) -> dict[str, Any]:
    one = len(group) == 1
    return {
        "f1": group.f1.mean(),
        "rp": group.rp.mean(),
        "mcc": group.mcc.mean(),
        "low": group.rp_low.iloc[0] if one else math.nan,
        "high": group.rp_high.iloc[0] if one else math.nan,
        "best": False,
    }


def _mark_best(rows: Sequence[dict[str, Any]]) -> None:
    """Mark of each victim and attack the defense with the highest RP."""
    for victim in {(row["victim"], row["weights"]) for row in rows}:
        defended = [
            row for row in rows if (row["victim"], row["weights"]) == victim and row["is_defended"]
        ]
        for place in range(len(defended[0]["cells"]) if len(defended) > 1 else 0):
            there = [row["cells"][place] for row in defended if row["cells"][place]]
            finite = [cell for cell in there if math.isfinite(cell["rp"])]
            if finite:
                max(finite, key=lambda cell: cell["rp"])["best"] = True


def shard_rows(entries: Sequence[ShardEntry]) -> list[dict[str, Any]]:
    """Per variant of a victim what its shards say of their making."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for entry in entries:
        settings = entry.settings
        if settings.kind != ADVERSARIAL or settings.victim is None:
            continue
        with Shard(entry.path) as shard:
            made = shard.provenance
        key = (settings.dataset, settings.victim["name"], settings.variant or "", settings.sha256)
        row = found.setdefault(
            key,
            {
                "dataset": settings.dataset,
                "victim": settings.victim["name"],
                "weights": settings.victim["weights"],
                "weights_sha256": settings.victim["weights_sha256"],
                "variant": settings.variant,
                "settings": settings.to_json(),
                "settings_sha256": settings.sha256,
                "content_sha256": entry.content_sha256,
                "images": 0,
                "runs": set(),
                "seconds": 0.0,
                "passes": 0,
                "device": str(made.get("device", "")),
                "version": str(made.get("advbench_version", "")),
                "created": str(made.get("created_utc", "")),
            },
        )
        row["images"] += len(entry.sample_ids)
        seconds = float(made.get("seconds", 0.0))
        row["runs"].add((str(made.get("created_utc", "")), seconds))
        row["seconds"] += seconds
        row["passes"] += int(made.get("passes", 0))
    return [found[key] for key in sorted(found)]


def attack_seconds(shards: Sequence[Mapping[str, Any]]) -> float:
    """Add up the runs behind the rows of :func:`shard_rows`, each once.

    A run makes all intensities of an attack; the shard of each holds the time of the whole run.
    """
    return sum(seconds for _, seconds in set().union(*(row["runs"] for row in shards)))


_TEXTS = ("dataset", "sample", "kind", "source", "victim", "threat", "attack", "defense", "made by")
_NUMBERS = ("F1", "MCC", "marked %", "PSNR", "L∞", "s/image")


def image_rows(scored: pd.DataFrame, shards: Sequence[dict[str, Any]]) -> tuple[str, int, int]:
    """One row a record, as JSON for the page: texts by number in a list of their own.

    Whole images are left out where there are more than :data:`MOST_ROWS` rows.

    Returns:
        The JSON, safe within a script element; rows shown; rows there are.
    """
    by_variant = {(row["dataset"], row["victim"], row["variant"]): row for row in shards}
    keys = list(zip(scored.dataset, scored.victim, scored.variant, strict=True))
    made = [by_variant.get(key) for key in keys]
    table = pd.DataFrame(
        {
            "dataset": scored.dataset,
            "sample": scored.sample_id,
            "kind": scored.kind,
            "source": scored.source_group,
            "victim": scored.victim + " (" + scored.weights + ")",
            "threat": scored.threat,
            "attack": scored.variant,
            "defense": [
                defense_label(d, s) for d, s in zip(scored.defense, scored.strength, strict=True)
            ],
            "made by": [f"advbench {m['version']}, {m['device']}" if m else "–" for m in made],
            "F1": scored.f1.round(4),
            "MCC": scored.mcc.round(4),
            "marked %": (100 * scored.marked).round(2),
            "PSNR": scored.psnr.round(1),
            "L∞": scored.linf,
            "s/image": [
                round(m["seconds"] / m["images"], 3) if m and m["images"] else math.nan
                for m in made
            ],
        }
    ).sort_values(list(_TEXTS), kind="stable", ignore_index=True)
    total = len(table)
    if total > MOST_ROWS:
        per_image = table.groupby("sample").size().cumsum()
        table = table[table["sample"].isin(per_image.index[per_image <= MOST_ROWS])]
    texts: list[str] = []
    columns: list[list[Any]] = []
    for name in _TEXTS:
        codes, values = pd.factorize(table[name])
        columns.append((codes + len(texts)).tolist())
        texts += [visible(value) for value in values]
    for name in _NUMBERS:
        figures = table[name].to_numpy(float)
        columns.append([float(v) if np.isfinite(v) else None for v in figures])
    data = {"texts": texts, "text": _TEXTS, "number": _NUMBERS, "columns": columns}
    return _script_json(data), len(table), total


def _script_json(data: object) -> str:
    """JSON that cannot end the script element that holds it."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
