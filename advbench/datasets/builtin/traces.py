"""The ways in which a forged region differs from its host in version 2 of the built-in data.

Each function takes the picture that is to be pasted and returns it with one trace more. Integer
draws and arithmetic, so that the same seed gives the same bytes.
"""

from __future__ import annotations

import math
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from advbench.datasets.builtin.histories import sample_affine
from advbench.datasets.builtin.processing import blurred
from advbench.datasets.manifest import Kind
from advbench.images import Image, Mask

Trace = Literal["noise", "jpeg", "resampling", "sharpness", "light", "seam"]
TRACES: tuple[Trace, ...] = ("noise", "jpeg", "resampling", "sharpness", "light", "seam")

# What is still there after JPEG 70, resizing or a median filter.
LASTING: tuple[Trace, ...] = ("sharpness", "light", "seam")
# What the operation itself leaves: scaling and turning, and the smoothness of what was inpainted.
INHERENT: dict[Kind, tuple[Trace, ...]] = {
    "splice": (),
    "copymove": ("resampling",),
    "removal": ("sharpness",),
}
_IMPOSSIBLE: dict[Kind, tuple[Trace, ...]] = {"removal": ("resampling",)}


def draw_traces(kind: Kind, rng: np.random.Generator) -> tuple[Trace, ...]:
    """Draw two (40 %), three (40 %) or four (20 %) traces: the inherent ones, one that lasts, and
    others."""
    drawn = list(INHERENT[kind])
    if not set(drawn) & set(LASTING):
        drawn.append(LASTING[rng.integers(0, len(LASTING))])
    barred = (*drawn, *_IMPOSSIBLE.get(kind, ()))
    others = [trace for trace in TRACES if trace not in barred]
    count = (2, 2, 3, 3, 4)[rng.integers(0, 5)] - len(drawn)
    drawn += [others[index] for index in rng.permutation(len(others))[:count]]
    return tuple(trace for trace in TRACES if trace in drawn)


def resampled(
    image: Image,
    region: Mask,
    scale: int,
    angle: int,
    *,
    shift: tuple[int, int],
) -> Image:
    """Fetch the region from ``shift`` pixels away, scaled to ``scale`` % and turned by ``angle``
    degrees about the region's centre; outside of the region's box the image stays."""
    rows, columns = np.nonzero(region)
    cy, cx = int(rows.sum()) // rows.size, int(columns.sum()) // columns.size
    top, left = max(0, rows.min() - 8), max(0, columns.min() - 8)
    box = (slice(top, rows.max() + 9), slice(left, columns.max() + 9))
    height, width = image[box].shape[:2]
    cosine = round(math.cos(math.radians(angle)) * 100 / scale * (1 << 16))
    sine = round(math.sin(math.radians(angle)) * 100 / scale * (1 << 16))
    y, x = np.mgrid[top : top + height, left : left + width].astype(np.int64)
    y, x = y - cy, x - cx
    out = image.copy()
    out[box] = sample_affine(
        image,
        cosine * y - sine * x + ((cy + shift[0]) << 16),
        sine * y + cosine * x + ((cx + shift[1]) << 16),
    )
    return out


def other_sharpness(image: Image, rng: np.random.Generator, notes: list[str]) -> Image:
    """Blur by 0.7 to 1.6 pixels, or sharpen by an unsharp mask of 60 to 150 %."""
    if rng.integers(0, 3):
        sigma = int(rng.integers(7, 17))
        notes.append(f"blurred {sigma / 10}")
        return blurred(image, sigma)
    sigma, percent = int(rng.integers(10, 16)), int(rng.integers(60, 151))
    notes.append(f"sharpened {percent}% {sigma / 10}")
    detail = image.astype(np.int32) - blurred(image, sigma)
    return np.clip(image + (detail * percent + 50) // 100, 0, 255).astype(np.uint8)


def other_light(image: Image, region: Mask, rng: np.random.Generator, notes: list[str]) -> Image:
    """Darken by 15 to 35 % or brighten by 15 to 45 %, tint each channel by up to 8 %, and let the
    light fall off by up to 25 % across the region."""
    percent = int((100 - rng.integers(15, 36), 100 + rng.integers(15, 46))[rng.integers(0, 2)])
    gains = [percent + int(tint) for tint in rng.integers(-8, 9, 3)]
    slope_y, slope_x = (int(v) for v in rng.integers(-25, 26, 2))
    notes.append(f"light {gains[0]},{gains[1]},{gains[2]}% slope {slope_y},{slope_x}%")
    rows, columns = np.nonzero(region)
    cy, cx = int(rows.sum()) // rows.size, int(columns.sum()) // columns.size
    tall, wide = (int(np.ptp(axis)) + 1 for axis in (rows, columns))
    y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]].astype(np.int32)
    slope = (y - cy) * slope_y // tall + (x - cx) * slope_x // wide
    factor = np.asarray(gains, dtype=np.int32) + np.clip(slope, -25, 25)[..., None]
    lit = (image.astype(np.int32) * factor + 50) // 100
    return np.clip(lit, 0, 255).astype(np.uint8)


def soft_seam(host: Image, pasted: Image, region: Mask, rng: np.random.Generator) -> Image:
    """Paste with an edge softened by 0.6 to 1.6 pixels."""
    return _mixed(host, pasted, _alpha(region, int(rng.integers(6, 17))))


def visible_seam(
    host: Image, pasted: Image, region: Mask, rng: np.random.Generator, *, notes: list[str]
) -> Image:
    """Paste with a hard edge, with a line of other brightness, or with a smeared edge."""
    how = ("hard", "line", "smeared")[rng.integers(0, 3)]
    notes.append(f"seam {how}")
    if how == "hard":
        return _mixed(host, pasted, np.where(region, 255, 0).astype(np.int32))
    if how == "line":
        composed = _mixed(host, pasted, _alpha(region, 6))
        levels = int(rng.integers(12, 31)) * (1 - 2 * int(rng.integers(0, 2)))
        line = cv2.GaussianBlur(_edge(region, 3) * 255, (0, 0), 0.8).astype(np.int32)[..., None]
        return np.clip(composed + line * levels // 255, 0, 255).astype(np.uint8)
    composed = _mixed(host, pasted, _alpha(region, 6))
    band = _alpha(_edge(region, 5) > 0, 8)
    return _mixed(composed, blurred(composed, int(rng.integers(14, 26))), band)


def _edge(region: Mask, width: int) -> npt.NDArray[np.uint8]:
    """The outline of a region, ``width`` pixels wide, as zeros and ones."""
    kernel = np.ones((width, width), dtype=np.uint8)
    return cv2.morphologyEx(region.astype(np.uint8), cv2.MORPH_GRADIENT, kernel)


def _alpha(region: Mask, sigma: int) -> npt.NDArray[np.int32]:
    """The region as weights of 0 to 255, softened by ``sigma`` tenths of a pixel."""
    return blurred(region.astype(np.uint8) * 255, sigma).astype(np.int32)


def _mixed(host: Image, pasted: Image, alpha: npt.NDArray[np.int32]) -> Image:
    weights = alpha[..., None]
    mixed = (
        pasted.astype(np.int32) * weights + host.astype(np.int32) * (255 - weights) + 127
    ) // 255
    return mixed.astype(np.uint8)
