"""Generation: what is stored is what the attack gave, and nothing is made twice."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import advbench
from advbench.attacks import base
from advbench.datasets.dataset import open_folder
from advbench.datasets.importing.layouts.folder import import_folder
from advbench.errors import AdvbenchError, DamagedShardError
from advbench.pipelines import making
from advbench.pipelines.generate import GenerationCounts, GenerationJob, generate, missing_tasks
from advbench.shards.index import read_index
from advbench.shards.verify import verify


@pytest.fixture
def job(small_dataset, toy, tmp_path) -> GenerationJob:
    attacks = [advbench.load_attack("fgsm"), advbench.load_attack("pgd", eps=[1, 3], iterations=3)]
    rows = small_dataset.select("test", label=1)
    return GenerationJob(small_dataset, rows, toy, attacks, tmp_path / "out", shard_size=2)


def test_stored_images_are_those_of_the_attack(job, small_dataset, toy):
    generate(job)
    stored = {
        (item["sample_id"], item["variant"]): item["image"]
        for item in advbench.open_dataset(job.out)
    }
    assert len(stored) == 5 * 5
    for row in job.rows:
        image, mask = small_dataset.image(row), small_dataset.mask(row)
        for attack in job.attacks:
            alone = attack(
                toy,
                torch.from_numpy(image.copy()).permute(2, 0, 1)[None],
                torch.from_numpy(mask)[None],
                [row.sample_id],
            )
            for variant, images in alone.items():
                expected = images[0].permute(1, 2, 0).numpy()
                assert np.array_equal(stored[row.sample_id, variant], expected)


def test_plain_h5py_reads_a_shard(job, small_dataset):
    generate(job)
    shards = job.out / "shards" / "tiny"
    with (
        h5py.File(shards / "originals-native" / "shard-000000.h5") as originals,
        h5py.File(shards / "toy" / "pgd-3" / "shard-000000.h5") as adversarial,
    ):
        image = originals["records/000001/image"][:]
        residual = adversarial["records/000001/residual"][:]
        assert adversarial["index/sample_id"][1] == originals["index/sample_id"][1]
    assert np.array_equal(image, small_dataset.image(job.rows[1]))
    assert residual.dtype == np.int8
    assert np.abs(residual).max() == 3


def test_second_run_makes_nothing(job):
    first = generate(job)
    again = generate(job)
    assert (first.made, first.reused) == (25, 0)
    assert (again.made, again.reused, again.passes) == (0, 25, 0)


def test_growing_equals_one_run(job, tmp_path):
    """Fewer images and intensities first, in shards of another size: the same content."""
    generate(job)
    grown = replace(job, out=tmp_path / "grown", shard_size=3)
    small = [a.only([a.intensities[0]]) for a in job.attacks]
    generate(replace(grown, rows=job.rows[:2], attacks=small[:1]))
    generate(replace(grown, rows=job.rows[:4], attacks=small))
    generate(grown)
    whole, pieces = verify(job.out / "shards"), verify(grown.out / "shards")
    assert whole.problems == pieces.problems == []
    assert whole.content_sha256 == pieces.content_sha256


@pytest.fixture
def grown(job, pictures, tmp_path) -> GenerationJob:
    """The job after a run, with an image more in the dataset that comes first."""
    generate(job)
    for folder in ("images", "masks"):
        shutil.copy(pictures / folder / "photo1.png", pictures / folder / "early.png")
    import_folder(pictures, tmp_path / "again", "tiny")
    dataset = open_folder(tmp_path / "again")
    rows = dataset.select("test", label=1)
    assert [row.sample_id for row in rows[1:]] == [row.sample_id for row in job.rows]
    return replace(job, dataset=dataset, rows=rows)


def files(job: GenerationJob) -> dict[str, bytes]:
    root = job.out / "shards"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.h5")}


def test_a_dataset_that_grows_in_front_keeps_its_shards(grown, tmp_path):
    before = files(grown)
    counts = generate(grown)
    assert (counts.made, counts.reused) == (5, 25)
    after = files(grown)
    # One original has another source group now: that of its twin that came in front.
    changed = "tiny/originals-native/shard-000000.h5"
    assert {name for name in before if after.get(name) != before[name]} == {changed}
    about = grown.store.originals("tiny", "native").about
    assert [about(row.sample_id) for row in grown.rows] == [
        (row.kind, row.source_group) for row in grown.rows
    ]
    assert len(after) == len(before) + 6  # the new image's original and variants
    assert generate(grown).made == 0
    generate(replace(grown, out=tmp_path / "whole"))
    whole, pieces = verify(tmp_path / "whole" / "shards"), verify(grown.out / "shards")
    assert whole.problems == pieces.problems == []
    assert whole.content_sha256 == pieces.content_sha256


def test_damaged_shards_of_a_grown_dataset_are_repaired(grown):
    generate(grown)
    root = grown.out / "shards" / "tiny"
    before = verify(grown.out / "shards").content_sha256
    damaged = [*(root / "toy" / "pgd-3").iterdir(), root / "originals-native" / "shard-000000.h5"]
    assert len(damaged) == 5
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-9])
    counts = generate(replace(grown, repair=True))
    assert len(counts.repaired) == 5
    report = verify(grown.out / "shards")
    assert (report.problems, report.content_sha256) == ([], before)


def test_a_unit_that_is_done_twice_takes_its_own_place(grown):
    """As after the death of a worker that had written some of its shards."""
    units = missing_tasks(grown, GenerationCounts())
    generate(grown)
    names = set(files(grown))
    for unit in units:
        making.make_adversarial(grown, unit.payload, lambda cost: None)
    assert set(files(grown)) == names


def test_order_and_missing_images_change_nothing(job, tmp_path):
    generate(job)
    reverse = replace(job, out=tmp_path / "reverse", rows=job.rows[::-1])
    generate(reverse)
    assert (
        verify(job.out / "shards").content_sha256 == verify(reverse.out / "shards").content_sha256
    )


def test_stopped_run_keeps_what_is_whole_and_resumes(job, tmp_path, monkeypatch):
    """A failure while writing the third adversarial shard costs that shard alone."""
    generate(replace(job, out=tmp_path / "whole"))
    real, names = Path.replace, []

    def failing(path, target):
        names.append(target.name)
        shards = sum(name.startswith("shard-") for name in names)
        if shards == 6 and target.name.startswith("shard-"):
            raise OSError(28, "No space left on device", "shard")
        return real(path, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match="No space"):
        generate(job)
    assert verify(job.out / "shards").problems == []
    monkeypatch.undo()
    resumed = generate(job)
    assert 0 < resumed.reused < 25
    assert resumed.made + resumed.reused == 25
    assert (
        verify(job.out / "shards").content_sha256
        == verify(tmp_path / "whole" / "shards").content_sha256
    )


def test_other_settings_in_the_same_folder_are_refused(job, other_toy):
    generate(job)
    slower = [advbench.load_attack("pgd", eps=[1, 3], iterations=4)]
    with pytest.raises(AdvbenchError, match=r"attack\.iterations 3 / 4.*another --out"):
        generate(replace(job, attacks=slower))
    with pytest.raises(AdvbenchError, match="weights_sha256"):
        generate(replace(job, victim=other_toy))
    with pytest.raises(AdvbenchError, match="seed 0 / 1"):
        generate(replace(job, seed=1))
    assert generate(job).made == 0


@pytest.mark.parametrize("part", ["pixels_sha256", "maskbits_sha256"])
def test_another_dataset_of_that_name_is_refused(part, job):
    """Or the same images with corrected masks."""
    generate(job)
    rows = [job.rows[0].model_copy(update={part: "0" * 64})]
    with pytest.raises(AdvbenchError, match="another dataset named tiny"):
        generate(replace(job, rows=rows))


def test_damaged_shard_is_named_and_repaired(job, tmp_path):
    generate(job)
    before = verify(job.out / "shards").content_sha256
    for name in ("toy/pgd-3/shard-000002.h5", "originals-native/shard-000000.h5"):
        path = job.out / "shards" / "tiny" / name
        data = bytearray(path.read_bytes())
        data[100] ^= 1
        path.write_bytes(bytes(data))
        assert f"tiny/{name}" in verify(job.out / "shards").damaged
    with pytest.raises(DamagedShardError, match=r"shard-000000\.h5: damaged .* --repair"):
        generate(job)
    counts = generate(replace(job, repair=True))
    assert "tiny/originals-native/shard-000000.h5" in counts.repaired
    report = verify(job.out / "shards")
    assert (report.problems, report.content_sha256) == ([], before)


def test_working_size_keeps_the_mask_native(small_dataset, square_toy, tmp_path):
    rows = small_dataset.select("test", label=1)
    attacks = [advbench.load_attack("fgsm", eps=2)]
    generate(GenerationJob(small_dataset, rows, square_toy, attacks, tmp_path / "out"))
    items = list(advbench.open_dataset(tmp_path / "out", native_masks=True))
    assert {item["image"].shape for item in items} == {(32, 32, 3)}
    assert {item["mask"].shape for item in items} == {(40, 48), (33, 40)}


@pytest.fixture
def threads() -> Iterator[None]:
    """Four, on any machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_images_beside_one_of_another_size_take_a_thread_each(job, toy):
    meeting, exact = threading.Barrier(4, timeout=20), toy.logits

    def logits(images):
        if images.requires_grad:  # the attack's passes alone, not the look at a repeated map
            meeting.wait()
        return exact(images)

    toy.logits = logits
    generate(replace(job, rows=job.rows[:4], attacks=job.attacks[:1], shard_size=4))
    assert meeting.n_waiting == 0


def test_images_of_a_size_stay_together_on_a_gpu(job):
    generate(job)
    originals = job.store.originals("tiny", "native")
    for device, expected in (("cuda", [3, 2]), ("cpu", [1] * 5)):
        stacks = making._stacks(job.rows, originals, torch.device(device))
        assert [len(stack.names) for stack in stacks] == expected
    (stack,) = making._stacks(job.rows[:3], originals, torch.device("cpu"))
    assert len(stack.names) == 3


@pytest.mark.usefixtures("threads")
def test_threads_leave_each_other_the_mode_of_attacks(job, toy, monkeypatch):
    """The second of two attacks goes on when the first has ended."""
    real, lock = base.deterministic_mode, threading.Lock()
    second_is_in, first_is_out = threading.Event(), threading.Event()
    came, seen = [], []

    def mode() -> tuple[bool, bool, bool]:
        learning = any(parameter.requires_grad for parameter in toy.network.parameters())
        return toy.network.training, learning, torch.backends.cudnn.deterministic

    @contextmanager
    def ordered(network, precision):
        with lock:
            came.append(1)
            first = len(came) == 1
            with_ = real(network, precision)
            with_.__enter__()
        if first:
            assert second_is_in.wait(20)
        else:
            second_is_in.set()
            assert first_is_out.wait(20)
            seen.append(mode())
        try:
            yield
        finally:
            with_.__exit__(None, None, None)
            first_is_out.set()

    monkeypatch.setattr(base, "deterministic_mode", ordered)
    toy.network.train().requires_grad_(True)
    two = job.rows[2:4]  # of two sizes
    generate(replace(job, rows=two, attacks=job.attacks[:1]))
    assert seen == [(False, False, True)]
    assert mode() == (True, True, False)


def test_index_lists_every_shard(job):
    generate(job)
    root = job.out / "shards"
    rows = read_index(root)
    assert set(rows) == {path.relative_to(root).as_posix() for path in root.rglob("*.h5")}
    listed = [row for row in rows.values() if row["kind"] == "adversarial"]
    assert sum(int(row["n_records"]) for row in listed) == 25


def test_dataset_survives_pickling(job):
    """As the workers of a torch DataLoader need it."""
    import pickle

    generate(job)
    dataset = advbench.open_dataset(job.out)
    first = dataset[0]
    copy = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(copy[0]["image"], first["image"])


def test_missing_shards_are_told(tmp_path: Path):
    with pytest.raises(AdvbenchError, match="advbench generate"):
        advbench.open_dataset(tmp_path)
