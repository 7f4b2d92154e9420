"""Lists of images in text files: one name a line, with or without its suffix."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path, PurePosixPath

from advbench.errors import AdvbenchError
from advbench.texts import read_text, same_name


def read_lines(path: Path) -> list[str]:
    """The lines that are not empty; blanks inside and behind a name are kept.

    Raises:
        AdvbenchError: no such file, no text, or nothing in it.
    """
    try:
        text = read_text(path)
    except AdvbenchError as error:
        raise AdvbenchError(f"{error}; give a text file, one name a line") from error
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        raise AdvbenchError(f"{path}: holds no names; give one a line")
    return [line.removesuffix("\r") for line in lines]


def spellings(line: str) -> tuple[str, ...]:
    """List what a line may mean, most literal first: as it is, trimmed, without suffix or
    folders."""
    line = same_name(line)
    trimmed = line.strip()
    last = PurePosixPath(trimmed).name
    return tuple(dict.fromkeys((line, trimmed, last, PurePosixPath(last).stem)))


def read_stems(path: Path, known: Container[str]) -> set[str]:
    """The known stems that a file lists.

    Raises:
        AdvbenchError: as :func:`read_lines`, or a line that is no known stem.
    """
    found = set()
    for line in read_lines(path):
        stem = next((spelling for spelling in spellings(line) if spelling in known), None)
        if stem is None:
            raise AdvbenchError(f"{path}: {line.strip()!r} is the name of no image; correct it")
        found.add(stem)
    return found
