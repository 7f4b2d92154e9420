"""Counter-forensics: what a forger does to the traces without asking any network.

No gradient and no query: the same images before every victim. The forger knows the own forgery's
mask, which ``seamblur`` alone uses. Larger intensities change more; there is no L∞ bound.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from advbench.attacks.base import Attack
from advbench.attacks.batch import Adversarial, Batch
from advbench.codec import through_jpeg
from advbench.images import Image, Mask, to_tensor, to_unit
from advbench.rng import numpy_stream
from advbench.victims.base import Victim

Strength = Annotated[float, Field(gt=0)]


class CounterForensics(Attack):
    """One operation on whole pictures, at several strengths.

    Attributes:
        strength: what it means is said by each operation.
    """

    intensity_field: ClassVar[str] = "strength"
    needs_gradients: ClassVar[bool] = False
    attacks_authentic: ClassVar[bool] = False  # it erases traces and makes none on purpose

    strength: tuple[Strength, ...]

    @property
    def intensities(self) -> tuple[float, ...]:
        return self.strength

    def budget(self, intensity: float) -> int | None:
        return None

    def passes(self) -> int:
        return 0

    @abstractmethod
    def operate(self, image: Image, mask: Mask, strength: float, rng: np.random.Generator) -> Image:
        """Change a picture, uint8 H×W×3; the mask is True where it is forged."""

    def perturb(self, victim: Victim, batch: Batch) -> dict[float, list[Adversarial]]:
        """Operate on each image, with a stream of its own for each strength."""

        def one(number: int, strength: float) -> Adversarial:
            image = batch.x[number].permute(1, 2, 0).mul(255).round().byte().cpu().numpy()
            mask = (batch.y[number, 0] > 0.5).cpu().numpy()
            rng = numpy_stream(batch.seed, batch.ids[number], self.name, strength)
            changed = self.operate(np.ascontiguousarray(image), mask, strength, rng)
            return Adversarial(to_unit(to_tensor(changed))[0].to(batch.x), 0.0, 0.0, 0)

        return {
            strength: [one(number, strength) for number in range(len(batch))]
            for strength in self.strength
        }


class Regrain(CounterForensics):
    """Denoise, then add grain alike everywhere: differences of noise are gone.

    Gaussian blur of 0.8 pixels, then white noise of ``strength`` grey levels.
    """

    name: ClassVar[str] = "regrain"
    strength: tuple[Strength, ...] = (1.0, 2.0, 4.0)

    def operate(self, image: Image, mask: Mask, strength: float, rng: np.random.Generator) -> Image:
        grain = rng.normal(0, strength, image.shape)
        return np.clip(np.rint(_blurred(image, 0.8) + grain), 0, 255).astype(np.uint8)


class SeamBlur(CounterForensics):
    """Blur a band around the border of the forgery by ``strength`` pixels; it is three times as
    wide to each side."""

    name: ClassVar[str] = "seamblur"
    strength: tuple[Strength, ...] = (1.0, 2.0, 4.0)

    def operate(self, image: Image, mask: Mask, strength: float, rng: np.random.Generator) -> Image:
        reach = max(1, round(3 * strength))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        levels = mask.astype(np.uint8)
        band = cv2.dilate(levels, kernel) != cv2.erode(levels, kernel)
        return np.where(band[..., None], _blurred(image, strength), image)


class Recompress(CounterForensics):
    """Compress as JPEG of quality 100 − ``strength`` on a grid shifted by four pixels, so that it
    covers the grids of host and paste alike."""

    name: ClassVar[str] = "recompress"
    strength: tuple[Annotated[float, Field(gt=0, lt=100)], ...] = (10.0, 20.0, 30.0)

    def operate(self, image: Image, mask: Mask, strength: float, rng: np.random.Generator) -> Image:
        padded = cv2.copyMakeBorder(image, 4, 0, 4, 0, cv2.BORDER_REFLECT_101)
        return through_jpeg(np.asarray(padded, np.uint8), round(100 - strength))[4:, 4:]


class Warp(CounterForensics):
    """Move each pixel by up to ``strength`` pixels along a smooth random field, bilinear: what
    resampling left is resampled again."""

    name: ClassVar[str] = "warp"
    strength: tuple[Strength, ...] = (0.5, 1.0, 2.0)

    def operate(self, image: Image, mask: Mask, strength: float, rng: np.random.Generator) -> Image:
        height, width = image.shape[:2]
        fields = [_smooth(rng, height, width) * np.float32(strength) for _ in range(2)]
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        moved = cv2.remap(
            image, x + fields[0], y + fields[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        return np.asarray(moved, np.uint8)


def _blurred(image: Image, sigma: float) -> Image:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def _smooth(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.float32]:
    """Draw a field H×W in [-1, 1] that changes over some sixteen pixels."""
    coarse = rng.uniform(-1, 1, (height // 16 + 2, width // 16 + 2)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR))
