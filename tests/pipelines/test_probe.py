"""What the plan's seconds are made of."""

from __future__ import annotations

import pytest

from advbench.pipelines import probe


@pytest.mark.parametrize(
    ("takes", "expected", "calls"),
    [
        ([9.0, 2.0], 2.0, 2),  # the first does not count
        ([9.0, 0.2, 0.1, 0.4], 0.2, 4),  # until half a second is full
        ([0.1, 0.01, 0.03, 0.02, 0.05, 0.04], 0.03, 6),  # five at most
    ],
)
def test_seconds_are_the_median_after_a_first_call(takes, expected, calls, monkeypatch):
    clock, left = [0.0], list(takes)

    def work() -> None:
        clock[0] += left.pop(0)

    monkeypatch.setattr(probe.time, "perf_counter", lambda: clock[0])
    assert probe._seconds(work) == pytest.approx(expected)
    assert len(left) == len(takes) - calls
