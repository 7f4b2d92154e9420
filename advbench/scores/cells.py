"""Cells: the images of one victim under one variant behind one defense, averaged, with intervals.

RP is 100 × F1 over the same victim's undefended F1 on the originals **of the same images**, a ratio
of means. There is none where that F1 does not lie above what marking everything scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from advbench.scores.counts import Counts, f1
from advbench.scores.floors import marking
from advbench.scores.intervals import Bootstrap

VICTIM = ["dataset", "victim", "weights", "protocol"]
CELL = ["threat", "attack", "intensity", "defense", "strength"]
ALARM = 0.01  # an authentic image is a false alarm where more of it is marked
MOST = 0.5  # of a cell's images
ATTACKS = ("original", "fgsm", "cw", "bim", "pgd", "mifgsm", "pgn")

DefenseKey = tuple[str, float | None]
Values = npt.NDArray[np.float64]


def key_of(defense: Any, strength: Any) -> DefenseKey:
    """Name a defense at a strength; NaN, which equals nothing, becomes None."""
    return str(defense), None if strength is None or math.isnan(strength) else float(strength)


def defense_label(defense: Any, strength: Any) -> str:
    """Show a defense at a strength: ``jpeg 70``; NaN where there is none to set."""
    return str(defense) if math.isnan(strength) else f"{defense} {strength:g}"


def measure(records: pd.DataFrame) -> list[Cells]:
    """Average the cells of each victim on each dataset."""
    return [Cells(part) for _, part in records.groupby(VICTIM, dropna=False, sort=True)]


def in_papers_order(attacks: Iterable[str]) -> list[str]:
    """Each attack once: the original, those of the paper, then the others by name."""
    names = set(attacks)
    return [a for a in ATTACKS if a in names] + sorted(names - set(ATTACKS))


def named_by_options(records: pd.DataFrame) -> pd.Series[str]:
    """Name each attack with what sets it apart: ``pgd``, ``pgd (region=seam)``."""
    names = records.attack.astype(object)
    ordinary = {"region": ["whole"], "target": ["", "gt"], "surrogate": [""]}
    for column, values in ordinary.items():
        options = " (" + column + "=" + records[column].astype(object) + ")"
        names = names + options.where(~records[column].isin(values), "")
    return names


class Cells:
    """The cells of one victim on one dataset.

    Attributes:
        images: the ids of all images, sorted.
        bootstrap: over the photographs of these.
        table: one row a cell: :data:`CELL`, the means, how many images and photographs they rest
            on, and ``mark``, which says why an RP is not there or not to be trusted.
    """

    def __init__(self, records: pd.DataFrame) -> None:
        records = records.assign(attack=named_by_options(records))
        self.victim = {name: records[name].iloc[0] for name in VICTIM}
        images = records.drop_duplicates("sample_id").sort_values("sample_id")
        self.bootstrap = Bootstrap(images.source_group.tolist())
        self.images = pd.Index(images.sample_id)
        self._rows = self.images.get_indexer(pd.Index(records.sample_id))
        grouped = records.groupby(CELL, dropna=False, sort=False)
        self._columns = grouped.ngroup().to_numpy()
        self.table = grouped.size().index.to_frame(index=False)
        undefended = records[(records.attack == "original") & (records.defense == "none")]
        self._clean = undefended.set_index("sample_id").f1.reindex(self.images).to_numpy()
        self._measure(records, images.source_group.to_numpy())

    def select(self, key: DefenseKey) -> pd.DataFrame:
        """The rows of the table behind one defense at one strength."""
        table, strength = self.table[self.table.defense == key[0]], key[1]
        return table[table.strength.isna() if strength is None else table.strength == strength]

    def mean_rp(self, groups: Sequence[Sequence[int]]) -> tuple[float, float, float]:
        """Average RP over groups of cells, each the mean of its own: attacks over intensities.

        Args:
            groups: rows of the table; empty groups are left out.

        Returns:
            the mean of means, and the ends of its interval; NaN without cells.
        """
        there = [list(group) for group in groups if len(group)]
        if not there:
            return math.nan, math.nan, math.nan
        drawn = np.mean([self._rp[:, group].mean(axis=1) for group in there], axis=0)
        mean = np.mean([self.table.rp.iloc[group].mean() for group in there])
        return float(mean), *self.bootstrap.interval(drawn)

    def _measure(self, records: pd.DataFrame, photographs: npt.NDArray[Any]) -> None:
        table = self.table
        scores = self._by_image(records.f1)
        clean = np.where(np.isnan(scores), np.nan, self._clean[:, None])
        kept = np.where(np.isnan(clean), np.nan, scores)
        correlation = self._by_image(records.mcc)
        means = self.bootstrap.means
        with np.errstate(divide="ignore", invalid="ignore"):
            self._rp = 100 * means(kept) / means(clean)
        everything = f1(marking(Counts.of(records), everything=True))
        floor = self._by_image(pd.Series(everything))
        floor = _mean(np.where(np.isnan(kept), np.nan, floor))
        reference = _mean(clean)
        above = reference > floor
        table["f1"] = _mean(scores)
        with np.errstate(divide="ignore", invalid="ignore"):
            table["rp"] = np.where(above, 100 * _mean(kept) / reference, np.nan)
        self._rp[:, ~above] = np.nan
        table["mcc"] = _mean(correlation)
        for name, drawn in {"f1": means(scores), "rp": self._rp, "mcc": means(correlation)}.items():
            ends = [self.bootstrap.interval(column) for column in drawn.T]
            table[f"{name}_low"] = [end.low for end in ends]
            table[f"{name}_high"] = [end.high for end in ends]
        there = ~np.isnan(scores)
        table["n"] = there.sum(axis=0)
        table["photographs"] = [len(set(photographs[column])) for column in there.T]
        authentic = self._by_image(records.marked.where(records.tp + records.fn == 0))
        table["n_authentic"] = (~np.isnan(authentic)).sum(axis=0)
        table["marked_authentic"] = _mean(authentic)
        table["alarms_authentic"] = _mean(
            np.where(np.isnan(authentic), np.nan, (authentic > ALARM).astype(float))
        )
        for name in ("iou", "auc", "psnr", "ssim", "l2", "kept_psnr", "removed"):
            table[name] = _mean(self._by_image(records[name]))
        table["linf"] = _largest(self._by_image(records.linf))
        attacked = (table.attack != "original").to_numpy()
        unchanged = self._by_image((records.linf == 0).astype(float))
        table["unchanged"] = np.where(attacked, _mean(unchanged), np.nan)
        zero = (records.zero_gradients > 0).astype(float).where(records.zero_gradients.notna())
        table["no_gradient"] = np.where(attacked, _mean(self._by_image(zero)), np.nan)
        table["mark"] = np.select(
            [reference <= floor, table.unchanged >= MOST, table.no_gradient >= MOST],
            ["floor", "unchanged", "no gradient"],
            "",
        )

    def _by_image(self, values: pd.Series[float]) -> Values:
        """Spread a column of the records over images × cells; NaN where there is no record."""
        spread = np.full((len(self.images), len(self.table)), math.nan)
        spread[self._rows, self._columns] = values.to_numpy(float)
        return spread


def _mean(values: Values) -> Values:
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, values, 0.0).sum(axis=0) / there.sum(axis=0))


def _largest(values: Values) -> Values:
    return np.where(np.isnan(values), -math.inf, values).max(axis=0)
