"""Compute what follows from TP, FP, FN and TN: F1, IoU, MCC and the marked area, of one image or of
many.

A score that compares the map with the forgery is NaN where the truth does not allow it, so that a
mean over images leaves it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """Pixels by prediction and truth, forged is positive: integers, or arrays of one length."""

    tp: Any
    fp: Any
    fn: Any
    tn: Any

    @classmethod
    def of(cls, records: pd.DataFrame) -> Counts:
        """Take the counts of records, an array each."""
        return cls(*(records[name].to_numpy(float) for name in ("tp", "fp", "fn", "tn")))

    def floats(self) -> tuple[Values, Values, Values, Values]:
        """Give the four as float64, in which their products do not overflow."""
        tp, fp, fn, tn = (np.asarray(v, float) for v in (self.tp, self.fp, self.fn, self.tn))
        return tp, fp, fn, tn


def f1(counts: Counts) -> Values:
    """Compute 2 TP / (2 TP + FP + FN), from 0 to 1; NaN where nothing is forged."""
    tp, fp, fn, _ = counts.floats()
    return _ratio(2 * tp, 2 * tp + fp + fn, defined=tp + fn > 0)


def iou(counts: Counts) -> Values:
    """Compute TP / (TP + FP + FN), from 0 to 1; NaN where nothing is forged."""
    tp, fp, fn, _ = counts.floats()
    return _ratio(tp, tp + fp + fn, defined=tp + fn > 0)


def mcc(counts: Counts) -> Values:
    """Compute the Matthews correlation of map and truth, from -1 to 1.

    0 for a map that marks everything or nothing; NaN where the truth is one class only, with which
    no map correlates (Matthews 1975).
    """
    tp, fp, fn, tn = counts.floats()
    sides = [np.sqrt(side) for side in (tp + fp, fn + tn, tp + fn, fp + tn)]
    covariance = tp * tn - fp * fn
    value = _ratio(covariance, sides[0] * sides[1] * sides[2] * sides[3])
    value = np.where(sides[0] * sides[1] > 0, value, 0.0)
    return np.where(sides[2] * sides[3] > 0, np.clip(value, -1, 1), np.nan)


def marked(counts: Counts) -> Values:
    """Compute the share of pixels that the map marks as forged, from 0 to 1."""
    tp, fp, fn, tn = counts.floats()
    return _ratio(tp + fp, tp + fp + fn + tn)


def _ratio(above: Values, below: Values, defined: Any = True) -> Values:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((below > 0) & defined, above / below, np.nan)
