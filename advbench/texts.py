"""Read text, JSON and TOML as users write them: bounded, with or without a byte-order mark."""

from __future__ import annotations

import json
import tomllib
import unicodedata
from pathlib import Path
from typing import Any

from advbench.errors import AdvbenchError, first_line

MOST_BYTES = 1 << 28


def read_text(path: Path) -> str:
    """The text of an ordinary file in UTF-8, without a byte-order mark.

    Raises:
        AdvbenchError: no such file, no ordinary one, a huge one, or no UTF-8.
        OSError: it cannot be read.
    """
    if not path.is_file():
        what = "no ordinary file" if path.exists() else "no such file"
        raise AdvbenchError(f"{path}: {what}")
    if path.stat().st_size > MOST_BYTES:
        raise AdvbenchError(f"{path}: larger than {MOST_BYTES >> 20} MiB; give another file")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AdvbenchError(f"{path}: no UTF-8 text ({error.reason}); save it as UTF-8") from error


def read_json(path: Path) -> Any:
    """Read what a JSON file holds.

    Raises:
        AdvbenchError: as :func:`read_text`, or no JSON, as with numbers of thousands of digits or
            thousands of brackets.
    """
    text = read_text(path)
    try:
        return parse_json(text)
    except ValueError as error:
        raise AdvbenchError(f"{path}: no JSON file ({error})") from error


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none, or is nested too deep.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Read what a TOML file holds.

    Raises:
        AdvbenchError: as :func:`read_json`.
    """
    text = read_text(path)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else first_line(error)
        raise AdvbenchError(f"{path}: no TOML file ({reason})") from error


def same_name(text: str) -> str:
    """A name as it is compared: a letter with an accent is one character (NFC) on Linux and Windows
    and may be two (NFD) on macOS."""
    return unicodedata.normalize("NFC", text)
