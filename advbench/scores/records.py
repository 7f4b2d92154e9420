"""Records: Parquet, one row per image × victim × variant × defense × protocol.

One file holds the records of one dataset, victim, variant and defense strength; its key says what
it was computed from, so that equal work is not done twice. Files of ``advbench.records/1``, which
had no threat models, and of ``/2``, which did not say what a defense changes, are read as the next
version has them.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from advbench.errors import AdvbenchError
from advbench.files import as_part, check_regular, obstacle, write_atomically
from advbench.scores.counts import Counts, marked, mcc
from advbench.scores.threats import ORIGINAL

SCHEMA = "advbench.records/3"
_KEY, _SCHEMA, _DIGEST = b"advbench.key", b"advbench.schema", b"advbench.sha256"
_CELL = [
    *("dataset", "victim", "size", "weights_sha256", "variant"),
    *("defense", "strength", "protocol", "sample_id"),
]
_DEFENDED = ["dataset", "victim", "size", "weights_sha256", "defense", "strength", "protocol"]
# What the second version has and the first had not.
_ADDED = {
    *("threat", "through", "surrogate", "region", "target", "budget"),
    *("mcc", "marked", "zero_gradients"),
}
# What the third version has and the second had not.
_CONTROLS = ("kept_psnr", "removed")
_SINCE_DIGESTS = {"kept_psnr", "removed"}  # columns that came with them
_READ_ERRORS = (pa.ArrowException, OSError, ValueError)


@dataclass(frozen=True)
class Record:
    """The scores of one image.

    Attributes:
        variant, attack, intensity, threat, through, surrogate, region, target, budget: how the
            image was made, as in :class:`~advbench.scores.threats.Attacked`.
        f1, iou, mcc: NaN where the truth does not allow them, as on authentic images.
        marked: share of pixels that the map marks as forged.
        linf: in grey levels, of the stored image.
        kept_psnr: of the defended image against what the defense was given, in dB; infinite where
            it changed nothing, NaN in records of earlier versions.
        removed: share of the attack's noise that the defense took away along the noise's own
            direction; NaN of originals, and in records of earlier versions.
        zero_gradients: how many of the attack's gradients were zero everywhere; NaN if unknown.
        defense_spec: JSON of what was done to the image.
        version: the advbench that scored it.
    """

    dataset: str
    sample_id: str
    kind: str
    source_group: str
    victim: str
    size: str
    weights: str
    weights_sha256: str
    attack: str
    intensity: float
    variant: str
    threat: str
    through: str
    surrogate: str
    region: str
    target: str
    budget: float
    defense: str
    strength: float
    protocol: str
    threshold: float
    tp: int
    fp: int
    fn: int
    tn: int
    f1: float
    mcc: float
    marked: float
    iou: float
    auc: float
    psnr: float
    ssim: float
    linf: float
    l2: float
    kept_psnr: float
    removed: float
    zero_gradients: float
    image_sha256: str
    defense_spec: str
    version: str


def path_of(folder: Path, dataset: str, victim: str, variant: str, *, defense: str) -> Path:
    """Name the file of a cell's records."""
    return folder / dataset / as_part(victim) / variant / f"{defense}.parquet"


def write_records(path: Path, records: Sequence[Record], key: str) -> None:
    """Write a file of records, whole or not at all."""
    columns = {f.name: [getattr(record, f.name) for record in records] for f in fields(Record)}
    _write(path, pa.table(columns), {_KEY: key.encode()})


def write_merged(path: Path, records: pd.DataFrame) -> None:
    """Write many records as one file, to be published beside what was derived from them."""
    cell = ["victim", "variant", "defense", "strength", "protocol", "sample_id"]
    table = pa.Table.from_pandas(records.sort_values(cell), preserve_index=False)
    _write(path, table)


def _write(path: Path, table: pa.Table, metadata: dict[bytes, bytes] | None = None) -> None:
    told = {_SCHEMA: SCHEMA.encode()} | (metadata or {})
    told[_DIGEST] = _digest(table, told.get(_KEY, b"")).encode()
    buffer = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata(told),
        buffer,
        compression="zstd",
        compression_level=19,
        write_page_checksum=True,
    )
    write_atomically(path, buffer.getvalue())


def _digest(table: pa.Table, key: bytes) -> str:
    """Hash every value of a table, column by column, and its key."""
    digest = hashlib.sha256(key)
    for name in sorted(table.column_names):
        column = table[name]
        text = not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type))
        # Bytes in place of text, of a damaged schema, are another value and no fault of its own.
        values = (
            json.dumps(column.to_pylist(), default=repr).encode()
            if text
            else column.to_numpy().tobytes()
        )
        digest.update(name.encode() + b"\0" + values + b"\0")
    return digest.hexdigest()


def read_cell(path: Path) -> tuple[pd.DataFrame, str]:
    """Read the records of one file, and its key, empty where it has none.

    Raises:
        AdvbenchError: it is damaged, holds something else, or cannot be read now.
    """
    check_regular(path)
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        metadata = table.schema.metadata or {}
        key, digest = metadata.get(_KEY, b""), metadata.get(_DIGEST)
        # Files of earlier versions have no digest; one of this version without it was written anew
        # by another program, whatever it changed.
        if digest is None and set(table.column_names) >= _SINCE_DIGESTS:
            raise ValueError("no sum")
        if digest is not None and digest.decode() != _digest(table, key):
            raise ValueError("another sum")
        records = table.to_pandas()
        text = key.decode()
    except _READ_ERRORS as error:
        raise obstacle(path, error) or AdvbenchError(
            f"{path}: damaged records; remove the file and run advbench evaluate again"
        ) from error
    return _as_this_version(path, records), text


def has_key(path: Path, key: str) -> bool:
    """Tell whether the file is there, whole, and computed from the same things."""
    try:
        return path.is_file() and read_cell(path)[1] == key
    except AdvbenchError:
        return False


def read_records(folder: Path) -> pd.DataFrame:
    """All records below a folder, or of one file; one row a record.

    Raises:
        AdvbenchError: there are none, a file is damaged or holds something else, the same cell is
            there twice, or two defenses of one name are mixed.
    """
    paths = [folder] if folder.is_file() else sorted(folder.rglob("*.parquet"))
    frames = [read_cell(path)[0] for path in paths]
    if not frames:
        raise AdvbenchError(f"{folder}: no records there; make some with advbench evaluate")
    records = pd.concat(frames, ignore_index=True)
    twice = records.duplicated(_CELL, keep=False).to_numpy()
    if twice.any():
        file_of = np.repeat(np.arange(len(paths)), [len(frame) for frame in frames])
        names = [str(paths[number]) for number in np.unique(file_of[twice])]
        raise AdvbenchError(
            f"{folder}: holds the same records twice, in {', '.join(names[:3])}; remove all but "
            "one of them"
        )
    _refuse_mixed(folder, records)
    return records


def to_records(frame: pd.DataFrame) -> list[Record]:
    """Make records of the rows of a frame."""
    columns = [field.name for field in fields(Record)]
    return [Record(*row) for row in frame[columns].itertuples(index=False)]


def _refuse_mixed(folder: Path, records: pd.DataFrame) -> None:
    """Refuse scores of two defenses under one name, as after a network was replaced."""
    cells = records.groupby(_DEFENDED, dropna=False).defense_spec.nunique()
    mixed = cells[cells > 1]
    if len(mixed):
        cell = dict(zip(_DEFENDED, mixed.index[0], strict=True))
        raise AdvbenchError(
            f"{folder}: scores of {cell['defense']} for {cell['victim']} on {cell['dataset']} come "
            "of two different ones under that name; score all anew with: advbench evaluate "
            f"--defense {cell['defense']}"
        )


def _as_this_version(path: Path, records: pd.DataFrame) -> pd.DataFrame:
    """Add what earlier versions had not: in the first all attacks are static, and those but C&W
    within φ."""
    names = [f.name for f in fields(Record)]
    if not set(_CONTROLS) & set(records.columns):
        records = records.assign(**dict.fromkeys(_CONTROLS, math.nan))
    if not _ADDED & set(records.columns) and set(names) - set(records.columns) == _ADDED:
        counts = Counts.of(records)
        bounded = ~records.attack.isin(["original", "cw"])
        static = {name: value for name, value in vars(ORIGINAL).items() if name in _ADDED}
        records = records.assign(**static).assign(
            budget=np.floor(records.intensity).where(bounded),
            mcc=mcc(counts),
            marked=marked(counts),
            zero_gradients=math.nan,
        )
    missing = sorted(set(names) - set(records.columns))
    if missing:
        raise AdvbenchError(f"{path}: no records of this version; they lack {missing[0]}")
    return records[names]
