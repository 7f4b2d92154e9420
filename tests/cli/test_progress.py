"""Progress where the output is no terminal: a line now and then, with the time that is left."""

from __future__ import annotations

import pytest

from advbench.cli import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that a test sets."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_line_every_thirty_seconds(clock, capsys) -> None:
    """A step a second: three lines in 100 seconds, each with what is left."""
    with progress.Progress(seconds=30) as shown:
        for step in range(1, 101):
            clock[0] += 1
            shown.update("training", step, 100, "steps")
    assert lines(capsys) == [
        "training: 30/100 steps, 70 s left",
        "training: 60/100 steps, 40 s left",
        "training: 90/100 steps, 10 s left",
    ]


def test_what_was_done_before_took_no_time(clock, capsys) -> None:
    """A resumed run of 1000 steps, of which 900 were there."""
    with progress.Progress(seconds=30) as shown:
        for step in range(901, 932):
            shown.update("training", step, 1000, "steps")
            clock[0] += 2
    assert lines(capsys)[0] == "training: 916/1000 steps, 168 s left"


def test_another_thing_starts_its_own_clock(clock, capsys) -> None:
    """Building took a minute; training is told by its own pace."""
    with progress.Progress(seconds=30) as shown:
        shown.update("building", 0, 10, "images")
        clock[0] += 29
        shown.update("training", 0, 50, "steps")
        clock[0] += 10
        shown.update("training", 10, 50, "steps")
    assert lines(capsys) == ["training: 10/50 steps, 40 s left"]


def test_quiet(clock, capsys) -> None:
    with progress.Progress(quiet=True, seconds=0) as shown:
        clock[0] += 60
        shown.update("training", 1, 2)
        shown.note("a note")
    assert lines(capsys) == []
