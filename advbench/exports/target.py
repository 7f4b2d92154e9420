"""The folder of an export: written beside its place, put there whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from advbench.errors import AdvbenchError, from_os_error
from advbench.files import temporary_folder

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside ``target`` that becomes it at the end, or goes if anything fails.

    Raises:
        AdvbenchError: ``target`` is a file, a mount point or not empty; the disk is full.
    """
    _check(target)
    target = target.resolve()
    try:
        with temporary_folder(target.with_name(f".{target.name}")) as temporary:
            yield temporary
            # The name must not outlive a power cut that the bytes do not; one call for all files.
            os.sync()
            temporary.rename(target)
    except OSError as error:
        raise _in_one_line(error, target) from error


def _check(target: Path) -> None:
    if target.is_dir():
        if any(target.iterdir()):
            another = (target / "croissant.json").is_file()
            what = "holds another export" if another else "is not empty"
            raise AdvbenchError(f"--to {target}: {what}; give a new or an empty folder")
        if target.is_mount():
            raise AdvbenchError(f"--to {target}: a mount point; give a new folder inside it")
    elif target.exists():
        raise AdvbenchError(f"--to {target}: a file stands there; give a new or an empty folder")


def _in_one_line(error: OSError, target: Path) -> Exception:
    if error.errno in _FULL:
        return AdvbenchError(
            f"--to {target}: the disk is full or a file may not grow that large; nothing was "
            "exported; free some space or give --to elsewhere"
        )
    if error.errno == errno.ENOTEMPTY:
        return AdvbenchError(
            f"--to {target}: something else was put there meanwhile; give a new or an empty folder"
        )
    known = from_os_error(error)
    return AdvbenchError(str(known).replace("--out", "--to")) if known else error
