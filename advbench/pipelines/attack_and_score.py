"""Attack the images of one dataset before one victim, and score it behind defenses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from advbench.attacks.base import Attack
from advbench.datasets.dataset import Dataset
from advbench.datasets.manifest import Row
from advbench.defenses.base import Defense
from advbench.pipelines import evaluate, generate
from advbench.progress import TaskProgress
from advbench.scores.protocols import protocol
from advbench.scores.records import read_records
from advbench.victims.base import Victim


def attack_and_score(
    dataset: Dataset,
    rows: Sequence[Row],
    victim: Victim,
    *,
    attacks: Sequence[Attack],
    defenses: Sequence[Defense],
    out: Path,
    records: Path,
    defended: Path | None = None,
    progress: TaskProgress = lambda what, done, total: None,
) -> pd.DataFrame:
    """Give the records of the originals and the attacks, undefended and behind the defenses.

    Shards and records that are there are reused, and other images, attacks and defenses that lie
    beside them left out.

    Args:
        out: the output folder of the shards.
        records: where records go, apart from those of ``evaluate``, so that a limit cuts nothing
            there.
        defended: where those behind the defenses go, if elsewhere.
    """
    generate.generate(generate.GenerationJob(dataset, rows, victim, attacks, out), progress)
    ids = frozenset(row.sample_id for row in rows)
    variants = {a.variant_name(intensity) for a in attacks for intensity in a.intensities}
    wanted = evaluate.EvaluationJob(
        out=out,
        defenses=defenses,
        protocol=protocol("f1/v1"),
        victims=[victim.name],
        datasets=[dataset.id],
        samples=ids,
        variants=frozenset(variants),
        records=records,
        defended=defended,
        known=out / "records",
    )
    evaluate.evaluate(wanted, lambda identity: victim, progress)
    strengths = {(d.name, s) for d in defenses for s in d.strengths}
    parts = [_chosen(records / dataset.id / victim.name, {("none", None)})]
    if strengths:
        parts.append(_chosen((defended or records) / dataset.id / victim.name, strengths))
    every = pd.concat(parts, ignore_index=True)
    return every[every.variant.isin({"original", *variants}) & every.sample_id.isin(ids)]


def _chosen(folder: Path, wanted: set[tuple[str, float | None]]) -> pd.DataFrame:
    """The records behind some defenses, each at a strength."""
    found = read_records(folder)
    strengths = found.strength.astype(object).where(found.strength.notna(), None)
    return found[[key in wanted for key in zip(found.defense, strengths, strict=True)]]
