"""Give a picture a history before it is forged: crop, tone, JPEG, noise, resampling.

Random numbers come from ``integers`` alone and all rounding is integer arithmetic, so that the same
seed gives the same bytes across NumPy releases.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from advbench.codec import through_jpeg
from advbench.images import Image

QUALITIES = (0, 75, 85, 90, 95)  # 0: never compressed
_FIXED = 1 << 16


@dataclass(frozen=True)
class History:
    """JPEG quality (0: none) on a random 8×8 grid, then noise of ``sigma`` grey levels."""

    quality: int
    sigma: int

    def __str__(self) -> str:
        return f"q{self.quality or '-'}n{self.sigma}"

    def apply(self, image: Image, rng: np.random.Generator) -> Image:
        """The image as it left its camera and its first file."""
        if self.quality:
            dy, dx = rng.integers(0, 8, 2)
            padded = cv2.copyMakeBorder(image, int(dy), 0, int(dx), 0, cv2.BORDER_REFLECT_101)
            image = through_jpeg(padded, self.quality)[dy:, dx:]
        return add_noise(image, self.sigma, rng)


def random_history(rng: np.random.Generator, min_sigma: int, max_sigma: int) -> History:
    """A history with a quality of ``QUALITIES`` and noise within the two bounds."""
    quality = QUALITIES[rng.integers(0, len(QUALITIES))]
    return History(quality, int(rng.integers(min_sigma, max_sigma + 1)))


def contrasting_history(host: History, rng: np.random.Generator) -> History:
    """A history unlike the host's: noise 3 or more levels and twice apart, and a quality 10 or
    more apart, or one of the two never compressed."""
    sigmas = [
        sigma
        for sigma in range(9)
        if abs(sigma - host.sigma) >= 3
        and max(sigma, host.sigma) + 1 >= 2 * (min(sigma, host.sigma) + 1)
    ]
    qualities = [
        quality
        for quality in QUALITIES
        if quality != host.quality
        and (not quality or not host.quality or abs(quality - host.quality) >= 10)
    ]
    return History(qualities[rng.integers(0, len(qualities))], sigmas[rng.integers(0, len(sigmas))])


@cache
def normal_table() -> npt.NDArray[np.int32]:
    """Return quantiles of the standard normal in 1/256, drawn from by index."""
    from scipy.special import ndtri

    return np.rint(ndtri((np.arange(4096) + 0.5) / 4096) * 256).astype(np.int32)


def add_noise(image: Image, sigma: int, rng: np.random.Generator) -> Image:
    """White Gaussian noise, independent per pixel and channel."""
    if not sigma:
        return image
    noise = normal_table()[rng.integers(0, 4096, image.shape)] * sigma
    levels: Image = np.clip(image + ((noise + 128) >> 8), 0, 255).astype(np.uint8)
    return levels


def random_view(
    photograph: Image, size: int, rng: np.random.Generator, *, upscale: bool = True
) -> Image:
    """Cut a square of at least half the photograph, and of ``size`` or more unless it may be
    enlarged; resize it, turn it, and give it a tone of its own."""
    shortest = min(photograph.shape[:2])
    smallest = shortest // 2 if upscale else min(max(size, shortest // 2), shortest)
    side = int(rng.integers(smallest, shortest + 1))
    top = int(rng.integers(0, photograph.shape[0] - side + 1))
    left = int(rng.integers(0, photograph.shape[1] - side + 1))
    crop = np.ascontiguousarray(photograph[top : top + side, left : left + side])
    how = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    view = cv2.resize(crop, (size, size), interpolation=how)
    view = np.rot90(view, int(rng.integers(0, 4)))
    if rng.integers(0, 2):
        view = view[:, ::-1]
    return _tone(np.ascontiguousarray(view), rng)


def _tone(image: Image, rng: np.random.Generator) -> Image:
    """Per-channel gain 0.85 to 1.15 and a common gamma 0.8 to 1.25, as one table a channel."""
    gamma = int(rng.integers(80, 126)) / 100
    curve = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.int64)
    out = np.empty_like(image)
    for channel in range(3):
        gain = int(rng.integers(85, 116))
        table = np.clip((curve * gain + 50) // 100, 0, 255).astype(np.uint8)
        out[..., channel] = table[image[..., channel]]
    return out


def sample_affine(
    image: Image, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]
) -> Image:
    """Bilinear samples at 16.16 fixed-point coordinates, mirrored at the border.

    Integer arithmetic, because OpenCV's ``warpAffine`` differs between its releases.
    """
    height, width = image.shape[:2]
    y0, fy = rows >> 16, (rows & (_FIXED - 1))[..., None]
    x0, fx = columns >> 16, (columns & (_FIXED - 1))[..., None]
    ya, yb = _mirror(y0, height), _mirror(y0 + 1, height)
    xa, xb = _mirror(x0, width), _mirror(x0 + 1, width)
    pixels = image.astype(np.int64)
    top = pixels[ya, xa] * (_FIXED - fx) + pixels[ya, xb] * fx
    bottom = pixels[yb, xa] * (_FIXED - fx) + pixels[yb, xb] * fx
    value = (top >> 8) * (_FIXED - fy) + (bottom >> 8) * fy
    return ((value + (1 << 23)) >> 24).astype(np.uint8)


def _mirror(index: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
    period = 2 * (length - 1)
    folded = np.abs(index) % period
    mirrored: npt.NDArray[np.int64] = np.where(folded >= length, period - folded, folded)
    return mirrored
