"""Find what is to be scored: the images of an output folder, behind the defenses that have no
records of them yet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from advbench.errors import AdvbenchError
from advbench.pipelines.cells import Cell, cells_before, defense_of
from advbench.pipelines.evaluation_job import (
    CellRecords,
    EvaluationCounts,
    EvaluationJob,
    Variant,
)
from advbench.shards.index import Row
from advbench.shards.reader import ShardEntry
from advbench.shards.schema import ADVERSARIAL, ORIGINALS
from advbench.shards.store import ShardStore


@dataclass(frozen=True)
class Pending:
    """Hold what one victim has yet to score on one dataset.

    Attributes:
        identity: of the victim, as in the shards' settings.
        todo: per variant the scores that are not there.
    """

    dataset: str
    identity: dict[str, str]
    todo: list[tuple[Variant, list[CellRecords]]]


def find_pending(
    job: EvaluationJob, counts: EvaluationCounts, complete: bool = True
) -> list[Pending]:
    """Find what is to be scored, per dataset and victim; what is there is counted in ``counts``.

    Args:
        complete: refuse a store that has lost shards of what is asked for.

    Raises:
        AdvbenchError: no shards, damaged ones, or records of images that no shard holds.
    """
    store = ShardStore(job.out / "shards")
    entries = store.entries()
    if not entries:
        raise AdvbenchError(f"{store.root}: no shards there; make some with advbench generate")
    if complete:
        store.compare(partial(_is_asked_for, job, entries))
    groups = _groups(entries, job)
    if not groups:
        raise AdvbenchError(f"{store.root}: no shards of what was asked for; see advbench generate")
    found = []
    for (dataset, identity_json), variants in groups.items():
        identity = json.loads(identity_json)
        originals = _originals_of(entries, dataset, variants)
        todo = []
        for variant, cells in _cells_of_each(variants, identity, job, counts):
            scores = [
                CellRecords(job, dataset, identity, variant, originals, cell) for cell in cells
            ]
            missing = [one for one in scores if not one.are_there() and not one.copy_known()]
            counts.reused += (len(scores) - len(missing)) * len(variant.sample_ids)
            if missing:
                todo.append((variant, missing))
        found.append(Pending(dataset, identity, todo))
    return found


def _is_asked_for(job: EvaluationJob, entries: Sequence[ShardEntry], row: Row) -> bool:
    """Tell whether the shard of a row of the index is scored, or one that is was made from it."""
    if job.datasets and row["dataset"] not in job.datasets:
        return False
    if job.samples is not None and job.samples.isdisjoint(row["samples"].split()):
        return False
    if row["kind"] == ORIGINALS:
        return any(
            entry.settings.space == row["space"]
            and (not job.victims or (entry.settings.victim or {})["name"] in job.victims)
            for entry in entries
            if entry.settings.kind == ADVERSARIAL
        )
    if job.victims and row["victim"] not in job.victims:
        return False
    return job.variants is None or row["variant"] in job.variants


def _groups(entries: list[ShardEntry], job: EvaluationJob) -> dict[tuple[str, str], list[Variant]]:
    """Per dataset and victim the originals and the variants; originals first."""
    found: dict[tuple[str, str], dict[str, list[ShardEntry]]] = {}
    for entry in entries:
        settings = entry.settings
        if settings.kind != ADVERSARIAL or settings.victim is None:
            continue
        if job.victims and settings.victim["name"] not in job.victims:
            continue
        if job.datasets and settings.dataset not in job.datasets:
            continue
        if job.variants is not None and settings.variant not in job.variants:
            continue
        identity = json.dumps(settings.victim, sort_keys=True)
        variants = found.setdefault((settings.dataset, identity), {})
        variants.setdefault(settings.variant or "", []).append(entry)
    groups = {}
    for key, by_name in found.items():
        attacked = [
            Variant(group[0].settings, tuple(group), _ids(group, job)) for group in by_name.values()
        ]
        everything = sorted({name for variant in attacked for name in variant.sample_ids})
        groups[key] = [Variant(None, (), tuple(everything)), *attacked]
    return groups


def _ids(entries: Sequence[ShardEntry], job: EvaluationJob) -> tuple[str, ...]:
    names = {name for entry in entries for name in entry.sample_ids}
    if job.samples is not None:
        names &= job.samples
    return tuple(sorted(names)[: job.limit])


def _originals_of(
    entries: list[ShardEntry], dataset: str, variants: Sequence[Variant]
) -> list[ShardEntry]:
    """The shards of the originals that these variants were made from."""
    space = next(variant.settings.space for variant in variants if variant.settings)
    return [
        entry
        for entry in entries
        if entry.settings.kind == ORIGINALS
        and entry.settings.dataset == dataset
        and entry.settings.space == space
    ]


def _cells_of_each(
    variants: Sequence[Variant],
    identity: dict[str, str],
    job: EvaluationJob,
    counts: EvaluationCounts,
) -> list[tuple[Variant, list[Cell]]]:
    """The cells that each variant meets; the originals meet all that anything else meets."""
    cells = cells_before(job.defenses, identity, counts.left_out if job.where_possible else None)
    own = {variant.name: _cells_of(variant, cells, identity, counts) for variant in variants}
    own["original"] = list({cell.name: cell for each in own.values() for cell in each}.values())
    return [(variant, own[variant.name]) for variant in variants]


def _cells_of(
    variant: Variant, cells: Sequence[Cell], identity: dict[str, str], counts: EvaluationCounts
) -> list[Cell]:
    """The defenses that a variant meets: all of them, or where it was made through one exactly that
    one, whether or not it is among them. One that is not here any more is told in ``counts``."""
    through = variant.attacked.through
    if not through:
        return list(cells)
    specification = json.loads(through)
    for cell in cells:
        if cell.specification == specification:
            return [cell]
    try:
        rebuilt = Cell(*defense_of(specification, identity))
    except AdvbenchError as error:
        why = str(error)
    else:
        if rebuilt.specification == specification:
            return [rebuilt]
        why = f"{rebuilt.name} is another one now"
    reason = f"{variant.name} before {identity['name']}: made through {through}; {why}"
    if reason not in counts.left_out:
        counts.left_out.append(reason)
    return []
