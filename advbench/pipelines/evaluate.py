"""Score defenses on shards: decode the stored bytes, defend, run the victim, write records.

Each cell (dataset, victim, variant, defense strength) is a file of records with a key of all that
it was computed from; a cell whose key is unchanged, the undefended one above all, is reused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from advbench.defenses.base import Defense
from advbench.defenses.none import NoDefense
from advbench.engines.local import Local
from advbench.engines.units import Engine, Report, WorkUnit
from advbench.errors import AdvbenchError, NoNetworkError
from advbench.inference.numerics import deterministic_mode
from advbench.pipelines.provenance import victim_identity
from advbench.pipelines.scoring import Cell, Sample, Scorer
from advbench.progress import Report as Progress
from advbench.registry import DEFENSES
from advbench.scores.protocols import Protocol
from advbench.scores.records import Record, to_records
from advbench.scores.store import RecordStore
from advbench.scores.threats import ORIGINAL, Attacked
from advbench.shards.index import Row
from advbench.shards.reader import Originals, Shard, ShardEntry
from advbench.shards.schema import ADVERSARIAL, ORIGINALS, Settings
from advbench.shards.store import ShardStore
from advbench.victims.base import Victim

LoadVictim = Callable[[dict[str, str]], Victim]


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
class Pending:
    """Hold what one victim has yet to score on one dataset.

    Attributes:
        identity: of the victim, as in the shards' settings.
        originals: shards of the originals at its working size.
        todo: per variant the cells that are not there, each with its key.
    """

    dataset: str
    identity: dict[str, str]
    originals: list[ShardEntry]
    todo: list[tuple[Variant, dict[Cell, str]]]

    @property
    def cost(self) -> int:
        """Images × cells."""
        return sum(len(variant.sample_ids) * len(cells) for variant, cells in self.todo)


def evaluate(
    job: EvaluationJob,
    load_victim: LoadVictim,
    progress: Progress = lambda what, done, total: None,
    engine: Engine | None = None,
) -> EvaluationCounts:
    """Score every wanted cell that is not there yet.

    Args:
        load_victim: from a victim's identity in the shards' settings to the victim.
        engine: where units run; in this process by default.

    Raises:
        AdvbenchError: no shards, a damaged shard, weights that are not those of the shards.
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
        scorer = Scorer(pending.dataset, victim, job.protocol, job.seed)
        units = [
            WorkUnit(
                f"{identity['name']} on {variant.name}",
                tuple(keys.values()),
                len(variant.sample_ids) * len(keys),
                (variant, keys),
            )
            for variant, keys in pending.todo
        ]
        work = partial(_score, job=job, scorer=scorer, originals=pending.originals)
        for scored in (engine or Local()).run(work, units, progress):
            counts.scored += scored
    return counts


def _score(
    todo: tuple[Variant, dict[Cell, str]],
    report: Report,
    *,
    job: EvaluationJob,
    scorer: Scorer,
    originals: list[ShardEntry],
) -> int:
    """Score one variant before some cells and write their records; how many there are."""
    variant, keys = todo
    identity = victim_identity(scorer.victim)
    records: dict[Cell, list[Record]] = {cell: [] for cell in keys}
    samples = _samples(variant, Originals(originals))
    # In fp32 whatever the caller's switches, as the images were made: cuDNN's default is TF32.
    with deterministic_mode(scorer.victim.network):
        for scored in scorer.all_records(samples, list(keys)):
            for cell, record in scored:
                records[cell].append(record)
            report(len(keys))
    for cell, rows in records.items():
        store = _records(job, cell)
        path = store.path(scorer.dataset, identity["name"], variant.name, cell.name)
        store.add(
            path,
            rows,
            partial(
                _key,
                job=job,
                variant=variant,
                originals=originals,
                identity=identity,
                cell=cell,
            ),
        )
    return len(variant.sample_ids) * len(keys)


def find_pending(
    job: EvaluationJob, counts: EvaluationCounts, complete: bool = True
) -> list[Pending]:
    """Find what is to be scored, per dataset and victim; what is there is counted in ``counts``.

    Args:
        complete: refuse a store that has lost shards of what is asked for.

    Raises:
        AdvbenchError: as :func:`evaluate`.
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
        left_out = counts.left_out if job.where_possible else None
        cells = cells_before(job.defenses, identity, left_out)
        space = next(v.settings.space for v in variants if v.settings)
        originals = _of_space(entries, dataset, space)
        todo = []
        own = {variant.name: _cells_of(variant, cells, identity, counts) for variant in variants}
        # The originals meet every defense that anything else meets.
        own["original"] = list({cell.name: cell for each in own.values() for cell in each}.values())
        for variant in variants:
            cells = own[variant.name]
            ids = variant.sample_ids
            keys = {
                cell: _key(
                    ids,
                    job=job,
                    variant=variant,
                    originals=originals,
                    identity=identity,
                    cell=cell,
                )
                for cell in cells
            }
            missing = {
                cell: key
                for cell, key in keys.items()
                if not _is_there(job, dataset, identity, variant, originals=originals, cell=cell)
            }
            counts.reused += (len(cells) - len(missing)) * len(variant.sample_ids)
            if missing:
                todo.append((variant, missing))
        found.append(Pending(dataset, identity, originals, todo))
    return found


def cells_before(
    defenses: Sequence[Defense], identity: dict[str, str], left_out: list[str] | None = None
) -> list[Cell]:
    """Every defense at every strength before this victim, the undefended one first.

    Args:
        left_out: receives, in place of an error, why a trained defense has nothing for this victim.

    Raises:
        NoNetworkError: a defense that is trained for a victim has no network for this one.
    """
    cells = [Cell(NoDefense(), None)]
    for defense in (d for d in defenses if d.name != "none"):
        try:
            fitted = defense.for_victim(identity)
        except NoNetworkError as error:
            if left_out is None:
                raise
            if str(error) not in left_out:  # once for all datasets
                left_out.append(str(error))
        else:
            cells += [Cell(fitted, s) for s in fitted.strengths]
    return cells


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


def defense_of(
    specification: dict[str, Any], identity: dict[str, str]
) -> tuple[Defense, float | None]:
    """Make the defense that a variant's specification names, and its strength.

    Raises:
        AdvbenchError: there is none of that name, or it has no network for this victim.
    """
    cls = DEFENSES.get(specification["defense"])
    strength = specification.get(cls.strength_field) if cls.strength_field else None
    settings = {key: value for key, value in specification.items() if key in cls.model_fields}
    return cls.create(**settings).for_victim(identity), strength


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


def _is_there(
    job: EvaluationJob,
    dataset: str,
    identity: dict[str, str],
    variant: Variant,
    *,
    originals: Sequence[ShardEntry],
    cell: Cell,
) -> bool:
    """Find whether the cell's records are there, for these images and perhaps more, after those in
    ``job.known`` were copied where they serve."""
    key_of = partial(
        _key, job=job, variant=variant, originals=originals, identity=identity, cell=cell
    )
    store = _records(job, cell)
    place = (dataset, identity["name"], variant.name, cell.name)
    path = store.path(*place)
    entries = originals if variant.settings is None else variant.entries
    store.check_images(path, {name for entry in entries for name in entry.sample_ids})
    if store.serving(path, variant.sample_ids, key_of) is not None:
        return True
    if job.known is None:
        return False
    known = RecordStore(job.known)
    chosen = known.serving(known.path(*place), variant.sample_ids, key_of)
    if chosen is None:
        return False
    store.add(path, to_records(chosen), key_of)
    return True


def _of_space(entries: list[ShardEntry], dataset: str, space: str) -> list[ShardEntry]:
    return [
        entry
        for entry in entries
        if entry.settings.kind == ORIGINALS
        and entry.settings.dataset == dataset
        and entry.settings.space == space
    ]


def _key(
    sample_ids: tuple[str, ...],
    *,
    job: EvaluationJob,
    variant: Variant,
    originals: Sequence[ShardEntry],
    identity: dict[str, str],
    cell: Cell,
) -> str:
    """Hash everything that decides a cell's records of these images."""
    parts = {
        "content": sorted(entry.content_sha256 for entry in (*variant.entries, *originals)),
        "samples": sample_ids,
        "victim": identity,
        "defense": cell.specification,
        "seed": job.seed if cell.defense.random else None,
        "protocol": job.protocol.id,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _records(job: EvaluationJob, cell: Cell) -> RecordStore:
    """Name the file of a cell's records."""
    records = job.records or job.out / "records"
    return RecordStore(records if cell.defense.name == "none" else job.defended or records)
