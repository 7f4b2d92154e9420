"""Crops: fresh pictures for each epoch, and augmentation."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from advbench.images import Image, Mask
from advbench.training.augmentation import augmented
from advbench.training.data import Crops, Examples, FreshExamples, at_working_size
from advbench.training.recipe import Recipe
from advbench.training.victim import VictimTask
from advbench.victims.hdfnet.victim import HDFNet
from advbench.victims.ifosn.victim import IFOSN

SOURCE = {"content_sha256": ""}
RECIPE = Recipe(crop=32, batch=2, crops_per_image=2, forged_share=0)


def flat(level: int, side: int = 40) -> tuple[Image, Mask]:
    return np.full((side, side, 3), level, np.uint8), np.zeros((side, side), np.bool_)


def levels(number: int) -> Examples:
    """Three flat pictures whose level tells the epoch."""
    return Examples([f"{number}/{i}" for i in range(3)], lambda i: flat(10 * number + i))


def drawn(crops: Crops, number: int) -> list[int]:
    batches = [images for images, _ in crops.epoch(number)]
    return sorted(round(float(image.mean()) * 255) for image in torch.cat(batches))


def test_pictures_are_made_anew_for_each_epoch() -> None:
    """Each image gives its crops; nothing of another epoch is left."""
    crops = Crops(FreshExamples(3, levels), RECIPE)
    assert len(crops) == 3
    assert drawn(crops, 0) == [0, 0, 1, 1, 2, 2]
    assert drawn(crops, 4) == [40, 40, 41, 41, 42, 42]
    assert drawn(crops, 0) == [0, 0, 1, 1, 2, 2]


def test_fresh_pictures_come_at_the_working_size() -> None:
    """HDF-Net sees 256²."""
    victim = HDFNet.load("small", weights=None)
    fitted = at_working_size(FreshExamples(3, levels), victim).of_epoch(2)
    image, mask = fitted.load(1)
    assert image.shape == (256, 256, 3)
    assert mask.shape == (256, 256)
    assert (image == 21).all()


def test_augmented_crops_differ_and_come_again() -> None:
    """Another draw for each crop and epoch; the same for the same."""
    picture = np.random.default_rng(0).integers(60, 200, (40, 40, 3), np.uint8)
    examples = Examples(["a", "b"], lambda i: (picture, flat(0)[1]))
    plain, first, again = (
        torch.cat(
            [
                images
                for images, _ in Crops(examples, RECIPE, lambda number, share=share: share).epoch(0)
            ]
        )
        for share in (0, 1, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, plain)
    other = torch.cat([images for images, _ in Crops(examples, RECIPE, lambda number: 1).epoch(1)])
    assert not torch.equal(first, other)


def test_augmentation_grows() -> None:
    """Over half of ten epochs from nothing to all of it; all at once without a ramp."""
    shares = [
        VictimTask(IFOSN, "small", Recipe(epochs=10, augment=True, augment_ramp=ramp), SOURCE)
        for ramp in (0.5, 0)
    ]
    assert [shares[0].augmentation(n) for n in (0, 1, 4, 5, 9)] == [0, 0.2, 0.8, 1, 1]
    assert shares[1].augmentation(0) == 1
    assert VictimTask(IFOSN, "small", Recipe(), SOURCE).augmentation(50) == 0


def test_augmentation_is_what_it_says() -> None:
    """Shape and type stay; some crops stay as they are, most change, none beyond recognition."""
    noise = np.random.default_rng(0).integers(60, 200, (12, 16, 3)).astype(np.float32)
    picture = cv2.resize(noise, (64, 48), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype("u1")
    same, distances = 0, []
    for seed in range(200):
        found = augmented(picture, np.random.default_rng(seed))
        assert found.shape == picture.shape
        assert found.dtype == np.uint8
        distance = np.abs(found.astype(int) - picture).mean()
        same += not distance
        distances.append(distance)
    # None of five steps: .65 · .8 · .6 · .45 · .85.
    assert same / 200 == pytest.approx(0.119, abs=0.07)
    assert max(distances) < 15
