"""Gaussian noise: keyed by seed, image and strength; of the stated moments."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from torch import Tensor

import advbench
from advbench.defenses.gaussian import Gaussian


def noised(images: Tensor, image_id: str = "d/a", sigma: float = 5, seed: int = 0) -> Tensor:
    (result,) = advbench.load_defense("gaussian", sigma=sigma)(images, [image_id], seed).values()
    return result.mul(255).round().byte()


@pytest.mark.parametrize(("sigma", "name"), [(5, "gaussian-5"), (2.5, "gaussian-2.5")])
def test_stream_by_hand(batch: Tensor, sigma: float, name: str) -> None:
    """The first eight bytes of a SHA-256 seed PCG64; noise is rounded to nearest and clipped."""
    for number, image_id in enumerate(("d/a", "d/ä b", "e/a")):
        digest = hashlib.sha256(f"7|{image_id}|{name}".encode()).digest()
        stream = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "big")))
        noise = stream.standard_normal((33, 47, 3), dtype=np.float32).astype(np.float64) * sigma
        image = batch[number].permute(1, 2, 0).numpy()
        expected = np.floor(image + noise + 0.5).clip(0, 255).astype(int)
        found = noised(batch[number : number + 1], image_id, sigma, 7)[0].permute(1, 2, 0).numpy()
        # A sum within a float's breadth of a half may round either way.
        assert np.abs(found - expected).max() <= 1
        assert np.mean(found != expected) < 1e-3


def test_every_part_of_the_key_counts(batch: Tensor) -> None:
    """Another image, seed or strength draws other noise; the same key draws the same."""
    image = torch.full((1, 3, 32, 32), 128, dtype=torch.uint8)
    reference = noised(image).float() - 128
    assert torch.equal(noised(image).float() - 128, reference)
    others = [noised(image, "d/b"), noised(image, seed=1), noised(image, sigma=10)]
    for other in others:
        pair = torch.stack([reference.flatten(), other.float().flatten() - 128])
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.1


def test_strengths_beside_it_do_not_count(batch: Tensor) -> None:
    """The same strength alone, first or last in a list draws the same noise."""
    ids = ["d/a", "d/b", "d/c"]
    alone = Gaussian.create(sigma=2)(batch, ids)["gaussian-2"]
    for sigmas in [(2, 5), (5, 2), (9, 2, 1)]:
        assert torch.equal(Gaussian.create(sigma=sigmas)(batch, ids)["gaussian-2"], alone)


@pytest.mark.parametrize("sigma", [1, 5, 20])
def test_moments(sigma: float) -> None:
    """Mean, deviation (rounding included), fourth moment; white over pixels and channels."""
    image = torch.full((1, 3, 200, 200), 128, dtype=torch.uint8)
    noise = noised(image, sigma=sigma)[0].numpy().astype(float) - 128
    assert abs(noise.mean()) < 0.02 * sigma
    assert noise.std() == pytest.approx(np.sqrt(sigma**2 + 1 / 12), rel=0.015)
    assert np.mean((noise / noise.std()) ** 4) == pytest.approx(3, abs=0.15)
    for one, other in [
        (noise[:, 1:], noise[:, :-1]),
        (noise[:, :, 1:], noise[:, :, :-1]),
        (noise[0], noise[1]),
        (noise[1], noise[2]),
    ]:
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_do_not_wrap(level: int) -> None:
    """Noise at the ends of the range is clipped: half of it stays at the end."""
    image = torch.full((1, 3, 64, 64), level, dtype=torch.uint8)
    found = noised(image, sigma=5)[0].numpy().astype(int)
    assert np.abs(found - level).max() < 30
    # P(noise < 0.5) for a deviation of 5.
    assert np.mean(found == level) == pytest.approx(0.5398, abs=0.02)
