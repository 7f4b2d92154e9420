"""A manifest at fault is refused in one line that names the file, the line and the fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from advbench.datasets.manifest import read_manifest, write_manifest
from advbench.errors import AdvbenchError

from .pictures import AUTHENTIC, INFO, edit_csv, edit_json, one_line, row, set_cell, sha256

OUTSIDE = ["../x", "a/../../x", "..", "/a", "//server/x", "C:/x", "C:x", "a\\b", "..\\x"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two forged images and an authentic one, without their files."""
    write_manifest(tmp_path, [row("a"), row("b", 1), row("c", 2, **AUTHENTIC)], **INFO)
    assert len(read_manifest(tmp_path)[1]) == 3
    return tmp_path


def refused(folder: Path) -> str:
    with pytest.raises(AdvbenchError) as caught:
        read_manifest(folder)
    text = one_line(caught.value)
    assert str(folder) in text
    return text


@pytest.mark.parametrize("column", ["image", "mask"])
@pytest.mark.parametrize("path", [*OUTSIDE, "."])
def test_paths_stay_inside(folder: Path, column: str, path: str) -> None:
    """No path leaves the folder, on this system or on another."""
    set_cell(folder, column, path)
    text = refused(folder)
    assert "line 2" in text
    assert column in text


@pytest.mark.parametrize("path", ["a b.png", "ä/ö.png", "a..b/c...png", "a/b/c.d.png", "…", "~"])
def test_odd_paths_inside_are_fine(folder: Path, path: str) -> None:
    """Names that only look dangerous are kept."""
    set_cell(folder, "image", path)
    assert read_manifest(folder)[1][0].image == path


FAULTS: list[tuple[str, str]] = [
    ("label", "2"),
    ("label", ""),
    ("label", "yes"),
    ("split", "dev"),
    ("kind", "collage"),
    ("mask_fix", "flip"),
    ("image", ""),
    ("image_sha256", ""),
    ("image_sha256", "A" * 64),
    ("pixels_sha256", "0" * 63),
    ("pixels_sha256", ""),
    ("maskbits_sha256", "g" * 64),
    ("height", "0"),
    ("width", "-1"),
    ("width", "wide"),
    ("fg_fraction", "1.5"),
    ("fg_fraction", "-0.1"),
    ("fg_fraction", "nan"),
    ("sample_id", "a"),
    ("sample_id", "Mine/a"),
    ("sample_id", "mine/a b"),
    ("sample_id", "mine/a/b"),
    ("sample_id", "mine/../b"),
    ("sample_id", "mine/ä"),
    ("sample_id", "mine/a\n"),
    ("sample_id", "mine/" + "a" * 92),
]


@pytest.mark.parametrize(("column", "value"), FAULTS, ids=str)
def test_value_out_of_range(folder: Path, column: str, value: str) -> None:
    """Every column has its own rule, and the line at fault is named."""
    set_cell(folder, column, value, line=2)
    assert "line 3" in refused(folder)


@pytest.mark.parametrize("cells", [{"mask": ""}, {"maskbits_sha256": ""}, {"label": "0"}], ids=str)
def test_forged_means_masked(folder: Path, cells: dict[str, str]) -> None:
    """A forged row has a mask and its sum, an authentic one has none."""
    for column, value in cells.items():
        set_cell(folder, column, value)
    assert "line 2" in refused(folder)
    set_cell(folder, "excluded", "no-mask")
    assert read_manifest(folder)[1][0].excluded == "no-mask"


def test_missing_column(folder: Path) -> None:
    """A column that is not there is named."""

    def drop(lines: list[list[str]]) -> None:
        index = lines[0].index("kind")
        for line in lines:
            del line[index]

    edit_csv(folder, drop)
    assert "kind" in refused(folder)


def test_unknown_column(folder: Path) -> None:
    """A misspelt or foreign column is no silent loss."""

    def add(lines: list[list[str]]) -> None:
        for number, line in enumerate(lines):
            line.append("note" if number == 0 else "x")

    edit_csv(folder, add)
    assert "note" in refused(folder)


@pytest.mark.parametrize("change", [["extra"], None], ids=["long", "short"])
def test_row_of_another_length(folder: Path, change: list[str] | None) -> None:
    """A row with a field more or less than the header is refused."""

    def edit(lines: list[list[str]]) -> None:
        lines[1] = lines[1] + change if change else lines[1][:-1]

    edit_csv(folder, edit)
    assert "line 2" in refused(folder)


@pytest.mark.parametrize("twin", ["mine/a", "mine/A"])
def test_duplicate_id(folder: Path, twin: str) -> None:
    """Two ids that differ only in case would be one file on some disks."""
    set_cell(folder, "sample_id", twin, line=2)
    text = refused(folder)
    assert "line 3" in text
    assert twin in text


def test_quotes_astray(folder: Path) -> None:
    """Text behind a closing quote has two readings; neither is taken."""
    path = folder / "manifest.csv"
    path.write_bytes(path.read_bytes().replace(b"a.png", b'"a".png').replace(b"images/", b""))
    edit_json(folder, manifest_sha256=sha256(path.read_bytes()))
    refused(folder)


def test_altered_csv(folder: Path) -> None:
    """A valid manifest that is not the one ``dataset.json`` sums is refused."""

    def edit(lines: list[list[str]]) -> None:
        lines[1][lines[0].index("split")] = "train"

    edit_csv(folder, edit, sign=False)
    assert "sha256" in refused(folder)


@pytest.mark.parametrize("name", ["dataset.json", "manifest.csv"])
@pytest.mark.parametrize("data", [None, b"", b"{", b"\xff\xfe\x00", b"[1, 2]", b'a,"b\n'])
def test_no_such_file_or_no_sense(folder: Path, name: str, data: bytes | None) -> None:
    """Either file missing, empty, cut short or of another kind."""
    if data is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(data)
    assert name in refused(folder)


CHANGES: list[dict[str, Any]] = [
    {"schema": "advbench.manifest/2"},
    {"dataset_id": "Mine"},
    {"dataset_id": "../mine"},
    {"manifest_sha256": "short"},
    {"counts": {"forged": "many"}},
    {"colour": "blue"},
    {"rules": None},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_json_of_another_schema(folder: Path, changes: dict[str, Any]) -> None:
    """Keys of ``dataset.json`` are checked like columns."""
    edit_json(folder, **changes)
    assert next(iter(changes)) in refused(folder)


def test_nothing_invalid_is_written() -> None:
    """The rules hold for rows that are made, too."""
    for path in OUTSIDE:
        with pytest.raises(ValidationError):
            row(image=path)
