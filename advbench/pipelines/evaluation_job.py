"""Describe an evaluation: what is asked for, and the records that come of it.

The records of a cell (dataset, victim, variant, defense strength) are a file with a key of all that
they were computed from; a file whose key is unchanged, the undefended one above all, is reused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, combinations
from pathlib import Path

import pandas as pd

from advbench.defenses.base import Defense
from advbench.pipelines.cells import Cell
from advbench.scores.metrics import OPTIONAL, Metric
from advbench.scores.protocols import Protocol
from advbench.scores.records import Record, to_records
from advbench.scores.store import KeyOf, RecordStore
from advbench.scores.threats import ORIGINAL, Attacked
from advbench.shards.reader import ShardEntry
from advbench.shards.schema import Settings


@dataclass(frozen=True)
class EvaluationJob:
    """Choose what to evaluate.

    Attributes:
        out: the output folder with ``shards``; ``records`` go beside them.
        victims, datasets: only these; empty for all that there are shards of.
        limit: the first so many images of each variant.
        seed: of randomized defenses.
        samples, variants: only these images and attacks, by sample id and variant name.
        records: where records go, ``out/records`` where None.
        defended: where those of defended images go, if elsewhere.
        known: records that are taken over where they were computed from the same things.
        metrics: those of :data:`advbench.scores.metrics.OPTIONAL` that are wanted.
        where_possible: leave out a trained defense before a victim that it has no network for.
    """

    out: Path
    defenses: Sequence[Defense]
    protocol: Protocol
    victims: Sequence[str] = ()
    datasets: Sequence[str] = ()
    limit: int | None = None
    seed: int = 0
    samples: frozenset[str] | None = None
    variants: frozenset[str] | None = None
    records: Path | None = None
    defended: Path | None = None
    known: Path | None = None
    where_possible: bool = False
    metrics: tuple[Metric, ...] = OPTIONAL


@dataclass
class EvaluationCounts:
    """Count what a run did, in images × defense strengths, and which defenses it left out and
    why."""

    scored: int = 0
    reused: int = 0
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Variant:
    """The images of one dataset and victim under one attack; the originals themselves for None."""

    settings: Settings | None
    entries: tuple[ShardEntry, ...]
    sample_ids: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name the variant, as in ``pgd-3``, or ``original``."""
        return (self.settings.variant or "") if self.settings else "original"

    @property
    def attacked(self) -> Attacked:
        """Say how it was made, as records do."""
        if self.settings is None or self.settings.attack is None:
            return ORIGINAL
        return Attacked.by(
            self.settings.attack, self.name, self.settings.intensity, self.settings.budget
        )


@dataclass(frozen=True)
class CellRecords:
    """The records of one variant behind one defense: where they lie, and what decides them.

    Attributes:
        identity: of the victim, as in the shards' settings.
        originals: shards of the originals at its working size.
    """

    job: EvaluationJob
    dataset: str
    identity: dict[str, str]
    variant: Variant
    originals: list[ShardEntry]
    cell: Cell

    def key(self, sample_ids: tuple[str, ...], metrics: Collection[Metric] | None = None) -> str:
        """Hash everything that decides the records of these images; shards of other images, which
        may come later, are no part of it.

        Args:
            metrics: those of the optional ones that the records hold; the job's where None.
        """
        names = set(sample_ids)
        every = (*self.variant.entries, *self.originals)
        entries = [entry for entry in every if not names.isdisjoint(entry.sample_ids)]
        parts: dict[str, object] = {
            "content": sorted(entry.content_sha256 for entry in entries),
            "samples": sample_ids,
            "victim": self.identity,
            "defense": self.cell.specification,
            "seed": self.job.seed if self.cell.defense.random else None,
            "protocol": self.job.protocol.id,
        }
        held = self.job.metrics if metrics is None else metrics
        if left_out := sorted(set(OPTIONAL) - set(held)):
            parts["without"] = left_out
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def are_there(self) -> bool:
        """Tell whether all images have valid records, perhaps beside others.

        Raises:
            AdvbenchError: the file is damaged, or scores images that no shard holds.
        """
        entries = self.variant.entries if self.variant.settings else self.originals
        there = {name for entry in entries for name in entry.sample_ids}
        return self._serving(self._store, there) is not None

    def copy_known(self) -> bool:
        """Copy the records from ``job.known`` if they are valid there; tell whether they were."""
        if self.job.known is None:
            return False
        known = RecordStore(self.job.known)
        found = self._serving(known)
        if found is None:
            return False
        chosen, key_of = found
        self._store.add(self._path(self._store), to_records(chosen), key_of)
        return True

    def add(self, records: Sequence[Record]) -> None:
        """Write records of some of the images; valid ones of others stay."""
        self._store.add(self._path(self._store), records, self.key)

    def _serving(
        self, store: RecordStore, there: Collection[str] | None = None
    ) -> tuple[pd.DataFrame, KeyOf] | None:
        """Find records that hold the wanted metrics, and the key of all that they hold."""
        keys_of = [partial(self.key, metrics=held) for held in _at_least(self.job.metrics)]
        names = self.variant.sample_ids
        return store.serving(self._path(store), names, *keys_of, there=there)

    @property
    def _store(self) -> RecordStore:
        records = self.job.records or self.job.out / "records"
        undefended = self.cell.defense.name == "none"
        return RecordStore(records if undefended else self.job.defended or records)

    def _path(self, store: RecordStore) -> Path:
        return store.path(self.dataset, self.identity["name"], self.variant.name, self.cell.name)


def _at_least(wanted: Collection[Metric]) -> Iterator[tuple[Metric, ...]]:
    """All choices of optional metrics that hold the wanted ones, the smallest first."""
    sizes = range(len(OPTIONAL) + 1)
    every = chain.from_iterable(combinations(OPTIONAL, size) for size in sizes)
    return (metrics for metrics in every if set(wanted) <= set(metrics))
