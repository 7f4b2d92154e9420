"""A dataset as the pipelines see it: rows of a manifest and the files they name."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from advbench.datasets.decoding import MASK_RULE, decode_image, decode_mask
from advbench.datasets.manifest import DatasetInfo, Row, Split, read_manifest
from advbench.errors import AdvbenchError
from advbench.images import Image, Mask, mask_sha256, pixels_sha256
from advbench.texts import read_json

LOCATION_FILE = "location.json"


@dataclass(frozen=True)
class Dataset:
    """Images, masks and their manifest.

    Attributes:
        root: the folder that the rows' paths are relative to.
        folder: where the manifest is; masks that an import had to write are relative to it.
        rows: in order of sample id, excluded ones left out.
    """

    info: DatasetInfo
    root: Path
    folder: Path
    rows: tuple[Row, ...]

    @property
    def id(self) -> str:
        """The dataset's id, the first part of its sample ids."""
        return self.info.dataset_id

    def select(
        self, split: Split | None = None, label: int | None = None, limit: int | None = None
    ) -> list[Row]:
        """Rows of a split and a label, the first ``limit`` of them."""
        chosen = [
            row
            for row in self.rows
            if (split is None or row.split == split) and (label is None or row.label == label)
        ]
        return chosen if limit is None else chosen[:limit]

    def image(self, row: Row) -> Image:
        """The decoded image, checked against the manifest.

        Raises:
            AdvbenchError: unreadable, or not the pixels that the manifest describes.
        """
        path = self.image_file(row)
        pixels = decode_image(path).pixels
        shape = pixels.shape[:2]
        if pixels_sha256(pixels) != row.pixels_sha256 or shape != (row.height, row.width):
            raise AdvbenchError(
                f"{path}: not the image that the manifest of {self.id} describes; restore the file "
                "or import the dataset again"
            )
        return pixels

    def mask(self, row: Row) -> Mask:
        """The decoded mask, checked against the manifest and the image's size; nothing is forged in
        an authentic image."""
        if row.label == 0:
            return np.zeros((row.height, row.width), dtype=bool)
        path = self.mask_file(row)
        mask = decode_mask(path)
        if mask_sha256(mask) != row.maskbits_sha256 or mask.shape != (row.height, row.width):
            raise AdvbenchError(
                f"{path}: not the mask that the manifest of {self.id} describes; restore the file "
                "or import the dataset again"
            )
        return mask

    def image_file(self, row: Row) -> Path:
        """Locate the image.

        Raises:
            AdvbenchError: outside of the root.
        """
        return _inside(self.root, row.image)

    def mask_file(self, row: Row) -> Path:
        """Locate the mask: among the originals, or where the import wrote it.

        Raises:
            AdvbenchError: outside of that folder.
        """
        return _inside(
            self.folder if mask_is_made(row.mask_rule, row.mask_fix) else self.root, row.mask
        )


def mask_is_made(mask_rule: str, mask_fix: str) -> bool:
    """Tell whether a row's mask is no file of the user's as it is, but one beside the manifest."""
    return mask_fix != "none" or mask_rule not in ("", MASK_RULE)


def _inside(root: Path, relative: str) -> Path:
    path = _spelt_as_there(root / relative)
    if not stays_inside(path, root):
        raise AdvbenchError(f"{path}: points outside {root}; put the file itself inside the folder")
    return path


def _spelt_as_there(path: Path) -> Path:
    """The path in the spelling of its accents in which it is there, see :func:`same_name`."""
    forms = (unicodedata.normalize(form, str(path)) for form in ("NFC", "NFD"))
    return next((Path(form) for form in (str(path), *forms) if os.path.lexists(form)), path)


def stays_inside(path: Path, root: Path) -> bool:
    """Tell whether a path, links followed, lies below ``root``; what cannot be a path lies
    nowhere."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):
        return False


def open_folder(folder: Path) -> Dataset:
    """Open the dataset whose manifest lies in ``folder``.

    Files lie in the same folder, unless ``location.json`` (written by ``advbench dataset import``)
    says where they lie on this machine.
    """
    info, rows = read_manifest(folder)
    included = sorted((row for row in rows if not row.excluded), key=lambda row: row.sample_id)
    return Dataset(info, _root(folder), folder, tuple(included))


def _root(folder: Path) -> Path:
    location = folder / LOCATION_FILE
    if not location.is_file():
        return folder
    try:
        root = Path(read_json(location)["root"])
        is_there = root.is_dir()
    except (AdvbenchError, ValueError, KeyError, TypeError, OSError) as error:
        raise AdvbenchError(f"{location}: no valid location; import the dataset again") from error
    if not is_there:
        raise AdvbenchError(
            f"{location}: its folder {root} is not there; import the dataset again from where it is"
        )
    return root
