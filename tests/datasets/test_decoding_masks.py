"""The mask rule ``gray>127``: luma of the colour channels, alpha ignored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from advbench.datasets.decoding import decode_mask

from .pictures import save, truth

LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16)
EXPECTED = LEVELS.astype(int) >= 128


@pytest.mark.parametrize("how", ["PNG", "TIFF", "BMP"])
def test_every_level(tmp_path: Path, how: str) -> None:
    """127 is authentic, 128 is forged, whatever the file is called."""
    mask = decode_mask(save(tmp_path / "x.png", LEVELS, how))
    assert mask.dtype == np.bool_
    assert np.array_equal(mask, EXPECTED)


@pytest.mark.parametrize("channels", [3, 4])
def test_grey_in_colour(tmp_path: Path, channels: int) -> None:
    """Grey levels kept as RGB or opaque RGBA obey the same rule."""
    planes = np.dstack([LEVELS] * 3 + [np.full_like(LEVELS, 255)] * (channels - 3))
    assert np.array_equal(decode_mask(save(tmp_path / "x.png", planes)), EXPECTED)


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("alpha", [0, 1, 127, 128, 255])
def test_alpha_is_ignored(tmp_path: Path, alpha: int, colours: int) -> None:
    """A transparent white pixel is still forged, a transparent black one still authentic."""
    planes = np.dstack([LEVELS] * colours + [np.full_like(LEVELS, alpha)])
    assert np.array_equal(decode_mask(save(tmp_path / "x.png", planes)), EXPECTED)


@settings(deadline=None, max_examples=60)
@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_luma_of_colours(
    tmp_path_factory: pytest.TempPathFactory, colour: tuple[int, int, int]
) -> None:
    """ITU-R 601 weights decide for coloured masks: green is forged, red and blue are not."""
    luma = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    if abs(luma - 127.5) < 0.6:
        return
    pixels = np.full((2, 2, 3), colour, dtype=np.uint8)
    found = decode_mask(save(tmp_path_factory.getbasetemp() / "colour.png", pixels))
    assert found.all() == found.any() == (luma > 127.5)


def test_primary_colours(tmp_path: Path) -> None:
    """Of the six, those with green in them are forged."""
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)]
    mask = decode_mask(save(tmp_path / "x.png", np.array([colours], dtype=np.uint8)))
    assert mask.tolist() == [[False, True, False, True, True, False]]


def test_black_and_white_and_palette(tmp_path: Path) -> None:
    """One bit a pixel, and indices whose colours, not whose numbers, count."""
    expected = truth()
    PillowImage.fromarray(expected).convert("1").save(tmp_path / "1.png")
    assert np.array_equal(decode_mask(tmp_path / "1.png"), expected)
    indexed = PillowImage.fromarray(np.where(expected, 0, 200).astype(np.uint8), "L")
    palette = [0] * 768
    palette[:3] = [255, 255, 255]
    indexed.putpalette(palette)
    indexed.save(tmp_path / "p.png")
    assert np.array_equal(decode_mask(tmp_path / "p.png"), expected)


@pytest.mark.parametrize("how", ["PNG", "TIFF"])
def test_sixteen_bits(tmp_path: Path, how: str) -> None:
    """The same half-way point at sixteen bits."""
    values = np.array([[0, 0x00FF, 0x7FFF, 0x8000, 0xFFFF]], dtype=np.uint16)
    mask = decode_mask(save(tmp_path / "x.png", values, how))
    assert mask.tolist() == [[False, False, False, True, True]]


@pytest.mark.parametrize("quality", [75, 95])
def test_jpeg_mask(tmp_path: Path, quality: int) -> None:
    """A mask saved as JPEG rings about its edges; the threshold gives the blocks back."""
    expected = np.kron(truth(3, 6, 8), np.ones((13, 13), dtype=bool))
    path = save(tmp_path / "x.png", expected, "JPEG", quality=quality)
    with PillowImage.open(path) as image:
        assert len(set(np.asarray(image).ravel().tolist())) > 2
    assert np.array_equal(decode_mask(path), expected)
