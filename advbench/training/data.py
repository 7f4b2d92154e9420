"""Training crops, drawn from a stream keyed by seed, epoch and image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, overload

import cv2
import numpy as np
import torch
from torch import Tensor

from advbench.images import Image, Mask, to_unit
from advbench.rng import numpy_stream
from advbench.training.augmentation import augmented
from advbench.victims.base import Victim

_CACHE_BYTES = 2 << 30

Change = Callable[[Image, Mask], tuple[Image, Mask]]


class CropRecipe(Protocol):
    """Hold what a recipe says of crops; see :class:`advbench.training.recipe.Recipe`."""

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


@dataclass(frozen=True)
class FreshExamples:
    """Pictures that are made anew for each epoch.

    Attributes:
        count: how many an epoch has.
        of_epoch: from the epoch's number to its examples.
    """

    count: int
    of_epoch: Callable[[int], Examples]


def joined(*parts: Examples) -> Examples:
    """Put the pictures of several behind each other."""
    every = [(part, index) for part in parts for index in range(len(part.names))]

    def load(number: int) -> tuple[Image, Mask]:
        part, index = every[number]
        return part.load(index)

    return Examples([part.names[index] for part, index in every], load)


@overload
def at_working_size(examples: Examples, victim: Victim) -> Examples: ...
@overload
def at_working_size(
    examples: Examples | FreshExamples, victim: Victim
) -> Examples | FreshExamples: ...
def at_working_size(examples: Examples | FreshExamples, victim: Victim) -> Examples | FreshExamples:
    """Bring examples to the size that the victim sees; masks by nearest neighbour."""

    def fit(image: Image, mask: Mask) -> tuple[Image, Mask]:
        fitted = victim.fit(image)
        if fitted.shape != image.shape:
            size = (fitted.shape[1], fitted.shape[0])
            resized = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
            mask = resized.astype(np.bool_)
        return fitted, mask

    return changed(examples, fit)


@overload
def changed(examples: Examples, change: Change) -> Examples: ...
@overload
def changed(examples: Examples | FreshExamples, change: Change) -> Examples | FreshExamples: ...
def changed(examples: Examples | FreshExamples, change: Change) -> Examples | FreshExamples:
    """Pass each image with its mask through a function, whenever it is loaded."""
    if isinstance(examples, FreshExamples):
        of_epoch = examples.of_epoch
        return FreshExamples(examples.count, lambda number: changed(of_epoch(number), change))
    load = examples.load
    return Examples(examples.names, lambda number: change(*load(number)))


class Crops:
    """Batches of randomly placed, flipped and turned crops.

    Args:
        augment: from an epoch's number to the share of :mod:`advbench.training.augmentation` that
            its crops meet; without it nothing alters their values, which hold the traces of a
            forgery.

    Attributes:
        images: how many an epoch draws from.
    """

    def __init__(
        self,
        examples: Examples | FreshExamples,
        recipe: CropRecipe,
        augment: Callable[[int], float] = lambda number: 0.0,
    ) -> None:
        self._source, self._recipe, self._augment = examples, recipe, augment
        self.images = examples.count if isinstance(examples, FreshExamples) else len(examples.names)
        self._cache: dict[int, tuple[Image, Mask]] = {}
        self._cached_bytes = 0

    def __len__(self) -> int:
        return self.images * self._recipe.crops_per_image // self._recipe.batch

    def epoch(
        self, number: int, rank: int = 0, processes: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of one epoch: float images N×3×c×c in [0, 1], float masks N×1×c×c.

        Of several processes, each gets its own part of every batch.
        """
        recipe, examples = self._recipe, self._source
        if isinstance(examples, FreshExamples):
            examples = examples.of_epoch(number)
            self._cache.clear()
            self._cached_bytes = 0
        order = numpy_stream(recipe.seed, "order", number).permutation(
            self.images * recipe.crops_per_image
        )
        for start in range(0, len(self) * recipe.batch, recipe.batch):
            part = order[start + rank : start + recipe.batch : processes]
            crops = [self._crop(examples, int(i), number) for i in part]
            images = torch.from_numpy(np.stack([image for image, _ in crops]))
            masks = torch.from_numpy(np.stack([mask for _, mask in crops]))
            yield to_unit(images.permute(0, 3, 1, 2)).contiguous(), masks[:, None].float()

    def _crop(self, examples: Examples, index: int, epoch: int) -> tuple[Image, Mask]:
        number = index % self.images
        rng = numpy_stream(self._recipe.seed, "crop", epoch, index, examples.names[number])
        image, mask = self._load(examples, number)
        side = self._recipe.crop
        if min(mask.shape) < side:
            pad = [(0, max(0, side - length)) for length in mask.shape]
            image, mask = np.pad(image, [*pad, (0, 0)], mode="reflect"), np.pad(mask, pad)
        top, left = self._place(mask, rng)
        window = (slice(top, top + side), slice(left, left + side))
        turns, flip = int(rng.integers(0, 4)), bool(rng.integers(0, 2))
        image, mask = np.rot90(image[window], turns), np.rot90(mask[window], turns)
        if flip:
            image, mask = image[:, ::-1], mask[:, ::-1]
        share = self._augment(epoch)
        return (augmented(image, rng, share) if share else image), mask

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

    def _load(self, examples: Examples, number: int) -> tuple[Image, Mask]:
        if number in self._cache:
            return self._cache[number]
        image, mask = examples.load(number)
        if self._cached_bytes < _CACHE_BYTES:
            self._cache[number] = image, mask
            self._cached_bytes += image.nbytes + mask.nbytes
        return image, mask
