"""Records: Parquet, one row per image × victim × variant × defense × protocol.

One file holds the records of one dataset, victim, variant and defense strength; its key says what
it was computed from, so that equal work is not done twice.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from advbench.errors import AdvbenchError
from advbench.files import write_atomically

_KEY = b"advbench.key"
_CELL = [
    *("dataset", "victim", "size", "weights_sha256", "variant"),
    *("defense", "strength", "protocol", "sample_id"),
]
_READ_ERRORS = (pa.ArrowException, OSError, ValueError)


@dataclass(frozen=True)
class Record:
    """The scores of one image.

    ``defense_spec`` is the JSON of what was done to it, ``version`` the advbench that scored it.
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
    defense: str
    strength: float
    protocol: str
    threshold: float
    tp: int
    fp: int
    fn: int
    tn: int
    f1: float
    iou: float
    auc: float
    psnr: float
    ssim: float
    linf: float
    l2: float
    image_sha256: str
    defense_spec: str
    version: str


def path_of(folder: Path, dataset: str, victim: str, variant: str, defense: str) -> Path:
    """Where the records of one cell lie."""
    return folder / dataset / victim / variant / f"{defense}.parquet"


def write_records(path: Path, records: Sequence[Record], key: str) -> None:
    """Write a file of records, whole or not at all."""
    columns = {f.name: [getattr(record, f.name) for record in records] for f in fields(Record)}
    _write(path, pa.table(columns).replace_schema_metadata({_KEY: key.encode()}))


def write_merged(path: Path, records: pd.DataFrame) -> None:
    """Write many records as one file, to be published beside what was derived from them."""
    cell = ["victim", "variant", "defense", "strength", "protocol", "sample_id"]
    table = pa.Table.from_pandas(records.sort_values(cell), preserve_index=False)
    _write(path, table.replace_schema_metadata(None))


def _write(path: Path, table: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(
        table, buffer, compression="zstd", compression_level=19, write_page_checksum=True
    )
    write_atomically(path, buffer.getvalue())


def has_key(path: Path, key: str) -> bool:
    """Whether the file is there, whole, and computed from the same things."""
    if not path.is_file():
        return False
    try:
        metadata = pq.read_schema(path).metadata or {}
    except _READ_ERRORS:
        return False
    return metadata.get(_KEY) == key.encode()


def read_records(folder: Path) -> pd.DataFrame:
    """All records below a folder, or of one file; one row a record.

    Raises:
        AdvbenchError: there are none, a file is damaged or holds something else, or the same cell
            is there twice.
    """
    frames = []
    for path in [folder] if folder.is_file() else sorted(folder.rglob("*.parquet")):
        try:
            frames.append(pq.read_table(path, page_checksum_verification=True).to_pandas())
        except _READ_ERRORS as error:
            raise AdvbenchError(
                f"{path}: damaged records; remove the file and run advbench evaluate again"
            ) from error
        missing = sorted({f.name for f in fields(Record)} - set(frames[-1].columns))
        if missing:
            raise AdvbenchError(f"{path}: no records of this version; they lack {missing[0]}")
    if not frames:
        raise AdvbenchError(f"{folder}: no records there; make some with advbench evaluate")
    records = pd.concat(frames, ignore_index=True)
    if records.duplicated(_CELL).any():
        raise AdvbenchError(f"{folder}: holds the same records twice; give one folder of records")
    return records
