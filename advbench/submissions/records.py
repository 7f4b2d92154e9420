"""Records from a stranger: the file's form first, then every number against the others."""

from __future__ import annotations

import io
from dataclasses import fields

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from advbench.errors import AdvbenchError
from advbench.escaping import visible
from advbench.scores import counts
from advbench.scores.counts import Counts
from advbench.scores.protocols import PROTOCOLS
from advbench.scores.records import Record
from advbench.scores.threats import ADAPTIVE, THREATS

MOST_ROWS, MOST_BYTES = 2_000_000, 2 << 30
_TYPES = {"str": (pa.string(), pa.large_string()), "int": (pa.int64(),), "float": (pa.float64(),)}
_CELL = ["victim", "size", "weights_sha256", "variant", "defense", "strength", "sample_id"]
_WHERE = "records.parquet"


def read(data: bytes) -> pd.DataFrame:
    """Read a records file whose columns, types and size are those of records.

    Raises:
        AdvbenchError: it is no Parquet file, damaged, too large, or of other columns or types.
    """
    try:
        file = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
        schema, about = file.schema_arrow, file.metadata
        wanted = {f.name: f.type for f in fields(Record)}
        if set(schema.names) != set(wanted) or len(schema.names) != len(wanted):
            odd = sorted(set(schema.names) ^ set(wanted)) or ["a column twice"]
            raise AdvbenchError(f"{_WHERE}: columns are not those of records: {visible(odd[0])}")
        for name, kind in wanted.items():
            if schema.field(name).type not in _TYPES[str(kind)]:
                raise AdvbenchError(f"{_WHERE}: {name} is {schema.field(name).type}, not {kind}")
        size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
        if about.num_rows > MOST_ROWS or size > MOST_BYTES:
            raise AdvbenchError(f"{_WHERE}: {about.num_rows} rows in {size} bytes are too many")
        table = file.read()
        # An empty cell of floating-point numbers is NaN.
        texts = [name for name, kind in wanted.items() if str(kind) != "float"]
        if any(table.column(name).null_count for name in texts):
            raise AdvbenchError(f"{_WHERE}: holds empty cells")
        records: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise AdvbenchError(f"{_WHERE}: damaged, or no Parquet file") from error
    if records.empty:
        raise AdvbenchError(f"{_WHERE}: holds no records")
    return records[[f.name for f in fields(Record)]]


def check(records: pd.DataFrame) -> None:
    """Check that every number of the records follows from the others.

    Raises:
        AdvbenchError: the first record that contradicts itself or another one, and how.
    """
    _refuse(records, ~records.protocol.isin(PROTOCOLS), "protocol", "unknown protocol")
    _refuse(records, ~records.threat.isin(THREATS), "threat", "unknown threat model")
    for column in ("weights_sha256", "image_sha256"):
        good = records[column].str.fullmatch("[0-9a-f]{64}")
        _refuse(records, ~good, column, "no sha256")
    _refuse(records, records.duplicated(_CELL), "sample_id", "the same record twice")
    for column in ("tp", "fp", "fn", "tn"):
        _refuse(records, records[column] < 0, column, "a negative count")
    own = Counts.of(records)
    pixels = sum(own.floats())
    _refuse(records, pixels == 0, "tp", "no pixels")
    for column in ("f1", "iou", "mcc", "marked"):
        wanted = getattr(counts, column)(own)
        stated = records[column].to_numpy(float)
        if column == "f1":  # protocols before f1/v2 score a map that marks what is authentic
            wanted = np.where(np.isnan(wanted) & (stated == 0), 0.0, wanted)
        differs = ~np.isclose(stated, wanted, rtol=0, atol=1e-9, equal_nan=True)
        _refuse(records, differs, column, "does not follow from TP, FP, FN and TN:")
    _within(records, "auc", 0, 1)
    _within(records, "ssim", -1, 1)
    _within(records, "threshold", 0, 1)
    _within(records, "linf", 0, 255)
    for column in ("psnr", "l2"):
        _within(records, column, 0, np.inf)
    _one_each(records, ["sample_id"], "kind")
    _one_each(records, ["sample_id"], "source_group")
    _one_each(records, ["victim", "size", "weights_sha256"], "threshold")
    keys = ["victim", "size", "weights_sha256", "variant", "sample_id"]
    _one_each(records, keys, "image_sha256")
    forged = records.assign(forged=records.tp + records.fn, pixels=pixels)
    _one_each(forged, ["sample_id"], "forged")
    _one_each(forged, ["sample_id"], "pixels")
    original = records.variant == "original"
    moved = (records.linf != 0) | (records.attack != "original")
    _refuse(records, original & moved, "linf", "an original that is not original:")
    over = records.linf > records.budget
    _refuse(records, over, "linf", "beyond the budget of its attack:")
    wrong = (records.threat == ADAPTIVE) & (records.through != records.defense_spec)
    _refuse(records, wrong, "through", "an adaptive attack through another defense:")


def _refuse(records: pd.DataFrame, wrong: object, column: str, why: str) -> None:
    found = records[np.asarray(wrong, bool)]
    if len(found):
        row = found.iloc[0]
        name = f"{row.victim} on {row.sample_id} ({row.variant}, {row.defense})"
        value = visible(str(row[column])[:80])
        raise AdvbenchError(f"{_WHERE}: {visible(name)}: {why} {column} {value}")


def _within(records: pd.DataFrame, column: str, low: float, high: float) -> None:
    values = records[column]
    _refuse(records, (values < low) | (values > high), column, "out of range:")


def _one_each(records: pd.DataFrame, keys: list[str], column: str) -> None:
    """Check that a column says the same wherever the keys are the same."""
    first = records.groupby(keys, dropna=False)[column].transform("first")
    _refuse(records, first != records[column], column, "contradicts another record:")
