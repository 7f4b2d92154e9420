"""Generation: what is stored is what the attack gave, and nothing is made twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import advbench
from advbench.errors import AdvbenchError, DamagedShardError
from advbench.pipelines import making
from advbench.pipelines.generate import Request, generate
from advbench.shards.index import read_index
from advbench.shards.verify import verify


@pytest.fixture
def request_(small_dataset, toy, tmp_path) -> Request:
    attacks = [advbench.load_attack("fgsm"), advbench.load_attack("pgd", eps=[1, 3], iterations=3)]
    rows = small_dataset.select("test", label=1)
    return Request(small_dataset, rows, toy, attacks, tmp_path / "out", shard_size=2)


def test_stored_images_are_those_of_the_attack(request_, small_dataset, toy):
    generate(request_)
    stored = {
        (item["sample_id"], item["variant"]): item["image"]
        for item in advbench.open_dataset(request_.out)
    }
    assert len(stored) == 5 * 5
    for row in request_.rows:
        image, mask = small_dataset.image(row), small_dataset.mask(row)
        for attack in request_.attacks:
            alone = attack(
                toy,
                torch.from_numpy(image.copy()).permute(2, 0, 1)[None],
                torch.from_numpy(mask)[None],
                [row.sample_id],
            )
            for variant, images in alone.items():
                expected = images[0].permute(1, 2, 0).numpy()
                assert np.array_equal(stored[row.sample_id, variant], expected)


def test_plain_h5py_reads_a_shard(request_, small_dataset):
    generate(request_)
    shards = request_.out / "shards" / "tiny"
    with (
        h5py.File(shards / "originals-native" / "shard-000000.h5") as originals,
        h5py.File(shards / "toy" / "pgd-3" / "shard-000000.h5") as adversarial,
    ):
        image = originals["records/000001/image"][:]
        residual = adversarial["records/000001/residual"][:]
        assert adversarial["index/sample_id"][1] == originals["index/sample_id"][1]
    assert np.array_equal(image, small_dataset.image(request_.rows[1]))
    assert residual.dtype == np.int8
    assert np.abs(residual).max() == 3


def test_second_run_makes_nothing(request_):
    first = generate(request_)
    again = generate(request_)
    assert (first.made, first.reused) == (25, 0)
    assert (again.made, again.reused, again.passes) == (0, 25, 0)


def test_growing_equals_one_run(request_, tmp_path):
    """Fewer images and intensities first, in shards of another size: the same content."""
    generate(request_)
    grown = replace(request_, out=tmp_path / "grown", shard_size=3)
    small = [a.only([a.intensities[0]]) for a in request_.attacks]
    generate(replace(grown, rows=request_.rows[:2], attacks=small[:1]))
    generate(replace(grown, rows=request_.rows[:4], attacks=small))
    generate(grown)
    whole, pieces = verify(request_.out / "shards"), verify(grown.out / "shards")
    assert whole.problems == pieces.problems == []
    assert whole.content_sha256 == pieces.content_sha256


def test_order_and_missing_images_change_nothing(request_, tmp_path):
    generate(request_)
    reverse = replace(request_, out=tmp_path / "reverse", rows=request_.rows[::-1])
    generate(reverse)
    assert (
        verify(request_.out / "shards").content_sha256
        == verify(reverse.out / "shards").content_sha256
    )


def test_stopped_run_keeps_what_is_whole_and_resumes(request_, tmp_path, monkeypatch):
    """A failure while writing the third adversarial shard costs that shard alone."""
    generate(replace(request_, out=tmp_path / "whole"))
    real, calls = making.write_adversarial, []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(28, "No space left on device", "shard")
        real(*arguments)

    monkeypatch.setattr(making, "write_adversarial", failing)
    with pytest.raises(OSError, match="No space"):
        generate(request_)
    assert verify(request_.out / "shards").problems == []
    monkeypatch.setattr(making, "write_adversarial", real)
    resumed = generate(request_)
    assert 0 < resumed.reused < 25
    assert resumed.made + resumed.reused == 25
    assert (
        verify(request_.out / "shards").content_sha256
        == verify(tmp_path / "whole" / "shards").content_sha256
    )


def test_other_settings_in_the_same_folder_are_refused(request_, other_toy):
    generate(request_)
    slower = [advbench.load_attack("pgd", eps=[1, 3], iterations=4)]
    with pytest.raises(AdvbenchError, match=r"attack\.iterations 3 / 4.*another --out"):
        generate(replace(request_, attacks=slower))
    with pytest.raises(AdvbenchError, match="weights_sha256"):
        generate(replace(request_, victim=other_toy))
    with pytest.raises(AdvbenchError, match="seed 0 / 1"):
        generate(replace(request_, seed=1))
    assert generate(request_).made == 0


@pytest.mark.parametrize("part", ["pixels_sha256", "maskbits_sha256"])
def test_another_dataset_of_that_name_is_refused(part, request_):
    """Or the same images with corrected masks."""
    generate(request_)
    rows = [request_.rows[0].model_copy(update={part: "0" * 64})]
    with pytest.raises(AdvbenchError, match="another dataset named tiny"):
        generate(replace(request_, rows=rows))


def test_damaged_shard_is_named_and_repaired(request_, tmp_path):
    generate(request_)
    before = verify(request_.out / "shards").content_sha256
    for name in ("toy/pgd-3/shard-000002.h5", "originals-native/shard-000000.h5"):
        path = request_.out / "shards" / "tiny" / name
        data = bytearray(path.read_bytes())
        data[100] ^= 1
        path.write_bytes(bytes(data))
        assert f"tiny/{name}" in verify(request_.out / "shards").damaged
    with pytest.raises(DamagedShardError, match=r"shard-000000\.h5: damaged .* --repair"):
        generate(request_)
    summary = generate(replace(request_, repair=True))
    assert "tiny/originals-native/shard-000000.h5" in summary.repaired
    report = verify(request_.out / "shards")
    assert (report.problems, report.content_sha256) == ([], before)


def test_working_size_keeps_the_mask_native(small_dataset, square_toy, tmp_path):
    rows = small_dataset.select("test", label=1)
    attacks = [advbench.load_attack("fgsm", eps=2)]
    generate(Request(small_dataset, rows, square_toy, attacks, tmp_path / "out"))
    items = list(advbench.open_dataset(tmp_path / "out"))
    assert {item["image"].shape for item in items} == {(32, 32, 3)}
    assert {item["mask"].shape for item in items} == {(40, 48), (33, 40)}


def test_index_lists_every_shard(request_):
    generate(request_)
    root = request_.out / "shards"
    rows = read_index(root)
    assert {row["path"] for row in rows} == {
        path.relative_to(root).as_posix() for path in root.rglob("*.h5")
    }
    assert sum(int(row["n_records"]) for row in rows if row["kind"] == "adversarial") == 25


def test_dataset_survives_pickling(request_):
    """As the workers of a torch DataLoader need it."""
    import pickle

    generate(request_)
    dataset = advbench.open_dataset(request_.out)
    first = dataset[0]
    copy = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(copy[0]["image"], first["image"])


def test_missing_shards_are_told(tmp_path: Path):
    with pytest.raises(AdvbenchError, match="advbench generate"):
        advbench.open_dataset(tmp_path)
