"""One row per cell of a report: F1, RP and MCC with intervals over source photographs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from advbench.scores.intervals import NOWHERE, Bootstrap, Interval

KEYS = [
    *("dataset", "victim", "size", "weights", "weights_sha256", "protocol", "threat"),
    *("attack", "intensity", "variant", "defense", "strength"),
]
_REFERENCE = ["dataset", "victim", "weights_sha256", "protocol", "sample_id"]


def with_clean(records: pd.DataFrame) -> pd.DataFrame:
    """Records with ``clean``: the same image's undefended F1 on the original."""
    undefended = records[(records.attack == "original") & (records.defense == "none")]
    clean = undefended.set_index(_REFERENCE).f1
    keys = pd.MultiIndex.from_frame(records[_REFERENCE])
    return records.assign(clean=clean.reindex(keys).to_numpy())


def cells(scored: pd.DataFrame) -> pd.DataFrame:
    """Measure the cells of records from :func:`with_clean`.

    Returns:
        :data:`KEYS`; of forged images ``f1``, ``rp`` (a ratio of means over the same images) and
        ``mcc``, each with ``_low`` and ``_high`` (95 %, bootstrapped over source photographs; NaN
        for fewer than two), ``n`` images and ``photographs``; of authentic ones ``authentic``, how
        many, and ``false_alarms``, the share of their pixels that is marked; of all ``psnr``, of
        those that were changed.
    """
    groups = scored.groupby(KEYS, dropna=False, sort=False)
    rows = [dict(zip(KEYS, key, strict=True)) | _measures(part) for key, part in groups]
    return pd.DataFrame(rows)


def _measures(part: pd.DataFrame) -> dict[str, Any]:
    authentic = part[part.tp + part.fn == 0]
    forged = part[part.f1.notna()]
    clean = forged.clean.where(forged.clean.notna())
    f1 = forged.f1.where(clean.notna())
    drawn = Bootstrap(forged.source_group.tolist()) if len(forged) else None
    return {
        **_named("f1", forged.f1.mean(), _interval(drawn, forged.f1)),
        **_named("mcc", forged.mcc.mean(), _interval(drawn, forged.mcc)),
        **_named(
            "rp",
            100 * f1.mean() / clean.mean() if clean.mean() > 0 else math.nan,
            _interval(drawn, 100 * f1, clean),
        ),
        "n": len(forged),
        "photographs": forged.source_group.nunique(),
        "authentic": len(authentic),
        "false_alarms": authentic.marked.mean(),
        "psnr": part.psnr[np.isfinite(part.psnr)].mean(),
    }


def _interval(
    drawn: Bootstrap | None, above: pd.Series[float], below: pd.Series[float] | None = None
) -> Interval:
    """The interval of a mean, or of the ratio of two means over the same images."""
    if drawn is None:
        return NOWHERE
    means = drawn.means(np.asarray(above, np.float64))
    if below is not None:
        reference = drawn.means(np.asarray(below, np.float64))
        means = np.divide(means, reference, out=np.full_like(means, np.nan), where=reference > 0)
    return drawn.interval(means)


def _named(name: str, value: float, interval: Interval) -> dict[str, float]:
    return {name: value, f"{name}_low": interval.low, f"{name}_high": interval.high}
