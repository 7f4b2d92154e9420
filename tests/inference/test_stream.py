"""Rows that are still coming: fetched while others are worked on, in order, whatever fits."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

import advbench
from advbench.inference.runner import GPU_IMAGES, BatchRunner
from advbench.pipelines.cells import Cell
from advbench.pipelines.scoring import Sample, Scorer
from advbench.scores.protocols import protocol

from ..attacks.toys import Toy, wavy_net

# A runner asks nothing of its device but its type, so that a GPU's batches can be seen here.
GPU, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(BatchRunner, "fitted", {})
    yield
    torch.set_num_threads(before)


def squares(rows: Sequence[int]) -> list[int]:
    return [row * row for row in rows]


@pytest.mark.parametrize("device", [CPU, GPU])
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("count", [0, 1, 7, 100])
def test_results_are_in_order(device: torch.device, reentrant: bool, count: int) -> None:
    with BatchRunner(device, reentrant=reentrant) as runner:
        assert list(runner.stream(iter(range(count)), squares)) == squares(range(count))


@pytest.mark.parametrize(("device", "at_once"), [(CPU, 1), (GPU, GPU_IMAGES)])
def test_rows_are_fetched_while_others_are_worked_on(device: torch.device, at_once: int) -> None:
    """The work on the first rows ends only when one of the next was fetched."""
    later = threading.Event()

    def rows() -> Iterator[int]:
        for row in range(10 * at_once):
            if row == at_once:
                later.set()
            yield row

    def work(some: Sequence[int]) -> list[int]:
        assert 0 not in some or later.wait(20)
        return list(some)

    with BatchRunner(device) as runner:
        assert next(runner.stream(rows(), work)) == 0


def test_a_gpu_gets_batches_of_what_fits() -> None:
    """Three rows do not fit: batches are halved until they do, and no row is lost."""
    sizes: list[int] = []

    def work(some: Sequence[int]) -> list[int]:
        sizes.append(len(some))
        if len(some) > 3:
            raise torch.OutOfMemoryError
        return squares(some)

    runner = BatchRunner(GPU).sized("work")
    assert list(runner.stream(range(100), work)) == squares(range(100))
    assert sizes[0] == GPU_IMAGES
    assert sizes[-1] == BatchRunner.fitted["work"] == 2


@pytest.mark.parametrize("device", [CPU, GPU])
def test_one_row_that_does_not_fit_is_told(device: torch.device) -> None:
    def work(some: Sequence[int]) -> list[int]:
        if 5 in some:
            raise torch.OutOfMemoryError("too large")
        return squares(some)

    with BatchRunner(device) as runner, pytest.raises(torch.OutOfMemoryError, match="too large"):
        list(runner.stream(range(100), work))


@pytest.mark.parametrize("device", [CPU, GPU])
def test_an_error_of_the_work_ends_the_stream(device: torch.device) -> None:
    def work(some: Sequence[int]) -> list[int]:
        raise ValueError("no such row")

    with BatchRunner(device) as runner, pytest.raises(ValueError, match="no such row"):
        list(runner.stream(range(100), work))


def test_images_of_several_sizes_are_scored_together_as_alone() -> None:
    """Those of one size meet the victim in one batch; records stay with their images."""
    stream, batches = np.random.default_rng(0), []
    victim = Toy(wavy_net(), watch=lambda images: batches.append(tuple(images.shape)))
    samples = []
    for number, (height, width) in enumerate([(8, 9), (10, 7), (8, 9), (8, 9)]):
        image, original = stream.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        truth = stream.random((height, width)) < 0.4
        samples.append(Sample(f"set/{number}", "splice", str(number), image, original, truth))
    cells = [
        Cell(advbench.load_defense("none"), None),
        Cell(advbench.load_defense("gaussian"), 5.0),
        Cell(advbench.load_defense("jpeg"), 70),
    ]
    scorer = Scorer("set", victim, protocol("f1/v1"))
    together = scorer.records(samples, cells)
    assert batches == [(3, 3, 8, 9)] * 3 + [(1, 3, 10, 7)] * 3
    for sample, records in zip(samples, together, strict=True):
        (alone,) = scorer.records([sample], cells)
        assert [cell for cell, _ in records] == cells
        for (_, one), (_, other) in zip(records, alone, strict=True):
            assert one.sample_id == sample.sample_id
            assert (one.tp, one.fp, one.fn, one.tn) == (other.tp, other.fp, other.fn, other.tn)
            assert one.auc == pytest.approx(other.auc, abs=1e-6)
            assert (one.kept_psnr, one.psnr, one.ssim) == (other.kept_psnr, other.psnr, other.ssim)
            assert one.removed == pytest.approx(other.removed, nan_ok=True)
