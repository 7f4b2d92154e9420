"""Decode image and mask files: by content, never by extension; nothing half-read passes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageFile, UnidentifiedImageError

from advbench.errors import AdvbenchError, first_line
from advbench.pixels import Image, Mask

MAX_PIXELS = 200_000_000
MASK_RULE = "gray>127"

# What decoders of damaged files raise.
_DECODER_FAULTS = (OSError, SyntaxError, ValueError, RuntimeError, EOFError, struct.error)


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
    masks are drawn on stored pixels. What was done stands in ``flags``.

    Raises:
        AdvbenchError: the file is missing, empty, truncated, too large or no image.
    """
    with _open(path) as source:
        mode, kind, flags = source.mode, source.format or "?", []
        try:
            if "icc_profile" in source.info:
                flags.append("icc")
            if mode in ("RGBA", "LA", "PA") or "transparency" in source.info:
                flags.append("alpha_composited")
                rgba = source.convert("RGBA")
                white = PillowImage.new("RGBA", rgba.size, (255, 255, 255, 255))
                rgb = PillowImage.alpha_composite(white, rgba).convert("RGB")
            elif mode.startswith("I") or mode == "F":
                flags.append("depth_16")
                rgb = PillowImage.fromarray(_high_byte(source, path)).convert("RGB")
            else:
                if mode in ("L", "1"):
                    flags.append("gray_to_rgb")
                elif mode == "P":
                    flags.append("palette")
                rgb = source.convert("RGB")
        except _DECODER_FAULTS as error:
            raise _unreadable(path, error) from error
    return DecodedImage(np.asarray(rgb, dtype=np.uint8), mode, kind, tuple(flags))


def decode_mask(path: Path) -> Mask:
    """Decode a mask by the rule ``gray>127``: luma of the colour channels, alpha ignored.

    Raises:
        AdvbenchError: as :func:`decode_image`.
    """
    with _open(path) as source:
        try:
            if source.mode.startswith("I") or source.mode == "F":
                gray = _high_byte(source, path)
            else:
                opaque = source.convert("RGB") if source.mode != "L" else source
                gray = np.asarray(opaque.convert("L"), dtype=np.uint8)
        except _DECODER_FAULTS as error:
            raise _unreadable(path, error) from error
    return gray > 127


def _open(path: Path) -> PillowImage.Image:
    try:
        found = path.is_file()
    except OSError:  # a name longer than any file's
        found = False
    if not found:
        raise AdvbenchError(f"{path}: no such file; check the manifest and the dataset folder")
    if path.stat().st_size == 0:
        raise AdvbenchError(f"{path}: the file is empty; download or copy it again")
    # Some forensics code lets truncated files through for the whole process.
    truncated, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    limit, PillowImage.MAX_IMAGE_PIXELS = PillowImage.MAX_IMAGE_PIXELS, None
    try:
        image = PillowImage.open(path)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise AdvbenchError(
                f"{path}: {width}×{height} pixels are more than {MAX_PIXELS:,}; leave the image out"
            )
        image.load()
    except UnidentifiedImageError as error:
        raise AdvbenchError(f"{path}: not an image that can be read; replace the file") from error
    except _DECODER_FAULTS as error:
        raise _unreadable(path, error) from error
    finally:
        PillowImage.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = limit, truncated
    return image


def _high_byte(source: PillowImage.Image, path: Path) -> Image:
    values = np.asarray(source)
    if source.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise AdvbenchError(f"{path}: mode {source.mode} is no 8- or 16-bit image; convert it")
    return (values.astype(np.uint32) >> (8 if values.max() > 255 else 0)).astype(np.uint8)


def _unreadable(path: Path, error: Exception) -> AdvbenchError:
    return AdvbenchError(f"{path}: cannot be decoded ({first_line(error)}); replace the file")
