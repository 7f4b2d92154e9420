"""Pack a defense's records, with what its images were made by, to be sent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

import advbench
from advbench.errors import AdvbenchError
from advbench.scores.leaderboard import leaderboard
from advbench.scores.records import read_records, write_merged
from advbench.scores.tables import as_csv
from advbench.shards.reader import Shard, ShardEntry
from advbench.shards.schema import ADVERSARIAL
from advbench.shards.store import ShardStore
from advbench.submissions import records as own_records
from advbench.submissions.archive import BOARD, RECORDS, SHARDS, pack, sha256
from advbench.submissions.archive import CLAIMS as CLAIMS_FILE
from advbench.submissions.claims import Claims, ShardClaim


@dataclass(frozen=True)
class SubmissionJob:
    """Choose what to pack.

    Attributes:
        out: the output folder with records and shards.
        to: the archive to write.
        title, reference, contact: as in :class:`~advbench.submissions.claims.Claims`.
    """

    out: Path
    to: Path
    dataset: str
    defense: str
    title: str = ""
    reference: str = ""
    contact: str = ""


def submit(job: SubmissionJob) -> pd.DataFrame:
    """Write the archive.

    Returns:
        the leaderboard of the records within.

    Raises:
        AdvbenchError: no records of the defense, of several protocols, or shards that do not have
            the images of the records.
    """
    every = read_records(job.out / "records")
    own = every[(every.dataset == job.dataset) & (every.defense == job.defense)]
    if own.empty:
        raise AdvbenchError(
            f"{job.out / 'records'}: no records of {job.defense} on {job.dataset}; "
            f"make some with: advbench evaluate --defense {job.defense}"
        )
    if own.protocol.nunique() > 1:
        raise AdvbenchError(f"{job.defense}: records of several protocols; keep one")
    victims = set(own.victim)
    undefended = every[
        (every.dataset == job.dataset)
        & (every.defense == "none")
        & every.victim.isin(victims)
        & (every.protocol == own.protocol.iloc[0])
    ]
    records = pd.concat([undefended, own], ignore_index=True)
    shards = _shards(ShardStore(job.out / "shards").entries(), job.dataset, records)
    packed = _parquet(records, job.to)
    board = leaderboard(own_records.read(packed))
    files = {
        RECORDS: packed,
        BOARD: as_csv(board),
        SHARDS: _json([shard.model_dump() for shard in shards]),
    }
    claims = Claims(
        advbench=advbench.__version__,
        dataset=job.dataset,
        defense=job.defense,
        protocol=str(own.protocol.iloc[0]),
        title=job.title,
        reference=job.reference,
        contact=job.contact,
        specifications=[json.loads(text) for text in sorted(set(own.defense_spec))],
        files={name: sha256(data) for name, data in files.items()},
    )
    files[CLAIMS_FILE] = _json(claims.model_dump(by_alias=True))
    pack(job.to, files)
    return board


def _shards(entries: Sequence[ShardEntry], dataset: str, records: pd.DataFrame) -> list[ShardClaim]:
    """Per victim and variant of the records what made the images."""
    found = []
    attacked = records[records.variant != "original"].groupby(["victim", "variant"])
    for (victim, variant), part in attacked:
        own = [
            entry
            for entry in entries
            if entry.settings.kind == ADVERSARIAL
            and entry.settings.dataset == dataset
            and (entry.settings.victim or {}).get("name") == victim
            and entry.settings.variant == variant
        ]
        there = {sample for entry in own for sample in entry.sample_ids}
        missing = set(part.sample_id) - there
        if missing:
            raise AdvbenchError(
                f"{victim} {variant}: the shard of {min(missing)} is gone; run generate again"
            )
        with Shard(own[0].path) as shard:
            made = shard.provenance
        found.append(
            ShardClaim(
                victim=str(victim),
                variant=str(variant),
                settings=json.loads(own[0].settings.to_json()),
                settings_sha256=own[0].settings.sha256,
                content_sha256=[entry.content_sha256 for entry in own],
                images=len(there),
                device=str(made.get("device", "")),
                advbench=str(made.get("advbench_version", "")),
            )
        )
    return found


def _parquet(records: pd.DataFrame, near: Path) -> bytes:
    temporary = near.with_name(f".{near.name}.parquet")
    try:
        write_merged(temporary, records)
        return temporary.read_bytes()
    finally:
        temporary.unlink(missing_ok=True)


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
