"""Draw a few of the exported images for the card: original, mask, adversarial image, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image as PillowImage

from advbench.codec import encode_png
from advbench.exports.photographs import Attacked, Photograph
from advbench.images import Image, fit_mask, noise_picture

MOST = 4
SIDE = 192  # height of a panel
GAP = 4


@dataclass(frozen=True)
class Sample:
    """A strip of four panels, and what it shows."""

    path: str
    dataset: str
    victim: str
    variant: str
    png: bytes


def sample_of(photograph: Photograph, attacked: Attacked, number: int) -> Sample:
    """Draw the original, the mask, an adversarial image and its noise ×20 side by side."""
    mask = fit_mask(photograph.mask, photograph.image)
    grey = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
    noise = noise_picture(attacked.image, photograph.image)
    panels = [_scaled(panel) for panel in (photograph.image, grey, attacked.image, noise)]
    gap = np.full((SIDE, GAP, 3), 255, np.uint8)
    parts = [part for panel in panels for part in (panel, gap)][:-1]
    group = photograph.group
    return Sample(
        f"samples/{number}.png",
        group.dataset,
        group.victim,
        attacked.variant,
        encode_png(np.concatenate(parts, axis=1)),
    )


def _scaled(panel: Image) -> Image:
    height, width = panel.shape[:2]
    size = (max(1, round(width * SIDE / height)), SIDE)
    return np.array(PillowImage.fromarray(panel).resize(size, PillowImage.Resampling.BOX))
