"""From mask files to one mask: thresholds, unions, colour codes, and repairs from a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from advbench.codec import encode_png
from advbench.datasets.decoding import decode_gray, decode_image
from advbench.datasets.importing.problems import ProblemError
from advbench.images import Mask

UNION = "union>127"
# Forged is black, or whatever is not black: by the authors' own conventions.
BLACK, NOT_BLACK = "gray<128", "gray>10"
# Of Columbia's two cameras, the green one is the forgery; red where the user says so.
COLUMBIA_GREEN, COLUMBIA_RED = "columbia-green-v1", "columbia-red-v1"
_PALETTE = ((255, 0, 0), (0, 255, 0), (200, 0, 0), (0, 200, 0))
# A JPEG of quality 50 with halved colours puts 0.3 % of a mask further than this from all four.
_PALETTE_DISTANCE = 100
MAX_OFF_PALETTE = 0.02


@dataclass(frozen=True)
class ReadMask:
    """A mask before any repair.

    Attributes:
        levels: how many grey levels its files have; 2 for a clean mask.
        highest: the highest of them.
        off_palette: the part of a colour-coded mask that is none of its colours.
    """

    mask: Mask
    levels: int
    highest: int
    off_palette: float = 0.0


def read_mask(files: tuple[Path, ...], rule: str) -> ReadMask:
    """Decode mask files by a rule.

    Raises:
        AdvbenchError: a file that cannot be decoded.
        ProblemError: masks of different sizes, or colours that the rule does not know.
    """
    if rule in (COLUMBIA_GREEN, COLUMBIA_RED):
        return _colour_coded(files[0], rule)
    union: Mask | None = None
    levels = np.zeros(256, dtype=bool)
    for file in files:
        gray = decode_gray(file)
        levels |= cv2.calcHist([gray], [0], None, [256], [0, 256]).ravel() > 0
        mask = _by_level(gray, rule)
        if union is not None and union.shape != mask.shape:
            first, this = files[0], file
            raise ProblemError(
                "size-mismatch",
                f"its masks {first.name} and {this.name} are {_size(union)} and {_size(mask)}",
                "download them again",
            )
        union = mask if union is None else union | mask
    if union is None:
        raise ValueError("no mask file")
    return ReadMask(union, int(levels.sum()), int(np.flatnonzero(levels)[-1]))


def repaired(mask: Mask, fix: str) -> Mask:
    """The mask turned (``rot90``, counter-clockwise) or mirrored (``transpose``)."""
    turned = np.rot90(mask) if fix == "rot90" else mask.T
    return np.ascontiguousarray(turned)


def as_png(mask: Mask) -> bytes:
    """A lossless file of levels 0 and 255."""
    return encode_png(mask.astype(np.uint8) * np.uint8(255), level=6)


def _by_level(gray: npt.NDArray[np.uint8], rule: str) -> Mask:
    """Apply a rule such as ``gray>127``, ``union>127`` or ``gray<128``."""
    if "<" in rule:
        return gray < int(rule.partition("<")[2])
    return gray > int(rule.partition(">")[2])


def _colour_coded(file: Path, rule: str) -> ReadMask:
    pixels = decode_image(file).pixels
    red, green = pixels[..., 0], pixels[..., 1]
    one, other = (green, red) if rule == COLUMBIA_GREEN else (red, green)
    distance = np.min(
        [np.abs(pixels.astype(np.int16) - colour).max(axis=2) for colour in _PALETTE], axis=0
    )
    off = float((distance > _PALETTE_DISTANCE).mean())
    if off > MAX_OFF_PALETTE:
        raise ProblemError(
            "off-palette",
            f"{off:.1%} of its mask {file.name} is neither red nor green",
            "put the published edge mask there",
        )
    return ReadMask((one >= 128) & (one > other), 2, 255, off)


def _size(mask: Mask) -> str:
    return f"{mask.shape[1]}×{mask.shape[0]}"
