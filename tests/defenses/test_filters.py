"""JPEG, median and resizing against other implementations."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image as PillowImage
from torch import Tensor

import advbench
from advbench.codec import encode_jpeg
from advbench.images import Image


def filtered(name: str, images: Tensor, **settings: float) -> list[Image]:
    """The one strength's results as uint8 H×W×3."""
    (result,) = advbench.load_defense(name, **settings)(images, ["d/x"] * len(images)).values()
    return list(result.mul(255).round().byte().permute(0, 2, 3, 1).numpy())


def arrays(images: Tensor) -> list[Image]:
    return [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in images]


@pytest.mark.parametrize("quality", [1, 10, 50, 75, 90, 100])
def test_jpeg_decoded_by_pillow(batch: Tensor, quality: int) -> None:
    """Pillow decodes the same file to the same pixels."""
    for found, image in zip(filtered("jpeg", batch, quality=quality), arrays(batch), strict=True):
        flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
        good, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)
        assert good
        with PillowImage.open(io.BytesIO(data.tobytes())) as decoded:
            assert decoded.mode == "RGB"
            assert np.array_equal(found, np.asarray(decoded))


@pytest.mark.parametrize("quality", [10, 50, 75, 90])
def test_jpeg_encoded_by_pillow(batch: Tensor, quality: int) -> None:
    """Pillow's own file at that quality, with halved chroma, shows the same picture."""
    for found, image in zip(filtered("jpeg", batch, quality=quality), arrays(batch), strict=True):
        buffer = io.BytesIO()
        PillowImage.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
        with PillowImage.open(buffer) as decoded:
            assert np.abs(found - np.asarray(decoded).astype(int)).mean() < 0.1


def test_jpeg_quality_is_the_codecs() -> None:
    """The file carries libjpeg's quantisation table of that quality."""
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    # The first step of the luminance table is 16 at quality 50; scaled by libjpeg's rule.
    for quality, step in [(50, 16), (75, 8), (90, 3), (25, 32), (10, 80), (100, 1)]:
        with PillowImage.open(io.BytesIO(encode_jpeg(image, quality))) as file:
            assert file.quantization[0][0] == step  # type: ignore[attr-defined]


def test_jpeg_loses_more_at_lower_quality(batch: Tensor) -> None:
    """Error grows as quality falls; a flat picture keeps its level."""
    errors = []
    for quality in (95, 75, 50, 20, 5):
        pairs = zip(filtered("jpeg", batch, quality=quality), arrays(batch), strict=True)
        errors.append(sum(float(np.square(a.astype(float) - b).mean()) for a, b in pairs))
    assert errors == sorted(errors)
    assert errors[0] < errors[-1] / 1.5
    flat = torch.full((1, 3, 16, 16), 128, dtype=torch.uint8)
    assert (filtered("jpeg", flat, quality=50)[0] == 128).all()


@pytest.mark.parametrize("kernel", [3, 5, 7, 9])
def test_median_by_brute_force(batch: Tensor, kernel: int) -> None:
    """The middle value of each channel's window, the border repeated."""
    reach = kernel // 2
    for found, image in zip(filtered("median", batch, kernel=kernel), arrays(batch), strict=True):
        padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
        windows = sliding_window_view(padded, (kernel, kernel), axis=(0, 1))
        assert np.array_equal(found, np.median(windows, axis=(-2, -1)))


def test_median_of_a_picture_smaller_than_its_window() -> None:
    """The same rule where the window reaches beyond both sides."""
    images = torch.randint(0, 256, (1, 3, 4, 2), generator=torch.Generator().manual_seed(0)).byte()
    (image,) = arrays(images)
    padded = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode="edge")
    windows = sliding_window_view(padded, (7, 7), axis=(0, 1))
    assert np.array_equal(
        filtered("median", images, kernel=7)[0], np.median(windows, axis=(-2, -1))
    )


@pytest.mark.parametrize("scale", [0.05, 0.3, 0.5, 0.77, 0.999, 1.4, 2, 4])
def test_resize_keeps_a_flat_picture(scale: float) -> None:
    """No scale moves a constant."""
    flat = torch.tensor([3, 128, 252], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 33, 47)
    (found,) = filtered("resize", flat.contiguous(), scale=scale)
    assert (found == np.array([3, 128, 252])).all()


@pytest.mark.parametrize("scale", [0.3, 0.5, 0.7, 0.9, 1.3, 2])
def test_resize_as_torch_does_it(batch: Tensor, scale: float) -> None:
    """Bilinear at half-pixel centres, without smoothing, on whole levels in between."""
    size = (round(33 * scale), round(47 * scale))
    options = {"mode": "bilinear", "align_corners": False, "antialias": False}
    interpolate = torch.nn.functional.interpolate
    there = interpolate(batch.double(), size, **options).round()  # type: ignore[arg-type]
    back = interpolate(there, (33, 47), **options)  # type: ignore[arg-type]
    found = torch.from_numpy(np.stack(filtered("resize", batch, scale=scale)))
    difference = (found.permute(0, 3, 1, 2) - back).abs()
    assert difference.max() <= 2
    assert difference.mean() < 0.35
