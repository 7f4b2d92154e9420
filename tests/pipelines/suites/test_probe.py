"""What the plan's seconds are made of."""

from __future__ import annotations

from pathlib import Path

import pytest

import advbench
from advbench.pipelines.cells import Cell
from advbench.pipelines.generate import GenerationJob
from advbench.pipelines.scoring import Scorer
from advbench.pipelines.suites import probe
from advbench.scores.protocols import protocol


@pytest.mark.parametrize(
    ("takes", "expected", "calls"),
    [
        ([2.0, 1.0], 2.0, 1),
        ([0.2, 0.1, 0.4, 1.0], 0.2, 3),  # until half a second is full
        ([0.01, 0.03, 0.02, 0.05, 0.04, 1.0], 0.03, 5),  # five at most
    ],
)
def test_seconds_are_the_median_of_a_few_calls(takes, expected, calls, monkeypatch):
    clock, left = [0.0], list(takes)

    def work() -> None:
        clock[0] += left.pop(0)

    monkeypatch.setattr(probe.time, "perf_counter", lambda: clock[0])
    assert probe._seconds(work) == pytest.approx(expected)
    assert len(left) == len(takes) - calls


def test_what_a_first_call_sets_up_is_not_counted(small_dataset, toy, monkeypatch):
    """A gradient takes a second, the first of each attack a thousand, a forward pass nothing."""
    clock, seen = [0.0], set()
    gradient = probe._attack

    def timed(attack, job, image, truth, *, copies=1):
        clock[0] += copies * attack.passes() + (0 if attack.label in seen else 1000)
        seen.add(attack.label)
        return gradient(attack, job, image, truth, copies=copies)

    monkeypatch.setattr(probe, "_attack", timed)
    monkeypatch.setattr(probe.time, "perf_counter", lambda: clock[0])
    attacks = [advbench.load_attack(name) for name in ("fgsm", "pgd", "pgn", "cw")]
    rows = small_dataset.select("test", label=1)
    job = GenerationJob(small_dataset, rows, toy, attacks, Path("nowhere"))
    cells = [Cell(advbench.load_defense("none"), None)]
    speed = probe.probe(job, Scorer("tiny", toy, protocol("f1/v1")), cells)
    areas = [row.height * row.width for row in rows]
    mean = sum(areas) / len(areas)
    # The image nearest the mean is measured, and counted for the mean.
    each = mean / min(areas, key=lambda area: abs(area - mean))
    assert speed.per_gradient == pytest.approx(dict.fromkeys(("fgsm", "pgd", "pgn", "cw"), each))
