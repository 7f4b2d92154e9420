"""Shards give back what was put in, and notice what was changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from advbench.errors import DamagedShardError
from advbench.shards.reader import Originals, Shard
from advbench.shards.schema import AdversarialRecord, Provenance
from advbench.shards.store import ShardStore
from advbench.shards.verify import verify
from advbench.shards.writer import encode

from .made import (
    ATTACKED,
    MADE,
    ORIGINAL,
    adversarial_settings,
    near,
    original,
    originals_settings,
)

LEFT = "data/shard-0.h5.tmp-advbench-0123456789abcdef"


def test_originals_and_adversarial_images_come_back(store, images):
    originals = Originals(ShardStore(store).entries())
    with Shard(store / "data/toy/x-2/shard-000000.h5") as shard:
        for i, image in enumerate(images):
            original, mask = originals.get(f"data/{i}")
            assert np.array_equal(original, image)
            assert np.array_equal(mask, image[..., 0] > 100)
            assert originals.about(f"data/{i}") == ("splice", f"g{i}")
            assert np.array_equal(shard.adversarial(i, original), near(image, 2, i))
            assert np.abs(shard.residual(i)).max() <= 2


def test_difference_that_does_not_fit_is_stored_whole(tmp_path):
    black, white = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    path = tmp_path / "shard-000000.h5"
    records = [AdversarialRecord("data/0", black, white), AdversarialRecord("data/1", white, white)]
    path.write_bytes(encode(adversarial_settings(None), records, MADE))
    with Shard(path) as shard:
        assert shard.residual(0) is None
        assert np.array_equal(shard.adversarial(0, black), white)
        assert shard.residual(1).any() == False  # noqa: E712
    with h5py.File(path) as file:
        assert file["records/000000/image"].dtype == np.uint8


def test_writer_refuses_what_exceeds_the_budget(tmp_path, images):
    record = AdversarialRecord("data/0", images[0], near(images[0], 3, 1))
    with pytest.raises(ValueError, match="exceeds the budget of 2"):
        ShardStore(tmp_path).add(adversarial_settings(2), [record], MADE, 0)
    assert list(tmp_path.iterdir()) == []


def test_every_chunk_is_one_image_and_needs_no_plugin(store):
    for path in store.rglob("*.h5"):
        with h5py.File(path) as file:
            arrays = [a for group in file["records"].values() for a in group.values()]
            assert all(a.chunks == a.shape for a in arrays)
            assert {(a.compression, a.fletcher32) for a in arrays} == {("gzip", True)}


def test_content_hash_covers_content_alone(tmp_path, images):
    """Dates and costs change the file, not the content's hash; a pixel changes it."""
    paths = [tmp_path / f"shard-{i}.h5" for i in range(3)]
    later = Provenance("1", "2001-01-01T00:00:00", {}, "gpu", 9, 9.0)
    record = AdversarialRecord("data/0", images[0], near(images[0], 2, 1))
    other = AdversarialRecord("data/0", images[0], near(images[0], 2, 2))
    for path, chosen, made in zip(paths, (record, record, other), (MADE, later, MADE), strict=True):
        path.write_bytes(encode(adversarial_settings(2), [chosen], made))
    hashes = []
    for path in paths:
        with Shard(path) as shard:
            hashes.append(shard.content_sha256)
    assert hashes[0] == hashes[1] != hashes[2]
    assert paths[0].read_bytes() != paths[1].read_bytes()


def test_sound_store_has_no_problems(store):
    report = verify(store)
    assert (report.problems, report.shards, report.images) == ([], 2, 4)


def test_a_flipped_byte_anywhere_is_found(store):
    """100 random bytes of both shards, one flipped at a time."""
    rng = np.random.default_rng(1)
    paths = sorted(store.rglob("*.h5"))
    for trial in range(100):
        path = paths[trial % 2]
        whole = path.read_bytes()
        data = bytearray(whole)
        data[rng.integers(0, len(data))] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(data))
        assert path.relative_to(store).as_posix() in verify(store).damaged
        path.write_bytes(whole)
    assert verify(store).problems == []


def test_flipped_pixels_are_found_without_the_index(store):
    """The shard's own sums protect every image, also where index.csv is gone."""
    path = store / "data/toy/x-2/shard-000000.h5"
    with h5py.File(path) as file:
        offset = file["records/000001/residual"].id.get_chunk_info(0).byte_offset
    data = bytearray(path.read_bytes())
    data[offset + 20] ^= 4
    path.write_bytes(bytes(data))
    (store / "index.csv").unlink()
    assert "data/toy/x-2/shard-000000.h5" in verify(store).damaged
    with Shard(path) as shard, pytest.raises(DamagedShardError, match="--repair"):
        shard.residual(1)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda root: (root / "data/toy/x-2/shard-000000.h5").unlink(), "file is missing"),
        (lambda root: _copy(root, "data/toy/x-2/shard-000009.h5"), "not in the index"),
        (lambda root: _copy(root, "data/toy/x-3/shard-000000.h5"), "belongs into data/toy/x-2"),
        (lambda root: (root / LEFT).write_bytes(b"?"), "interrupted run"),
        (lambda root: (root / "index.csv").unlink(), "no index"),
        (lambda root: (root / "data/toy/x-2/shard-000000.h5").write_bytes(b""), "damaged"),
        (
            lambda root: (root / "data/originals-native/shard-000000.h5").unlink(),
            "original of data/0 is missing",
        ),
    ],
)
def test_what_does_not_belong_is_reported(store, change, problem):
    change(store)
    assert any(problem in text for _, text in verify(store).problems)


def _copy(root: Path, name: str) -> None:
    target = root / name
    target.parent.mkdir(exist_ok=True)
    target.write_bytes((root / "data/toy/x-2/shard-000000.h5").read_bytes())


def test_long_names_of_source_groups_stay_whole(tmp_path, images):
    """And text that is no ASCII."""
    groups = ["ä" * 70 + str(number) for number in range(2)]
    records = [original(i, im, source_group=groups[i]) for i, im in enumerate(images)]
    store = ShardStore(tmp_path)
    store.add(originals_settings(), records, MADE, 0)
    found = store.originals("data", "native")
    assert [found.about(f"data/{i}")[1] for i in range(2)] == groups


COLUMNS = ["kind", "source_group", "source_sha256", "height", "linf", "psnr", "zero_gradients"]
COLUMNS += ["loss_first", "loss_last", "sample_id", "encoding", "image_sha256", "original_sha256"]


@pytest.mark.parametrize("column", COLUMNS)
def test_no_column_can_be_changed(column, store):
    """Though HDF5's own sums are right, since it is HDF5 that writes."""
    for path in sorted(store.rglob("*.h5")):
        with h5py.File(path, "r+") as file:
            if column not in file["index"]:
                continue
            values = file["index"][column]
            values[0] = b"other" if values.dtype.kind == "S" else values[0] + 1
        with pytest.raises(DamagedShardError, match="index are not what was written"):
            Shard(path)


@pytest.mark.parametrize("name", ["settings", "settings_sha256", "provenance", "kind", "n_records"])
def test_no_attribute_can_be_changed(name, store):
    for path in (store / ATTACKED, store / ORIGINAL):
        with h5py.File(path, "r+") as file:
            value = file.attrs[name]
            file.attrs[name] = (
                value + 1 if name == "n_records" else value.replace("0", "1", 1) + " "
            )
        with pytest.raises(DamagedShardError):
            Shard(path)


def as_first_schema(path: Path) -> None:
    """Write a shard anew as the first version had it."""
    with Shard(path) as shard:
        lines = []
        columns = ("image_sha256", "mask_sha256")
        if shard.settings.kind == "adversarial":
            columns = ("original_sha256", "image_sha256")
        for number, name in enumerate(shard.sample_ids):
            lines.append(",".join([name, *(shard.sha256_of(number, c) for c in columns)]))
        content = "\n".join([shard.settings.sha256, *sorted(lines)])
    with h5py.File(path, "r+") as file:
        file.attrs["schema"] = "advbench.shard/1"
        file.attrs["content_sha256"] = hashlib.sha256(content.encode()).hexdigest()
        del file.attrs["provenance_sha256"]


def test_the_first_schema_is_read(store, images):
    paths = [store / ORIGINAL, store / ATTACKED]
    before = verify(store).content_sha256
    for path in paths:
        as_first_schema(path)
    ShardStore(store).write_index(anew=True)
    report = verify(store)
    assert (report.problems, report.content_sha256) == ([], before)
    with Shard(paths[1]) as shard:
        assert np.array_equal(shard.adversarial(0, images[0]), near(images[0], 2, 0))


@pytest.mark.parametrize("column", ["linf", "psnr"])
def test_columns_that_the_first_schema_did_not_hash_are_compared(column, store, images):
    path = store / ATTACKED
    as_first_schema(path)
    with h5py.File(path, "r+") as file:
        file["index"][column][1] -= 1
    with Shard(path) as shard, pytest.raises(DamagedShardError, match="index says"):
        shard.adversarial(1, images[1])
