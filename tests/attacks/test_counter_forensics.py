"""Counter-forensics against plain references: what changes, where, and by how much."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from scipy import ndimage
from torch import Tensor

from advbench.attacks.counter_forensics import (
    CounterForensics,
    Recompress,
    Regrain,
    SeamBlur,
    Warp,
)
from tests.attacks.toys import Toy, linear

OPERATIONS = (Regrain(), SeamBlur(), Recompress(), Warp())


def picture(side: int = 96) -> tuple[Tensor, Tensor]:
    """A smooth picture with a noisy square, uint8 1×3×H×W, and its mask 1×H×W."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:side, 0:side]
    image = np.stack([100 + 30 * np.sin(x / 9), 120 + y / 2, 90 + (x + y) / 4], 2)
    mask = np.zeros((side, side), bool)
    mask[30:60, 24:70] = True
    image += mask[..., None] * rng.normal(0, 6, image.shape)
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    return torch.from_numpy(pixels).permute(2, 0, 1)[None], torch.from_numpy(mask)[None]


def made(attack: CounterForensics, name: str = "a", seed: int = 0) -> dict[str, np.ndarray]:
    image, mask = picture()
    found = attack(Toy(linear()), image, mask, [name], seed=seed)
    return {key: value[0].permute(1, 2, 0).numpy().astype(float) for key, value in found.items()}


ORIGINAL = picture()[0][0].permute(1, 2, 0).numpy().astype(float)
MASK = picture()[1][0].numpy()


@pytest.mark.parametrize("attack", OPERATIONS, ids=lambda one: one.name)
def test_the_same_image_gives_the_same_bytes(attack: CounterForensics) -> None:
    """Keyed by image and seed; no victim is asked."""
    once, again = made(attack), made(attack)
    assert all(np.array_equal(once[key], again[key]) for key in once)
    assert attack.passes() == 0
    random = attack.name in ("regrain", "warp")
    for other in (made(attack, "b"), made(attack, seed=1)):
        assert any(not np.array_equal(once[key], other[key]) for key in once) == random


@pytest.mark.parametrize("attack", OPERATIONS, ids=lambda one: one.name)
def test_a_larger_strength_changes_more(attack: CounterForensics) -> None:
    changes = [np.abs(image - ORIGINAL).mean() for image in made(attack).values()]
    assert changes == sorted(changes)
    assert changes[0] > 0.1


def test_regraining_levels_the_noise() -> None:
    """What was six levels inside and none outside is the new grain in both."""
    image = made(Regrain(strength=(4,)))["regrain-4"]
    residual = image - ndimage.gaussian_filter(image, (2, 2, 0))
    inside, outside = residual[36:54, 30:64].std(), residual[70:90, 10:80].std()
    assert 0.85 < inside / outside < 1.35
    before = ORIGINAL - ndimage.gaussian_filter(ORIGINAL, (2, 2, 0))
    assert before[36:54, 30:64].std() / before[70:90, 10:80].std() > 5


@pytest.mark.parametrize("strength", [1.0, 2.0, 4.0])
def test_the_seam_alone_is_blurred(strength: float) -> None:
    """Further from the border than three times the blur, nothing changes; there it is scipy's."""
    image = made(SeamBlur(strength=(strength,)))[f"seamblur-{strength:g}"]
    distance = np.where(
        MASK, ndimage.distance_transform_edt(MASK), ndimage.distance_transform_edt(~MASK)
    )
    far = distance > 3 * strength + 1
    assert np.array_equal(image[far], ORIGINAL[far])
    expected = ndimage.gaussian_filter(ORIGINAL, (strength, strength, 0), mode="mirror")
    near = distance <= 1
    assert np.abs(image - expected)[near].max() <= 2


def test_recompression_is_that_of_the_shifted_picture() -> None:
    """Against Pillow's encoder, on a picture of the same content four pixels further."""
    image = made(Recompress(strength=(20,)))["recompress-20"]
    padded = np.pad(ORIGINAL, ((4, 0), (4, 0), (0, 0)), mode="reflect").astype(np.uint8)
    buffer = io.BytesIO()
    PillowImage.fromarray(padded).save(buffer, "JPEG", quality=80)
    expected = np.asarray(PillowImage.open(buffer), float)[4:, 4:]
    assert np.abs(image - expected).mean() < 0.5
    unshifted = io.BytesIO()
    PillowImage.fromarray(ORIGINAL.astype(np.uint8)).save(unshifted, "JPEG", quality=80)
    plain = np.asarray(PillowImage.open(unshifted), float)
    assert np.abs(image - plain).mean() > 2 * np.abs(image - expected).mean()


@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_no_pixel_moves_further_than_the_strength(strength: float) -> None:
    """On a ramp of four levels a pixel the change is four times the way that the pixel went."""
    ramp = (4 * torch.arange(60)).repeat(64, 1).byte().expand(1, 3, 64, 60).clone()
    mask = torch.zeros(1, 64, 60, dtype=torch.bool)
    (moved,) = Warp(strength=(strength,))(Toy(linear()), ramp, mask, ["a"]).values()
    way = (moved.int() - ramp.int()).abs()[..., 4:-4] / 4
    assert strength * 0.6 < way.max() <= strength + 0.25


def test_it_stays_within_the_region() -> None:
    image = made(Regrain(strength=(4,), region="forged"))["regrain-4-forged"]
    assert np.array_equal(image[~MASK], ORIGINAL[~MASK])
    assert not np.array_equal(image[MASK], ORIGINAL[MASK])
