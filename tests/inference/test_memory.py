"""Out of memory: smaller batches, the same images."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from random import Random
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from advbench.inference.runner import GPU_ROWS, BatchRunner

from ..attacks.toys import ALL, Toy, floats, pictures, sized, wavy_net


def scarce(limit: int, from_call: int = 1) -> tuple[Callable[[Tensor], None], list[int]]:
    """A watch that runs out of memory above ``limit`` rows, and the stacks that it let pass."""
    passed: list[int] = []

    def watch(images: Tensor) -> None:
        if len(images) > limit and len(passed) + 1 >= from_call:
            raise torch.OutOfMemoryError("injected")
        passed.append(len(images))

    return watch, passed


@pytest.mark.parametrize(
    ("asked", "limit", "from_call"), [(8, 2, 1), (3, 1, 2)], ids=["at once", "in the middle"]
)
@pytest.mark.parametrize("name", ALL)
def test_out_of_memory_halves_the_batch(name: str, asked: int, limit: int, from_call: int) -> None:
    """The images are those of the batch that fits; what was half done is done again whole."""
    batch, attack = pictures(5), ALL[name]
    watch, passed = scarce(limit, from_call)
    rescued = batch.attacked(attack, Toy(wavy_net(), watch), batch=asked)
    expected = batch.attacked(attack, Toy(wavy_net()), batch=limit)
    assert max(passed[from_call - 1 :]) == limit
    for variant, result in expected.items():
        assert torch.equal(rescued[variant].images, result.images)
        assert torch.equal(floats(rescued[variant]), floats(result))
        for found, other in zip(rescued[variant].details, result.details, strict=True):
            assert found.loss_last == pytest.approx(other.loss_last, rel=1e-5)
            assert found.zero_gradients == other.zero_gradients


NO_ROOM = (
    torch.OutOfMemoryError("injected"),
    MemoryError("injected"),
    RuntimeError("[...] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
)


def test_the_batch_that_fitted_is_taken_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same attack on the same victim and side; by default, which on the CPU is one row."""
    monkeypatch.setattr(BatchRunner, "fitted", {})
    gpu = BatchRunner(SimpleNamespace(type="cuda"))
    asked: list[int] = []

    def watch(images: Tensor) -> None:
        asked.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError("injected")

    victim, attack = Toy(wavy_net(), watch), ALL["pgd"]
    sides = tuple(pictures(1).images.shape[2:])
    assert gpu.sized(attack.work_on(victim, sides)).batch == GPU_ROWS
    pictures(4).attacked(attack, victim, runner=gpu)
    assert gpu.sized(attack.work_on(victim, sides)).batch <= 2
    rows = 4 * len(attack.intensities)
    assert asked[:3] == [rows, rows // 2, rows // 4]
    asked.clear()
    pictures(4).attacked(attack, victim, runner=gpu)
    assert max(asked) <= 2
    asked.clear()
    pictures(4).attacked(ALL["fgsm"], victim, runner=gpu)
    assert max(asked) == 4


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", ALL)
def test_out_of_memory_at_random_leaves_the_bytes_as_they_are(name: str, threads: int) -> None:
    """A third of the batches fail, however far they have come; one row alone never does."""
    batch, attack = pictures(5), ALL[name]
    random, failures = Random(name), 0

    def watch(images: Tensor) -> None:
        nonlocal failures
        alone = threading.current_thread() is threading.main_thread() and len(images) == 1
        if not alone and random.random() < 1 / 3:
            failures += 1
            raise NO_ROOM[failures % 3]

    expected = batch.attacked(attack, Toy(wavy_net()), batch=1)
    victim = Toy(wavy_net(), watch)
    victim.reentrant = True
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = batch.attacked(attack, victim, batch=4 if threads == 1 else 1)
    finally:
        torch.set_num_threads(before)
    assert failures
    for variant, result in expected.items():
        assert torch.equal(found[variant].images, result.images)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    def work(rows: Sequence[int]) -> list[int]:
        raise RuntimeError("The size of tensor a (3) must match the size of tensor b (4)")

    with pytest.raises(RuntimeError, match="must match") as caught:
        sized(2).map(range(4), work)
    assert not isinstance(caught.value, torch.OutOfMemoryError)


@pytest.mark.parametrize("name", ALL)
def test_a_row_that_does_not_fit_raises(name: str) -> None:
    """Below one row there is nothing to halve."""
    watch, passed = scarce(0)
    with pytest.raises(torch.OutOfMemoryError):
        pictures(3).attacked(ALL[name], Toy(wavy_net(), watch), batch=4)
    assert not passed


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("batch", [1, 2, 7, 10, 64])
def test_rows_in_order_each_once(limit: int, batch: int) -> None:
    """Every row is done once and in order; a found batch is kept, never tried larger again."""
    done: list[list[int]] = []
    refused: list[int] = []

    def work(chunk: Sequence[int]) -> list[str]:
        if len(chunk) > limit:
            refused.append(len(chunk))
            raise torch.OutOfMemoryError("injected")
        done.append(list(chunk))
        return [f"row {row}" for row in chunk]

    assert sized(batch).map(range(10), work) == [f"row {row}" for row in range(10)]
    assert [row for chunk in done for row in chunk] == list(range(10))
    assert all(len(chunk) <= min(limit, batch) for chunk in done)
    assert refused == sorted(set(refused), reverse=True)
    assert len({len(chunk) for chunk in done[:-1]}) <= 1


def test_the_rows_that_are_allowed_are_those_of_the_batch_at_hand() -> None:
    seen: list[int] = []
    runner = sized(4)

    def work(chunk: Sequence[int]) -> Sequence[int]:
        seen.append(runner.batch)
        if len(chunk) > 2:
            raise torch.OutOfMemoryError("injected")
        return chunk

    runner.map(range(5), work)
    assert seen == [4, 2, 2, 2]
