"""The store of records: nothing lost to another run, nothing reused that is not whole."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from advbench.errors import AdvbenchError
from advbench.scores import store as records_store
from advbench.scores.records import read_cell, read_records
from advbench.scores.store import RecordStore

from .made import record


def key_of(names: tuple[str, ...]) -> str:
    return f"same settings: {', '.join(names)}"


def other_key(names: tuple[str, ...]) -> str:
    return f"other settings: {', '.join(names)}"


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore(tmp_path / "records")


@pytest.fixture
def path(store) -> Path:
    return store.path("mine", "ifosn", "original", "none")


def test_writers_at_once_lose_nothing(store, path) -> None:
    def write(start: int) -> None:
        store.add(path, [record(str(n), f1=n / 100) for n in range(start, start + 5)], key_of)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(0, 24, 3)))
    found = read_records(store.root).sort_values("f1")
    assert found.sample_id.tolist() == [f"mine/{n}" for n in range(26)]
    assert found.f1.tolist() == [n / 100 for n in range(26)]
    assert store.serving(path, ["mine/3", "mine/25"], key_of) is not None
    assert store.serving(path, ["mine/3", "mine/26"], key_of) is None


def test_records_of_other_settings_give_way(store, path) -> None:
    store.add(path, [record("a"), record("b")], other_key)
    assert store.serving(path, ["mine/a"], key_of) is None
    store.add(path, [record("b")], key_of)
    assert read_records(store.root).sample_id.tolist() == ["mine/b"]


def test_images_that_no_shard_holds_are_named(store, path) -> None:
    assert store.serving(path, ["mine/a"], key_of, there=set()) is None
    store.add(path, [record("a"), record("b")], key_of)
    there = {"mine/a", "mine/b", "mine/c"}
    assert store.serving(path, ["mine/a"], key_of, there=there) is not None
    with pytest.raises(AdvbenchError, match=r"scores 1 images that no shard holds \(mine/b\)"):
        store.serving(path, ["mine/a"], other_key, there={"mine/a"})


def test_a_file_is_read_once_for_all_keys(store, path, monkeypatch) -> None:
    store.add(path, [record("a")], key_of)
    read: list[object] = []
    plain = records_store.read_cell
    monkeypatch.setattr(records_store, "read_cell", lambda p: read.append(p) or plain(p))
    found = store.serving(path, ["mine/a"], other_key, key_of, there={"mine/a"})
    assert found is not None
    assert found[1] is key_of
    assert read == [path]


def test_a_copied_file_is_named(store, path) -> None:
    store.add(path, [record("a")], key_of)
    shutil.copy(path, path.with_name("copy.parquet"))
    with pytest.raises(AdvbenchError, match=r"twice, in .*copy\.parquet, .*none\.parquet; remove"):
        read_records(store.root)


def test_no_altered_byte_alters_a_record(store, path) -> None:
    """One byte after the other, the whole file over, footer included; and cuts."""
    store.add(path, [record(str(n), tp=n * n, f1=1 / (n + 1)) for n in range(8)], key_of)
    whole, (frame, key) = path.read_bytes(), read_cell(path)
    silent, rng = [], np.random.default_rng(0)
    places = range(0, len(whole), max(1, len(whole) // 300))
    for place in places:
        altered = bytearray(whole)
        altered[place] ^= int(rng.integers(1, 256))
        for data in (bytes(altered), whole[:place]):
            path.write_bytes(data)
            try:
                found, named = read_cell(path)
            except AdvbenchError:
                continue
            if not found.equals(frame) or named != key:
                silent.append(place)
    assert silent == []


def test_values_written_by_another_hand_are_noticed(store, path) -> None:
    store.add(path, [record("a", f1=0.25)], key_of)
    table = pq.read_table(path)
    place = table.column_names.index("f1")
    better = table.set_column(place, "f1", [[0.75]])
    pq.write_table(better.replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(AdvbenchError, match="damaged records"):
        store.serving(path, ["mine/a"], key_of)


def test_a_file_in_use_is_not_damaged(store, path) -> None:
    store.add(path, [record("a")], key_of)
    path.write_bytes(path.read_bytes()[:50])  # as in the middle of being written
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(AdvbenchError, match="in use by another program"):
            read_cell(path)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_faults_of_the_environment_are_told_as_such(number, store, path, monkeypatch) -> None:
    def read_table(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    store.add(path, [record("a")], key_of)
    monkeypatch.setattr(pq, "read_table", read_table)
    with pytest.raises(AdvbenchError, match="run the same command again") as told:
        read_records(store.root)
    assert "damaged" not in str(told.value)


def test_a_pipe_does_not_block(store, path) -> None:
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    with pytest.raises(AdvbenchError, match="not a file"):
        read_records(store.root)
