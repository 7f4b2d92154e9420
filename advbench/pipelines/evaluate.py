"""Score defenses on shards: decode the stored bytes, defend, run the victim, write records.

Each cell (dataset, victim, variant, defense strength) is a file of records with a key of all that
it was computed from; a cell whose key is unchanged, the undefended one above all, is reused.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import advbench
from advbench.defenses.base import Defense
from advbench.defenses.none import NoDefense
from advbench.errors import AdvbenchError
from advbench.memory import release_freed
from advbench.pipelines.provenance import victim_identity
from advbench.pixels import Image, pixels_sha256
from advbench.scores.metrics import auc, noise_metrics
from advbench.scores.protocols import Protocol, iou
from advbench.scores.records import Record, has_key, path_of, write_records
from advbench.shards.reader import Originals, Shard, ShardEntry, list_shards
from advbench.shards.schema import ADVERSARIAL, ORIGINALS, Settings
from advbench.victims.base import Victim

TRIM_EVERY = 16  # images

Progress = Callable[[str, int, int], None]
LoadVictim = Callable[[dict[str, str]], Victim]


@dataclass(frozen=True)
class Request:
    """What to evaluate.

    Attributes:
        out: the output folder with ``shards``; ``records`` go beside them.
        victims, datasets: only these; empty for all that there are shards of.
        limit: the first so many images of each variant.
        seed: of randomized defenses.
        samples, variants: only these images and attacks, by sample id and variant name.
        records: where records go, ``out/records`` where None.
        defended: where those of defended images go, if elsewhere.
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


@dataclass
class Summary:
    """What a run did, in images × defense strengths."""

    scored: int = 0
    reused: int = 0


@dataclass(frozen=True)
class Cell:
    """A defense at one strength."""

    defense: Defense
    strength: float | None

    @property
    def name(self) -> str:
        """As in ``jpeg-75``."""
        return self.defense.variant_name(self.strength)


@dataclass(frozen=True)
class Variant:
    """The images of one dataset and victim under one attack; the originals themselves for None."""

    settings: Settings | None
    entries: tuple[ShardEntry, ...]
    sample_ids: tuple[str, ...]

    @property
    def name(self) -> str:
        """As in ``pgd-3``, or ``original``."""
        return (self.settings.variant or "") if self.settings else "original"

    @property
    def attack(self) -> tuple[str, float]:
        """Registry name and intensity; NaN for the originals."""
        if self.settings is None or self.settings.attack is None:
            return "original", math.nan
        specification = self.settings.attack
        return specification["attack"], float(self.name.removeprefix(f"{specification['attack']}-"))


def evaluate(
    request: Request,
    load_victim: LoadVictim,
    progress: Progress = lambda what, done, total: None,
) -> Summary:
    """Score every wanted cell that is not there yet.

    Args:
        load_victim: from a victim's identity in the shards' settings to the victim.

    Raises:
        AdvbenchError: no shards, a damaged shard, weights that are not those of the shards.
    """
    root = request.out / "shards"
    if not root.is_dir():
        raise AdvbenchError(f"{root}: no shards there; make some with advbench generate")
    entries = list_shards(root)
    groups = _groups(entries, request)
    if not groups:
        raise AdvbenchError(f"{root}: no shards of what was asked for; see advbench generate")
    summary = Summary()
    for (dataset, identity_json), variants in groups.items():
        identity = json.loads(identity_json)
        defenses = [d.for_victim(identity) for d in request.defenses if d.name != "none"]
        cells = [Cell(NoDefense(), None)] + [Cell(d, s) for d in defenses for s in d.strengths]
        pending = []
        space = next(v.settings.space for v in variants if v.settings)
        originals_entries = _of_space(entries, dataset, space)
        for variant in variants:
            keys = {
                cell: _key(request, variant, originals_entries, identity, cell) for cell in cells
            }
            todo = [
                cell
                for cell in cells
                if not has_key(_path(request, dataset, identity, variant, cell), keys[cell])
            ]
            summary.reused += (len(cells) - len(todo)) * len(variant.sample_ids)
            if todo:
                pending.append((variant, todo, keys))
        if not pending:
            continue
        victim = load_victim(identity)
        if victim_identity(victim) != identity:
            raise AdvbenchError(
                f"victim {identity['name']}: the shards were made with weights "
                f"{identity['weights']} ({identity['weights_sha256'][:12]}), not "
                f"{victim.weights.label} ({victim.weights.sha256[:12]}); give --weights"
            )
        total = sum(len(variant.sample_ids) * len(todo) for variant, todo, _ in pending)
        originals = Originals(originals_entries)
        done = 0
        for variant, todo, keys in pending:
            records: dict[Cell, list[Record]] = {cell: [] for cell in todo}
            for number, (sample_id, image) in enumerate(_images(variant, originals)):
                if number % TRIM_EVERY == 0:
                    release_freed()
                for cell, record in _score(
                    request, dataset, victim, variant, todo, sample_id, image, originals
                ):
                    records[cell].append(record)
                done += len(todo)
                progress(f"{identity['name']} on {variant.name}", done, total)
            for cell, rows in records.items():
                write_records(_path(request, dataset, identity, variant, cell), rows, keys[cell])
                summary.scored += len(rows)
    return summary


def _score(
    request: Request,
    dataset: str,
    victim: Victim,
    variant: Variant,
    cells: Sequence[Cell],
    sample_id: str,
    image: Image,
    originals: Originals,
) -> Iterable[tuple[Cell, Record]]:
    original, truth = originals.get(sample_id)
    kind, source_group = originals.about(sample_id)
    noise = noise_metrics(image, original)
    x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].to(victim.device)
    attack, intensity = variant.attack
    for cell in cells:
        keys = cell.defense.keys([sample_id], cell.strength, request.seed)
        with torch.inference_mode():
            defended = cell.defense.defend(x.float() / 255, cell.strength, keys)
            probability = victim.probabilities(defended)[0, 0].float().cpu().numpy()
        at_truth = request.protocol.at_truth_size(probability, truth)
        counts = request.protocol.counts(at_truth, truth, victim.threshold)
        yield (
            cell,
            Record(
                dataset=dataset,
                sample_id=sample_id,
                kind=kind,
                source_group=source_group,
                victim=victim.name,
                size=victim.size,
                weights=victim.weights.label,
                weights_sha256=victim.weights.sha256,
                attack=attack,
                intensity=intensity,
                variant=variant.name,
                defense=cell.defense.name,
                strength=math.nan if cell.strength is None else float(cell.strength),
                protocol=request.protocol.id,
                threshold=victim.threshold,
                tp=counts.tp,
                fp=counts.fp,
                fn=counts.fn,
                tn=counts.tn,
                f1=request.protocol.f1(counts),
                iou=iou(counts),
                auc=auc(at_truth, truth),
                psnr=noise.psnr,
                ssim=noise.ssim,
                linf=noise.linf,
                l2=noise.l2,
                image_sha256=pixels_sha256(image),
                defense_spec=json.dumps(cell.defense.variant_spec(cell.strength), sort_keys=True),
                version=advbench.__version__,
            ),
        )


def _groups(entries: list[ShardEntry], request: Request) -> dict[tuple[str, str], list[Variant]]:
    """Per dataset and victim the originals and the variants; originals first."""
    found: dict[tuple[str, str], dict[str, list[ShardEntry]]] = {}
    for entry in entries:
        settings = entry.settings
        if settings.kind != ADVERSARIAL or settings.victim is None:
            continue
        if request.victims and settings.victim["name"] not in request.victims:
            continue
        if request.datasets and settings.dataset not in request.datasets:
            continue
        if request.variants is not None and settings.variant not in request.variants:
            continue
        identity = json.dumps(settings.victim, sort_keys=True)
        variants = found.setdefault((settings.dataset, identity), {})
        variants.setdefault(settings.variant or "", []).append(entry)
    groups = {}
    for key, by_name in found.items():
        attacked = [
            Variant(group[0].settings, tuple(group), _ids(group, request))
            for group in by_name.values()
        ]
        everything = sorted({name for variant in attacked for name in variant.sample_ids})
        groups[key] = [Variant(None, (), tuple(everything)), *attacked]
    return groups


def _ids(entries: Sequence[ShardEntry], request: Request) -> tuple[str, ...]:
    names = {name for entry in entries for name in entry.sample_ids}
    if request.samples is not None:
        names &= request.samples
    return tuple(sorted(names)[: request.limit])


def _images(variant: Variant, originals: Originals) -> Iterable[tuple[str, Image]]:
    """Decoded images, shard by shard."""
    wanted = set(variant.sample_ids)
    if variant.settings is None:
        for sample_id in variant.sample_ids:
            yield sample_id, originals.get(sample_id)[0]
    for entry in variant.entries:
        with Shard(entry.path) as shard:
            for number, sample_id in enumerate(entry.sample_ids):
                if sample_id in wanted:
                    original, _ = originals.get(sample_id)
                    yield sample_id, shard.adversarial(number, original)


def _of_space(entries: list[ShardEntry], dataset: str, space: str) -> list[ShardEntry]:
    return [
        entry
        for entry in entries
        if entry.settings.kind == ORIGINALS
        and entry.settings.dataset == dataset
        and entry.settings.space == space
    ]


def _key(
    request: Request,
    variant: Variant,
    originals: Sequence[ShardEntry],
    identity: dict[str, str],
    cell: Cell,
) -> str:
    """Hash of everything that decides a cell's records."""
    parts = {
        "content": sorted(entry.content_sha256 for entry in (*variant.entries, *originals)),
        "samples": variant.sample_ids,
        "victim": identity,
        "defense": cell.defense.variant_spec(cell.strength),
        "seed": request.seed if cell.defense.random else None,
        "protocol": request.protocol.id,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _path(
    request: Request, dataset: str, identity: dict[str, str], variant: Variant, cell: Cell
) -> Path:
    records = request.records or request.out / "records"
    folder = records if cell.defense.name == "none" else request.defended or records
    return path_of(folder, dataset, identity["name"], variant.name, cell.name)
