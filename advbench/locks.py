"""Keep runs apart that share a folder: processes, containers, machines on one file system."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from advbench.errors import AdvbenchError
from advbench.files import NO_LOCKS

LOCK_FILE = ".lock"


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a folder for writing; whoever comes later waits. Ends with the process, also if killed.

    The file ``.lock`` stays: removed, it could be locked under two of its inodes on NFS.

    Raises:
        AdvbenchError: the file system has no locks.
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno in NO_LOCKS:
            raise AdvbenchError(
                f"{folder}: its file system has no locks, which keep two runs apart; mount it with "
                "locks (flock), or give an --out elsewhere"
            ) from error
        raise
    try:
        yield
    finally:
        lock.release()
