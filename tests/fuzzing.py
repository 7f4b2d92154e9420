"""Damage files at random, and count what their readers make of it."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from advbench.errors import AdvbenchError

ODD_BYTES = (
    b"\xef\xbb\xbf", b"\0", b"\xff\xfe", b"9" * 5000, b"[" * 3000, b"{" * 3000, b'"', b"\\",
    b"\r", b"\n\n", b"nan", b"Infinity", b"-1", b"1e999", b"../../", b"~", b"\xed\xa0\x80",
    b"\x1b[31m", b",", b",,,,", b"=1+1", b"<img>", b"\xcc\x88", b"true", b"null", b"#",
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 10**300, 1e308, float("nan"), "", "x" * 5000, "\0", "../..", "~/x", [], {},
    [[]], {"": {}}, "\ud800", "é", " ", 0.5, "9" * 400,
)  # fmt: skip


def damaged(data: bytes, rng: random.Random) -> bytes:
    """One to four changes of bytes: flips, cuts, copies, odd pieces."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(changed) + 1)
        much = rng.choice((1, 2, 8, 100))
        kind = rng.randrange(6)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del changed[at:]
        elif kind == 2:
            del changed[at : at + much]
        elif kind == 3:
            changed[at:at] = changed[at : at + much]
        elif kind == 4:
            changed[at:at] = rng.choice(ODD_BYTES)
        else:
            changed[at : at + much] = rng.randbytes(much)
    return bytes(changed)


def restructured(data: bytes, rng: random.Random) -> bytes:
    """The JSON with an odd value, or without a key, in one place; else :func:`damaged`."""
    try:
        value = json.loads(data)
    except ValueError:
        return damaged(data, rng)
    places = list(_places(value))
    if not places or rng.random() < 0.4:
        return damaged(data, rng)
    holder, key = rng.choice(places)
    if rng.random() < 0.2:
        del holder[key]
    else:
        holder[key] = rng.choice(ODD_VALUES)
    return json.dumps(value).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


@dataclass
class Tally:
    """Inputs by what came of them.

    Attributes:
        taken: read, as a text that is changed may well be right.
        noticed: told in one line that names the file.
        silent: read as what was not written, though the file carries a checksum.
        foreign: other exceptions, with the seeds of their inputs.
    """

    taken: int = 0
    noticed: int = 0
    silent: int = 0
    foreign: Counter[str] = field(default_factory=Counter)

    @property
    def tried(self) -> int:
        return self.taken + self.noticed + self.silent + sum(self.foreign.values())


def fuzz(
    path: Path,
    read: Callable[[Path], Any],
    tries: int,
    *,
    seed: int = 0,
    same: Callable[[Any, Any], bool] | None = None,
    before: Callable[[Path], None] = lambda path: None,
) -> Tally:
    """Read a file in so many damaged forms.

    Args:
        read: raises :class:`AdvbenchError` or gives what was read.
        same: whether two results are one, for files that carry a checksum.
        before: prepares what belongs to the damaged file.
    """
    data, right, tally = path.read_bytes(), read(path), Tally()
    for number in range(tries):
        rng = random.Random(f"{path.name} {seed} {number}")
        path.write_bytes(restructured(data, rng))
        before(path)
        try:
            found = read(path)
        except AdvbenchError as error:
            line = str(error)
            if len(line) > 2000 or len(line.splitlines()) > 1:
                tally.foreign[f"no line: {line[:80]} (input {number})"] += 1
            else:
                tally.noticed += 1
        except Exception as error:
            tally.foreign[f"{type(error).__name__}: {str(error)[:80]} (input {number})"] += 1
        else:
            wrong = same is not None and path.read_bytes() != data and not same(found, right)
            tally.silent += wrong
            tally.taken += not wrong
    path.write_bytes(data)
    before(path)
    return tally
