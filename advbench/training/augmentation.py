"""Augmentation of training crops: what a picture meets on its way, as the papers train with it."""

from __future__ import annotations

import numpy as np

from advbench.datasets.builtin.processing import blurred, noisy, on_random_grid, rescaled
from advbench.images import Image

# Probability of each step, and the bounds of its strength: percent, tenths of a pixel, tenths of a
# grey level, JPEG quality, grey levels.
RESIZE = (0.35, 60, 140)
BLUR = (0.2, 3, 12)
NOISE = (0.4, 5, 50)
JPEG = (0.55, 55, 97)
SIGNS = (0.15, 1, 3)


def augmented(image: Image, rng: np.random.Generator, share: float = 1.0) -> Image:
    """Resize there and back, blur, add noise, compress, and add random signs, each with ``share``
    of its probability and in this order; uint8 H×W×3 of any size."""
    if (percent := _strength(RESIZE, rng, share)) is not None:
        image = rescaled(image, percent)
    if (sigma := _strength(BLUR, rng, share)) is not None:
        image = blurred(image, sigma)
    if (sigma := _strength(NOISE, rng, share)) is not None:
        image = noisy(image, sigma, rng)
    if (quality := _strength(JPEG, rng, share)) is not None:
        image = on_random_grid(image, quality, rng)
    if (levels := _strength(SIGNS, rng, share)) is not None:
        signs = 2 * rng.integers(0, 2, image.shape) - 1
        image = np.clip(image + levels * signs, 0, 255).astype(np.uint8)
    return image


def _strength(step: tuple[float, int, int], rng: np.random.Generator, share: float) -> int | None:
    probability, low, high = step
    return int(rng.integers(low, high + 1)) if rng.random() < share * probability else None
