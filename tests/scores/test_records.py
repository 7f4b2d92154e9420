"""Files of records: what is written is read; damage is told, never scored."""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from advbench.errors import AdvbenchError
from advbench.scores.records import Record, has_key, path_of, read_records, write_records

from .made import record

RECORDS = [
    record("a", f1=0.1 + 0.2, psnr=math.inf, source_group='ä, "b"', tp=2**40),
    record("b", f1=math.nan, auc=math.nan, attack="pgd", intensity=3.0, strength=0.7),
]


def refused(folder: Path) -> str:
    with pytest.raises(AdvbenchError) as caught:
        read_records(folder)
    text = str(caught.value)
    assert "\n" not in text
    assert str(folder) in text
    return text


def test_round_trip(tmp_path: Path) -> None:
    """Every field of every record, to the last bit, NaN and infinity included."""
    write_records(tmp_path / "x.parquet", RECORDS, "key")
    found = read_records(tmp_path)
    expected = [asdict(one) for one in RECORDS]
    assert list(found.columns) == list(expected[0])
    for number, values in enumerate(expected):
        for name, value in values.items():
            cell = found[name].iloc[number]
            if isinstance(value, float) and math.isnan(value):
                assert np.isnan(cell)
            else:
                assert cell == value


def test_the_first_version_is_read_as_the_second(tmp_path: Path) -> None:
    """Static all; MCC and the marked area follow from the counts, C&W alone has no bound."""
    cells = [
        record("a"),
        record("b", attack="pgd", intensity=3.0, variant="pgd-3", tp=0, fp=0, fn=4, tn=6),
        record("c", attack="cw", intensity=50.0, variant="cw-50", tp=4, fp=0, fn=0, tn=6),
    ]
    first = pd.DataFrame([asdict(one) for one in cells])
    added = ["threat", "through", "surrogate", "region", "target", "budget", "mcc", "marked"]
    first = first.drop(columns=[*added, "zero_gradients", "kept_psnr", "removed"])
    first.to_parquet(tmp_path / "x.parquet", index=False)
    found = read_records(tmp_path)
    assert list(found.columns) == [field.name for field in fields(Record)]
    assert (found.threat == "static").all()
    assert (found.through == "").all()
    assert (found.region == "whole").all()
    assert found.budget.tolist() == pytest.approx([math.nan, 3, math.nan], nan_ok=True)
    assert found.marked.tolist() == pytest.approx([0.03, 0, 0.4])
    expected = (1 * 94 - 2 * 3) / math.sqrt((1 + 2) * (1 + 3) * (94 + 2) * (94 + 3))
    assert found.mcc.tolist() == pytest.approx([expected, 0, 1])
    assert found.zero_gradients.isna().all()
    first.assign(threat="static").to_parquet(tmp_path / "x.parquet", index=False)
    assert "no records of this version; they lack budget" in refused(tmp_path)


def test_the_second_version_is_read_as_the_third(tmp_path: Path) -> None:
    """What a defense changed is unknown; all else is as it was."""
    second = pd.DataFrame([asdict(record("a", mcc=0.5))]).drop(columns=["kept_psnr", "removed"])
    second.to_parquet(tmp_path / "x.parquet", index=False)
    found = read_records(tmp_path)
    assert found[["kept_psnr", "removed"]].isna().all(axis=None)
    assert found.mcc.tolist() == [0.5]


def test_by_another_reader(tmp_path: Path) -> None:
    """An ordinary Parquet file."""
    write_records(tmp_path / "x.parquet", RECORDS, "key")
    found = pd.read_parquet(tmp_path / "x.parquet", engine="pyarrow")
    assert found.tp.tolist() == [2**40, 1]
    assert found.intensity.iloc[1] == 3


def test_all_files_below(tmp_path: Path) -> None:
    """One frame of all of them, wherever they lie; half-written ones do not count."""
    for sample in "abc":
        path = path_of(tmp_path, "mine", "ifosn", f"pgd-{ord(sample)}", defense="jpeg-75")
        assert path.relative_to(tmp_path).parts[0] == "mine"
        write_records(path, [record(sample)], "key")
    shutil.copy(path, path.with_name("none.parquet.tmp-123"))
    found = read_records(tmp_path)
    assert found.sample_id.tolist() == ["mine/a", "mine/b", "mine/c"]
    assert found.index.tolist() == [0, 1, 2]


def test_cells_lie_apart() -> None:
    """No two cells share a path."""
    cells = [
        (dataset, victim, variant, defense)
        for dataset in ("d", "e")
        for victim in ("v", "w")
        for variant in ("original", "pgd-1")
        for defense in ("none", "jpeg-75")
    ]
    assert len({path_of(Path("r"), *names, defense=last) for *names, last in cells}) == 16


def test_key(tmp_path: Path) -> None:
    """The key it was written with, and no other; a new file brings a new one."""
    path = tmp_path / "x.parquet"
    assert not has_key(path, "key")
    write_records(path, RECORDS, "key")
    assert has_key(path, "key")
    assert not has_key(path, "ke")
    assert not has_key(path, "")
    write_records(path, RECORDS[:1], "other")
    assert not has_key(path, "key")
    assert has_key(path, "other")
    assert len(read_records(tmp_path)) == 1


@pytest.mark.parametrize("change", [{}, {"f1": 0.99}])
def test_records_that_another_program_wrote_anew_are_refused(tmp_path: Path, change: dict) -> None:
    """As pandas does, which keeps no sum: nobody can tell what else it changed."""
    path = path_of(tmp_path, "d", "v", "original", defense="none")
    write_records(path, [record("a")], "key")
    pd.read_parquet(path).assign(**change).to_parquet(path)
    assert "damaged records; remove the file and run advbench evaluate again" in refused(tmp_path)
    assert not has_key(path, "key")


def test_foreign_parquet_has_no_key(tmp_path: Path) -> None:
    """A file that somebody else wrote is not taken for ours."""
    pd.DataFrame({"f1": [1.0]}).to_parquet(tmp_path / "x.parquet")
    assert not has_key(tmp_path / "x.parquet", "key")


@pytest.mark.parametrize("data", [b"", b"PAR1", b"hello", b"PAR1" + bytes(40) + b"PAR1"])
def test_no_parquet(tmp_path: Path, data: bytes) -> None:
    """Empty, cut or foreign bytes: no key, and no records."""
    (tmp_path / "x.parquet").write_bytes(data)
    assert not has_key(tmp_path / "x.parquet", "key")
    assert "x.parquet" in refused(tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated(tmp_path: Path, share: float) -> None:
    """A file that ends early is no file."""
    path = tmp_path / "x.parquet"
    write_records(path, RECORDS, "key")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert not has_key(path, "key")
    assert "x.parquet" in refused(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    """No folder, or none with records in it."""
    refused(tmp_path)
    refused(tmp_path / "no")


def test_altered_column_name(tmp_path: Path) -> None:
    """A name in the file's footer that is no text any more."""
    path = tmp_path / "x.parquet"
    write_records(path, RECORDS, "key")
    path.write_bytes(path.read_bytes().replace(b"source_group", b"\xffource_group"))
    assert not has_key(path, "key")
    assert "x.parquet" in refused(tmp_path)


def test_altered_values_are_never_scores(tmp_path: Path) -> None:
    """One altered bit among the values: refused, or without effect; never another score."""
    path = tmp_path / "x.parquet"
    many = [record(str(n), tp=n * n, f1=1 / (n + 1), sample_id=f"mine/{n}") for n in range(20)]
    write_records(path, many, "key")
    whole = read_records(tmp_path)
    data = path.read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    silent = []
    for place in range(4, footer, 29):
        altered = bytearray(data)
        altered[place] ^= 1
        path.write_bytes(altered)
        try:
            found = read_records(tmp_path)
        except AdvbenchError:
            continue
        if not found.equals(whole):
            silent.append(place)
    assert silent == []
