"""Tell faults of the input: one clear line, exit code 2."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

from advbench.escaping import visible

_LONGEST = 1500


class AdvbenchError(Exception):
    """A fault of the input or the environment, told in one line that names the remedy."""

    def __init__(self, message: str) -> None:
        # Names of files and tensors may hold line breaks and codes that steer a terminal, and a
        # value that is quoted may be a whole book.
        line = visible(message)
        long = len(line) > _LONGEST
        super().__init__(f"{line[: _LONGEST - 300]} … {line[-200:]}" if long else line)


class DamagedShardError(AdvbenchError):
    """A shard whose bytes are not those that were written."""


class NoNetworkError(AdvbenchError):
    """A defense that is trained for a victim has no network for this one."""


_OS_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again, it resumes",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again, "
    "it resumes",
    errno.EFBIG: "the file may not grow that large (file-size limit); raise the limit and run the "
    "same command again, it resumes",
    errno.EROFS: "the folder is on a read-only file system; give a writable --out",
    errno.EACCES: "permission denied; give a folder that you may write to",
    errno.EPERM: "operation not permitted; give a folder that you may write to",
    errno.ENOTDIR: "a part of the path is a file, not a folder; give another path",
    errno.EEXIST: "a file stands where a folder is needed; give another path",
}


def from_os_error(error: OSError) -> AdvbenchError | None:
    """The one-line form of an operating-system error with a known remedy, else None."""
    remedy = _OS_REMEDIES.get(error.errno or 0)
    if remedy is None:
        return None
    where = error.filename or "output"
    return AdvbenchError(f"{where}: {remedy}")


def first_fault(error: ValidationError, known: Iterable[str] = ()) -> str:
    """Tell the first fault that pydantic found as ``field: what is wrong``.

    Args:
        known: the names there are, told where one is unknown.
    """
    fault = error.errors()[0]
    # Without places in lists, and without the member of a union that was tried.
    names = [part for part in fault["loc"] if isinstance(part, str)]
    field = ".".join(name for name in names if name not in ("float", "int", "str"))
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        message = f"unknown; there are {', '.join(known) or 'none'}"
    message = message[:1].lower() + message[1:]
    return f"{field}: {message}" if field else message


def first_line(error: BaseException) -> str:
    """The first line of an error's text, its type's name where it has none."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the nearest of the known names, or all of them where none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.4)
    return f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(names)}"
