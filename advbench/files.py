"""Files and folders that are whole or absent: temporary name, fsync, rename.

Whoever writes a temporary file holds a lock on it: ``flock``, which the kernel drops when the
process ends and NFS passes on to other machines. One that nobody holds was left by a kill; it is
removed as soon as anything is written into that folder again.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from advbench.errors import AdvbenchError

TEMPORARY = re.compile(r".+\.tmp-advbench-[0-9a-f]{16}")
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_FOLDER = ".folder"


def as_part(name: str) -> str:
    """Spell a name such as ``imdlbenco:Mesorch`` as one part of a path on any system."""
    return re.sub(r"[^\w.+-]", "-", name)


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` so that ``path`` holds all of it or what it held before, even after a kill.

    Raises:
        OSError: the disk is full, the folder is read-only; the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _tidy(path.parent)
    with _temporary(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        # Still locked: a cleaner never takes it for stale, nor the new file for a temporary one.
        Path(file.name).replace(path)
    _fsync_folder(path.parent)


@contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Make an empty folder beside ``target``, removed at the end unless it was renamed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_temporaries(target.parent, recursive=False)
    with _temporary(target) as lock:
        folder = _folder_of(Path(lock.name))
        try:
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def temporaries(folder: Path, recursive: bool = True) -> Iterator[Path]:
    """Yield the temporary files in ``folder``, those that are being written included."""
    for path in folder.rglob("*") if recursive else folder.glob("*"):
        if TEMPORARY.fullmatch(path.name) and path.is_file():
            yield path


def remove_stale_temporaries(folder: Path, recursive: bool = True) -> None:
    """Remove temporary files that no process on any machine holds."""
    for path in temporaries(folder, recursive):
        with suppress(OSError), path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(_folder_of(path), ignore_errors=True)
            path.unlink()


def obstacle(path: Path, error: BaseException | None = None) -> AdvbenchError | None:
    """Say what keeps a file from being read now, where that is not the file's own fault.

    Args:
        error: what reading it came to.

    Returns:
        None where every byte can be read and nobody holds the file for writing.
    """
    if not isinstance(error, OSError) or error.errno is None:
        try:
            with path.open("rb") as file:
                try_lock(file, fcntl.LOCK_SH)  # as HDF5 does to read
                while file.read(1 << 20):
                    pass
            return None
        except OSError as found:
            error = found
    if error.errno in (errno.EAGAIN, errno.EDEADLK, errno.ETXTBSY, errno.EBUSY):
        why = "in use by another program; close it there and run the same command again"
    elif error.errno in (errno.EACCES, errno.EPERM):
        why = "permission denied; change that and run the same command again"
    elif error.errno == errno.ENOENT:
        why = "no such file; it may have been replaced meanwhile, run the same command again"
    else:
        why = f"cannot be read ({os.strerror(error.errno or 0)}); run the same command again later"
    return AdvbenchError(f"{path}: {why}")


def try_lock(file: BinaryIO, kind: int) -> None:
    """Lock an open file, where its file system has locks, without waiting.

    Args:
        kind: ``fcntl.LOCK_SH`` to read beside others, ``fcntl.LOCK_EX`` alone.

    Raises:
        OSError: somebody else holds it.
    """
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


def check_regular(path: Path) -> None:
    """Refuse what could block or never end: pipes, devices, folders.

    Raises:
        AdvbenchError: it is none, or is not there.
    """
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        raise obstacle(path, error) or error from error
    if not regular:
        raise AdvbenchError(f"{path}: not a file but a folder, a pipe or a device; remove it")


def user_path(text: str | Path) -> Path:
    """A path as a user gives it: ``~`` and ``~name`` are home folders.

    Raises:
        AdvbenchError: there is no such user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise AdvbenchError(f"{text}: there is no such home folder") from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=4096)
def _tidy(folder: Path) -> None:
    """Clear a folder of stale temporaries, once a process."""
    remove_stale_temporaries(folder, recursive=False)


@contextmanager
def _temporary(target: Path) -> Iterator[BinaryIO]:
    """Open a new file beside ``target``, locked, and removed at the end unless it was renamed."""
    while True:
        name = target.with_name(f"{target.name}.tmp-advbench-{secrets.token_hex(8)}")
        with name.open("x+b") as file:
            try:
                # Shared, since HDF5 locks what it reads and this may become a shard. Where locks
                # are not to be had, nobody can take the file for stale either.
                with suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_SH)
                if os.fstat(file.fileno()).st_nlink:
                    yield file
                    return
            finally:
                with suppress(OSError):
                    name.unlink(missing_ok=True)


def _folder_of(temporary: Path) -> Path:
    return temporary.with_name(temporary.name + _FOLDER)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
