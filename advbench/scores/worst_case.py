"""The worst case: of each image the lowest score over every attack that the attacker may choose."""

from __future__ import annotations

import pandas as pd

from advbench.scores.threats import ADAPTIVE, STATIC

PHI = 3.0  # grey levels
_ROW = ["defense", "strength"]


def within(records: pd.DataFrame, phi: float = PHI) -> pd.DataFrame:
    """Select what the attacker may choose from: static and adaptive variants, each image of which
    moved by no more than ``phi`` grey levels as stored, and the original, which did not move.

    An image that C&W, which knows no budget, moved further does not count, and others of the same
    variant do.
    """
    return records[records.threat.isin([STATIC, ADAPTIVE]) & (records.linf <= phi)]


def worst_case(records: pd.DataFrame, phi: float = PHI) -> pd.DataFrame:
    """Take the minimum over those variants, image by image and defense by defense.

    Args:
        records: of one victim on one dataset.

    Returns:
        one row per defense, strength and forged image: the lowest ``mcc``, the ``variant`` that
        leaves it, and the lowest ``f1``, which another variant may leave.
    """
    chosen = within(records, phi).dropna(subset="mcc")
    chosen = chosen.sort_values(["mcc", "variant"], kind="stable")
    by_image = [*_ROW, "sample_id"]
    lowest = chosen.drop_duplicates(by_image)[[*by_image, "source_group", "mcc", "variant"]]
    f1 = chosen.groupby(by_image, dropna=False).f1.min().reset_index()
    return lowest.merge(f1, on=by_image, validate="one_to_one")
