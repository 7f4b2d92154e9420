"""What ``manifest.csv`` and ``dataset.json`` hold, read back by other means."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advbench.datasets.manifest import Row, content_sha256, read_manifest, rows_to_csv
from advbench.datasets.manifest import write_manifest as write

from .pictures import AUTHENTIC, INFO, row, sha256

COLUMNS = [
    *("sample_id", "split", "label", "kind", "image", "mask", "image_sha256", "mask_sha256"),
    *("pixels_sha256", "maskbits_sha256", "height", "width", "orig_mode", "orig_format"),
    *("orig_name", "mask_rule", "mask_fix", "fg_fraction", "source_group", "excluded", "flags"),
    "provenance",
]
ROWS = [
    row("b", 1, provenance='said "no", then left', orig_name=" Bild ä,1.PNG"),
    row("B2", 2, fg_fraction=1 / 3, flags="icc;palette"),
    row("a", 3, split="train"),
    row("c", 4, **AUTHENTIC),
    row("d", 5, excluded="empty-mask", mask="", pixels_sha256="", height=0),
]


def test_round_trip(tmp_path: Path) -> None:
    """What is written is read, every field of it, in order of id."""
    written = write(tmp_path, ROWS, **INFO)
    info, rows = read_manifest(tmp_path)
    assert info == written
    by_id = {one.sample_id: one for one in ROWS}
    assert [one.sample_id for one in rows] == ["mine/B2", "mine/a", "mine/b", "mine/c", "mine/d"]
    for one in rows:
        expected = by_id[one.sample_id].model_dump()
        assert one.model_dump() | {"fg_fraction": 0} == expected | {"fg_fraction": 0}
        assert one.fg_fraction == pytest.approx(expected["fg_fraction"], abs=5e-7)


def test_csv_by_another_reader(tmp_path: Path) -> None:
    """Plain UTF-8 CSV with LF, the specified columns, rows in bytewise order of id."""
    write(tmp_path, ROWS, **INFO)
    data = (tmp_path / "manifest.csv").read_bytes()
    assert b"\r" not in data
    assert data.endswith(b"\n")
    header, *lines = csv.reader(data.decode().splitlines())
    assert header == COLUMNS
    ids = [line[0].encode() for line in lines]
    assert ids == sorted(ids)
    found = dict(zip(COLUMNS, lines[2], strict=True))
    assert found["provenance"] == 'said "no", then left'
    assert found["orig_name"] == " Bild ä,1.PNG"
    fractions = [line[COLUMNS.index("fg_fraction")] for line in lines]
    assert all(len(text.partition(".")[2]) == 6 for text in fractions)
    assert fractions[0] == "0.333333"


def test_order_of_rows_is_immaterial() -> None:
    """The same rows in any order give the same bytes."""
    shuffled = list(ROWS)
    random.Random(1).shuffle(shuffled)
    assert shuffled != ROWS
    assert rows_to_csv(shuffled) == rows_to_csv(ROWS)


def test_json_by_another_reader(tmp_path: Path) -> None:
    """Counts by hand, and the sum of the very bytes that lie beside it."""
    write(tmp_path, ROWS, **INFO)
    info = json.loads((tmp_path / "dataset.json").read_text())
    assert info["schema"] == "advbench.manifest/1"
    assert info["counts"] == {"forged": 3, "authentic": 1, "excluded": 1}
    assert info["manifest_sha256"] == sha256((tmp_path / "manifest.csv").read_bytes())
    assert info["dataset_id"] == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset.json", "manifest.csv"]


def test_content_is_ids_pixels_and_masks() -> None:
    """The identity follows ids, decoded pixels and mask bits, not files, notes or excluded rows."""
    kept = sorted((one for one in ROWS if not one.excluded), key=lambda one: one.sample_id)
    text = "".join(
        f"{one.sample_id},{one.pixels_sha256},{one.maskbits_sha256}\n" for one in kept
    ).encode()
    assert content_sha256(ROWS) == sha256(text)
    same = [one.model_copy(update={"image_sha256": "9" * 64, "flags": "icc"}) for one in kept]
    assert content_sha256(same) == content_sha256(ROWS)
    for change in ("pixels_sha256", "maskbits_sha256"):
        other = [kept[0].model_copy(update={change: "9" * 64}), *kept[1:]]
        assert content_sha256(other) != content_sha256(ROWS)


PRINTABLE = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)


@settings(deadline=None, max_examples=30)
@given(texts=st.lists(PRINTABLE, min_size=4, max_size=4))
def test_any_text_survives(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Quotes, commas, blanks and other scripts come back as they were."""
    names = ("orig_name", "source_group", "provenance", "flags")
    check_survival(dict(zip(names, texts, strict=True)), tmp_path_factory.mktemp("manifest"))


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "a\rb", "a\tb", "\ufeffa", "=1+1", "NA", "007"])
def test_awkward_text_survives(text: str, tmp_path: Path) -> None:
    """Line breaks of any kind and texts that look like numbers are kept: files are named so."""
    check_survival({"orig_name": text, "image": f"images/{text}"}, tmp_path)


def check_survival(changes: dict[str, str], folder: Path) -> None:
    one: Row = row("a", 0, fg_fraction=0.5, **changes)
    write(folder, [one], **INFO)
    assert read_manifest(folder)[1] == [one]
