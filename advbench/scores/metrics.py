"""Metrics beside F1: AUC of the map, and how visible the noise is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from advbench.images import Image, Mask
from advbench.scores.protocols import ProbabilityMap

Change = npt.NDArray[np.float32]
Metric = Literal["auc", "ssim"]
# Those that take long beside a forward pass, and may be left out.
OPTIONAL: tuple[Metric, ...] = ("auc", "ssim")


def auc(probability: ProbabilityMap, truth: Mask) -> float:
    """Area under the ROC curve over pixels; NaN where the truth has one class only.

    The share of pairs of a forged and a pristine pixel that the map orders rightly, ties half
    (Mann and Whitney): ten times as fast as the curve.
    """
    if truth.all() or not truth.any():
        return math.nan
    forged, pristine = np.sort(probability[truth]), np.sort(probability[~truth])
    below = np.searchsorted(pristine, forged, "left").sum()
    up_to = np.searchsorted(pristine, forged, "right").sum()
    return float((below + up_to) / 2 / (forged.size * pristine.size))


@dataclass(frozen=True)
class Noise:
    """Hold how far an image is from its original.

    Attributes:
        psnr: in dB; infinite for equal images.
        ssim: mean over channels, window 7 (less on smaller images); NaN where it was not asked for.
        linf: in grey levels.
        l2: over all values, in [0, 1] units.
    """

    psnr: float
    ssim: float
    linf: float
    l2: float


def noise_metrics(adversarial: Image, original: Image, *, with_ssim: bool = True) -> Noise:
    """Measure the noise of a uint8 image against its original."""
    distance = cv2.absdiff(adversarial, original)
    largest = int(distance.max(initial=0))
    if largest == 0:
        return Noise(math.inf, 1.0 if with_ssim else math.nan, 0.0, 0.0)
    squares = int(np.square(distance, dtype=np.uint16).sum(dtype=np.int64))
    window = min(7, (min(original.shape[:2]) - 1) | 1)
    return Noise(
        psnr=10 * math.log10(255**2 * distance.size / squares),
        ssim=ssim(adversarial, original, window) if with_ssim and window >= 3 else math.nan,
        linf=float(largest),
        l2=math.sqrt(squares) / 255,
    )


def kept_psnr(change: Change) -> float:
    """PSNR in dB of an image that was changed by ``change``, in [0, 1] units; infinite for none."""
    squares = float(np.square(change, dtype=np.float64).mean())
    return -10 * math.log10(squares) if squares else math.inf


def removed_share(change: Change, noise: Change) -> float:
    """Share of the noise that a change takes away along the noise's own direction,
    -⟨change, noise⟩ / ⟨noise, noise⟩: 1 where it is subtracted whole, below 0 where more is added;
    NaN without noise."""
    squares = float(np.square(noise, dtype=np.float64).sum())
    along = float(np.multiply(change, noise, dtype=np.float64).sum())
    return -along / squares if squares else math.nan


def ssim(one: Image, other: Image, window: int) -> float:
    """Structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004, eq. 13): means and sample
    variances in squares of an odd side, the mean over all that fit in and over channels.

    Sums are whole numbers, so this is scikit-image's figure to some 1e-14, in a third of the time.
    """
    count, half = window * window, window // 2

    def total(values: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
        sums = cv2.boxFilter(values, cv2.CV_32S, (window, window), normalize=False)
        return sums[half:-half, half:-half]

    x, y, distance = (image.astype(np.uint16) for image in (one, other, cv2.absdiff(one, other)))
    sum_x, sum_y, sum_xy = total(one), total(other), total(x * y)
    sum_squares = total(distance * distance) + 2 * sum_xy
    means = sum_x * sum_y
    squared_means = sum_x * sum_x + sum_y * sum_y
    # Each factor below is that of the formula times count², or count · (count - 1).
    c1 = (0.01 * 255) ** 2 * count**2
    c2 = (0.03 * 255) ** 2 * count * (count - 1)
    similarity = (2 * means + c1) * (2 * (count * sum_xy - means) + c2)
    similarity /= (squared_means + c1) * (count * sum_squares - squared_means + c2)
    return float(similarity.mean())
