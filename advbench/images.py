"""The uint8 grid: how images get on it, how residuals are kept, and how pixels are hashed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Image = npt.NDArray[np.uint8]  # H×W×3 RGB
Mask = npt.NDArray[np.bool_]  # H×W, True = forged
Residual = npt.NDArray[np.int8]


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """uint8 N×3×H×W to float32 in [0, 1]."""
    return images.float().div_(255)


def to_tensor(image: Image) -> torch.Tensor:
    """A copy of an image H×W×3 as uint8 1×3×H×W."""
    import torch

    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]


def fit_mask(mask: Mask, image: Image) -> Mask:
    """The mask at an image's size, nearest neighbour."""
    if mask.shape == image.shape[:2]:
        return mask
    import cv2

    size = (image.shape[1], image.shape[0])
    return cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0


def level_budget(eps: float) -> int:
    """The whole grey levels that an L∞ budget of ``eps``/255 allows."""
    return int(np.floor(eps + 1e-6))


def rounds_to_nothing(change: float) -> bool:
    """Tell whether a change of a pixel, in [0, 1] units, is lost on the uint8 grid."""
    return 255 * change < 0.5


def quantise(
    adversarial: torch.Tensor, originals: torch.Tensor, budget: int | None = None
) -> torch.Tensor:
    """Round to the nearest grey level, then clamp to the integer budget and to [0, 255].

    Truncation would break the budget and lose up-steps of ten-step schedules, so nothing truncates.

    Args:
        adversarial: float N×3×H×W in [0, 1].
        originals: uint8 N×3×H×W, the images the attack started from.
        budget: largest allowed change in grey levels; None for attacks without an L∞ bound.

    Returns:
        uint8 N×3×H×W with ``|result - originals| <= budget`` exactly.
    """
    levels = adversarial.detach().float().mul(255).round_()
    if budget is not None:
        base = originals.to(levels.device).float()
        levels.sub_(base).clamp_(-budget, budget).add_(base)
    return levels.clamp_(0, 255).byte()


def residual(adversarial: Image, original: Image) -> Residual | None:
    """``adversarial - original`` as int8, or None where a difference does not fit."""
    difference = adversarial.astype(np.int16) - original.astype(np.int16)
    if difference.min(initial=0) < -128 or difference.max(initial=0) > 127:
        return None
    return difference.astype(np.int8)


def restore(original: Image, noise: Residual) -> Image:
    """``original + noise``: exact, because uint8 addition wraps modulo 256."""
    return np.add(original, noise.view(np.uint8))


def noise_picture(adversarial: Image, original: Image, gain: float = 20.0) -> Image:
    """The noise around grey, ``gain`` times as strong."""
    noise = adversarial.astype(np.int16) - original
    return np.clip(128 + gain * noise, 0, 255).astype(np.uint8)


def pixels_sha256(image: npt.NDArray[np.uint8]) -> str:
    """SHA-256 of decoded pixels in C order: the identity of an image, whatever its file format."""
    return hashlib.sha256(np.ascontiguousarray(image).reshape(-1).data).hexdigest()


def mask_sha256(mask: Mask) -> str:
    """SHA-256 of a mask's bits, packed eight to a byte in C order."""
    return hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()
