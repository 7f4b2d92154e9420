"""Difference hashes: pictures that are alike after scaling and compression have near ones.

On CASIA v1 a distance of at most 4 of 64 bits joined 135 pairs of pictures, all of them with a
photograph in common, and 99 % of pictures with their own copy at two thirds and JPEG 60.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from advbench.errors import AdvbenchError
from advbench.files import write_atomically
from advbench.images import Image

FILE = "fingerprints.csv"
NEAR = 4
BITS = 64
# Flat and evenly shaded pictures have nearly all bits alike, and say nothing.
_PLAIN = 6
_LUMA = np.array([299, 587, 114])
_ONES = np.array([bin(value).count("1") for value in range(256)], dtype=np.uint8)
_BLOCK = 256


def dhash(pixels: Image) -> int:
    """Hash a picture: whether each of 8×8 places is darker than its right neighbour, as 64 bits."""
    small = cv2.resize(pixels, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int64) @ _LUMA
    bits = (small[:, 1:] > small[:, :-1]).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def is_plain(fingerprint: int) -> bool:
    """Tell whether a hash is that of a picture without structure."""
    return not _PLAIN < fingerprint.bit_count() < BITS - _PLAIN


def near_pairs(ours: Sequence[int], theirs: Sequence[int]) -> list[tuple[int, int, int]]:
    """Index here, index there and distance of every pair at most ``NEAR`` bits apart."""
    here, there = np.array(ours, dtype=np.uint64), np.array(theirs, dtype=np.uint64)
    found: list[tuple[int, int, int]] = []
    for start in range(0, len(here), _BLOCK):
        different = here[start : start + _BLOCK, None] ^ there[None]
        distance: npt.NDArray[np.uint8] = _ONES[different[..., None].view(np.uint8)].sum(
            axis=-1, dtype=np.uint8
        )
        for row, column in np.argwhere(distance <= NEAR):
            found.append((start + int(row), int(column), int(distance[row, column])))
    return found


def write_fingerprints(folder: Path, fingerprints: Mapping[str, int]) -> None:
    """Write ``fingerprints.csv``: sample ids with their hashes in hexadecimal."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("sample_id", "dhash"))
    writer.writerows((name, f"{value:016x}") for name, value in sorted(fingerprints.items()))
    write_atomically(folder / FILE, buffer.getvalue().encode())


def read_fingerprints(folder: Path) -> dict[str, int]:
    """Read what :func:`write_fingerprints` wrote; empty where an older import wrote none.

    Raises:
        AdvbenchError: another file of that name.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        lines = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        return {line["sample_id"]: int(line["dhash"], 16) for line in lines}
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise AdvbenchError(f"{path}: no fingerprints; import the dataset again") from error
