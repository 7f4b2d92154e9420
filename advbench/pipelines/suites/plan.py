"""Measure what a suite takes before it is run: every file and weight, a bit of everything.

Speed and bytes are measured on an image of the mean size: see
:mod:`advbench.pipelines.suites.probe`.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from advbench.datasets.dataset import Dataset
from advbench.errors import AdvbenchError
from advbench.inference.fast import with_numerics
from advbench.memory import main_memory, peak_memory
from advbench.pipelines import evaluate, generate
from advbench.pipelines.adaptive import Through
from advbench.pipelines.agreement import check_agreement
from advbench.pipelines.cells import Cell, cells_before
from advbench.pipelines.pending import find_pending
from advbench.pipelines.provenance import device_name, victim_identity
from advbench.pipelines.scoring import Scorer
from advbench.pipelines.sizes import check_memory
from advbench.pipelines.suites.probe import probe
from advbench.pipelines.suites.suite import Suite
from advbench.progress import TaskProgress
from advbench.scores.protocols import protocol
from advbench.victims.base import Victim

T = TypeVar("T")

# Measured: a shard or a file of records without any; an image's place in one, a row of the other.
FILE_BYTES, IMAGE_BYTES, RECORD_BYTES = 9_400, 650, 90

LoadDataset = Callable[[str], Dataset]
LoadVictim = Callable[[str], Victim]


@dataclass(frozen=True)
class Fault:
    """Say what keeps the run from finishing, and where."""

    where: str
    problem: str


@dataclass(frozen=True)
class Stage:
    """One victim on one dataset: what is still to be done, and what it is expected to take.

    Attributes:
        images: of the dataset.
        units: shards to make and variants to score.
        gradients: forward and backward passes of the attacks.
        forwards: passes of the evaluation, images × variants × defenses.
        seconds_per_gradient: measured, the mean over the attacks by their passes.
        attack_seconds, score_seconds: expected.
        bytes: expected, of shards and records.
        sizes: how the victim takes the largest image, where that is above 1.5 million pixels.
    """

    dataset: str
    victim: str
    images: int
    units: int
    gradients: int
    forwards: int
    seconds_per_gradient: float
    attack_seconds: float
    score_seconds: float
    bytes: int
    sizes: str = ""

    @property
    def seconds(self) -> float:
        """Attack and evaluation."""
        return self.attack_seconds + self.score_seconds


@dataclass
class Plan:
    """Hold what a suite takes.

    Attributes:
        stages: in the order of the run.
        faults: empty where the run can finish.
        free_bytes: on the disk of the output folder.
        peak_bytes: of main memory, expected, of all processes together.
        device: the model of what it was measured on.
    """

    stages: list[Stage] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    free_bytes: int = 0
    peak_bytes: int = 0
    device: str = ""

    def total(self, name: str) -> Any:
        """The sum of a field over all stages."""
        return sum(getattr(stage, name) for stage in self.stages)

    def as_json(self) -> dict[str, Any]:
        """Plain data, with totals."""
        totals = ("units", "gradients", "forwards", "seconds", "bytes")
        return asdict(self) | {name: self.total(name) for name in totals}


def requests(
    suite: Suite, dataset: Dataset, victim: Victim, out: Path
) -> tuple[generate.GenerationJob, evaluate.EvaluationJob]:
    """Build what a suite asks for of one victim on one dataset."""
    rows = suite.rows(dataset)
    attacks = suite.attacks_before(victim)
    making = generate.GenerationJob(
        dataset,
        rows,
        with_numerics(victim, suite.numerics),
        attacks,
        out,
        suite.seed,
        suite.shard_size,
    )
    scoring = evaluate.EvaluationJob(
        out=out,
        defenses=suite.build_defenses(),
        protocol=protocol(suite.protocol),
        victims=[victim.name],
        datasets=[making.name],
        seed=suite.seed,
        samples=frozenset(row.sample_id for row in rows),
        variants=frozenset(a.variant_name(i) for a in attacks for i in a.intensities),
    )
    return making, scoring


def make_plan(
    suite: Suite,
    out: Path,
    load_dataset: LoadDataset,
    load_victim: LoadVictim,
    *,
    progress: TaskProgress = lambda what, done, total: None,
    memory: int | None = None,
    processes: int = 1,
) -> Plan:
    """Check all that the run needs, and measure what it takes.

    Args:
        memory: bytes that the run may take, if less than this machine gives.
        processes: how many of them share it.

    Returns:
        a plan whose faults say what is missing; nothing is written.
    """
    plan = Plan()
    _check_folder(out, plan)
    attacks = _tried("attacks", plan, suite.build_attacks)
    defenses = _tried("defenses", plan, suite.build_defenses)
    _tried(f"protocol {suite.protocol}", plan, lambda: protocol(suite.protocol))
    datasets = []
    for name in suite.datasets:
        dataset = _tried(f"dataset {name}", plan, partial(load_dataset, name))
        if dataset is not None and _check_files(suite, dataset, plan, progress):
            datasets.append(dataset)
    for number, name in enumerate(suite.victims):
        progress(f"measuring {name}", number, len(suite.victims))
        victim = _tried(f"victim {name}", plan, partial(load_victim, name))
        if victim is None or attacks is None or defenses is None:
            continue
        plan.device = device_name(victim.device)
        for dataset in datasets:
            where = f"{name} on {dataset.id}"
            stage = _tried(
                where,
                plan,
                partial(_stage, suite, dataset, victim, out, plan=plan, memory=memory),
            )
            if stage is not None:
                plan.stages.append(stage)
        progress(f"measuring {name}", number + 1, len(suite.victims))
    plan.peak_bytes *= processes
    _check_room(plan, memory)
    return plan


def _tried(where: str, plan: Plan, work: Callable[[], T]) -> T | None:
    try:
        return work()
    except (AdvbenchError, torch.OutOfMemoryError, MemoryError) as error:
        memory = not isinstance(error, AdvbenchError)
        problem = "does not fit in memory; take a smaller --size" if memory else str(error)
        plan.faults.append(Fault(where, problem))
        return None


def _check_folder(out: Path, plan: Plan) -> None:
    existing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        plan.faults.append(Fault(f"--out {out}", "not a folder that you may write to"))
        return
    plan.free_bytes = shutil.disk_usage(existing).free


def _check_files(suite: Suite, dataset: Dataset, plan: Plan, progress: TaskProgress) -> bool:
    """Decode every image and mask that the run will need."""
    rows = suite.rows(dataset)
    if not rows:
        plan.faults.append(Fault(f"dataset {dataset.id}", suite.no_rows))
    before = len(plan.faults)
    for number, row in enumerate(rows):
        for read in (dataset.image, dataset.mask):
            _tried(f"dataset {dataset.id}", plan, partial(read, row))
        progress(f"checking {dataset.id}", number + 1, len(rows))
    return bool(rows) and len(plan.faults) == before


def _check_room(plan: Plan, memory: int | None) -> None:
    less = "take fewer threads (OMP_NUM_THREADS) or --workers, a smaller shard_size, or a machine"
    for what, needed, there, remedy in (
        ("disk", plan.total("bytes"), plan.free_bytes, "give --out on a larger disk"),
        ("memory", plan.peak_bytes, min(memory or math.inf, main_memory()), f"{less} with more"),
    ):
        if needed > there:
            problem = f"needs {needed / 1e9:.1f} GB, there are {there / 1e9:.1f} GB; {remedy}"
            plan.faults.append(Fault(what, problem))


def _peak(making: generate.GenerationJob) -> int:
    """Estimate what this process has held at most, and the images of a shard that wait to be
    written."""
    held = peak_memory()
    variants = max(len(attack.intensities) for attack in making.attacks)
    largest = max(generate.weight(making, row) for row in making.rows)
    shard = min(generate.SHARD_BYTES, making.shard_size * largest)
    return held + (1 + variants) * shard


def _stage(
    suite: Suite, dataset: Dataset, victim: Victim, out: Path, *, plan: Plan, memory: int | None
) -> Stage:
    making, scoring = requests(suite, dataset, victim, out)
    sizes = check_memory(making.victim, making.rows, memory)
    if suite.numerics != "exact":
        check_agreement(making)
    generate.missing_originals(
        making, generate.GenerationCounts()
    )  # may not be those of this dataset
    units = generate.missing_tasks(making, generate.GenerationCounts())
    cells = cells_before(scoring.defenses, victim_identity(victim))
    speed = probe(making, Scorer(making.name, victim, scoring.protocol, suite.seed), cells)
    plan.peak_bytes = max(plan.peak_bytes, _peak(making))
    gradients = sum(unit.cost for unit in units)
    attacking = encoding = stored = 0.0
    made: set[str] = set()
    for unit in units:
        attack, images = unit.payload.attack, len(unit.payload.rows)
        attacking += unit.cost * speed.per_gradient[attack.label]
        for intensity in attack.intensities:
            variant = attack.variant_name(intensity)
            made.add(variant)
            seconds, size = speed.per_variant[variant]
            encoding += seconds * images
            stored += FILE_BYTES + (IMAGE_BYTES + size) * images
    unscored = _unscored(making, scoring, made)
    scored = _cells_to_score(unscored, making, cells)
    forwards = scored * len(making.rows)
    new = {row.sample_id for unit in units for row in unit.payload.rows}
    stored += len(new) * (IMAGE_BYTES + speed.original_bytes)
    return Stage(
        dataset=making.name,
        victim=victim.name,
        images=len(making.rows),
        units=len(units) + len(unscored),
        gradients=gradients,
        forwards=forwards,
        seconds_per_gradient=attacking / gradients if gradients else 0.0,
        attack_seconds=attacking + encoding,
        score_seconds=speed.scoring * forwards / len(cells),
        bytes=int(stored) + scored * FILE_BYTES + forwards * RECORD_BYTES,
        sizes=sizes,
    )


def _unscored(
    making: generate.GenerationJob, scoring: evaluate.EvaluationJob, made: set[str]
) -> set[str]:
    """Find the variants to be scored: those that change, and those that are not scored yet."""
    assert scoring.variants is not None
    complete = scoring.variants - made
    if not complete:
        return {*scoring.variants, "original"}
    there = replace(scoring, variants=frozenset(complete))
    pending = find_pending(there, evaluate.EvaluationCounts(), complete=False)
    return made | {variant.name for group in pending for variant, _ in group.todo}


def _cells_to_score(
    unscored: set[str], making: generate.GenerationJob, cells: Sequence[Cell]
) -> int:
    """Count the cells to score: an adaptive variant meets its own defense alone, and the originals
    meet that one too."""
    own = {
        attack.variant_name(intensity): attack.defense.variant_name(attack.strength)
        for attack in making.attacks
        if isinstance(attack, Through)
        for intensity in attack.intensities
    }
    more = set(own.values()) - {cell.name for cell in cells}
    return sum(
        1 if name in own else len(cells) + (len(more) if name == "original" else 0)
        for name in unscored
    )
