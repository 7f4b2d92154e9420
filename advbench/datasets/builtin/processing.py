"""Ordinary processing of a whole picture: JPEG, resizing there and back, blur, noise.

Integer draws and OpenCV's bit-exact 8-bit filters alone, so that the same seed gives the same
bytes.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from advbench.codec import through_jpeg
from advbench.datasets.builtin.histories import normal_table
from advbench.images import Image


def process(image: Image, rng: np.random.Generator, notes: list[str]) -> Image:
    """Apply one or two of: JPEG 70 to 95, resizing to 70 to 130 % and back, slight blur, noise."""
    steps = rng.permutation(len(_STEPS))[: 1 + int(rng.integers(0, 2))]
    for step in steps:
        image, note = _STEPS[step](image, rng)
        notes.append(f"whole {note}")
    return image


def on_random_grid(image: Image, quality: int, rng: np.random.Generator) -> Image:
    """Compress with the 8×8 grid at a random phase; quality 0 changes nothing."""
    if not quality:
        return image
    dy, dx = (int(v) for v in rng.integers(0, 8, 2))
    padded = cv2.copyMakeBorder(image, dy, 0, dx, 0, cv2.BORDER_REFLECT_101)
    return np.ascontiguousarray(through_jpeg(padded, quality)[dy:, dx:])


def rescaled(image: Image, percent: int) -> Image:
    """Resize to ``percent`` of the side and back, bilinear both ways; the shape stays."""
    height, width = image.shape[:2]
    size = (max(1, width * percent // 100), max(1, height * percent // 100))
    there = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR_EXACT)
    back = cv2.resize(there, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    return np.asarray(back, dtype=np.uint8)


def blurred(image: Image, sigma: int) -> Image:
    """Gaussian blur of ``sigma`` tenths of a pixel."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma / 10), dtype=np.uint8)


def noisy(image: Image, sigma: int | npt.NDArray[np.int32], rng: np.random.Generator) -> Image:
    """Add white Gaussian noise of ``sigma`` tenths of a grey level: one number, or one a pixel."""
    if not np.any(sigma):
        return image
    tenths = np.asarray(sigma, dtype=np.int32)
    noise = normal_table()[rng.integers(0, 4096, image.shape)] * np.atleast_3d(tenths)
    levels: Image = np.clip(image + (noise + 1280) // 2560, 0, 255).astype(np.uint8)
    return levels


def _jpeg(image: Image, rng: np.random.Generator) -> tuple[Image, str]:
    quality = int(rng.integers(70, 96))
    return on_random_grid(image, quality, rng), f"q{quality}"


def _resize(image: Image, rng: np.random.Generator) -> tuple[Image, str]:
    percent = int(rng.integers(70, 131))
    return rescaled(image, percent), f"resized {percent}%"


def _blur(image: Image, rng: np.random.Generator) -> tuple[Image, str]:
    sigma = int(rng.integers(3, 8))
    return blurred(image, sigma), f"blurred {sigma / 10}"


def _noise(image: Image, rng: np.random.Generator) -> tuple[Image, str]:
    sigma = int(rng.integers(5, 26))
    return noisy(image, sigma, rng), f"n{sigma / 10}"


_STEPS: tuple[Callable[[Image, np.random.Generator], tuple[Image, str]], ...] = (
    _jpeg,
    _resize,
    _blur,
    _noise,
)
