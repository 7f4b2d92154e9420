"""The toy victim as a plug-in of the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from advbench.registry import VICTIMS


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Options that bring and choose the toy victim with random weights."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield ("--plugin", "toy_victim:ToyVictim", "--victim", "toy", "--weights", "random")
    sys.modules.pop("toy_victim", None)
    VICTIMS.entries.pop("toy", None)


@pytest.fixture
def imported(pictures: Path, tmp_path: Path, advbench_command) -> Path:
    """An output folder into which the pictures were imported as ``mine``."""
    out = tmp_path / "out"
    ran = advbench_command("dataset", "import", "folder", pictures, "--name", "mine", "--out", out)
    assert ran.code == 0, ran.err
    return out


def columns(printed: str) -> list[str]:
    """The text of each column of a printed table's body, wrapped cells joined, without blanks."""
    lines = [line.strip("│").split("│") for line in printed.splitlines() if line.startswith("│")]
    return ["".join("".join(cells).split()) for cells in zip(*lines, strict=True)]
