"""The uint8 grid: rounding, budgets, residuals and sums, over every grey level."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from advbench.images import (
    level_budget,
    mask_sha256,
    pixels_sha256,
    quantise,
    residual,
    restore,
    to_unit,
)

LEVELS = torch.arange(256).byte().view(1, 1, 16, 16)
IMAGES = arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 6), st.just(3)))


def test_every_level_survives() -> None:
    """Level to fraction and back, for all 256."""
    unit = to_unit(LEVELS)
    assert unit.dtype == torch.float32
    assert np.array_equal(
        unit.numpy(), (np.arange(256) / 255).astype(np.float32).reshape(unit.shape)
    )
    assert torch.equal(quantise(unit, LEVELS), LEVELS)


@pytest.mark.parametrize("offset", [-0.49, -0.25, 0.25, 0.49])
def test_nearest_level(offset: float) -> None:
    """Less than half a level away is that level: nothing truncates."""
    near = (LEVELS.double() + offset) / 255
    assert torch.equal(quantise(near.float(), LEVELS), LEVELS)
    assert torch.equal(quantise(near, LEVELS), LEVELS)


@pytest.mark.parametrize("budget", [0, 1, 2, 3, 8, 254, 255, None])
@pytest.mark.parametrize("offset", [-300.0, -8.4, -3.6, -1.51, -0.6, 0.6, 1.49, 2.51, 7.9, 300.0])
def test_budget_for_every_level(budget: int | None, offset: float) -> None:
    """Round, then the budget, then the range, in integers; the bound is reached, never passed."""
    found = quantise((LEVELS.double() + offset) / 255, LEVELS, budget)
    assert found.dtype == torch.uint8
    step = int(np.floor(offset + 0.5))
    if budget is not None:
        step = max(-budget, min(budget, step))
    expected = np.clip(np.arange(256) + step, 0, 255)
    assert np.array_equal(found.numpy().ravel(), expected)


@settings(deadline=None, max_examples=40)
@given(IMAGES, st.integers(0, 20), st.integers(0, 2**32))
def test_quantise_random(original: np.ndarray, budget: int, seed: int) -> None:
    """The admitted level nearest to the float, wherever it lies."""
    shift = np.random.default_rng(seed).normal(0, 15, original.shape)
    wanted = (torch.from_numpy((original + shift) / 255)).float()
    found = quantise(wanted, torch.from_numpy(original), budget).numpy().astype(int)
    assert np.abs(found - original).max() <= budget
    low = np.maximum(original.astype(int) - budget, 0)
    high = np.minimum(original.astype(int) + budget, 255)
    nearest = np.clip(wanted.double().numpy() * 255, low, high)
    assert np.abs(found - nearest).max() <= 0.5 + 1e-4


def test_quantise_detaches() -> None:
    """What is stored carries no graph, and the arguments stay as they were."""
    x = to_unit(LEVELS).requires_grad_()
    assert not quantise(x, LEVELS, 1).requires_grad
    assert torch.equal(x.detach(), to_unit(LEVELS))


@pytest.mark.parametrize(
    ("eps", "levels"),
    [(0, 0), (0.9, 0), (1, 1), (2.5, 2), (3, 3), (3 / 255 * 255, 3), (0.1 * 30, 3), (255, 255)],
)
def test_level_budget(eps: float, levels: int) -> None:
    """Whole levels within the budget; a float's dust does not cost one."""
    assert level_budget(eps) == levels
    assert level_budget(np.nextafter(eps, 0)) == levels
    assert level_budget(np.nextafter(eps, 300)) == levels


@settings(deadline=None, max_examples=60)
@given(IMAGES, st.data())
def test_residual_round_trip(original: np.ndarray, data: st.DataObject) -> None:
    """original + residual is the other image, byte for byte, for any that fit."""
    low = np.minimum(original, 128)
    high = np.minimum(255 - original.astype(int), 127)
    share = data.draw(arrays(np.float64, original.shape, elements=st.floats(-1, 1)))
    noise = np.where(share < 0, np.ceil(share * low), np.floor(share * high)).astype(int)
    adversarial = (original + noise).astype(np.uint8)
    found = residual(adversarial, original)
    assert found is not None
    assert found.dtype == np.int8
    assert np.array_equal(found, noise)
    assert np.array_equal(restore(original, found), adversarial)
    assert restore(original, found).dtype == np.uint8


def test_every_pair_of_levels() -> None:
    """All 65536: exact where the difference fits a signed byte, None where it does not."""
    for level in range(256):
        original = np.full((256, 1, 3), level, dtype=np.uint8)
        other = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
        fits = np.abs(np.arange(256) - level + 0.5) < 128
        noise = residual(other[fits], original[fits])
        assert noise is not None
        assert np.array_equal(restore(original[fits], noise), other[fits])
        for misfit in np.flatnonzero(~fits)[[0, -1]] if not fits.all() else []:
            assert residual(other[misfit : misfit + 1], original[:1]) is None


@pytest.mark.parametrize(
    ("original", "other", "fits"),
    [(0, 127, True), (0, 128, False), (128, 0, True), (129, 0, False), (255, 0, False)],
)
def test_bounds_of_a_residual(original: int, other: int, fits: bool) -> None:
    """One value beyond -128 or 127 and the full image is stored instead."""
    base = np.full((2, 2, 3), 100, dtype=np.uint8)
    changed = base.copy()
    base[1, 1, 2], changed[1, 1, 2] = original, other
    assert (residual(changed, base) is not None) == fits


def test_pixel_sum() -> None:
    """SHA-256 of the bytes in C order, whatever the array's strides."""
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    expected = hashlib.sha256(bytes(range(60))).hexdigest()
    assert pixels_sha256(image) == expected
    assert pixels_sha256(np.asfortranarray(image)) == expected
    assert pixels_sha256(np.repeat(image, 2, axis=1)[:, ::2]) == expected
    assert pixels_sha256(image[:, ::-1]) != expected


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=7))
def test_mask_sum(rows: list[list[bool]]) -> None:
    """Bits row by row, eight to a byte, highest first, zeros at the end."""
    bits = "".join("1" if bit else "0" for row in rows for bit in row)
    bits += "0" * (-len(bits) % 8)
    packed = int(bits, 2).to_bytes(len(bits) // 8, "big")
    mask = np.array(rows, dtype=bool)
    assert mask_sha256(mask) == hashlib.sha256(packed).hexdigest()
    assert mask_sha256(np.asfortranarray(mask)) == mask_sha256(mask)
