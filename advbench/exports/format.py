"""Define the formats of publication."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from advbench.exports import FORMATS
from advbench.exports.columns import Column, Row
from advbench.exports.croissant import Distribution
from advbench.exports.photographs import Photograph
from advbench.exports.selection import Group
from advbench.registry import load_target

SHARD_BYTES = 256 << 20


class Format(ABC):
    """Writes one format below a folder.

    It is given photographs group by group, in order of sample id, and tells of each adversarial
    image where it went.

    Attributes:
        locations: columns of ``metadata.csv`` that say where an image lies.
        bounded: whether its files have a largest size (``--shard-bytes``).
    """

    name: ClassVar[str]
    locations: ClassVar[Sequence[Column]]
    bounded: ClassVar[bool] = True

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        self.folder = folder
        self.shard_bytes = shard_bytes

    @abstractmethod
    def add(self, photograph: Photograph, with_images: bool) -> Iterator[tuple[str, Row]]:
        """Write a photograph and its adversarial images, or their residuals alone.

        Yields:
            of each adversarial image the line of its identity and its row, locations included.
        """

    @abstractmethod
    def end_group(self, group: Group) -> None:
        """All photographs of a group have been given."""

    @abstractmethod
    def distribution(self, sums: dict[str, str]) -> Distribution:
        """Describe the files for Croissant.

        Args:
            sums: sha256 of every file but ``*.png``, by path.
        """

    @abstractmethod
    def front_matter(self, groups: Sequence[Group]) -> dict[str, object]:
        """Give what stands as YAML at the head of the card; nothing where the format has none."""

    @abstractmethod
    def example(self, group: Group, with_images: bool) -> str:
        """Python code that loads one group, a few lines."""


def format_of(name: str) -> type[Format]:
    """The class of a format by its name in :data:`advbench.exports.FORMATS`."""
    found: type[Format] = load_target(FORMATS[name], f"format {name}")
    return found
