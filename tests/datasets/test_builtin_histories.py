"""What happens to a picture before it is forged, against references in floating point."""

from __future__ import annotations

import io
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from scipy import ndimage

from advbench.datasets.builtin.histories import (
    QUALITIES,
    History,
    add_noise,
    contrasting_history,
    random_history,
    random_view,
    sample_affine,
)

from .pictures import Pixels, picture

ONE = 1 << 16


def grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[0:height, 0:width].astype(np.int64)
    return rows, columns


def smooth(seed: int = 0) -> Pixels:
    """A picture with large shapes, as JPEG likes them."""
    return np.kron(picture(seed, 6, 8), np.ones((12, 12, 1), dtype=np.uint8))


def test_identity() -> None:
    """Sampling at the pixels themselves changes nothing."""
    rows, columns = grid(12, 20)
    assert np.array_equal(sample_affine(picture(), rows * ONE, columns * ONE), picture())


@pytest.mark.parametrize("shift", [(0, 1), (3, 0), (-2, 5), (-11, -19), (11, 19)])
def test_integer_shift(shift: tuple[int, int]) -> None:
    """Whole pixels are moved exactly; beyond the border the picture is mirrored."""
    dy, dx = shift
    rows, columns = grid(12, 20)
    found = sample_affine(picture(), (rows + dy) * ONE, (columns + dx) * ONE)
    wide = np.pad(picture(), ((11, 11), (19, 19), (0, 0)), mode="reflect")
    assert np.array_equal(found, wide[11 + dy : 23 + dy, 19 + dx : 39 + dx])


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 1000),
    st.tuples(*[st.floats(-2, 2)] * 4),
    st.tuples(st.floats(-60, 60), st.floats(-60, 60)),
)
def test_bilinear(
    seed: int, turn: tuple[float, float, float, float], shift: tuple[float, float]
) -> None:
    """Within one level of bilinear interpolation in doubles, inside and far outside."""
    image, (rows, columns) = picture(seed), grid(12, 20)
    fixed_rows = np.rint((turn[0] * rows + turn[1] * columns + shift[0]) * ONE).astype(np.int64)
    fixed_columns = np.rint((turn[2] * rows + turn[3] * columns + shift[1]) * ONE).astype(np.int64)
    found = sample_affine(image, fixed_rows, fixed_columns)
    assert found.dtype == np.uint8
    for channel in range(3):
        expected = ndimage.map_coordinates(
            image[..., channel].astype(float),
            [fixed_rows / ONE, fixed_columns / ONE],
            order=1,
            mode="mirror",
        )
        assert np.abs(found[..., channel] - expected).max() <= 1


@pytest.mark.parametrize("sigma", [1, 2, 3, 5, 8])
def test_noise_is_white_and_gaussian(sigma: int) -> None:
    """Deviation (rounding included), mean, tails, and no neighbour or channel alike."""
    flat = np.full((256, 256, 3), 128, dtype=np.uint8)
    noise = add_noise(flat, sigma, np.random.Generator(np.random.PCG64(1))).astype(float) - 128
    assert noise.std() == pytest.approx(np.sqrt(sigma**2 + 1 / 12), rel=0.015)
    assert abs(noise.mean()) < 0.02 * sigma
    assert np.mean(np.abs(noise) > 2 * sigma + 0.5) < 0.0456
    assert np.mean((noise / noise.std()) ** 4) == pytest.approx(3, abs=0.1)
    pairs = [(noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1])]
    pairs += [(noise[..., 0], noise[..., 1]), (noise[..., 1], noise[..., 2])]
    for one, other in pairs:
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.02


def test_noise_is_clipped_and_optional() -> None:
    """At black and white it never wraps round; none asked for is none."""
    for level in (0, 255):
        flat = np.full((64, 64, 3), level, dtype=np.uint8)
        noisy = add_noise(flat, 5, np.random.default_rng(0)).astype(int)
        assert np.abs(noisy - level).max() <= 25
        assert np.mean(noisy == level) == pytest.approx(0.54, abs=0.03)
    assert np.array_equal(add_noise(picture(), 0, np.random.default_rng(0)), picture())


@pytest.mark.parametrize("quality", [q for q in QUALITIES if q])
def test_history_is_a_jpeg_on_a_shifted_grid(quality: int) -> None:
    """As Pillow does it: pad by the phase, compress, crop."""
    found = History(quality, 0).apply(smooth(), np.random.Generator(np.random.PCG64(quality)))
    dy, dx = np.random.Generator(np.random.PCG64(quality)).integers(0, 8, 2)
    assert (dy, dx) != (0, 0)
    padded = np.pad(smooth(), ((dy, 0), (dx, 0), (0, 0)), mode="reflect")
    buffer = io.BytesIO()
    PillowImage.fromarray(padded).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    expected = np.asarray(PillowImage.open(buffer))[dy:, dx:].astype(int)
    assert found.shape == smooth().shape
    assert np.abs(found - expected).mean() < 0.1
    unshifted = np.asarray(PillowImage.open(buffer))[: found.shape[0], : found.shape[1]]
    assert np.abs(found.astype(int) - unshifted).mean() > 1


def test_no_history() -> None:
    """Never compressed and without noise: the picture itself."""
    assert np.array_equal(History(0, 0).apply(smooth(), np.random.default_rng(0)), smooth())


def test_contrasting_history() -> None:
    """For every host: noise at least 3 levels and a factor of two apart, qualities 10 apart."""
    rng = np.random.default_rng(3)
    for quality, sigma in product(QUALITIES, range(6)):
        for _ in range(20):
            other = contrasting_history(History(quality, sigma), rng)
            low, high = sorted((sigma, other.sigma))
            assert high - low >= 3
            assert high + 1 >= 2 * (low + 1)
            assert other.quality != quality
            assert other.quality in QUALITIES
            assert not quality or not other.quality or abs(quality - other.quality) >= 10


def test_random_history_covers_its_range() -> None:
    """All qualities, all sigmas of the range, bounds included, and no other."""
    rng = np.random.default_rng(0)
    drawn = [random_history(rng, 2, 4) for _ in range(300)]
    assert {history.sigma for history in drawn} == {2, 3, 4}
    assert {history.quality for history in drawn} == set(QUALITIES)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32))
def test_random_view(seed: int) -> None:
    """A square of the asked size from at least half the photograph, tone changed but little."""
    rows, columns = grid(90, 120)
    place = np.dstack([rows * 2, columns * 2, np.full_like(rows, 100)]).astype(np.uint8)
    view = random_view(place, 64, np.random.Generator(np.random.PCG64(seed)))
    assert view.shape == (64, 64, 3)
    assert view.dtype == np.uint8
    flat = view[..., 2]
    assert flat.min() == flat.max()
    # 255 · (100/255)^γ, γ from 0.8 to 1.25, gain from 0.85 to 1.15.
    assert 0.85 * 255 * (100 / 255) ** 1.25 - 1 <= flat[0, 0] <= 1.15 * 255 * (100 / 255) ** 0.8 + 1
    again = random_view(place, 64, np.random.Generator(np.random.PCG64(seed)))
    assert np.array_equal(view, again)
