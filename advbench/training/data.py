"""Training crops, drawn from a stream keyed by seed, epoch and image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from advbench.images import Image, Mask, to_unit
from advbench.rng import numpy_stream
from advbench.victims.base import Victim

_CACHE_BYTES = 2 << 30


class CropRecipe(Protocol):
    """What a recipe says of crops; see :class:`advbench.training.recipe.Recipe`."""

    @property
    def seed(self) -> int: ...
    @property
    def crop(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def forged_share(self) -> float: ...
    @property
    def crops_per_image(self) -> int: ...


@dataclass(frozen=True)
class Examples:
    """Pictures to learn from.

    Attributes:
        names: unique keys of their random streams.
        load: from a place in ``names`` to image and mask, all False for an authentic image.
    """

    names: Sequence[str]
    load: Callable[[int], tuple[Image, Mask]]


def at_working_size(examples: Examples, victim: Victim) -> Examples:
    """The examples as the victim will see them; masks by nearest neighbour."""

    def load(number: int) -> tuple[Image, Mask]:
        image, mask = examples.load(number)
        fitted = victim.fit(image)
        if fitted.shape != image.shape:
            size = (fitted.shape[1], fitted.shape[0])
            resized = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
            mask = resized.astype(np.bool_)
        return fitted, mask

    return Examples(examples.names, load)


class Crops:
    """Batches of randomly placed, flipped and turned crops: nothing that alters pixel values,
    since the traces of a forgery are in the values."""

    def __init__(self, examples: Examples, recipe: CropRecipe) -> None:
        self._examples, self._recipe = examples, recipe
        self._cache: dict[int, tuple[Image, Mask]] = {}
        self._cached_bytes = 0

    def __len__(self) -> int:
        return len(self._examples.names) * self._recipe.crops_per_image // self._recipe.batch

    def epoch(
        self, number: int, rank: int = 0, processes: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of one epoch: float images N×3×c×c in [0, 1], float masks N×1×c×c.

        Of several processes, each gets its own part of every batch.
        """
        recipe = self._recipe
        order = numpy_stream(recipe.seed, "order", number).permutation(
            len(self._examples.names) * recipe.crops_per_image
        )
        for start in range(0, len(self) * recipe.batch, recipe.batch):
            part = order[start + rank : start + recipe.batch : processes]
            crops = [self._crop(int(i), number) for i in part]
            images = torch.from_numpy(np.stack([image for image, _ in crops]))
            masks = torch.from_numpy(np.stack([mask for _, mask in crops]))
            yield to_unit(images.permute(0, 3, 1, 2)).contiguous(), masks[:, None].float()

    def _crop(self, index: int, epoch: int) -> tuple[Image, Mask]:
        number = index % len(self._examples.names)
        name = self._examples.names[number]
        rng = numpy_stream(self._recipe.seed, "crop", epoch, index, name)
        image, mask = self._load(number)
        side = self._recipe.crop
        if min(mask.shape) < side:
            pad = [(0, max(0, side - length)) for length in mask.shape]
            image, mask = np.pad(image, [*pad, (0, 0)], mode="reflect"), np.pad(mask, pad)
        top, left = self._place(mask, rng)
        window = (slice(top, top + side), slice(left, left + side))
        turns, flip = int(rng.integers(0, 4)), bool(rng.integers(0, 2))
        image, mask = np.rot90(image[window], turns), np.rot90(mask[window], turns)
        return (image[:, ::-1], mask[:, ::-1]) if flip else (image, mask)

    def _place(self, mask: Mask, rng: np.random.Generator) -> tuple[int, int]:
        """Anywhere or, for ``forged_share`` of the crops, where a chosen forged pixel is inside."""
        side = self._recipe.crop
        corner = [int(rng.integers(0, length - side + 1)) for length in mask.shape]
        if rng.random() < self._recipe.forged_share and mask.any():
            forged = np.argwhere(mask)
            pixel = forged[rng.integers(0, len(forged))]
            for axis, length in enumerate(mask.shape):
                low = max(0, int(pixel[axis]) - side + 1)
                high = min(int(pixel[axis]), length - side)
                corner[axis] = int(rng.integers(low, high + 1))
        return corner[0], corner[1]

    def _load(self, number: int) -> tuple[Image, Mask]:
        if number in self._cache:
            return self._cache[number]
        image, mask = self._examples.load(number)
        if self._cached_bytes < _CACHE_BYTES:
            self._cache[number] = image, mask
            self._cached_bytes += image.nbytes + mask.nbytes
        return image, mask
