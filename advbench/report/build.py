"""The HTML report of an output folder, derived from its records and shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from advbench.defenses.base import Defense
from advbench.errors import AdvbenchError
from advbench.files import write_atomically
from advbench.pipelines.evaluate import LoadVictim
from advbench.report import curves, tables
from advbench.report.gallery import Budget, Gallery, gallery
from advbench.report.measures import cells as cells_of
from advbench.report.measures import with_clean
from advbench.report.page import render
from advbench.report.verdicts import Verdict, verdicts
from advbench.scores.cells import defense_label
from advbench.scores.floors import floors
from advbench.scores.records import read_records
from advbench.shards.reader import ShardEntry
from advbench.shards.store import ShardStore

MEGABYTES = 8  # of pictures
_ONE = ["dataset", "victim", "size", "weights", "weights_sha256", "protocol"]


@dataclass(frozen=True)
class ReportJob:
    """Choose what to report.

    Attributes:
        out: the output folder with ``records`` and, for the gallery, ``shards``.
        to: the file to write.
        datasets, victims: only these; empty for all.
        megabytes: the most that pictures may take.
        defenses: with settings of their own, such as networks, for the maps.
    """

    out: Path
    to: Path
    datasets: Sequence[str] = ()
    victims: Sequence[str] = ()
    megabytes: float = MEGABYTES
    defenses: Sequence[Defense] = ()


@dataclass(frozen=True)
class ReportFile:
    """Count what was written."""

    path: Path
    bytes: int
    records: int
    notes: list[str]


def build(job: ReportJob, load_victim: LoadVictim | None = None) -> ReportFile:
    """Write the report; the same records and shards give the same bytes.

    Args:
        load_victim: as of :func:`advbench.pipelines.evaluate.evaluate`; without it the gallery
            has no maps.

    Raises:
        AdvbenchError: no records, damaged records or shards.
    """
    records = read_records(job.out / "records")
    for column, wanted in (("dataset", job.datasets), ("victim", job.victims)):
        if wanted:
            records = _only(records, column, wanted, job.out)
    scored = with_clean(records)
    cells = cells_of(scored)
    entries = ShardStore(job.out / "shards").entries()
    shards = [
        row
        for row in tables.shard_rows(entries)
        if row["dataset"] in set(records.dataset) and row["victim"] in set(records.victim)
    ]
    galleries = _galleries(job, scored, cells, entries, load_victim=load_victim)
    rows, shown, total = tables.image_rows(scored, shards)
    page = render(
        "report.html.jinja",
        datasets=sorted(set(records.dataset)),
        protocols=sorted(set(records.protocol)),
        versions=sorted(set(records.version)),
        labels=sorted(set(records.weights)),
        threats=sorted(set(scored.threat)),
        tiles=_tiles(records, shards),
        victims=_victims(records, cells),
        wide=tables.wide_tables(cells),
        charts={
            "rp": curves.against_intensity(cells, "rp"),
            "mcc": curves.against_intensity(cells, "mcc"),
            "strength": curves.against_strength(cells),
            "undefended": curves.undefended(cells),
        },
        galleries=galleries,
        shards=shards,
        rows=Markup(rows),  # JSON with <, > and & escaped
        rows_shown=shown,
        rows_total=total,
    )
    write_atomically(job.to, page)
    notes = [f"{g.victim} on {g.dataset}: {g.note}" for g in galleries if g.note]
    return ReportFile(job.to, len(page), len(records), notes)


def _only(records: pd.DataFrame, column: str, wanted: Sequence[str], out: Path) -> pd.DataFrame:
    for name in wanted:
        if name not in set(records[column]):
            raise AdvbenchError(
                f"{out / 'records'}: no records of {column} {name!r}; there are "
                f"{', '.join(sorted(set(records[column])))}"
            )
    return records[records[column].isin(wanted)]


def _tiles(records: pd.DataFrame, shards: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    attacks = set(records.attack) - {"original"}
    defenses = set(records.defense) - {"none"}
    made = sum(row["images"] for row in shards)
    hours = tables.attack_seconds(shards) / 3600
    forged = records.drop_duplicates(["dataset", "sample_id"])
    photographs = forged.groupby("dataset").source_group.nunique().sum()
    tiles = [
        ("images", f"{len(forged):,}"),
        ("source photographs", f"{photographs:,}"),
        ("victims", f"{records.groupby(['victim', 'weights_sha256']).ngroups}"),
        ("attacks", f"{len(attacks)}"),
        ("defenses", f"{len(defenses)}"),
        ("records", f"{len(records):,}"),
    ]
    if made:
        tiles += [("adversarial images", f"{made:,}"), ("hours of attacking", f"{hours:.2f}")]
    return tiles


def _victims(records: pd.DataFrame, cells: pd.DataFrame) -> list[dict[str, Any]]:
    """Per dataset and victim: undefended figures, the strongest attack, the best defense."""
    floor = floors(records).set_index("dataset").all_ones
    found = []
    for key, part in cells.groupby(_ONE, dropna=False):
        dataset, victim, size, weights, sha256, protocol = key
        own = records.merge(part[_ONE].head(1), on=_ONE)
        static = part[part.threat == "static"]
        clean = static[(static.attack == "original") & (static.defense == "none")]
        attacked = static[static.attack != "original"]
        undefended = attacked[attacked.defense == "none"]
        best = curves.best_strengths(part)
        best = best[best.defense != "none"]
        about: dict[str, Any] = {
            "dataset": dataset,
            "victim": victim,
            "size": size,
            "weights": weights,
            "weights_sha256": sha256,
            "protocol": protocol,
            "floor": float(floor.get(dataset, float("nan"))),
            "clean": clean.iloc[0].to_dict() if len(clean) else None,
            "strongest": _weakest(undefended),
            "best": None,
        }
        if len(best):
            chosen = attacked.merge(best.head(1), on=["defense", "strength"])
            about["best"] = {
                "name": defense_label(best.iloc[0].defense, float(best.iloc[0].strength)),
                "rp": chosen.rp.mean(),
                "undefended": undefended.rp.mean(),
                "worst": _weakest(chosen),
            }
        judged: list[Verdict] = verdicts(own, part, about["floor"])
        found.append(about | {"verdicts": judged})
    return found


def _weakest(cells: pd.DataFrame) -> dict[str, Any] | None:
    """The cell with the lowest RP; None where no cell has one."""
    ordered = cells.dropna(subset="rp").sort_values("rp", kind="stable")
    return {str(name): value for name, value in ordered.iloc[0].items()} if len(ordered) else None


def _galleries(
    job: ReportJob,
    scored: pd.DataFrame,
    cells: pd.DataFrame,
    entries: Sequence[ShardEntry],
    *,
    load_victim: LoadVictim | None,
) -> list[Gallery]:
    if not entries:
        return []
    budget = Budget(int(job.megabytes * 1e6))
    found = [
        gallery(
            part,
            cells.merge(part[_ONE].head(1), on=_ONE),
            entries,
            load_victim,
            given=job.defenses,
            budget=budget,
        )
        for _, part in scored.groupby(_ONE, dropna=False)
    ]
    return [one for one in found if one]
