"""MISD, rebuilt small: the union of several masks, the PNG side, blanks in names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from advbench.datasets.dataset import open_folder
from advbench.datasets.importing.problems import ImportRefusedError
from advbench.errors import AdvbenchError

from .pictures import picture, save
from .trees import blob, misd, no_mask_in, opened, run, state


def test_union(tmp_path: Path) -> None:
    """Three, two and one mask; ``opened`` knows each union, the picture and its blanks."""
    expected = misd(tmp_path / "s")
    before = state(tmp_path / "s")
    report = run("misd", tmp_path / "s", tmp_path / "m").report
    data = opened(tmp_path / "m", expected)
    assert state(tmp_path / "s") == before
    assert report["found"] == {"forged": 3, "masks": 6, "authentic": 3}
    fixes = {row.orig_name: (row.mask_rule, row.mask_fix) for row in data.rows if row.label}
    assert fixes == {
        "Sp_D_ani_00001_cha_00049_sec_00096_1.png": ("union>127", "union"),
        "Sp_D_ cha_00049_cha_0048_cha_0050_142.png": ("union>127", "union"),
        "SP_D_ani_0001_art_00002_149 .png": ("gray>127", "none"),
    }
    assert report["masks_made"] == {"union>127": 2}
    ignored = {one["file"]: one["why"] for one in report["ignored"]}
    assert "JPEG version" in ignored["Sp/Sp_D_ani_00001_cha_00049_sec_00096_1.jpg"]


def test_photographs_in_either_spelling(tmp_path: Path) -> None:
    """0001 and 00001 are one photograph, and joined pictures are one group."""
    expected = misd(tmp_path / "s")
    run("misd", tmp_path / "s", tmp_path / "m")
    rows = opened(tmp_path / "m", expected).rows
    assert len({row.source_group for row in rows}) == 1


def test_pictures_without_masks(tmp_path: Path) -> None:
    """As published six have none: at fault, and left out on demand."""
    expected = misd(tmp_path / "s")
    name = no_mask_in(tmp_path / "s")
    with pytest.raises(ImportRefusedError) as caught:
        run("misd", tmp_path / "s", tmp_path / "m")
    (fault,) = caught.value.faults
    assert fault.file == f"Ground Truth Masks/{name}/images/{name}.png"
    assert (fault.problem.check, "six" in fault.problem.fix) == ("no-mask", True)
    run("misd", tmp_path / "s", tmp_path / "m", allow_exclude=True)
    opened(tmp_path / "m", expected)


def test_hidden_colours(tmp_path: Path) -> None:
    """Transparent pixels show white, not what lies under them."""
    expected = misd(tmp_path / "s")
    name = "Sp_D_ani_00001_cha_00049_sec_00096_1"
    path = tmp_path / f"s/Ground Truth Masks/{name}/images/{name}.png"
    alpha = np.full((48, 72), 255, dtype=np.uint8)
    alpha[:10] = 0
    save(path, np.dstack([picture(0, 48, 72), alpha]))
    report = run("misd", tmp_path / "s", tmp_path / "m").report
    data = open_folder(tmp_path / "m")
    (row,) = (row for row in data.rows if row.name == name)
    assert (data.image(row)[:10] == 255).all()
    assert np.array_equal(data.image(row)[10:], picture(0, 48, 72)[10:])
    assert np.array_equal(data.mask(row), expected[name])
    assert report["flags"] == {"alpha_composited": 1}


def test_masks_of_two_sizes(tmp_path: Path) -> None:
    """A union needs masks of one size."""
    misd(tmp_path / "s")
    name = "Sp_D_ani_00001_cha_00049_sec_00096_1"
    save(tmp_path / f"s/Ground Truth Masks/{name}/masks/{name}_2.png", blob(1, 40, 72))
    with pytest.raises(ImportRefusedError) as caught:
        run("misd", tmp_path / "s", tmp_path / "m")
    (fault,) = caught.value.faults
    assert fault.problem.check == "size-mismatch"
    assert "72×48 and 72×40" in fault.problem.value


def test_an_empty_mask_among_others(tmp_path: Path) -> None:
    """One object without pixels does not make the union empty."""
    expected = misd(tmp_path / "s")
    name = "Sp_D_ani_00001_cha_00049_sec_00096_1"
    save(
        tmp_path / f"s/Ground Truth Masks/{name}/masks/{name}_4.png",
        np.zeros((48, 72), dtype=bool),
    )
    run("misd", tmp_path / "s", tmp_path / "m")
    opened(tmp_path / "m", expected)


def test_the_jpeg_side_alone(tmp_path: Path) -> None:
    """Folder Sp is the version that masks do not fit."""
    misd(tmp_path / "s")
    (tmp_path / "s/Ground Truth Masks").rename(tmp_path / "away")
    with pytest.raises(AdvbenchError, match="holds no part of MISD") as caught:
        run("misd", tmp_path / "s", tmp_path / "m")
    assert "Ground Truth Masks" in str(caught.value)
