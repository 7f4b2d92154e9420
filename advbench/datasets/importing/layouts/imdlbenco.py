"""IMDLBenCo's JSON list: [["image", "mask"], ["image", "Negative"], ...]."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from advbench.datasets.importing.layouts.layout import Candidate, Found, Layout
from advbench.datasets.importing.problems import Problem
from advbench.errors import AdvbenchError
from advbench.texts import read_json

LAYOUT = Layout(name="imdlbenco", title="a JSON list of IMDLBenCo")
AUTHENTIC = "Negative"
_FORM = '[["image", "mask"], ["image", "Negative"], ...]'


def find(path: Path) -> Found:
    """The pairs that the list at ``path`` names, relative to the list's own folder.

    Raises:
        AdvbenchError: no such file, not of the form, or an image that stands in it twice.
    """
    entries = _entries(path)
    where = path.parent.resolve()
    pairs = [(_inside(where, image), _inside(where, mask)) for image, mask in entries]
    files = [file for image, mask in pairs for file in (image, mask) if file]
    root = where
    if not all(file.is_relative_to(where) for file in files):
        root = Path(os.path.commonpath([where, *(file.parent for file in files)]))
    stems = Counter(image.stem.casefold() for image, _ in pairs if image)
    candidates, seen = [], set()
    for image, mask in pairs:
        assert image is not None
        if image in seen:
            raise AdvbenchError(f"{path}: {image} stands in it twice; remove one of the entries")
        seen.add(image)
        name = image.stem
        if stems[image.stem.casefold()] > 1:
            name = "_".join(image.relative_to(root).with_suffix("").parts)
        missing = mask is not None and not os.path.isfile(mask)
        candidates.append(
            Candidate(
                image,
                masks=(mask,) if mask else (),
                label=1 if mask else 0,
                kind="unknown" if mask else "none",
                name=name,
                matched="list" if mask else "",
                problem=Problem("no-mask", f"its mask {mask} is not there", "add its mask")
                if missing
                else None,
            )
        )
    masks = len({mask for _, mask in pairs if mask and os.path.isfile(mask)})
    return Found(LAYOUT, root, tuple(candidates), masks)


def _inside(where: Path, name: str) -> Path | None:
    # Not resolved further: a link keeps its name, and is checked where it is opened.
    return None if name == AUTHENTIC else Path(os.path.normpath(where / name))


def _entries(path: Path) -> list[tuple[str, str]]:
    if not path.is_file():
        raise AdvbenchError(f"{path}: no such file; layout imdlbenco takes a JSON list {_FORM}")
    try:
        entries = read_json(path)
    except AdvbenchError as error:
        raise AdvbenchError(f"{error}; layout imdlbenco takes a list {_FORM}") from error
    if not isinstance(entries, list) or not entries:
        raise AdvbenchError(f"{path}: no list, or an empty one; write {_FORM}")
    for number, entry in enumerate(entries, start=1):
        if not (
            isinstance(entry, list)
            and len(entry) == 2
            and all(isinstance(part, str) and part.strip() and "\0" not in part for part in entry)
            and entry[0] != AUTHENTIC
        ):
            raise AdvbenchError(f"{path}: entry {number} is not of the form {_FORM}")
    return [(image, mask) for image, mask in entries]
