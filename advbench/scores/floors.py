"""Score the two maps that know nothing on the same images: everything forged, and nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from advbench.scores.counts import Counts, f1, iou, marked, mcc

ALL_FORGED, ALL_AUTHENTIC = FLOORS = ("all forged", "all authentic")


def floor_records(records: pd.DataFrame) -> pd.DataFrame:
    """Score both maps on every undefended record's image: records with a floor for a defense."""
    undefended = records[records.defense == "none"]
    found = []
    for name in FLOORS:
        counts = marking(Counts.of(undefended), everything=name == ALL_FORGED)
        correlation = mcc(counts)
        scores: dict[str, Any] = vars(counts) | {
            "defense": name,
            "strength": math.nan,
            "defense_spec": "",
            "f1": f1(counts),
            "iou": iou(counts),
            "mcc": correlation,
            "marked": marked(counts),
            # Every pixel has the same probability: half of all pairs are ordered rightly.
            "kept_psnr": math.nan,
            "removed": math.nan,
            "auc": np.where(np.isnan(correlation), math.nan, 0.5),
        }
        found.append(undefended.assign(**scores))
    return pd.concat(found, ignore_index=True)


def marking(counts: Counts, everything: bool) -> Counts:
    """Count what a map that marks everything, or nothing, has on the same images."""
    tp, fp, fn, tn = counts.floats()
    forged, authentic, none = tp + fn, fp + tn, np.zeros_like(tp)
    if everything:
        return Counts(forged, authentic, none, none)
    return Counts(none, none, forged, authentic)


def with_floors(records: pd.DataFrame) -> pd.DataFrame:
    """Add the records of the two maps that know nothing."""
    return pd.concat([records, floor_records(records)], ignore_index=True)


def floors(records: pd.DataFrame) -> pd.DataFrame:
    """Average the F1 of both maps over the scored originals of each dataset.

    Returns:
        columns ``dataset``, ``all_zeros`` (nothing forged) and ``all_ones`` (everything forged).
    """
    scored = floor_records(records[records.attack == "original"])
    scored = scored.drop_duplicates(["dataset", "sample_id", "defense"])
    names = {ALL_AUTHENTIC: "all_zeros", ALL_FORGED: "all_ones"}
    table = scored.assign(defense=scored.defense.map(names))
    means = table.groupby(["dataset", "defense"]).f1.mean().unstack("defense")
    return means[["all_zeros", "all_ones"]].rename_axis(columns=None).reset_index()
