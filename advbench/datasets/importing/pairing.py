"""Masks for images by names that follow different generations of a dataset."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from advbench.texts import same_name

Key = Callable[[str], str]


@dataclass(frozen=True)
class Paired:
    """A mask, the stem it stands for, and the rule that found it."""

    mask: Path
    stem: str
    how: str


def _plain(stem: str) -> str:
    return same_name(stem).lower()


def pair(
    images: Iterable[Path],
    masks: Mapping[Path, str],
    renames: Mapping[str, str],
    swapped: Key,
    *,
    number: Key | None,
) -> dict[Path, Paired]:
    """Each image's mask: same stem, ids in another order, table of renames, running number.

    A later rule sees only what earlier ones left, and none decides where it leaves a choice.

    Args:
        masks: mask files with the stems that they stand for.
        renames: old stem → new stem.
        swapped: a key that does not depend on the order of ids; empty where there is none.
        number: the running number; None where one number may stand for several images.
    """
    rules: list[tuple[str, Key, Key]] = [
        ("name", _plain, _plain),
        ("ids swapped", swapped, swapped),
        ("rename table", lambda stem: renames.get(stem, ""), str),
    ]
    if number:
        rules.append(("number", number, number))
    found: dict[Path, Paired] = {}
    open_images, open_masks = list(images), dict(masks)
    for how, of_image, of_mask in rules:
        having: dict[str, list[Path]] = defaultdict(list)
        for mask, stem in open_masks.items():
            having[of_mask(stem)].append(mask)
        wanting: dict[str, list[Path]] = defaultdict(list)
        for image in open_images:
            wanting[of_image(image.stem)].append(image)
        for key, askers in wanting.items():
            choice = having.get(key, [])
            if key and len(askers) == len(choice) == 1:
                found[askers[0]] = Paired(choice[0], open_masks.pop(choice[0]), how)
        open_images = [image for image in open_images if image not in found]
    return found
