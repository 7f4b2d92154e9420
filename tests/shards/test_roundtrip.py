"""Shards give back what was put in, and notice what was changed."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from advbench.errors import DamagedShardError
from advbench.shards.index import read_index, write_index
from advbench.shards.reader import Originals, Shard, list_shards
from advbench.shards.schema import (
    ADVERSARIAL,
    ORIGINALS,
    AdversarialRecord,
    Original,
    Provenance,
    Settings,
)
from advbench.shards.verify import verify
from advbench.shards.writer import write_adversarial, write_originals

LEFT = "data/shard-0.h5.tmp-advbench-0123456789abcdef"
MADE = Provenance("0", "2000-01-01T00:00:00", {"torch": "0"}, "cpu")
VICTIM = {"name": "toy", "size": "small", "weights_sha256": "0" * 64, "weights": "random:0"}


def adversarial_settings(budget: int | None) -> Settings:
    attack = {"attack": "x", "eps": 2}
    return Settings(ADVERSARIAL, "data", "native", VICTIM, "x-2", attack, budget, 0, "fp32")


@pytest.fixture
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((9, 7, 3), (16, 16, 3))]


@pytest.fixture
def store(tmp_path: Path, images) -> Path:
    """A store of two originals and of two images within ±2 of them."""
    root = tmp_path / "shards"
    settings = Settings(ORIGINALS, "data", "native")
    originals = [
        Original(f"data/{i}", "splice", f"g{i}", image, image[..., 0] > 100, f"{i:064x}")
        for i, image in enumerate(images)
    ]
    write_originals(root / settings.folder / "shard-000000.h5", settings, originals, MADE)
    changed = [
        AdversarialRecord(f"data/{i}", image, near(image, 2, i)) for i, image in enumerate(images)
    ]
    settings = adversarial_settings(2)
    write_adversarial(root / settings.folder / "shard-000000.h5", settings, changed, MADE)
    write_index(root)
    return root


def near(image: np.ndarray, budget: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-budget, budget + 1, image.shape)
    return np.clip(image.astype(int) + noise, 0, 255).astype(np.uint8)


def test_originals_and_adversarial_images_come_back(store, images):
    originals = Originals(list_shards(store))
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
    write_adversarial(path, adversarial_settings(None), records, MADE)
    with Shard(path) as shard:
        assert shard.residual(0) is None
        assert np.array_equal(shard.adversarial(0, black), white)
        assert shard.residual(1).any() == False  # noqa: E712
    with h5py.File(path) as file:
        assert file["records/000000/image"].dtype == np.uint8


def test_writer_refuses_what_exceeds_the_budget(tmp_path, images):
    record = AdversarialRecord("data/0", images[0], near(images[0], 3, 1))
    with pytest.raises(ValueError, match="exceeds the budget of 2"):
        write_adversarial(tmp_path / "shard-0.h5", adversarial_settings(2), [record], MADE)
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
        write_adversarial(path, adversarial_settings(2), [chosen], made)
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


def test_index_can_be_rebuilt(store):
    rows = read_index(store)
    (store / "index.csv").unlink()
    write_index(store)
    assert read_index(store) == rows
