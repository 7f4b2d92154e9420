"""The files of a dataset's folder, without what systems and tools leave between them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from advbench.errors import AdvbenchError

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp"))
_CLUTTER = frozenset(("thumbs.db", "desktop.ini"))
# Archivers', network disks', CAT-Net's converters' and our own.
_CLUTTER_FOLDERS = frozenset(("__macosx", "@eadir", "0jpg", "advbench-data"))


@dataclass(frozen=True)
class Walk:
    """Image files in order of path, and what else lies there with the reason to ignore it."""

    images: tuple[Path, ...]
    ignored: tuple[tuple[Path, str], ...]


def existing_folder(path: Path) -> Path:
    """The absolute path of a folder.

    Raises:
        AdvbenchError: it is none.
    """
    if not path.is_dir():
        raise AdvbenchError(f"{path}: no such folder")
    return path.resolve()


def is_clutter(name: str) -> bool:
    """Tell whether a file belongs to the operating system."""
    return name.lower() in _CLUTTER or name.startswith(".")


def walk(root: Path) -> Walk:
    """All files below ``root``, whatever their depth; links to folders are not followed."""
    images: list[Path] = []
    ignored: list[tuple[Path, str]] = []
    for where, folders, files in os.walk(root):
        folder = Path(where)
        for name in folders:
            if (folder / name).is_symlink():
                ignored.append((folder / name, "a link to a folder"))
        folders[:] = sorted(name for name in folders if not _skipped(folder / name))
        for name in sorted(files):
            if is_clutter(name):
                continue
            path = folder / name
            if path.suffix.lower() in IMAGE_SUFFIXES:
                images.append(path)
            else:
                ignored.append((path, "no image by its name"))
    return Walk(tuple(sorted(images)), tuple(sorted(ignored)))


def _skipped(folder: Path) -> bool:
    name = folder.name.lower()
    # A folder with a manifest is what an import wrote, with masks that look like images.
    return name in _CLUTTER_FOLDERS or name.startswith(".") or (folder / "manifest.csv").is_file()
