"""Files are whole or absent, and what killed processes leave is cleared away."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from advbench.files import (
    file_sha256,
    remove_stale_temporaries,
    temporary_folder,
    write_atomically,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_written(tmp_path: Path) -> None:
    """All bytes, in folders that are made for it, and nothing beside it."""
    path = tmp_path / "a" / "b" / "x.json"
    write_atomically(path, b"\0\r\n\xff" * 1000)
    assert path.read_bytes() == b"\0\r\n\xff" * 1000
    write_atomically(path, b"")
    assert path.read_bytes() == b""
    assert names(path.parent) == ["x.json"]


@pytest.mark.parametrize("old", [None, b"old content"])
@pytest.mark.parametrize("error", [OSError(28, "disk full"), KeyboardInterrupt()], ids=repr)
def test_failure_leaves_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, old: bytes | None
) -> None:
    """Disk full or interrupted: what was there is still there, and no temporary file is left."""
    path = tmp_path / "x.json"
    if old is not None:
        path.write_bytes(old)

    def fail(descriptor: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)):
        write_atomically(path, b"new")
    assert names(tmp_path) == ([] if old is None else ["x.json"])
    if old is not None:
        assert path.read_bytes() == old


def test_on_disk_before_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are synced under another name, then renamed, then the folder is synced."""
    path = tmp_path / "x.json"
    path.write_bytes(b"old")
    seen: list[tuple[bytes, list[bytes]]] = []
    real = os.fsync

    def spy(descriptor: int) -> None:
        beside = [p.read_bytes() for p in tmp_path.iterdir() if p != path]
        seen.append((path.read_bytes(), beside))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    write_atomically(path, b"new")
    assert seen == [(b"old", [b"new"]), (b"new", [])]


def test_target_that_cannot_be_replaced(tmp_path: Path) -> None:
    """A folder of that name stays, and no temporary file is left beside it."""
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match="x"):
        write_atomically(tmp_path / "x", b"new")
    assert names(tmp_path) == ["x"]


def test_file_in_place_of_a_folder(tmp_path: Path) -> None:
    """A part of the path that is a file is told as an OSError, and stays."""
    (tmp_path / "a").write_bytes(b"file")
    with pytest.raises(OSError, match="a"):
        write_atomically(tmp_path / "a" / "x", b"new")
    assert (tmp_path / "a").read_bytes() == b"file"


CHILD = """
import os, sys
from pathlib import Path
from advbench import files
os.fsync = lambda descriptor: os.kill(os.getpid(), 9)
files.write_atomically(Path(sys.argv[1]), b"new" * 100)
"""


def test_killed_writer(tmp_path: Path) -> None:
    """Killed before the rename: the old file is whole, its leftover is cleared by the next run."""
    path = tmp_path / "x.json"
    path.write_bytes(b"old")
    child = subprocess.run([sys.executable, "-c", CHILD, str(path)], check=False, timeout=120)
    assert child.returncode == -9
    assert path.read_bytes() == b"old"
    assert len(names(tmp_path)) == 2
    remove_stale_temporaries(tmp_path)
    assert names(tmp_path) == ["x.json"]


WRITER = """
import os, sys
from pathlib import Path
from advbench import files
def fsync(descriptor):
    print("writing", flush=True)
    input()
os.fsync = fsync
files.write_atomically(Path(sys.argv[1]), b"new")
"""


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is in the middle of writing ``x``, and knows nothing of this one."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "x")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, start_new_session=True, **pipes) as process:
        assert process.stdout
        assert process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def test_what_another_process_writes_is_left_alone(tmp_path: Path, writing) -> None:
    """Its lock is what counts; in a container it would have any process number."""
    remove_stale_temporaries(tmp_path)
    write_atomically(tmp_path / "y", b"mine")
    assert len(names(tmp_path)) == 2
    writing.communicate("\n\n", timeout=60)
    assert names(tmp_path) == ["x", "y"]
    assert (tmp_path / "x").read_bytes() == b"new"


def test_stale_temporaries(tmp_path: Path, writing) -> None:
    """They go, at any depth, where nobody holds them; all else stays."""
    writing.kill()
    writing.wait()
    (left,) = names(tmp_path)
    kept = ["x.h5", "x.tmp-1", left.replace("advbench", "other"), f"{left}.h5", left.upper()]
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    for name in kept:
        (tmp_path / name).touch()
    for name in [*kept, left]:
        (deep / name).touch()
    (tmp_path / f"folder{left[1:]}").mkdir()
    remove_stale_temporaries(tmp_path)
    assert names(tmp_path) == sorted([*kept, "a", f"folder{left[1:]}"])
    assert names(deep) == sorted(kept)
    remove_stale_temporaries(tmp_path / "no such folder")


def test_the_next_write_into_the_folder_clears_it(tmp_path: Path, writing) -> None:
    """Whatever verb wrote there, and whatever file is written next."""
    writing.kill()
    writing.wait()
    write_atomically(tmp_path / "y", b"")
    assert names(tmp_path) == ["y"]


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are written all the same; nobody can say what is stale, so nothing is removed."""

    def flock(descriptor: Any, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    left = f"x.tmp-advbench-{'0' * 16}"
    (tmp_path / left).touch()
    write_atomically(tmp_path / "y", b"new")
    assert names(tmp_path) == [left, "y"]


def test_a_cleaner_that_comes_between_creation_and_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer takes another name."""
    real, calls = fcntl.flock, []

    def flock(descriptor: Any, operation: int) -> None:
        calls.append(operation)
        if calls == [fcntl.LOCK_SH]:
            remove_stale_temporaries(tmp_path)
        real(descriptor, operation)

    write_atomically(tmp_path / "x", b"old")
    monkeypatch.setattr(fcntl, "flock", flock)
    write_atomically(tmp_path / "x", b"new")
    assert calls.count(fcntl.LOCK_SH) == 2
    assert (tmp_path / "x").read_bytes() == b"new"
    assert names(tmp_path) == ["x"]


def test_temporary_folder(tmp_path: Path) -> None:
    """Renamed it stays, else it goes; another process cannot take it for stale."""
    with temporary_folder(tmp_path / "x") as folder:
        (folder / "a").write_bytes(b"1")
        remove_stale_temporaries(tmp_path)
        folder.rename(tmp_path / "x")
    assert names(tmp_path) == ["x"]
    with temporary_folder(tmp_path / "y") as folder:
        (folder / "a").write_bytes(b"1")
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_file_sum(tmp_path: Path, size: int) -> None:
    """SHA-256 of all bytes, beyond any buffer."""
    data = bytes(range(251)) * (size // 251) + bytes(size % 251)
    (tmp_path / "x").write_bytes(data)
    assert file_sha256(tmp_path / "x") == hashlib.sha256(data).hexdigest()
