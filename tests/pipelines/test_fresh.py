"""Training on forgeries that are made on the fly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from advbench.codec import through_jpeg
from advbench.errors import AdvbenchError
from advbench.images import Image, Mask
from advbench.pipelines.fresh import fresh_forgeries, processed_in_turn
from advbench.training.data import Examples


def test_other_images_in_each_epoch_the_same_when_asked_again() -> None:
    """By seed, epoch and number; a fifth is authentic."""
    first, again, other = (fresh_forgeries(10, None, seed) for seed in (0, 0, 1))
    for index in range(5):
        image, mask = first.of_epoch(2).load(index)
        assert image.shape == (256, 256, 3)
        assert mask.any() == (index != 4)
        same_image, same_mask = again.of_epoch(2).load(index)
        assert np.array_equal(image, same_image)
        assert np.array_equal(mask, same_mask)
        for different in (first.of_epoch(3), other.of_epoch(2)):
            assert not np.array_equal(image, different.load(index)[0])


def test_validation_is_processed_in_turn() -> None:
    """Four of each: two as they are, then JPEG, resizing, median, noise; masks stay."""
    picture = np.random.default_rng(0).integers(40, 200, (32, 32, 3), np.uint8)
    mask = np.eye(32, dtype=bool)

    def load(number: int) -> tuple[Image, Mask]:
        return picture, mask

    one, two = Examples([f"a{i}" for i in range(10)], load), Examples(["b"] * 20, load)
    both = processed_in_turn(one, two)
    assert both.names == [*one.names, *two.names]
    found = [both.load(number) for number in range(30)]
    assert all(np.array_equal(truth, mask) for _, truth in found)
    untouched = [number for number in range(30) if np.array_equal(found[number][0], picture)]
    assert untouched == [*range(8), *range(24, 30)]
    assert np.array_equal(found[8][0], through_jpeg(picture, 70))
    noise = found[23][0].astype(float) - picture
    assert noise.std() == pytest.approx(5, rel=0.1)
    assert np.array_equal(both.load(23)[0], found[23][0])


def test_photographs_that_are_not_there_are_named(tmp_path: Path) -> None:
    """With the packages that bring them."""
    with pytest.raises(AdvbenchError, match="unpack Debian's endless-sky-data"):
        fresh_forgeries(10, tmp_path, 0)
