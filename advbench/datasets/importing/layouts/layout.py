"""Describe a layout: what the dataset is, and what it found in a folder of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from advbench.datasets.decoding import MASK_RULE
from advbench.datasets.importing.defects import Defect
from advbench.datasets.importing.problems import Problem
from advbench.datasets.manifest import Kind, Split
from advbench.errors import AdvbenchError

UNKNOWN_LICENCE = {"id": "unknown", "redistribution": "no"}


@dataclass(frozen=True)
class Layout:
    """A dataset as it is published, or a way in which images and masks may lie.

    Attributes:
        images, masks: what the files are called and where they are, for messages.
        source: where to get what is missing.
        published: how many ``forged``, ``masks``, ``authentic`` there are; empty for a layout that
            is no dataset of its own. Masks without an image are faults where this is known.
        parts: for training and validation, where the dataset is for that; all is for test else.
    """

    name: str
    title: str
    images: str = "images"
    masks: str = "masks"
    source: str = ""
    published: Mapping[str, int] = field(default_factory=dict)
    licence: Mapping[str, str] = field(default_factory=lambda: UNKNOWN_LICENCE)
    citation: str = ""
    homepage: str = ""
    known_issues: tuple[str, ...] = ()
    parts: tuple[float, float] | None = None

    def require(self, root: Path, images: int, masks: int) -> None:
        """Refuse a folder without the layout's images or without its masks.

        Raises:
            AdvbenchError: names what was looked for, and what to do.
        """
        get = f" (from {self.source})" if self.source else ""
        if not images and not masks:
            raise AdvbenchError(
                f"{root}: holds no part of {self.title}: neither {self.images} nor {self.masks}; "
                "give the folder that holds both"
            )
        if not masks:
            raise AdvbenchError(
                f"{root}: {images} images but no {self.masks}; put the ground truth{get} "
                "there, or give the folder that holds both"
            )
        if not images:
            raise AdvbenchError(
                f"{root}: {masks} masks but no {self.images}; finish the download{get}, "
                "or give the folder that holds both"
            )


@dataclass(frozen=True)
class Candidate:
    """An image that may become a row.

    Attributes:
        masks: its mask files in order; empty for an authentic image.
        name: what its sample id is made from; the file's stem where empty.
        sources: the photographs that it was made from, as far as names tell.
        matched: how its mask was found.
        split: of this image, where the dataset says so.
        defect: what the project's table says of it.
        problem: why it cannot be imported, where that is known before it is decoded.
    """

    image: Path
    masks: tuple[Path, ...] = ()
    label: Literal[0, 1] = 1
    kind: Kind = "unknown"
    name: str = ""
    sources: tuple[str, ...] = ()
    mask_rule: str = MASK_RULE
    matched: str = "name"
    split: Split | None = None
    defect: Defect | None = None
    problem: Problem | None = None


@dataclass(frozen=True)
class Found:
    """Hold what was found in a folder.

    Attributes:
        root: absolute; all paths are below it.
        mask_files: how many mask files there are, used or not.
        orphans: masks that no image has.
        ignored: files that the layout has no place for, each with the reason.
    """

    layout: Layout
    root: Path
    candidates: tuple[Candidate, ...]
    mask_files: int
    orphans: tuple[Path, ...] = ()
    ignored: tuple[tuple[Path, str], ...] = ()
