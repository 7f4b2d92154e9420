"""Every kind of image file becomes RGB in one stated way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageCms

from advbench.datasets.decoding import decode_image

from .pictures import picture, save

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ""])
@pytest.mark.parametrize("how", ["PNG", "TIFF", "BMP", "PPM", "TGA"])
def test_lossless_formats_under_any_name(tmp_path: Path, how: str, suffix: str) -> None:
    """The content decides, not the suffix: a TIFF named .png is a TIFF."""
    decoded = decode_image(save(tmp_path / f"x{suffix}", picture(), how))
    assert np.array_equal(decoded.pixels, picture())
    assert decoded.pixels.dtype == np.uint8
    assert decoded.format == how
    assert decoded.mode == "RGB"
    assert decoded.flags == ()


def test_jpeg_as_opencv_reads_it(tmp_path: Path) -> None:
    """Another program's decoder gives the same picture, channels in the same order."""
    smooth = cv2.GaussianBlur(picture(1, 64, 96), (0, 0), 4)
    smooth[..., 0] //= 2
    path = save(tmp_path / "x.jpg", smooth, "JPEG", quality=90)
    bgr = cv2.imread(str(path))
    assert bgr is not None
    found = decode_image(path).pixels.astype(int)
    assert np.abs(found - bgr[..., ::-1]).max() <= 3
    assert np.abs(found - bgr).mean() > 20


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_over_white(tmp_path: Path, mode: str) -> None:
    """Each level of alpha mixes with white; what is transparent is white, whatever it hides."""
    colour = picture(0, 16, 16)[..., : 3 if mode == "RGBA" else 1]
    decoded = decode_image(save(tmp_path / "x.png", np.dstack([colour, RAMP])))
    alpha = RAMP[..., None] / 255
    expected = alpha * colour + (1 - alpha) * 255
    assert np.abs(decoded.pixels - expected).max() <= 1
    assert decoded.pixels[0, 0].tolist() == [255, 255, 255]
    assert np.array_equal(decoded.pixels[-1, -1], np.broadcast_to(colour[-1, -1], 3))
    assert (decoded.mode, decoded.flags) == (mode, ("alpha_composited",))


def palette_image() -> PillowImage.Image:
    image = PillowImage.fromarray(RAMP % 4, "L")
    image.putpalette([10, 20, 30, 255, 0, 0, 0, 0, 255, 1, 2, 3], "RGB")
    return image


def test_palette(tmp_path: Path) -> None:
    """Indices become the palette's colours; a transparent index becomes white."""
    colours = np.array([[10, 20, 30], [255, 0, 0], [0, 0, 255], [1, 2, 3]], dtype=np.uint8)
    palette_image().save(tmp_path / "plain.png")
    plain = decode_image(tmp_path / "plain.png")
    assert (plain.mode, plain.flags) == ("P", ("palette",))
    assert np.array_equal(plain.pixels, colours[RAMP % 4])
    palette_image().save(tmp_path / "clear.png", transparency=2)
    clear = decode_image(tmp_path / "clear.png")
    colours[2] = 255
    assert (clear.mode, clear.flags) == ("P", ("alpha_composited",))
    assert np.array_equal(clear.pixels, colours[RAMP % 4])


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_transparent_colour_key(tmp_path: Path, mode: str) -> None:
    """PNG may name one grey level or colour as transparent: that hides it like alpha does."""
    levels = RAMP if mode == "L" else np.dstack([RAMP, RAMP, RAMP])
    key: Any = 7 if mode == "L" else (7, 7, 7)
    found = decode_image(save(tmp_path / "x.png", levels, transparency=key)).pixels
    assert found[0, 6].tolist() == [6, 6, 6]
    assert found[0, 7].tolist() == [255, 255, 255]


def test_grey_and_black_and_white(tmp_path: Path) -> None:
    """One channel becomes three equal ones."""
    grey = decode_image(save(tmp_path / "l.png", RAMP))
    assert np.array_equal(grey.pixels, np.dstack([RAMP] * 3))
    assert (grey.mode, grey.flags) == ("L", ("gray_to_rgb",))
    PillowImage.fromarray(RAMP % 2 == 1).convert("1").save(tmp_path / "1.png")
    bits = decode_image(tmp_path / "1.png")
    assert np.array_equal(bits.pixels, np.dstack([RAMP % 2 * 255] * 3))
    assert (bits.mode, bits.flags) == ("1", ("gray_to_rgb",))


@pytest.mark.parametrize("how", ["PNG", "TIFF"])
def test_sixteen_bits_keep_the_high_byte(tmp_path: Path, how: str) -> None:
    """Sixteen-bit grey loses its low byte, without rounding or stretching."""
    values = np.array([[0, 1, 255, 256], [0x1234, 0x7FFF, 0x80FF, 0xFFFF]], dtype=np.uint16)
    decoded = decode_image(save(tmp_path / "x.png", values, how))
    expected = np.array([[0, 0, 0, 1], [0x12, 0x7F, 0x80, 0xFF]])
    assert np.array_equal(decoded.pixels, np.dstack([expected] * 3))
    assert decoded.flags == ("depth_16",)


def test_cmyk_jpeg(tmp_path: Path) -> None:
    """Inks become the light that they leave: no ink white, all black black, cyan no red."""
    inks = [(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (0, 0, 0, 255)]
    blocks = np.repeat(np.array([inks], dtype=np.uint8), 16, axis=1).repeat(16, axis=0)
    PillowImage.fromarray(blocks, "CMYK").save(tmp_path / "x.jpg", "JPEG", quality=98)
    decoded = decode_image(tmp_path / "x.jpg")
    assert decoded.mode == "CMYK"
    seen = decoded.pixels[8, 8::16].astype(int)
    light = [(255, 255, 255), (0, 255, 255), (255, 0, 255), (255, 255, 0), (0, 0, 0)]
    assert np.abs(seen - np.array(light)).max() <= 6


def test_exif_orientation_is_left_alone(tmp_path: Path) -> None:
    """Masks are drawn on stored pixels, so the picture is not turned."""
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "x.png", picture(), exif=exif)
    with PillowImage.open(path) as image:
        assert image.getexif()[0x0112] == 6
    assert np.array_equal(decode_image(path).pixels, picture())


def test_further_frames_are_told(tmp_path: Path) -> None:
    """An animation or a file of several pages is read as its first picture."""
    more = {"save_all": True, "append_images": [PillowImage.fromarray(255 - picture())]}
    for name in ("x.png", "x.tiff"):
        decoded = decode_image(save(tmp_path / name, picture(), **more))
        assert np.array_equal(decoded.pixels, picture())
        assert decoded.flags == ("first_frame",)


def test_colour_profile_is_recorded_not_applied(tmp_path: Path) -> None:
    """A profile changes no value and leaves a flag."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    decoded = decode_image(save(tmp_path / "x.png", picture(), icc_profile=profile))
    assert np.array_equal(decoded.pixels, picture())
    assert decoded.flags == ("icc",)
