"""Files that are whole or absent: temporary name, fsync, rename."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` so that ``path`` holds all of it or what it held before, even after a kill.

    Raises:
        OSError: the disk is full, the folder is read-only; the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _fsync_folder(path.parent)


def remove_stale_temporaries(folder: Path) -> None:
    """Remove temporary files left by processes that no longer run."""
    for temporary in folder.rglob("*.tmp-*"):
        process = temporary.name.rpartition("-")[2]
        if not re.fullmatch("[0-9]{1,9}", process):
            continue
        if int(process) != os.getpid() and not is_running(int(process)):
            with suppress(OSError):
                temporary.unlink()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_running(process: int) -> bool:
    """Whether a process of that number runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
