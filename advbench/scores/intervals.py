"""Intervals: a bootstrap over source photographs, and a bound of the mean loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from advbench.rng import numpy_stream

CONFIDENCE, DRAWS = 0.95, 2000

Values = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """The two ends; NaN where there are fewer than two photographs to draw from."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.3f} to {self.high:.3f}"


NOWHERE = Interval(math.nan, math.nan)


class Bootstrap:
    """Means over images under resampled photographs.

    Images of one photograph are not independent, so whole photographs are drawn with replacement
    (Davison and Hinkley 1997, section 3.8). All figures asked of one bootstrap, or of two over the
    same photographs, see the same draws: their differences and ratios are paired.

    Args:
        photographs: the source photograph of each image.
    """

    def __init__(self, photographs: Sequence[str]) -> None:
        names, self._photograph = np.unique(np.asarray(photographs, str), return_inverse=True)
        self.photographs = len(names)
        rng = numpy_stream("bootstrap", *names)
        even = np.full(self.photographs, 1 / self.photographs)
        self._times = rng.multinomial(self.photographs, even, DRAWS).astype(float)

    def means(self, values: Values) -> Values:
        """Compute the mean over the images of each draw.

        Args:
            values: an image each, or images × columns; NaN is left out.

        Returns:
            a draw each, or draws × columns; NaN where a draw has no value.
        """
        there = ~np.isnan(values)
        sums = self._times @ self._by_photograph(np.where(there, values, 0.0))
        counts = self._times @ self._by_photograph(there.astype(float))
        with np.errstate(invalid="ignore"):
            return np.asarray(sums / np.where(counts > 0, counts, np.nan))

    def interval(self, drawn: Values) -> Interval:
        """Give the central 95 % of a figure's draws."""
        drawn = drawn[np.isfinite(drawn)]
        if self.photographs < 2 or not drawn.size:
            return NOWHERE
        low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return Interval(float(low), float(high))

    def _by_photograph(self, values: Values) -> Values:
        sums = np.zeros((self.photographs, *values.shape[1:]))
        np.add.at(sums, self._photograph, values)
        return sums


def loss_bound(losses: Sequence[float] | Values, photographs: Sequence[str]) -> float:
    """Bound the mean loss over all photographs of the kind from above, with 95 % confidence.

    The Hoeffding-Bentkus bound (Bates, Angelopoulos, Lei, Malik and Jordan, Journal of the ACM
    2021, section 3.1.1) of the mean over photographs, each with the mean loss of its images; it
    holds for any number of them, and is 1 where nothing can be said.

    Args:
        losses: an image each, in [0, 1].
        photographs: the source photograph of each image.
    """
    from scipy.optimize import bisect
    from scipy.stats import binom

    names, photograph = np.unique(np.asarray(photographs, str), return_inverse=True)
    if not len(names):
        return math.nan
    counts = np.bincount(photograph)
    mean = float((np.bincount(photograph, np.asarray(losses, float)) / counts).mean())
    mean, n = min(max(mean, 0.0), 1.0), len(names)

    def excess(bound: float) -> float:
        hoeffding = math.exp(-n * _divergence(min(mean, bound), bound))
        # A sum that is whole but for rounding is not rounded up.
        bentkus = math.e * binom.cdf(math.ceil(n * mean - 1e-9), n, bound)
        return min(hoeffding, float(bentkus)) - (1 - CONFIDENCE)

    last = 1 - 1e-12
    return 1.0 if mean >= last or excess(last) > 0 else float(bisect(excess, mean, last))


def _divergence(a: float, b: float) -> float:
    """Compute the Kullback-Leibler divergence of two coins."""
    above = a * math.log(a / b) if a > 0 else 0.0
    below = (1 - a) * math.log((1 - a) / (1 - b)) if a < 1 else 0.0
    return above + below
