"""AUC by counting pairs; noise metrics in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from advbench.images import Image
from advbench.scores.metrics import auc, kept_psnr, noise_metrics, removed_share


def map_of(*values: float) -> np.ndarray:
    return np.array([values], dtype=np.float32)


@pytest.mark.parametrize(
    ("probability", "truth", "expected"),
    [
        ((0.1, 0.4, 0.35, 0.8), (0, 0, 1, 1), 0.75),
        ((0.1, 0.2, 0.3, 0.4), (0, 0, 1, 1), 1),
        ((0.4, 0.3, 0.2, 0.1), (0, 0, 1, 1), 0),
        ((0.5, 0.5, 0.5, 0.5), (0, 1, 0, 1), 0.5),
        ((0.2, 0.5, 0.5, 0.9), (0, 0, 1, 0), 0.5),
    ],
)
def test_auc_by_hand(
    probability: tuple[float, ...], truth: tuple[int, ...], expected: float
) -> None:
    """Ranks count, ties half."""
    assert auc(map_of(*probability), map_of(*truth).astype(bool)) == pytest.approx(expected)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=30))
def test_auc_by_pairs(pixels: list[tuple[int, bool]]) -> None:
    """The share of forged-authentic pairs in the right order; NaN where there is no pair."""
    levels = np.array([level for level, _ in pixels])
    truth = np.array([forged for _, forged in pixels])
    pairs = levels[truth][:, None] - levels[~truth][None]
    found = auc((levels / 6).astype(np.float32)[None], truth[None])
    if pairs.size:
        assert found == pytest.approx((np.sign(pairs) + 1).mean() / 2)
    else:
        assert math.isnan(found)


def test_what_a_defense_keeps_is_the_psnr() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (3, 20, 30))
    defended = (image + rng.integers(-9, 10, image.shape)).clip(0, 255)
    change = ((defended - image) / 255).astype(np.float32)
    expected = peak_signal_noise_ratio(image, defended, data_range=255)
    assert kept_psnr(change) == pytest.approx(expected, rel=1e-6)
    assert kept_psnr(np.zeros((3, 4, 4), np.float32)) == math.inf


@pytest.mark.parametrize("share", [-0.5, 0.0, 0.3, 1.0, 1.5])
def test_removed_noise_is_counted_along_the_noise_alone(share: float) -> None:
    """What is changed across the noise, as the picture itself, does not count."""
    rng = np.random.default_rng(1)
    noise = rng.choice([-3.0, 3.0], (3, 40, 40)) / 255
    across = rng.normal(size=noise.shape)
    across -= noise * (across * noise).sum() / (noise * noise).sum()
    change = (-share * noise + across).astype(np.float32)
    assert removed_share(change, noise.astype(np.float32)) == pytest.approx(share, abs=1e-4)
    assert math.isnan(removed_share(change, np.zeros_like(change)))


def flat(level: int, height: int = 16, width: int = 24) -> Image:
    return np.full((height, width, 3), level, dtype=np.uint8)


@pytest.mark.parametrize(("level", "offset"), [(100, 1), (100, 3), (7, 200), (0, 255), (255, -255)])
def test_constant_offset(level: int, offset: int) -> None:
    """PSNR, L∞, L2 and SSIM of a flat picture that is k levels off."""
    found = noise_metrics(flat(level + offset), flat(level))
    k = abs(offset)
    assert found.psnr == pytest.approx(20 * math.log10(255 / k), abs=1e-9)
    assert found.linf == k
    assert found.l2 == pytest.approx(k / 255 * math.sqrt(16 * 24 * 3))
    small = (0.01 * 255) ** 2
    brightness = (2 * level * (level + offset) + small) / (level**2 + (level + offset) ** 2 + small)
    assert found.ssim == pytest.approx(brightness, abs=1e-9)


def test_no_noise() -> None:
    """Equal images: infinite PSNR, SSIM 1, no distance."""
    image = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    found = noise_metrics(image.copy(), image)
    assert (found.psnr, found.ssim, found.linf, found.l2) == (math.inf, 1, 0, 0)


@pytest.mark.parametrize("levels", [(10, 13), (0, 255), (255, 0)])
def test_one_value(levels: tuple[int, int]) -> None:
    """One value of one pixel: no wrapping at 256, mean over all values."""
    original, adversarial = flat(50), flat(50)
    original[3, 4, 1], adversarial[3, 4, 1] = levels
    k = abs(levels[0] - levels[1])
    found = noise_metrics(adversarial, original)
    assert found.linf == k
    assert found.l2 == pytest.approx(k / 255)
    assert found.psnr == pytest.approx(10 * math.log10(255**2 / (k**2 / (16 * 24 * 3))))
    assert 0 < found.ssim < 1


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6))
def test_random_noise(seed: int) -> None:
    """Against sums in doubles, and the same both ways round."""
    rng = np.random.default_rng(seed)
    shape = (*rng.integers(7, 20, 2), 3)
    one, other = rng.integers(0, 256, (2, *shape), dtype=np.uint8)
    found = noise_metrics(one, other)
    difference = one.astype(float) - other.astype(float)
    assert found.linf == np.abs(difference).max()
    assert found.l2 == pytest.approx(math.sqrt(float((difference**2).sum())) / 255)
    assert found.psnr == pytest.approx(10 * math.log10(255**2 / float((difference**2).mean())))
    back = noise_metrics(other, one)
    assert (back.psnr, back.linf, back.l2) == pytest.approx((found.psnr, found.linf, found.l2))
    assert back.ssim == pytest.approx(found.ssim)


def test_ssim_by_hand() -> None:
    """On one 7×7 window the formula itself, sample variances, mean over channels."""
    rng = np.random.default_rng(1)
    one, other = rng.integers(0, 256, (2, 7, 7, 3)).astype(np.uint8)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for x, y in zip(one.reshape(49, 3).T.astype(float), other.reshape(49, 3).T, strict=True):
        (vx, cov), (_, vy) = np.cov(x, y.astype(float))
        mx, my = x.mean(), y.mean()
        values.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    assert noise_metrics(one, other).ssim == pytest.approx(float(np.mean(values)))


@pytest.mark.parametrize(
    "shape", [(7, 7), (5, 9), (64, 31), (3, 3)], ids=["window", "small", "picture", "smallest"]
)
def test_noise_as_scikit_image_measures_it(shape: tuple[int, int]) -> None:
    """On pictures as noisy as any, and from black to white."""
    rng = np.random.default_rng(2)
    one = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    near = np.clip(one.astype(int) + rng.integers(-3, 4, one.shape), 0, 255).astype(np.uint8)
    window = min(7, *shape)
    for other in (near, 255 - one, np.zeros_like(one), np.full_like(one, 255)):
        found = noise_metrics(other, one)
        expected = structural_similarity(
            one, other, data_range=255, channel_axis=2, win_size=window
        )
        assert found.ssim == pytest.approx(expected, rel=1e-12, abs=1e-12)
        assert found.psnr == pytest.approx(peak_signal_noise_ratio(one, other, data_range=255))
    black, white = np.zeros_like(one), np.full_like(one, 255)
    expected = structural_similarity(black, white, data_range=255, channel_axis=2, win_size=window)
    assert noise_metrics(black, white).ssim == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("side", "defined"), [(1, False), (2, False), (3, True), (6, True)])
def test_small_images(side: int, defined: bool) -> None:
    """Too small for any window, SSIM is undefined and the rest is not."""
    found = noise_metrics(flat(10, side, 9), flat(12, side, 9))
    assert math.isnan(found.ssim) != defined
    assert found.linf == 2
