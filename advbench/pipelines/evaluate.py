"""Score defenses on shards: decode the stored bytes, defend, run the victim, write records."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from advbench.engines.local import Local
from advbench.engines.units import Advance, Engine, WorkUnit
from advbench.errors import AdvbenchError
from advbench.inference.numerics import deterministic_mode
from advbench.pipelines.cells import Cell
from advbench.pipelines.evaluation_job import (
    CellRecords,
    EvaluationCounts,
    EvaluationJob,
    Variant,
)
from advbench.pipelines.pending import Pending, find_pending
from advbench.pipelines.provenance import victim_identity
from advbench.pipelines.scoring import Sample, Scorer
from advbench.pipelines.sizes import check_forward
from advbench.progress import TaskProgress
from advbench.scores.records import Record
from advbench.shards.reader import Originals, Shard
from advbench.victims.base import Victim

__all__ = ["EvaluationCounts", "EvaluationJob", "LoadVictim", "evaluate"]

LoadVictim = Callable[[dict[str, str]], Victim]


def evaluate(
    job: EvaluationJob,
    load_victim: LoadVictim,
    progress: TaskProgress = lambda what, done, total: None,
    engine: Engine | None = None,
) -> EvaluationCounts:
    """Score every wanted cell that is not there yet.

    Args:
        load_victim: from a victim's identity in the shards' settings to the victim.
        engine: where units run; in this process by default.

    Raises:
        AdvbenchError: no shards, a damaged shard, weights that are not those of the shards, an
            image that memory cannot hold.
    """
    counts = EvaluationCounts()
    for pending in find_pending(job, counts):
        identity = pending.identity
        # The code of somebody else's victim is compared even where all scores are there.
        if not pending.todo and "source" not in identity:
            continue
        victim = load_victim(identity)
        found = victim_identity(victim)
        if found.get("source") != identity.get("source"):
            raise AdvbenchError(
                f"victim {identity['name']}: the shards were made with other source code of it; "
                "generate with the present one into another --out, or bring the former back"
            )
        if found != identity:
            raise AdvbenchError(
                f"victim {identity['name']}: the shards were made with weights "
                f"{identity['weights']} ({identity['weights_sha256'][:12]}), not "
                f"{victim.weights.label} ({victim.weights.sha256[:12]}); give --weights"
            )
        _check_memory(victim, pending)
        scorer = Scorer(pending.dataset, victim, job.protocol, job.seed, metrics=job.metrics)
        units = [
            WorkUnit(
                f"{identity['name']} on {variant.name}",
                tuple(one.key(variant.sample_ids) for one in scores),
                len(variant.sample_ids) * len(scores),
                (variant, scores),
            )
            for variant, scores in pending.todo
        ]
        work = partial(_score, scorer=scorer)
        for scored in (engine or Local()).run(work, units, progress):
            counts.scored += scored
    return counts


def _check_memory(victim: Victim, pending: Pending) -> None:
    """Refuse images that memory cannot hold; at a working size there are none."""
    if victim.working_side is not None:
        return
    sides: dict[str, tuple[int, int]] = {}
    cells: dict[str, Cell] = {}
    for variant, scores in pending.todo:
        originals = Originals(scores[0].originals)
        sides |= {name: originals.sides(name) for name in variant.sample_ids if name not in sides}
        cells |= {one.cell.name: one.cell for one in scores}
    check_forward(victim, sides, list(cells.values()))


def _score(todo: tuple[Variant, list[CellRecords]], advance: Advance, *, scorer: Scorer) -> int:
    """Score one variant behind some defenses and write the records; how many there are."""
    variant, scores = todo
    records: dict[str, list[Record]] = {one.cell.name: [] for one in scores}
    cells = [one.cell for one in scores]
    samples = _samples(variant, Originals(scores[0].originals))
    # In fp32 whatever the caller's switches, as the images were made: cuDNN's default is TF32.
    with deterministic_mode(scorer.victim.network):
        for scored in scorer.all_records(samples, cells):
            for cell, record in scored:
                records[cell.name].append(record)
            advance(len(cells))
    for one in scores:
        one.add(records[one.cell.name])
    return len(variant.sample_ids) * len(scores)


def _samples(variant: Variant, originals: Originals) -> Iterable[Sample]:
    """Decoded images, shard by shard."""
    wanted = set(variant.sample_ids)
    if variant.settings is None:
        for sample_id in variant.sample_ids:
            original, truth = originals.get(sample_id)
            yield Sample(sample_id, *originals.about(sample_id), original, original, truth)
    attacked = variant.attacked
    for entry in variant.entries:
        with Shard(entry.path) as shard:
            for number, sample_id in enumerate(entry.sample_ids):
                if sample_id in wanted:
                    original, truth = originals.get(sample_id)
                    yield Sample(
                        sample_id,
                        *originals.about(sample_id),
                        shard.adversarial(number, original),
                        original,
                        truth,
                        attacked,
                        int(shard.column("zero_gradients")[number]),
                    )
