"""Progress moves with every pass, whatever the attack, and ends at what was planned."""

from __future__ import annotations

import pytest

import advbench
from advbench.engines.local import Local
from advbench.pipelines.generate import GenerationJob, generate

ATTACKS = {
    "fgsm": {"eps": [1, 3]},
    "pgd": {"eps": [1, 3], "iterations": 7},
    "pgn": {"eps": [2], "iterations": 3, "neighbours": 2},
    "cw": {"steps": [20, 30]},
}


@pytest.mark.parametrize("name", ATTACKS)
def test_every_pass_is_reported(small_dataset, toy, tmp_path, name) -> None:
    """All images in one shard, so that nothing else could move it."""
    attack = advbench.load_attack(name, **ATTACKS[name])
    rows = small_dataset.select("test", label=1)
    seen: list[tuple[str, int, int]] = []
    job = GenerationJob(small_dataset, rows, toy, [attack], tmp_path / "out")
    generate(job, lambda *report: seen.append(report))
    passes = attack.passes() * len(rows)
    counts = [done for what, done, _ in seen if name in what]
    assert counts == sorted(counts)
    assert counts[-1] == passes
    assert {total for _, _, total in seen} == {passes}
    assert len(set(counts)) == passes


def test_processes_report_too(small_dataset, tmp_path) -> None:
    victim = advbench.load_victim("hdfnet")
    attack = advbench.load_attack("pgd", eps=[3], iterations=3)
    rows = small_dataset.select("test", label=1, limit=2)
    seen: list[int] = []
    job = GenerationJob(small_dataset, rows, victim, [attack], tmp_path / "out", shard_size=1)
    generate(job, lambda what, done, total: seen.append(done), Local(2))
    assert seen == sorted(seen)
    assert seen[-1] == attack.passes() * 2
