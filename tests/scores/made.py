"""Records and frames of records with the fields that matter given by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from advbench.scores.records import Record


def record(sample: str = "a", **changes: Any) -> Record:
    """The undefended original of one image; fields may be changed."""
    fields: dict[str, Any] = {
        "dataset": "mine",
        "sample_id": f"mine/{sample}",
        "kind": "splice",
        "source_group": "g",
        "victim": "ifosn",
        "size": "small",
        "weights": "builtin",
        "weights_sha256": "0" * 64,
        "attack": "original",
        "intensity": math.nan,
        "variant": "original",
        "threat": "static",
        "through": "",
        "surrogate": "",
        "region": "whole",
        "target": "",
        "budget": math.nan,
        "defense": "none",
        "strength": math.nan,
        "protocol": "f1/v1",
        "threshold": 0.5,
        "tp": 1,
        "fp": 2,
        "fn": 3,
        "tn": 94,
        "f1": 0.5,
        "mcc": 0.25,
        "marked": 0.3,
        "iou": 0.25,
        "auc": 0.75,
        "psnr": math.inf,
        "ssim": 1.0,
        "linf": 0.0,
        "l2": 0.0,
        "kept_psnr": math.inf,
        "removed": 0.0,
        "zero_gradients": 0.0,
        "image_sha256": "1" * 64,
        "defense_spec": "{}",
        "version": "0.0.0",
    }
    return Record(**(fields | changes))


def scored(f1: dict[str, float], attack: str = "original", **changes: Any) -> list[Record]:
    """Records of one cell: F1 by image; an attack with its intensity as in ``pgd-3``."""
    name, _, intensity = attack.partition("-")
    where: dict[str, Any] = {"attack": name, "variant": attack, "linf": float(bool(intensity))}
    where |= {"intensity": float(intensity or "nan")} | changes
    return [record(sample, f1=value, **where) for sample, value in f1.items()]


def frame(*cells: Sequence[Record]) -> pd.DataFrame:
    """The cells as read back from files."""
    return pd.DataFrame([asdict(one) for cell in cells for one in cell])


def row(table: pd.DataFrame, **where: Any) -> pd.Series[Any]:
    """The one row with these values; NaN matches NaN."""
    for column, value in where.items():
        same = table[column].isna() if pd.isna(value) else table[column] == value
        table = table[same]
    assert len(table) == 1
    return table.iloc[0]
