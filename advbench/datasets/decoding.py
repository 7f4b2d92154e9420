"""Decode image and mask files: by content, never by extension; nothing half-read passes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageFile, UnidentifiedImageError

from advbench.errors import AdvbenchError, first_line
from advbench.images import Image, Mask

MAX_PIXELS = 200_000_000
MASK_RULE = "gray>127"

# What decoders of damaged files raise.
_DECODER_FAULTS = (OSError, SyntaxError, ValueError, RuntimeError, EOFError, struct.error)
_ORIENTATION = 0x0112
# Alpha is composited in strips of so many pixels, or a large image would be in memory five times.
_STRIP = 1 << 22


class TooLargeError(AdvbenchError):
    """An image of more than ``MAX_PIXELS``."""


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image with what its file looked like."""

    pixels: Image
    mode: str
    format: str
    flags: tuple[str, ...]


def decode_image(path: Path) -> DecodedImage:
    """Decode any ordinary image file to RGB uint8 H×W×3.

    Alpha is composited over white (dropping it would expose hidden colours), grey and palette
    images are expanded, 16-bit grey keeps its high byte. EXIF orientation is not applied, as
    masks are drawn on stored pixels. What was done stands in ``flags``, and what was left alone:
    a colour profile (``icc``), an orientation (``exif_orientation``) and further frames or pages
    (``first_frame``).

    Raises:
        AdvbenchError: the file is missing, empty, truncated, too large or no image.
    """
    with _open(path) as source:
        mode, kind, flags = source.mode, source.format or "?", []
        try:
            if "icc_profile" in source.info:
                flags.append("icc")
            if getattr(source, "n_frames", 1) > 1:
                flags.append("first_frame")
            if _orientation(source) > 1:
                flags.append("exif_orientation")
            if mode in ("RGBA", "LA", "PA") or "transparency" in source.info:
                flags.append("alpha_composited")
                return DecodedImage(_over_white(source), mode, kind, tuple(flags))
            if mode.startswith("I") or mode == "F":
                flags.append("depth_16")
                rgb = PillowImage.fromarray(_high_byte(source, path)).convert("RGB")
            else:
                if mode in ("L", "1"):
                    flags.append("gray_to_rgb")
                elif mode == "P":
                    flags.append("palette")
                rgb = source if mode == "RGB" else source.convert("RGB")
            return DecodedImage(np.asarray(rgb, dtype=np.uint8), mode, kind, tuple(flags))
        except _DECODER_FAULTS as error:
            raise _unreadable(path, error) from error


def decode_mask(path: Path) -> Mask:
    """Decode a mask by the rule ``gray>127``: luma of the colour channels, alpha ignored.

    Raises:
        AdvbenchError: as :func:`decode_image`.
    """
    return decode_gray(path) > 127


def decode_gray(path: Path) -> npt.NDArray[np.uint8]:
    """Luma of the colour channels, H×W, alpha ignored; 16-bit grey keeps its high byte.

    Raises:
        AdvbenchError: as :func:`decode_image`.
    """
    with _open(path) as source:
        try:
            if source.mode.startswith("I") or source.mode == "F":
                return _high_byte(source, path)
            opaque = source.convert("RGB") if source.mode not in ("L", "RGB") else source
            return np.asarray(opaque.convert("L"), dtype=np.uint8)
        except _DECODER_FAULTS as error:
            raise _unreadable(path, error) from error


def orientation(path: Path) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none."""
    with _open(path) as source:
        return _orientation(source)


def _orientation(source: PillowImage.Image) -> int:
    try:
        found = source.getexif().get(_ORIENTATION, 1)
    except (*_DECODER_FAULTS, KeyError, TypeError):
        return 1  # damaged metadata says nothing, and the pixels are whole
    return found if found in range(1, 9) else 1


def _over_white(source: PillowImage.Image) -> Image:
    width, height = source.size
    rgb = np.empty((height, width, 3), dtype=np.uint8)
    strip = max(_STRIP // width, 1)
    for top in range(0, height, strip):
        part = source.crop((0, top, width, min(top + strip, height))).convert("RGBA")
        white = PillowImage.new("RGBA", part.size, (255, 255, 255, 255))
        rgb[top : top + strip] = np.asarray(PillowImage.alpha_composite(white, part))[..., :3]
    return rgb


# Pillow's guards are variables of its modules: while several threads decode, the first sets them
# and the last puts them back.
_guard_lock = Lock()
_guard_depth = 0
_guard_kept: tuple[int | None, bool] = (None, False)


@contextmanager
def _guards() -> Iterator[None]:
    """Truncated files are refused (some forensics code lets them through for the whole process),
    and size is limited by ``MAX_PIXELS`` alone."""
    global _guard_depth, _guard_kept  # noqa: PLW0603
    with _guard_lock:
        if _guard_depth == 0:
            _guard_kept = PillowImage.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
            PillowImage.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = None, False
        _guard_depth += 1
    try:
        yield
    finally:
        with _guard_lock:
            _guard_depth -= 1
            if _guard_depth == 0:
                PillowImage.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = _guard_kept


def _open(path: Path) -> PillowImage.Image:
    try:
        found = path.is_file()
    except OSError:  # a name longer than any file's
        found = False
    if not found:
        raise AdvbenchError(f"{path}: no such file; check the manifest and the dataset folder")
    if path.stat().st_size == 0:
        raise AdvbenchError(f"{path}: the file is empty; download or copy it again")
    try:
        with _guards():
            image = PillowImage.open(path)
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise TooLargeError(
                    f"{path}: {width}×{height} pixels are more than {MAX_PIXELS:,}; leave the "
                    "image out"
                )
            image.load()
    except UnidentifiedImageError as error:
        raise AdvbenchError(f"{path}: not an image that can be read; replace the file") from error
    except MemoryError as error:
        raise TooLargeError(f"{path}: does not fit in memory; leave the image out") from error
    except _DECODER_FAULTS as error:
        raise _unreadable(path, error) from error
    return image


def _high_byte(source: PillowImage.Image, path: Path) -> Image:
    values = np.asarray(source)
    if source.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise AdvbenchError(f"{path}: mode {source.mode} is no 8- or 16-bit image; convert it")
    return (values.astype(np.uint32) >> (8 if values.max() > 255 else 0)).astype(np.uint8)


def _unreadable(path: Path, error: Exception) -> AdvbenchError:
    return AdvbenchError(f"{path}: cannot be decoded ({first_line(error)}); replace the file")
