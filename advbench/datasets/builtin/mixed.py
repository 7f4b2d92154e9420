"""Version 2 of the built-in forgeries: at least two traces each, then ordinary processing.

The region differs from its host in two to four of :data:`~advbench.datasets.builtin.traces.TRACES`
and in nothing else that is drawn: what is no trace of a forgery (JPEG, noise) is done to the whole
picture alike. Half of all pictures, authentic ones too, then pass ordinary processing. Masks are
exact by construction.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from advbench.datasets.builtin.forgeries import Forgery, match_colours, random_region
from advbench.datasets.builtin.histories import random_view
from advbench.datasets.builtin.photographs import Source
from advbench.datasets.builtin.processing import noisy, on_random_grid, process
from advbench.datasets.builtin.traces import (
    Trace,
    draw_traces,
    other_light,
    other_sharpness,
    resampled,
    soft_seam,
    visible_seam,
)
from advbench.datasets.manifest import Kind
from advbench.images import Image, Mask


def make_forgery(
    kind: Kind, photographs: Sequence[Source], size: int, rng: np.random.Generator
) -> Forgery:
    """Make one picture of ``size``² pixels; ``kind`` is splice, copymove, removal or none."""
    source = photographs[int(rng.integers(0, len(photographs)))]
    host = random_view(source.load(), size, rng, upscale=False)
    notes = [f"host {source.name}"]
    if kind == "none":
        image, region = host, np.zeros((size, size), dtype=bool)
        image = _whole_history(image, rng, notes)
        image = noisy(image, _draw_noise(rng, notes), rng)
    else:
        region = random_region(size, rng)
        image = _forge(kind, host, region, photographs, rng=rng, notes=notes)
    if rng.integers(0, 2):
        image = process(image, rng, notes)
    return Forgery(image, region, source, notes)


def _forge(
    kind: Kind,
    host: Image,
    region: Mask,
    photographs: Sequence[Source],
    *,
    rng: np.random.Generator,
    notes: list[str],
) -> Image:
    traces = draw_traces(kind, rng)
    notes.append(f"traces {'+'.join(traces)}")
    if kind == "splice":
        pasted = _donor(host, region, traces, photographs, rng=rng, notes=notes)
    elif kind == "copymove":
        pasted = _moved(host, region, rng, notes)
    else:
        pasted = _inpainted(host, region, rng, notes)
    if "light" in traces:
        pasted = other_light(pasted, region, rng, notes)
    if "sharpness" in traces and kind != "removal":
        pasted = other_sharpness(pasted, rng, notes)
    if "jpeg" in traces:
        host, pasted = _two_histories(host, pasted, rng, notes)
    if "seam" in traces:
        composed = visible_seam(host, pasted, region, rng, notes=notes)
    else:
        composed = soft_seam(host, pasted, region, rng)
    if "jpeg" not in traces:
        composed = _whole_history(composed, rng, notes)
    sigma = _draw_noise(rng, notes)
    if "noise" in traces:
        inside = _other_noise(kind, sigma, rng)
        notes.append(f"region n{inside / 10}")
        return noisy(composed, np.where(region, inside, sigma).astype(np.int32), rng)
    return noisy(composed, sigma, rng)


def _donor(
    host: Image,
    region: Mask,
    traces: Sequence[Trace],
    photographs: Sequence[Source],
    *,
    rng: np.random.Generator,
    notes: list[str],
) -> Image:
    """Another view, its colours the host's unless its light is to differ."""
    source = photographs[int(rng.integers(0, len(photographs)))]
    donor = random_view(source.load(), host.shape[0], rng, upscale=False)
    notes.append(f"donor {source.name}")
    if "light" not in traces or rng.integers(0, 2):
        donor = match_colours(donor, host, region)
        notes.append("colours matched")
    if "resampling" in traces:
        scale, angle = _scale(rng), int(rng.integers(-30, 31))
        donor = resampled(donor, region, scale, angle, shift=(0, 0))
        notes.append(f"resampled {scale}% angle {angle}")
    return donor


def _moved(host: Image, region: Mask, rng: np.random.Generator, notes: list[str]) -> Image:
    """The host's own pixels from at least a quarter of the side away."""
    size = host.shape[0]
    scale, angle = _scale(rng), int(rng.integers(-25, 26))
    signs = 1 - 2 * rng.integers(0, 2, 2)
    dy, dx = (int(v) for v in rng.integers(size // 4, size // 2, 2) * signs)
    notes.append(f"copied from {dy:+d},{dx:+d} scale {scale}% angle {angle}")
    return resampled(host, region, scale, angle, shift=(dy, dx))


def _inpainted(host: Image, region: Mask, rng: np.random.Generator, notes: list[str]) -> Image:
    method = (cv2.INPAINT_TELEA, cv2.INPAINT_NS)[rng.integers(0, 2)]
    radius = int(rng.integers(3, 7))
    notes.append(f"inpainted {'telea' if method == cv2.INPAINT_TELEA else 'ns'} r{radius}")
    return np.asarray(cv2.inpaint(host, region.astype(np.uint8), radius, method), dtype=np.uint8)


def _scale(rng: np.random.Generator) -> int:
    """Percent, at least 12 away from 100."""
    return int((rng.integers(60, 89), rng.integers(112, 181))[rng.integers(0, 2)])


def _two_histories(
    host: Image, pasted: Image, rng: np.random.Generator, notes: list[str]
) -> tuple[Image, Image]:
    """Different qualities on different grids: one 50 to 75, the other 88 to 97 or none."""
    low = int(rng.integers(50, 76))
    high = int((0, rng.integers(88, 98))[rng.integers(0, 2)])
    inside, outside = (low, high) if rng.integers(0, 2) else (high, low)
    notes.append(f"q{outside or '-'} region q{inside or '-'}")
    return on_random_grid(host, outside, rng), on_random_grid(pasted, inside, rng)


def _whole_history(image: Image, rng: np.random.Generator, notes: list[str]) -> Image:
    """JPEG of the whole at 75 to 97, or none for a third."""
    quality = int(rng.integers(75, 98)) if rng.integers(0, 3) else 0
    notes.append(f"q{quality or '-'}")
    return on_random_grid(image, quality, rng)


def _draw_noise(rng: np.random.Generator, notes: list[str]) -> int:
    """Tenths of a grey level: up to 2.5."""
    sigma = int(rng.integers(0, 26))
    notes.append(f"n{sigma / 10}")
    return sigma


def _other_noise(kind: Kind, sigma: int, rng: np.random.Generator) -> int:
    """Noise 1.5 to 3 levels above the host's, or less than a third of it where it has 1.5."""
    if sigma >= 15 and (kind == "removal" or rng.integers(0, 2)):
        return int(rng.integers(0, sigma // 3 + 1))
    return sigma + int(rng.integers(15, 31))
