"""Nothing half-read passes: a file at fault is refused in one line that names it."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from PIL import ImageFile, features

from advbench.datasets import decoding
from advbench.datasets.decoding import decode_image, decode_mask
from advbench.errors import AdvbenchError

from .pictures import one_line, picture, save

DECODERS: list[Callable[[Path], Any]] = [decode_image, decode_mask]
both = pytest.mark.parametrize("decode", DECODERS, ids=["image", "mask"])


def refused(decode: Callable[[Path], Any], path: Path) -> str:
    with pytest.raises(AdvbenchError) as caught:
        decode(path)
    text = one_line(caught.value)
    assert str(path) in text
    return text


def outcome(decode: Callable[[Path], Any], path: Path) -> tuple[Any, AdvbenchError | None]:
    try:
        return decode(path), None
    except AdvbenchError as error:
        return None, error


def encoded(how: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    PillowImage.fromarray(picture(0, 48, 64)).save(buffer, how, **options)
    return buffer.getvalue()


@both
@pytest.mark.parametrize("data", [None, b"", b"\n", b"404: not found", bytes(range(256)) * 9])
def test_no_image(tmp_path: Path, decode: Callable[[Path], Any], data: bytes | None) -> None:
    """Missing, empty, text, noise."""
    path = tmp_path / "x.png"
    if data is not None:
        path.write_bytes(data)
    refused(decode, path)


@both
def test_folder(tmp_path: Path, decode: Callable[[Path], Any]) -> None:
    """A folder is no image."""
    refused(decode, tmp_path)


@both
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("how", ["JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP"])
def test_truncated(tmp_path: Path, decode: Callable[[Path], Any], how: str, share: float) -> None:
    """A file that ends early is refused, never filled up with grey."""
    data = encoded(how)
    whole, cut = tmp_path / "whole.jpg", tmp_path / "cut.jpg"
    whole.write_bytes(data)
    decode(whole)
    cut.write_bytes(data[: int(len(data) * share)])
    refused(decode, cut)


@both
def test_truncated_although_another_program_allows_it(
    tmp_path: Path, decode: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some forensics code sets Pillow's LOAD_TRUNCATED_IMAGES; that must not reach us."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encoded("JPEG")
    (tmp_path / "x.jpg").write_bytes(data[: len(data) // 2])
    refused(decode, tmp_path / "x.jpg")


@both
@pytest.mark.parametrize("dtype", [np.int32, np.float32], ids=["I", "F"])
def test_more_than_sixteen_bits(
    tmp_path: Path, decode: Callable[[Path], Any], dtype: type[Any]
) -> None:
    """Deeper than sixteen bits, or floating: there is no one way to make it 8 bits."""
    refused(decode, save(tmp_path / "x.tif", np.array([[0, 1, 70000]], dtype=dtype), "TIFF"))


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header promises pixels that its data does not hold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        sum_of = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", sum_of)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


@both
@pytest.mark.parametrize("size", [(20_000, 10_001), (1, 200_000_001), (2**31 - 1, 2**31 - 1)])
def test_giant_is_refused_by_its_header(
    tmp_path: Path,
    decode: Callable[[Path], Any],
    size: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Too many pixels are counted, not decoded."""

    def load(image: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    path = tmp_path / "x.png"
    path.write_bytes(png_of_size(*size))
    text = refused(decode, path)
    assert f"{size[0]}×{size[1]}" in text
    assert "200,000,000" in text


@both
def test_limit_is_inclusive(
    tmp_path: Path, decode: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many pixels pass, one row more does not; Pillow's own limit is as it was."""
    monkeypatch.setattr(decoding, "MAX_PIXELS", 12 * 20)
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 17)
    decode(save(tmp_path / "x.png", picture(0, 12, 20)))
    assert PillowImage.MAX_IMAGE_PIXELS == 17
    refused(decode, save(tmp_path / "x.png", picture(0, 13, 20)))
    assert PillowImage.MAX_IMAGE_PIXELS == 17


@both
@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_damaged_avif(tmp_path: Path, decode: Callable[[Path], Any]) -> None:
    """A decoder that fails in its own way is told like the others."""
    data = encoded("AVIF")
    start = data.index(b"mdat") + 4
    path = tmp_path / "x.avif"
    path.write_bytes(data[:start] + bytes(len(data) - start))
    refused(decode, path)


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(deadline=None, max_examples=60)
@given(
    how=st.sampled_from(["JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP"]),
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4),
    early=st.booleans(),
)
def test_damaged_bytes(
    tmp_path_factory: pytest.TempPathFactory,
    how: str,
    places: list[tuple[float, int]],
    early: bool,
) -> None:
    """Whatever bytes are altered: a whole picture, or a refusal; never another exception."""
    data = bytearray(encoded(how))
    for share, value in places:
        data[int(share * (min(len(data), 200) if early else len(data) - 1))] = value
    path = tmp_path_factory.getbasetemp() / "damaged.bin"
    path.write_bytes(data)
    for decode in DECODERS:
        found, error = outcome(decode, path)
        if error:
            assert str(path) in one_line(error)
        else:
            assert (found if decode is decode_mask else found.pixels).size > 0


def test_threads_share_the_guards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However threads interleave, no truncated file passes, and Pillow is left as it was."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 17)
    data = encoded("JPEG")
    (tmp_path / "whole.jpg").write_bytes(data)
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])

    def decode(number: int) -> bool:
        path = tmp_path / ("cut.jpg" if number % 3 else "whole.jpg")
        return outcome(decode_image, path)[1] is None

    with ThreadPoolExecutor(8) as pool:
        passed = list(pool.map(decode, range(300)))
    assert passed == [number % 3 == 0 for number in range(300)]
    assert PillowImage.MAX_IMAGE_PIXELS == 17
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
