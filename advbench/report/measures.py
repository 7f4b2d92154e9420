"""One row per cell of a report: F1, RP and MCC with intervals over source photographs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Vector = npt.NDArray[np.float64]

KEYS = [
    *("dataset", "victim", "size", "weights", "weights_sha256", "protocol", "threat"),
    *("attack", "intensity", "variant", "defense", "strength"),
]
_REFERENCE = ["dataset", "victim", "weights_sha256", "protocol", "sample_id"]
DRAWS = 1000


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
        many, and ``false_alarms``, the share of their pixels that is marked; of all ``psnr``
        (finite ones), ``unchanged``, the share that the attack left as they were, and
        ``zero_gradients``, the most that were counted for an image.
    """
    groups = scored.groupby(KEYS, dropna=False, sort=False)
    rows = [dict(zip(KEYS, key, strict=True)) | _measures(part) for key, part in groups]
    return pd.DataFrame(rows)


def _measures(part: pd.DataFrame) -> dict[str, Any]:
    authentic = part[part.tp + part.fn == 0]
    f1, both = part[part.f1.notna()], part[part.f1.notna() & part.clean.notna()]
    mcc = part[part.mcc.notna()]
    psnr = part.psnr[np.isfinite(part.psnr)]
    return {
        **_named("f1", _ratio(f1.f1, np.ones(len(f1)), f1.source_group)),
        **_named("mcc", _ratio(mcc.mcc, np.ones(len(mcc)), mcc.source_group)),
        **_named("rp", _ratio(100 * both.f1, both.clean.to_numpy(), both.source_group)),
        "n": len(f1),
        "photographs": f1.source_group.nunique(),
        "authentic": len(authentic),
        "false_alarms": authentic.marked.mean(),
        "psnr": psnr.mean(),
        "unchanged": (part.linf == 0).mean(),
        "zero_gradients": part.zero_gradients.max(),
    }


def _named(name: str, values: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def _ratio(
    above: pd.Series[float], below: Vector, groups: pd.Series[str]
) -> tuple[float, float, float]:
    """Sum over sum, and its 95 % interval where whole groups are drawn with replacement."""
    if not len(above) or below.sum() <= 0:
        return math.nan, math.nan, math.nan
    codes = pd.factorize(groups)[0]
    top, bottom = np.bincount(codes, above.to_numpy()), np.bincount(codes, below)
    value = float(above.sum() / below.sum())
    count = len(top)
    if count < 2:
        return value, math.nan, math.nan
    weights = np.random.default_rng(0).multinomial(count, [1 / count] * count, DRAWS)
    drawn = weights @ bottom
    ratios = (weights @ top)[drawn > 0] / drawn[drawn > 0]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return value, float(low), float(high)
