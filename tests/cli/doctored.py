"""Submissions as a forger would send them: what is changed, and the reason to be refused."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from advbench.scores import counts as rules
from advbench.scores.counts import Counts
from advbench.scores.leaderboard import leaderboard
from advbench.scores.tables import as_csv
from advbench.submissions import records as records_file

Files = dict[str, bytes]
NO_JSON = b"{"


def through_median(records: pd.DataFrame) -> pd.DataFrame:
    """Records of attacks through the median, as the static ones of another image."""
    own = records[(records.defense == "median") & (records.variant == "fgsm-3")]
    name = "fgsm-3@median-3"
    sha = [hashlib.sha256(f"{s}{name}".encode()).hexdigest() for s in own.sample_id]
    return own.assign(variant=name, threat="adaptive", through=own.defense_spec, image_sha256=sha)


def unpacked(path: Path) -> Files:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def repacked(path: Path, files: Files) -> Path:
    """The files with hashes and leaderboard made anew, as a careful forger would."""
    files = dict(files)
    if files["submission.json"] != NO_JSON:
        claims = json.loads(files["submission.json"])
        claims["files"] = {
            name: hashlib.sha256(files[name]).hexdigest() for name in claims["files"]
        }
        files["submission.json"] = json.dumps(claims).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def with_records(files: Files, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Files:
    """Other records, all that follows from them anew."""
    records = change(pd.read_parquet(io.BytesIO(files["records.parquet"])))
    buffer = io.BytesIO()
    pq.write_table(
        pa.Table.from_pandas(records, preserve_index=False), buffer, write_page_checksum=True
    )
    try:
        board = as_csv(leaderboard(records_file.read(buffer.getvalue())))
    except Exception:
        board = files["leaderboard.csv"]
    return files | {"records.parquet": buffer.getvalue(), "leaderboard.csv": board}


def with_claims(files: Files, **changes: object) -> Files:
    claims = json.loads(files["submission.json"]) | changes
    return files | {"submission.json": json.dumps(claims).encode()}


def with_shards(files: Files, change: Callable[[list[dict]], object]) -> Files:
    shards = json.loads(files["shards.json"])
    change(shards)
    return files | {"shards.json": json.dumps(shards).encode()}


def better(records: pd.DataFrame) -> pd.DataFrame:
    """F1 raised, all that follows from TP, FP, FN and TN in keeping with it."""
    own = (records.defense == "median") & (records.fn > 0)
    records.loc[own, "tp"] += records.loc[own, "fn"]
    records.loc[own, "fn"] = 0
    for name in ("f1", "iou", "mcc", "marked"):
        records[name] = getattr(rules, name)(Counts.of(records))
    return records


def assigned(where: str, **values: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """The first record that matches gets other values."""

    def change(records: pd.DataFrame) -> pd.DataFrame:
        place = records.query(where).index[0]
        for name, value in values.items():
            records.loc[place, name] = value
        return records

    return change


def everywhere(where: str, **values: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(records: pd.DataFrame) -> pd.DataFrame:
        for name, value in values.items():
            records.loc[records.query(where).index, name] = value
        return records

    return change


ATTACKED = "variant == 'fgsm-3' and defense == 'median'"
STATIC = "defense == 'median' and threat == 'static'"
DOCTORED: dict[str, tuple[Callable[[Files], Files], str]] = {
    # Records
    "F1 raised": (
        lambda f: with_records(f, assigned(ATTACKED, f1=0.99)),
        "does not follow from TP",
    ),
    "MCC raised": (lambda f: with_records(f, assigned(ATTACKED, mcc=0.99)), "does not follow from"),
    "consistent counts of more forged pixels": (
        lambda f: with_records(f, _more_forged),
        "contradicts another record: forged",
    ),
    "undefended scores lowered": (
        lambda f: with_records(f, _undefended_lower),
        "undefended F1 is not within 0.005",
    ),
    "AUC of two": (lambda f: with_records(f, assigned(ATTACKED, auc=2.0)), "out of range: auc"),
    "negative count": (lambda f: with_records(f, assigned(ATTACKED, fp=-5)), "a negative count fp"),
    "an image left out": (
        lambda f: with_records(f, lambda r: r.drop(r.query(ATTACKED).index[0])),
        "of 12 images are missing",
    ),
    "an attack left out": (
        lambda f: with_records(f, lambda r: r[r.variant != "fgsm-3"]),
        "images are missing",
    ),
    "a record twice": (
        lambda f: with_records(f, lambda r: pd.concat([r, r.query(ATTACKED).head(1)])),
        "the same record twice",
    ),
    "an image of another hash": (
        lambda f: with_records(
            f,
            everywhere("variant == 'fgsm-3' and sample_id == 'mine/photo1'", image_sha256="a" * 64),
        ),
        "another image_sha256 than on the leaderboard",
    ),
    "the defense on another image": (
        lambda f: with_records(f, assigned(ATTACKED, image_sha256="a" * 64)),
        "contradicts another record: image_sha256",
    ),
    "unknown protocol": (
        lambda f: with_claims(
            with_records(f, lambda r: r.assign(protocol="f1/easy")), protocol="f1/easy"
        ),
        "unknown protocol",
    ),
    "other weights": (
        lambda f: with_records(f, lambda r: r.assign(weights_sha256="b" * 64)),
        "other weights (bbbbbbbbbbbb) than on the leaderboard",
    ),
    "another victim": (
        lambda f: with_records(f, lambda r: r.assign(victim="easy")),
        "victim easy (full): not on the leaderboard",
    ),
    "an unknown image": (
        lambda f: with_records(f, everywhere("sample_id == 'mine/photo1'", sample_id="mine/other")),
        "not an image of the leaderboard",
    ),
    "another dataset": (
        lambda f: with_records(f, lambda r: r.assign(dataset="other")),
        "dataset other is not the one claimed",
    ),
    "beyond the budget": (
        lambda f: with_records(f, everywhere("variant == 'fgsm-3'", linf=9.0)),
        "beyond the budget of its attack",
    ),
    "another threshold": (
        lambda f: with_records(f, everywhere(STATIC, threshold=0.1)),
        "contradicts another record: threshold",
    ),
    "another defense within": (
        lambda f: with_records(f, assigned(ATTACKED, defense="jpeg")),
        "holds another defense, jpeg",
    ),
    "another specification": (
        lambda f: with_records(
            f, everywhere("defense == 'median'", defense_spec='{"defense": "median", "kernel": 5}')
        ),
        "an adaptive attack through another defense",
    ),
    "claims of another network": (
        lambda f: with_claims(f, specifications=[{"defense": "median", "kernel": 9}]),
        "its specifications are not those of the records",
    ),
    "never attacked through itself": (
        lambda f: (
            with_records(f, lambda r: r[r.threat == "static"]) | {"shards.json": _only_static(f)}
        ),
        "no adaptive attack",
    ),
    "attacked through itself on the easy images": (
        lambda f: with_records(
            f, lambda r: r[(r.threat == "static") | (r.sample_id != "mine/photo0")]
        ),
        "has 3 of 4 images",
    ),
    "a text where a number stands": (
        lambda f: with_records(f, lambda r: r.assign(auc=r.auc.astype(str))),
        "auc is ",
    ),
    "a column more": (
        lambda f: with_records(f, lambda r: r.assign(note="best")),
        "columns are not those of records: note",
    ),
    "empty cells": (
        lambda f: with_records(f, lambda r: r.assign(kind=[None, *r.kind[1:]])),
        "holds empty cells",
    ),
    "no Parquet": (lambda f: f | {"records.parquet": b"PAR1 no"}, "damaged, or no Parquet file"),
    # What is claimed
    "another leaderboard": (
        lambda f: f | {"leaderboard.csv": f["leaderboard.csv"].replace(b"median", b"medlan")},
        "is not what its records give",
    ),
    "another schema": (
        lambda f: with_claims(f, schema="advbench.submission/9"),
        "submission.json: schema: ",
    ),
    "a field more": (lambda f: with_claims(f, run="rm -rf"), "submission.json: run: "),
    "a path for a dataset": (
        lambda f: with_claims(f, dataset="../../etc/passwd"),
        "submission.json: dataset: ",
    ),
    "a dataset that has no leaderboard": (
        lambda f: with_claims(
            with_records(f, lambda r: r.assign(dataset="other")), dataset="other"
        ),
        "there is no leaderboard other of it",
    ),
    "claims that are no JSON": (lambda f: f | {"submission.json": NO_JSON}, "submission.json: "),
    # Shards
    "settings of other weights": (
        lambda f: with_shards(f, lambda s: _resealed(s[0], victim={"weights_sha256": "c" * 64})),
        "made with other weights",
    ),
    "settings that were changed": (
        lambda f: with_shards(f, lambda s: s[0]["settings"].update(seed=9)),
        "settings_sha256 is not that of its settings",
    ),
    "in half precision": (
        lambda f: with_shards(f, lambda s: _resealed(s[0], precision="bf16")),
        "made in bf16, not in fp32",
    ),
    "of another variant": (
        lambda f: with_shards(f, lambda s: _resealed(s[0], variant="fgsm-9")),
        "settings are of another dataset or variant",
    ),
    "nothing of a variant": (lambda f: with_shards(f, lambda s: s.pop()), "says nothing of"),
    "fewer images than scored": (
        lambda f: with_shards(f, lambda s: s[0].update(images=1)),
        "fewer than were scored",
    ),
}


def _more_forged(records: pd.DataFrame) -> pd.DataFrame:
    place = records.query(ATTACKED).index[0]
    records.loc[place, "tp"] += 20
    records.loc[place, "tn"] -= 20
    for name in ("f1", "iou", "mcc", "marked"):
        records[name] = getattr(rules, name)(Counts.of(records))
    return records


def _undefended_lower(records: pd.DataFrame) -> pd.DataFrame:
    place = records.query("variant == 'original' and defense == 'none'").index[0]
    tp = records.loc[place, "tp"]
    records.loc[place, "fn"] += tp
    records.loc[place, "tp"] = 0
    for name in ("f1", "iou", "mcc", "marked"):
        records[name] = getattr(rules, name)(Counts.of(records))
    return records


def _only_static(files: Files) -> bytes:
    return json.dumps(
        [s for s in json.loads(files["shards.json"]) if "@" not in s["variant"]]
    ).encode()


def _resealed(shard: dict, victim: dict | None = None, **settings: object) -> None:
    shard["settings"].update(settings)
    shard["settings"]["victim"].update(victim or {})
    text = json.dumps(shard["settings"], sort_keys=True, separators=(",", ":"))
    shard["settings_sha256"] = hashlib.sha256(text.encode()).hexdigest()


def adaptive(files: Files) -> Files:
    """The archive with attacks through the median, which is what a leaderboard asks for."""
    files = with_records(files, lambda r: pd.concat([r, through_median(r)], ignore_index=True))

    def more(shards: list[dict]) -> None:
        own = json.loads(json.dumps(next(s for s in shards if s["variant"] == "fgsm-3")))
        own["variant"] = "fgsm-3@median-3"
        _resealed(own, variant="fgsm-3@median-3")
        shards.append(own)

    return with_shards(files, more)
