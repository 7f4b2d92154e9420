"""Check a submission: form, hashes, protocol, coverage, and every number anew."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from advbench.errors import AdvbenchError
from advbench.escaping import visible
from advbench.scores.cells import defense_label
from advbench.scores.gates import gates
from advbench.scores.leaderboard import leaderboard
from advbench.scores.records import read_records
from advbench.scores.tables import as_csv
from advbench.scores.threats import ADAPTIVE
from advbench.submissions import records as own_records
from advbench.submissions.archive import BOARD, CLAIMS, MEMBERS, RECORDS, SHARDS, unpack
from advbench.submissions.archive import sha256 as hash_of
from advbench.submissions.claims import CLAIMS as CLAIMS_SCHEMA
from advbench.submissions.claims import SHARDS as SHARDS_SCHEMA
from advbench.submissions.claims import Claims, ShardClaim, parsed

TOLERANCE = 0.005  # F1 of the same image on another machine
_VICTIM = ["victim", "size", "weights_sha256"]
_IMAGE = ["victim", "variant", "sample_id"]


@dataclass(frozen=True)
class Checked:
    """A submission that holds.

    Attributes:
        records: the defense's and the undefended ones.
        board: the leaderboard that follows from them.
        gates: as of :func:`advbench.scores.gates.gates`, of the defense.
        against: the records of the leaderboard that it was checked against.
    """

    claims: Claims
    records: pd.DataFrame
    shards: list[ShardClaim]
    board: pd.DataFrame
    gates: pd.DataFrame
    against: Path


def check(path: Path, against: Path, static: bool = False) -> Checked:
    """Check an archive against the leaderboard that it is meant for.

    Args:
        against: a folder with DATASET.parquet, the leaderboard's records, or
            DATASET-static.parquet.
        static: for the latter: a defense need not have been attacked through itself.

    Raises:
        AdvbenchError: the first reason to refuse it.
    """
    files = unpack(path)
    claims = parsed(CLAIMS_SCHEMA, CLAIMS, files[CLAIMS])
    for name in MEMBERS[1:]:
        if claims.files.get(name) != hash_of(files[name]):
            raise AdvbenchError(f"{name}: its sha256 is not the one in {CLAIMS}")
    shards = parsed(SHARDS_SCHEMA, SHARDS, files[SHARDS])
    records = own_records.read(files[RECORDS])
    own_records.check(records)
    _matches_claims(claims, records)
    board_path = board_of(claims.dataset, against, static)
    reference = read_records(board_path)
    _matches_reference(claims, records, reference)
    _covers(claims, records, reference, static)
    _matches_shards(claims, records, shards)
    board = leaderboard(records)
    if as_csv(board) != files[BOARD]:
        raise AdvbenchError(f"{BOARD}: is not what its records give; pack it again")
    defended = records[records.defense == claims.defense]
    return Checked(claims, records, shards, board, gates(defended), board_path)


def board_of(dataset: str, folder: Path, static: bool) -> Path:
    """The records of the leaderboard that a submission is meant for.

    Raises:
        AdvbenchError: there is none.
    """
    name = f"{dataset}-static" if static else dataset
    path = folder / f"{name}.parquet"
    if path.is_file():
        return path
    other = folder / f"{dataset}-static.parquet"
    hint = "; there is a static one: --static" if not static and other.is_file() else ""
    raise AdvbenchError(
        f"dataset {dataset}: there is no leaderboard {name} of it in {folder}{hint}"
    )


def _matches_claims(claims: Claims, records: pd.DataFrame) -> None:
    for column in ("dataset", "protocol"):
        odd = set(records[column]) - {getattr(claims, column)}
        if odd:
            raise AdvbenchError(f"{RECORDS}: {column} {visible(min(odd))} is not the one claimed")
    odd = set(records.defense) - {claims.defense, "none"}
    if odd:
        raise AdvbenchError(f"{RECORDS}: holds another defense, {visible(min(odd))}")
    if claims.defense == "none" or claims.defense not in set(records.defense):
        raise AdvbenchError(f"{RECORDS}: holds no records of a defense {claims.defense}")
    own = records[records.defense == claims.defense]
    stated = {_canonical(json.dumps(one)) for one in claims.specifications}
    found = {_canonical(text) for text in set(own.defense_spec)}
    if stated != found:
        raise AdvbenchError(f"{CLAIMS}: its specifications are not those of the records")
    for text in found:
        if json.loads(text).get("defense") != claims.defense:
            raise AdvbenchError(f"{CLAIMS}: a specification is of another defense")


def _canonical(text: str) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AdvbenchError(f"{RECORDS}: defense_spec is no JSON: {visible(text[:60])}") from error
    if not isinstance(value, dict):
        raise AdvbenchError(f"{RECORDS}: defense_spec is no JSON object: {visible(text[:60])}")
    return json.dumps(value, sort_keys=True)


def _matches_reference(claims: Claims, records: pd.DataFrame, reference: pd.DataFrame) -> None:
    """The same victims, images and undefended scores as on the leaderboard."""
    if claims.protocol not in set(reference.protocol):
        raise AdvbenchError(f"protocol {claims.protocol}: not that of the leaderboard")
    known = reference[_VICTIM].drop_duplicates()
    for victim, size, sha256 in sorted(set(records[_VICTIM].itertuples(index=False, name=None))):
        same = known[(known.victim == victim) & (known["size"] == size)]
        if same.empty:
            raise AdvbenchError(
                f"victim {visible(victim)} ({visible(size)}): not on the leaderboard"
            )
        if sha256 not in set(same.weights_sha256):
            raise AdvbenchError(
                f"victim {victim}: other weights ({sha256[:12]}) than on the "
                f"leaderboard ({same.weights_sha256.iloc[0][:12]})"
            )
    undefended = reference[
        (reference.defense == "none") & (reference.protocol == claims.protocol)
    ].set_index(_IMAGE)
    static = records[records.threat != ADAPTIVE].set_index(_IMAGE)
    unknown = static.index.difference(undefended.index)
    if len(unknown):
        victim, variant, sample = unknown[0]
        raise AdvbenchError(
            f"{visible(sample)} under {visible(variant)} before {victim}: not an image of the "
            "leaderboard"
        )
    theirs = undefended.reindex(static.index)
    for column in ("image_sha256", "kind", "source_group"):
        differs = static[column] != theirs[column]
        if differs.any():
            victim, variant, sample = static.index[differs.to_numpy()][0]
            raise AdvbenchError(
                f"{visible(sample)} under {visible(variant)} before {victim}: another {column} "
                "than on the leaderboard; evaluate its own shards"
            )
    none = static[static.defense == "none"]
    wrong = (none.f1 - undefended.f1.reindex(none.index)).abs() > TOLERANCE
    if wrong.any():
        victim, variant, sample = none.index[wrong.to_numpy()][0]
        raise AdvbenchError(
            f"{visible(sample)} under {visible(variant)} before {victim}: undefended F1 is not "
            f"within {TOLERANCE} of the leaderboard's"
        )


def _covers(claims: Claims, records: pd.DataFrame, reference: pd.DataFrame, static: bool) -> None:
    """Every image and variant of the leaderboard, undefended and at each strength."""
    wanted = reference[
        (reference.defense == "none")
        & (reference.threat != ADAPTIVE)
        & (reference.protocol == claims.protocol)
    ]
    for keys, own in records.groupby(["victim", "defense", "strength"], dropna=False):
        victim, defense, strength = keys
        name = defense_label(defense, strength)
        needed = set(
            wanted[wanted.victim == victim][["variant", "sample_id"]].itertuples(
                index=False, name=None
            )
        )
        missing = needed - set(own[["variant", "sample_id"]].itertuples(index=False, name=None))
        if missing:
            variant, sample = min(missing)
            raise AdvbenchError(
                f"{visible(name)} before {victim}: {len(missing)} of {len(needed)} images are "
                f"missing, the first {visible(sample)} under {visible(variant)}"
            )
        if defense == "none" or static:
            continue
        adaptive = own[own.threat == ADAPTIVE]
        originals = set(own[own.variant == "original"].sample_id)
        if adaptive.empty:
            raise AdvbenchError(
                f"{visible(name)} before {victim}: no adaptive attack; make one with: advbench "
                f"generate --through {claims.defense}, or check it as --static"
            )
        for variant, part in adaptive.groupby("variant"):
            if set(part.sample_id) != originals:
                raise AdvbenchError(
                    f"{visible(name)} before {victim}: {visible(str(variant))} has "
                    f"{len(set(part.sample_id) & originals)} of {len(originals)} images"
                )


def _matches_shards(claims: Claims, records: pd.DataFrame, shards: list[ShardClaim]) -> None:
    by_variant = {(shard.victim, shard.variant): shard for shard in shards}
    if len(by_variant) < len(shards):
        raise AdvbenchError(f"{SHARDS}: the same variant twice")
    attacked = records[records.variant != "original"]
    for (victim, variant), part in attacked.groupby(["victim", "variant"]):
        shard = by_variant.pop((str(victim), str(variant)), None)
        if shard is None:
            raise AdvbenchError(f"{SHARDS}: says nothing of {visible(variant)} before {victim}")
        name = f"{SHARDS}: {visible(str(variant))} before {victim}"
        if not shard.is_hashed_rightly:
            raise AdvbenchError(f"{name}: settings_sha256 is not that of its settings")
        settings = shard.settings
        identity = settings.get("victim") or {}
        if settings.get("dataset") != claims.dataset or settings.get("variant") != variant:
            raise AdvbenchError(f"{name}: settings are of another dataset or variant")
        if identity.get("weights_sha256") not in set(part.weights_sha256):
            raise AdvbenchError(f"{name}: made with other weights than those that were scored")
        if settings.get("precision") not in (None, "fp32"):
            raise AdvbenchError(f"{name}: made in {visible(settings['precision'])}, not in fp32")
        if shard.images < part.sample_id.nunique():
            raise AdvbenchError(f"{name}: {shard.images} images, fewer than were scored")
    if by_variant:
        victim, variant = min(by_variant)
        raise AdvbenchError(f"{SHARDS}: {visible(variant)} before {victim} was not scored")
