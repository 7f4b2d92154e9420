"""``build`` on splits of a few images: the same files every time, as their manifest says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from advbench.datasets.builtin import build as builtin
from advbench.datasets.builtin.editions import BUILTIN_2, recorded_name
from advbench.datasets.dataset import open_folder
from advbench.datasets.manifest import read_manifest

FEW = replace(BUILTIN_2, sizes={"train": 5, "val": 5, "test": 5})


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_two_builds_and_a_part(tmp_path: Path) -> None:
    """Byte-identical; a split built alone holds the same images as among the others."""
    assert builtin.build(tmp_path / "1", FEW, ("val", "test")) == 0
    builtin.build(tmp_path / "2", FEW, ("val", "test"))
    whole = files(tmp_path / "1")
    assert whole == files(tmp_path / "2")
    assert len(whole) == 2 + 2 * (6 + 5)
    builtin.build(tmp_path / "3", FEW, ("test",))
    part = files(tmp_path / "3")
    assert len(part) == 2 + 6 + 5
    for name, data in part.items():
        if "/" in name:
            assert data == whole[name]


def test_manifest_describes_the_files(tmp_path: Path) -> None:
    """Every image and mask decodes to the sums in its row; areas, groups and counts agree."""
    seen: list[tuple[int, int]] = []
    builtin.build(tmp_path, FEW, ("test",), lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, 6)
    assert seen[-1] == (6, 6)
    opened = open_folder(tmp_path)
    assert opened.info.counts == {"forged": 5, "authentic": 1, "excluded": 0}
    assert opened.id == "builtin2"
    kinds = ["splice", "splice", "copymove", "removal", "splice", "none"]
    assert [row.kind for row in opened.select("test")] == kinds
    for row in opened.rows:
        assert opened.image(row).shape == (256, 256, 3)
        if row.label:
            mask = opened.mask(row)
            assert row.fg_fraction == pytest.approx(np.count_nonzero(mask) / 65536, abs=1e-6)
            assert 0.02 <= row.fg_fraction <= 0.30
        else:
            assert row.mask == ""
            assert row.fg_fraction == 0


def test_differences_from_the_published_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another codec build may decode to other pixels: how many is told, not hidden."""
    monkeypatch.setattr(builtin, "published_rows", lambda dataset_id: {})
    builtin.build(tmp_path, FEW, ("test",))
    rows = {row.sample_id: row for row in read_manifest(tmp_path)[1]}
    names = sorted(rows)
    rows[names[0]] = rows[names[0]].model_copy(update={"pixels_sha256": "0" * 64})
    rows[names[1]] = rows[names[1]].model_copy(update={"maskbits_sha256": "0" * 64})
    rows[names[2]] = rows[names[2]].model_copy(update={"provenance": "another note"})
    del rows[names[3]]
    monkeypatch.setattr(builtin, "published_rows", lambda dataset_id: rows)
    assert builtin.build(tmp_path, FEW, ("test",)) == 2


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        ("builtin", "builtin2"),
        ("builtin-val", "builtin2-val"),
        ("builtin1", "builtin"),
        ("builtin2", "builtin2"),
        ("open", "open"),
        ("my-set", "my-set"),
    ],
)
def test_name_in_records(given: str, recorded: str) -> None:
    assert recorded_name(given) == recorded
