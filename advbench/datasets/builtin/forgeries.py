"""Splicing, copy-move and object removal, with masks that are exact by construction.

What betrays a forgery is its history (noise level, JPEG grid, resampling, inpainting), not its
colour or its place: colours are often matched and regions lie anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from advbench.datasets.builtin.histories import (
    History,
    add_noise,
    contrasting_history,
    random_history,
    random_view,
    sample_affine,
)
from advbench.datasets.builtin.photographs import Source
from advbench.datasets.manifest import Kind
from advbench.images import Image, Mask

KINDS: tuple[Kind, ...] = ("splice", "splice", "copymove", "removal")

# Range of the host's noise in grey levels: what copy-move interpolates away and inpainting covers.
HOST_NOISE: dict[Kind, tuple[int, int]] = {
    "splice": (0, 5),
    "copymove": (3, 5),
    "removal": (2, 5),
    "none": (0, 5),
}


@dataclass
class Forgery:
    """A forged (or authentic) picture, its mask and what was done to it."""

    image: Image
    mask: Mask
    host: Source
    notes: list[str] = field(default_factory=list)


def make_forgery(
    kind: Kind, photographs: Sequence[Source], size: int, rng: np.random.Generator
) -> Forgery:
    """One picture of ``size``² pixels; ``kind`` is splice, copymove, removal or none."""
    host_photo = photographs[int(rng.integers(0, len(photographs)))]
    history = random_history(rng, *HOST_NOISE[kind])
    host = history.apply(random_view(host_photo.load(), size, rng), rng)
    notes = [f"host {host_photo.name} {history}"]
    if kind == "none":
        return Forgery(host, np.zeros((size, size), dtype=bool), host_photo, notes)
    region = random_region(size, rng)
    if kind == "splice":
        pasted = _splice(host, history, region, photographs, rng=rng, notes=notes)
    elif kind == "copymove":
        pasted = _copy_move(host, region, rng, notes)
    else:
        pasted = _removal(host, history, region, rng, notes=notes)
    return Forgery(blend(host, pasted, region, rng), region, host_photo, notes)


def random_region(size: int, rng: np.random.Generator) -> Mask:
    """The largest component of a disc with a wavy outline, 2 to 30 % of the picture."""
    rows, columns = np.mgrid[0:size, 0:size]
    while True:
        radius = size * int(rng.integers(10, 31)) / 100
        cy, cx = (int(v) for v in rng.integers(size // 6, size - size // 6, 2))
        distance = np.sqrt((rows - cy) ** 2 + (columns - cx) ** 2) / radius
        coarse = rng.integers(-100, 101, (6, 6)).astype(np.float32) / 100
        waves = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
        inside = ((1 - distance) + 0.6 * waves > 0).astype(np.uint8)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(inside)
        if len(stats) > 1:
            largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
            area = int(stats[largest, cv2.CC_STAT_AREA]) / size**2
            if 0.02 <= area <= 0.30:
                region: Mask = labels == largest
                return region


def _splice(
    host: Image,
    history: History,
    region: Mask,
    photographs: Sequence[Source],
    *,
    rng: np.random.Generator,
    notes: list[str],
) -> Image:
    size = host.shape[0]
    donor_photo = photographs[int(rng.integers(0, len(photographs)))]
    donor_history = contrasting_history(history, rng)
    donor = random_view(donor_photo.load(), size, rng)
    notes.append(f"donor {donor_photo.name} {donor_history}")
    if rng.integers(0, 5) < 3:
        donor = match_colours(donor, host, region)
        notes.append("colours matched")
    donor = donor_history.apply(donor, rng)
    if rng.integers(0, 2):
        scale = int(rng.integers(60, 151))
        donor = _resample(donor, scale / 100, 0.0, (0, 0))
        notes.append(f"resampled {scale}%")
    return donor


def match_colours(donor: Image, host: Image, region: Mask) -> Image:
    """Give the donor the host's mean and deviation per channel within the region."""
    out = np.empty_like(donor)
    for channel in range(3):
        ours = donor[..., channel][region].astype(np.int64)
        theirs = host[..., channel][region].astype(np.int64)
        gain = 256 * (int(np.std(theirs)) + 4) // (int(np.std(ours)) + 4)
        gain = min(max(gain, 128), 512)
        mean_ours, mean_theirs = int(ours.sum()) // ours.size, int(theirs.sum()) // theirs.size
        levels = np.arange(256, dtype=np.int64)
        table = np.clip(((levels - mean_ours) * gain + 128) // 256 + mean_theirs, 0, 255)
        out[..., channel] = table.astype(np.uint8)[donor[..., channel]]
    return out


def _copy_move(host: Image, region: Mask, rng: np.random.Generator, notes: list[str]) -> Image:
    size = host.shape[0]
    scale, angle = int(rng.integers(80, 161)), int(rng.integers(-25, 26))
    # At least a quarter of the side away, so that the copy does not lie on its source.
    dy, dx = (
        int(v) for v in rng.integers(size // 4, size // 2, 2) * (2 * rng.integers(0, 2, 2) - 1)
    )
    moved = _resample(host, scale / 100, math.radians(angle), (dy, dx), centre=_centre(region))
    notes.append(f"copied from {dy:+d},{dx:+d} scale {scale}% angle {angle}")
    if rng.integers(0, 2):
        sigma = int(rng.integers(40, 91)) / 100
        moved = cv2.GaussianBlur(moved, (0, 0), sigma)
        notes.append(f"blurred {sigma}")
    return moved


def _removal(
    host: Image, history: History, region: Mask, rng: np.random.Generator, *, notes: list[str]
) -> Image:
    method = (cv2.INPAINT_TELEA, cv2.INPAINT_NS)[rng.integers(0, 2)]
    radius = int(rng.integers(3, 7))
    filled: Image = cv2.inpaint(host, region.astype(np.uint8), radius, method)
    notes.append(f"inpainted {'telea' if method == cv2.INPAINT_TELEA else 'ns'} r{radius}")
    if history.sigma >= 2 and rng.integers(0, 2):
        sigma = int(rng.integers(1, history.sigma // 2 + 1))
        filled = add_noise(filled, sigma, rng)
        notes.append(f"renoised n{sigma}")
    return filled


def _centre(region: Mask) -> tuple[int, int]:
    rows, columns = np.nonzero(region)
    return int(rows.sum()) // rows.size, int(columns.sum()) // columns.size


def _resample(
    image: Image,
    scale: float,
    angle: float,
    shift: tuple[int, int],
    *,
    centre: tuple[int, int] | None = None,
) -> Image:
    """Scale and turn about ``centre`` and fetch from ``shift`` away, in fixed point."""
    size = image.shape[0]
    cy, cx = centre or (size // 2, size // 2)
    cosine = round(math.cos(angle) / scale * (1 << 16))
    sine = round(math.sin(angle) / scale * (1 << 16))
    rows, columns = np.mgrid[0:size, 0:size].astype(np.int64)
    rows, columns = rows - cy, columns - cx
    source_rows = cosine * rows - sine * columns + ((cy + shift[0]) << 16)
    source_columns = sine * rows + cosine * columns + ((cx + shift[1]) << 16)
    return sample_affine(image, source_rows, source_columns)


def blend(host: Image, pasted: Image, region: Mask, rng: np.random.Generator) -> Image:
    """Paste with a seam softened by 0.4 to 1.6 pixels; the mask stays the hard region."""
    sigma = int(rng.integers(4, 17)) / 10
    alpha = cv2.GaussianBlur(region.astype(np.uint8) * 255, (0, 0), sigma).astype(np.int32)
    weights: npt.NDArray[np.int32] = alpha[..., None]
    mixed: Image = ((pasted * weights + host * (255 - weights) + 127) // 255).astype(np.uint8)
    return mixed
