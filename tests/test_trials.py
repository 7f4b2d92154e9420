"""The stores under kills, damage and runs at once: nothing silent, nothing foreign."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.killing import in_new_process

CODE = "from tests.trials.__main__ import main; main()"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("trial", "count"), [("kills", 84), ("damage", 600), ("pairs", 200)])
def test_trials(trial: str, count: int, tmp_path: Path) -> None:
    found = json.loads(in_new_process(CODE, trial, "--count", count))
    wrong = ("silent", "foreign", "failed", "not resumed", "missed by verify", "with problems")
    assert {name: found.get(name, 0) for name in wrong} == dict.fromkeys(wrong, 0)
    assert found.get("temporaries after the next run", 0) == 0
