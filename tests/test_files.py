"""Files are whole or absent, and what killed processes leave is cleared away."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from advbench.files import file_sha256, remove_stale_temporaries, write_atomically


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


@pytest.fixture
def dead() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def alive() -> Iterator[int]:
    """The id of a process that waits."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.communicate(b"\n")


def test_stale_temporaries(tmp_path: Path, dead: int, alive: int) -> None:
    """Those of ended processes go, at any depth; those of running ones and all else stay."""
    kept = [
        f"x.h5.tmp-{alive}",
        f"x.h5.tmp-{os.getpid()}",
        f"x.h5.tmp-{os.getppid()}",
        "x.h5.tmp-",
        "x.h5.tmp-abc",
        f"x.h5.tmp{dead}",
        f"x.tmp-{dead}.h5",
        "x.h5",
    ]
    gone = [f"x.h5.tmp-{dead}", f"y.json.tmp-{dead}"]
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    for name in kept + gone:
        (tmp_path / name).touch()
        (deep / name).touch()
    (tmp_path / f"folder.tmp-{dead}").mkdir()
    remove_stale_temporaries(tmp_path)
    assert names(tmp_path) == sorted([*kept, "a", f"folder.tmp-{dead}"])
    assert names(deep) == sorted(kept)


@pytest.mark.parametrize("ending", ["9" * 25, "²", "٣", "-1", "0", "1e3"])
def test_endings_that_are_no_process(tmp_path: Path, ending: str) -> None:
    """Odd file names do not stop a run."""
    (tmp_path / f"x.tmp-{ending}").touch()
    remove_stale_temporaries(tmp_path)
    remove_stale_temporaries(tmp_path / "no such folder")


def test_foreign_process_counts_as_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dead: int
) -> None:
    """Not allowed to signal it means that it is there."""

    def kill(process: int, signal: int) -> Any:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(os, "kill", kill)
    (tmp_path / f"x.tmp-{dead}").touch()
    remove_stale_temporaries(tmp_path)
    assert len(names(tmp_path)) == 1


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_file_sum(tmp_path: Path, size: int) -> None:
    """SHA-256 of all bytes, beyond any buffer."""
    data = bytes(range(251)) * (size // 251) + bytes(size % 251)
    (tmp_path / "x").write_bytes(data)
    assert file_sha256(tmp_path / "x") == hashlib.sha256(data).hexdigest()
