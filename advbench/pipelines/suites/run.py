"""Run a suite: generate and evaluate each victim on each dataset, under one progress."""

from __future__ import annotations

import hashlib
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import advbench
from advbench.engines.units import Engine
from advbench.errors import AdvbenchError
from advbench.files import write_atomically
from advbench.memory import peak_memory
from advbench.pipelines.evaluate import evaluate
from advbench.pipelines.generate import generate
from advbench.pipelines.suites.plan import LoadDataset, LoadVictim, Plan, requests
from advbench.pipelines.suites.suite import Suite
from advbench.progress import TaskProgress
from advbench.texts import read_json
from advbench.victims.base import Victim


class _Overall:
    """Progress over all stages, in seconds as planned, so that the time left is that of the run."""

    def __init__(self, plan: Plan, progress: TaskProgress) -> None:
        self._progress = progress
        self._total = max(1, round(plan.total("seconds")))
        self._before = self._now = 0.0

    def part(self, seconds: float) -> TaskProgress:
        """The next part, planned to take so long."""
        self._before = self._now
        self._now = self._before + seconds

        def update(what: str, done: int, total: int) -> None:
            self._progress(what, round(self._before + seconds * done / max(1, total)), self._total)

        return update


def run(
    suite: Suite,
    name: str,
    plan: Plan,
    out: Path,
    *,
    load_dataset: LoadDataset,
    load_victim: LoadVictim,
    progress: TaskProgress = lambda what, done, total: None,
    engine: Engine | None = None,
) -> dict[str, Any]:
    """Do what is planned; a run that was killed goes on where it ended.

    Args:
        name: the suite's; what was planned and what it took go to ``out/suites/NAME.json``, run by
            run, without what it took where the run was killed.
        plan: of this suite, without faults.
        progress: in seconds of work.
        engine: where units run; in this process by default.

    Returns:
        what it took: ``seconds``, ``gradients``, ``forwards``, ``bytes``, ``peak_bytes``, and how
        many images were ``made`` and ``scored``; and ``warnings`` of attacks without effect.

    Raises:
        AdvbenchError, OSError: as :func:`generate` and :func:`evaluate`; what is finished stays.
    """
    started, before = time.perf_counter(), _stored(out)
    path = out / "suites" / f"{name}.json"
    earlier = _earlier(path)
    this: dict[str, Any] = {
        "suite": json.loads(suite.model_dump_json(by_alias=True)),
        "suite_sha256": suite.sha256,
        "version": advbench.__version__,
        "planned": plan.as_json(),
        "took": None,
    }
    _note(path, [*earlier, this])
    overall = _Overall(plan, progress)
    took: dict[str, Any] = {"gradients": 0, "made": 0, "scored": 0, "warnings": []}
    datasets = [load_dataset(each) for each in suite.datasets]
    planned = {(stage.victim, stage.dataset): stage for stage in plan.stages}
    for each in suite.victims:
        victim = load_victim(each)
        for dataset in datasets:
            making, scoring = requests(suite, dataset, victim, out)
            stage = planned[victim.name, making.name]
            made = generate(making, overall.part(stage.attack_seconds), engine)
            scored = evaluate(
                scoring, partial(_same, victim), overall.part(stage.score_seconds), engine
            )
            took["gradients"] += made.passes
            took["made"] += made.made
            took["warnings"] += made.warnings(f"{victim.name} on {making.name}")
            took["scored"] += scored.scored
    took["forwards"] = took["scored"]
    took["seconds"] = round(time.perf_counter() - started, 1)
    took["bytes"] = _stored(out) - before
    took["peak_bytes"] = peak_memory()
    _note(path, [*earlier, this | {"took": took}])
    return took


def _earlier(path: Path) -> list[dict[str, Any]]:
    """Runs that are noted already.

    Raises:
        AdvbenchError: the file is not what was written.
    """
    if not path.exists():
        return []
    try:
        found = read_json(path)
        runs = list(found["runs"])
        sound = found.get("sha256") in (None, _sum(runs))
    except (AdvbenchError, ValueError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise AdvbenchError(f"{path}: damaged; move it away, it only tells of earlier runs")
    return runs


def _sum(runs: list[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(runs, sort_keys=True).encode()).hexdigest()


def _note(path: Path, runs: list[dict[str, Any]]) -> None:
    text = json.dumps({"runs": runs, "sha256": _sum(runs)}, indent=2)
    write_atomically(path, text.encode())


def _same(victim: Victim, identity: dict[str, str]) -> Victim:
    return victim


def _stored(out: Path) -> int:
    """Bytes of shards and records."""
    kinds = ("shards/**/*.h5", "records/**/*.parquet")
    return sum(path.stat().st_size for kind in kinds for path in out.glob(kind))
