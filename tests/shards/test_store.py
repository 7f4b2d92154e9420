"""The store: each image once, losses missed, and nothing removed that is merely in use."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from filelock import FileLock

from advbench.errors import AdvbenchError, DamagedShardError
from advbench.shards import plain
from advbench.shards.index import read_index
from advbench.shards.reader import Shard
from advbench.shards.store import ShardStore
from advbench.shards.verify import verify
from advbench.shards.writer import encode
from tests.killing import in_new_process

from .made import (
    ATTACKED,
    MADE,
    ORIGINAL,
    adversarial_settings,
    attacked,
    original,
    originals_settings,
)

SIDE = (6, 5, 3)


def pictures(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    return [rng.integers(0, 256, SIDE, dtype=np.uint8) for _ in range(count)]


def test_many_writers_at_once_write_each_image_once(tmp_path: Path) -> None:
    """Each with shards of its own size, in an order of its own."""
    images, root = pictures(24), tmp_path / "shards"
    records = [original(number, image) for number, image in enumerate(images)]

    def write(size: int) -> None:
        store = ShardStore(root)
        order = records if size % 2 else records[::-1]
        for start in range(0, len(order), size):
            store.add(originals_settings(), order[start : start + size], MADE, start)
        store.write_index()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, (1, 2, 3, 5, 7, 24)))
    assert verify(root).problems == []
    held = [name for entry in ShardStore(root).entries() for name in entry.sample_ids]
    assert sorted(held) == sorted(record.sample_id for record in records)


def test_two_settings_at_once_do_not_mix(store, images) -> None:
    """The second to come is refused, though it saw an empty folder when it began."""
    with pytest.raises(AdvbenchError, match=r"made with other settings \(seed 0 / 1\)"):
        ShardStore(store).add(adversarial_settings(2, seed=1), [attacked(0, images[0])], MADE, 7)
    assert verify(store).problems == []


def test_what_is_there_is_not_written_again(store, images) -> None:
    before = {path: path.read_bytes() for path in store.rglob("*.h5")}
    later = replace(MADE, created_utc="2001-01-01T00:00:00")
    records = [attacked(number, image) for number, image in enumerate(images)]
    ShardStore(store).add(adversarial_settings(2), records, later, 5)
    assert {path: path.read_bytes() for path in store.rglob("*.h5")} == before


@pytest.fixture
def doubled(store) -> Path:
    """One shard copied, and one that holds an image of another beside a new one."""
    (store / ATTACKED).with_name("shard-000009.h5").write_bytes((store / ATTACKED).read_bytes())
    third = original(2, pictures(1)[0])
    with Shard(store / ORIGINAL) as shard:
        again = shard.record(1)
    data = encode(originals_settings(), [again, third], MADE)
    (store / ORIGINAL).with_name("shard-000001.h5").write_bytes(data)
    return store


def test_an_image_that_is_there_twice_is_found_and_mended(doubled) -> None:
    problems = verify(doubled).problems
    for name, number, sample in ((ATTACKED, 9, "data/0"), (ORIGINAL, 1, "data/1")):
        stands = name.replace("000000", f"{number:06d}")
        texts = [text for path, text in problems if path == stands]
        assert any(f"holds {sample}, as {name} does; run the generate" in text for text in texts)
    store = ShardStore(doubled)
    with pytest.raises(AdvbenchError, match="--repair"):
        store.entries()
    repaired = store.repair(originals_settings()) + store.repair(adversarial_settings(2))
    assert len(repaired) == 2
    store.write_index()
    report = verify(doubled)
    assert (report.problems, report.images) == ([], 5)
    with Shard((doubled / ORIGINAL).with_name("shard-000001.h5")) as shard:
        assert shard.sample_ids == ["data/2"]


def test_a_shard_in_the_wrong_place_is_named(store) -> None:
    wrong = store / "data/toy/x-3/shard-000000.h5"
    wrong.parent.mkdir()
    wrong.write_bytes((store / ATTACKED).read_bytes())
    with pytest.raises(AdvbenchError, match=r"belongs into .*x-2; move it there, or remove it"):
        ShardStore(store).entries()


def test_a_row_does_not_outlive_its_file(store, images) -> None:
    """Made again with the same content and size at another time."""
    (store / ATTACKED).unlink()
    later = replace(MADE, created_utc="2999-01-01T00:00:00")
    shards = ShardStore(store)
    records = [attacked(number, image) for number, image in enumerate(images)]
    size = int(read_index(store)[ATTACKED]["bytes"])
    shards.add(adversarial_settings(2), records, later, 0)
    assert (store / ATTACKED).stat().st_size == size
    shards.write_index()
    assert verify(store).problems == []


def test_the_remedy_for_other_bytes_works(store) -> None:
    """A shard of the same content that was put there by hand."""
    with Shard(store / ATTACKED) as shard:
        originals = ShardStore(store).originals("data", "native")
        records = [shard.record(i, originals.get(f"data/{i}")[0]) for i in range(2)]
    later = replace(MADE, created_utc="2999-01-01T00:00:00")
    (store / ATTACKED).write_bytes(encode(adversarial_settings(2), records, later))
    ShardStore(store).write_index()
    ((name, text),) = verify(store).problems
    assert name == ATTACKED
    assert "differs from the sha256 in the index" in text
    assert "--repair" in text
    shards = ShardStore(store)
    assert shards.repair(adversarial_settings(2)) == []
    shards.write_index()
    assert verify(store).problems == []


def test_a_lost_shard_is_missed_until_it_is_there_again(store, images) -> None:
    (store / ATTACKED).unlink()
    shards = ShardStore(store)
    for _ in range(2):
        with pytest.raises(AdvbenchError, match=rf"missing \({ATTACKED}\), with 2 images; run"):
            shards.compare()
        shards.write_index()  # as after any other run
    shards.compare(lambda row: row["kind"] == "originals")
    shards.add(adversarial_settings(2), [attacked(0, images[0])], MADE, 3)
    shards.write_index()
    with pytest.raises(AdvbenchError, match="missing"):
        shards.compare()
    shards.add(adversarial_settings(2), [attacked(1, images[1])], MADE, 1)
    shards.write_index()
    shards.compare()
    assert verify(store).problems == []


def test_nothing_to_do_writes_nothing(store, tmp_path) -> None:
    """So a store that is read-only serves, and a failed run leaves no empty one."""
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    ShardStore(store).write_index()
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before
    ShardStore(tmp_path / "none").write_index()
    assert not (tmp_path / "none").exists()


def test_a_lost_shard_can_be_given_up(store, advbench_command) -> None:
    (store / ATTACKED).unlink()
    out = store.parent
    assert advbench_command("verify", "--out", out).code == 1
    ran = advbench_command("verify", "--out", out, "--reindex")
    assert (ran.code, "all sound" in ran.out) == (0, True)
    ShardStore(store).compare()


def test_a_damaged_store_is_not_taken_as_it_is(store, advbench_command) -> None:
    (store / ATTACKED).write_bytes(b"")
    before = (store / "index.csv").read_bytes()
    assert advbench_command("verify", "--out", store.parent, "--reindex").code == 1
    assert (store / "index.csv").read_bytes() == before


def test_another_shard_than_the_index_lists_is_named(store, images) -> None:
    other = [attacked(number, image, loss_last=7.0) for number, image in enumerate(images)]
    (store / ATTACKED).write_bytes(encode(adversarial_settings(2), other, MADE))
    with pytest.raises(AdvbenchError, match=rf"not those that index.csv lists \({ATTACKED}\)"):
        ShardStore(store).compare()


def test_every_damage_of_the_index_is_found(store) -> None:
    """Bytes changed, removed, added, and cuts."""
    path, rng = store / "index.csv", np.random.default_rng(2)
    whole = path.read_bytes()
    damaged = []
    for _ in range(60):
        data = bytearray(whole)
        data[rng.integers(len(data))] ^= int(rng.integers(1, 256))
        damaged.append(bytes(data))
    for _ in range(20):
        place = int(rng.integers(len(whole)))
        damaged.append(whole[:place] + whole[place + 1 :])
        damaged.append(whole[:place] + bytes([int(rng.integers(256))]) + whole[place:])
    damaged += [whole[:end] for end in range(0, len(whole), 60)]
    for data in damaged:
        if data != whole:
            path.write_bytes(data)
            assert verify(store).problems, data
    path.write_bytes(whole)
    assert verify(store).problems == []


@pytest.mark.parametrize(
    "data", [b"", b"path\n", b"\xff\xfe", b'a,"b\n', b"path,sha256\n1,2,3\n", b"\0" * 9]
)
def test_an_index_that_is_none_names_what_mends_it(data, store, advbench_command) -> None:
    (store / "index.csv").write_bytes(data)
    for act in (ShardStore(store).compare, ShardStore(store).check_index):
        with pytest.raises(AdvbenchError, match=r"index\.csv: no valid index .*verify --reindex"):
            act()
    assert advbench_command("verify", "--out", store.parent, "--reindex").code == 0
    ShardStore(store).compare()


@pytest.fixture
def in_use(store) -> Iterator[Path]:
    """A shard that another program has open for writing."""
    code = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); input()"
    command = [sys.executable, "-c", code, str(store / ATTACKED)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout
        assert process.stdout.readline() == "open\n"
        yield store
        process.kill()


def test_a_shard_in_use_is_not_damaged(in_use) -> None:
    """It is told as such, and repair leaves it."""
    before = (in_use / ATTACKED).read_bytes()
    for act in (
        lambda: Shard(in_use / ATTACKED),
        lambda: ShardStore(in_use).repair(adversarial_settings(2)),
    ):
        with pytest.raises(AdvbenchError, match="in use by another program") as refused:
            act()
        assert not isinstance(refused.value, DamagedShardError)
    assert (in_use / ATTACKED).read_bytes() == before
    (text,) = [text for name, text in verify(in_use).problems if name == ATTACKED]
    assert "in use" in text
    assert "damaged" not in text


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE, errno.ESTALE])
def test_faults_of_the_environment_are_told_as_such(number, store, monkeypatch) -> None:
    def open_plain(source: object) -> h5py.File:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(plain, "open_plain", open_plain)
    with pytest.raises(AdvbenchError, match="run the same command again") as refused:
        ShardStore(store).repair(adversarial_settings(2))
    assert not isinstance(refused.value, DamagedShardError)
    assert (store / ATTACKED).exists()


def test_a_damaged_shard_that_somebody_reads_is_not_removed(store) -> None:
    path = store / ATTACKED
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data[:-3])
    with path.open("rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        with pytest.raises(AdvbenchError, match="in use"):
            ShardStore(store).repair(adversarial_settings(2))
    assert path.exists()
    assert ShardStore(store).repair(adversarial_settings(2)) == [ATTACKED]
    assert not path.exists()


def test_a_file_system_without_locks_is_refused(store, images, monkeypatch) -> None:
    def acquire(self: FileLock) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with pytest.raises(AdvbenchError, match=r"has no locks.*--out elsewhere"):
        ShardStore(store).add(originals_settings(), [original(5, images[0])], MADE, 5)


KILLED = """
import sys
from pathlib import Path
from advbench.shards.store import ShardStore
from tests.killing import at_every_write
from tests.shards.made import MADE, original, originals_settings
from tests.shards.test_store import pictures

records = [original(number, image) for number, image in enumerate(pictures(3))]

def write(number):
    store = ShardStore(Path(sys.argv[1]) / str(number))
    for number, record in enumerate(records):
        store.add(originals_settings(), [record], MADE, number)
    store.write_index()

print(at_every_write(write))
"""


def test_killed_at_every_write(tmp_path: Path) -> None:
    """What is there is whole, and the next run completes it."""
    kills = int(in_new_process(KILLED, tmp_path))
    assert kills >= 8
    records = [original(number, image) for number, image in enumerate(pictures(3))]
    for kill in range(kills):
        store = ShardStore(tmp_path / str(kill))
        store.entries()
        store.tidy()
        store.add(originals_settings(), records, MADE, 9)
        store.write_index()
        report = verify(store.root)
        assert (report.problems, report.images) == ([], 3)
