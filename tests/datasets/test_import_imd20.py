"""IMD2020, rebuilt small: a folder for each original, several forgeries, equal names."""

from __future__ import annotations

from pathlib import Path

import pytest

from advbench.datasets.importing.problems import ImportRefusedError
from advbench.errors import AdvbenchError

from .pictures import one_line, save
from .trees import blob, imd20, opened, run, state


@pytest.mark.parametrize("inside", [False, True])
def test_layout(tmp_path: Path, inside: bool) -> None:
    """From the folder above, or from IMD2020 itself; each forgery with its own mask."""
    expected = imd20(tmp_path / "s")
    before = state(tmp_path / "s")
    source = tmp_path / "s/IMD2020" if inside else tmp_path / "s"
    result = run("imd20", source, tmp_path / "m")
    data = opened(tmp_path / "m", expected)
    assert state(tmp_path / "s") == before
    assert result.report["found"] == {"forged": 6, "masks": 6, "authentic": 5}
    (excluded,) = result.report["excluded"]
    assert excluded["image"].endswith("z14/00030_fake.jpg")
    assert (excluded["check"], excluded["known"]) == ("size-mismatch", True)
    assert "60×40" in excluded["value"]
    groups = {row.name: row.source_group for row in data.rows}
    assert {groups[name] for name in groups if name.startswith("1a3oag")} == {"1a3oag"}
    assert groups["z1_00030_fake"] != groups["z4_00030_fake_01"]
    assert {row.kind for row in data.rows} == {"unknown", "none"}


def test_corrected_mask_is_taken(tmp_path: Path) -> None:
    """Once the user has put the right mask there, the table leaves nothing out."""
    expected = imd20(tmp_path / "s")
    save(tmp_path / "s/IMD2020/z14/00030_fake_mask.png", blob(9))
    report = run("imd20", tmp_path / "s", tmp_path / "m").report
    opened(tmp_path / "m", expected | {"z14_00030_fake": blob(9)})
    assert report["excluded"] == []


def test_what_converters_leave(tmp_path: Path) -> None:
    """CAT-Net's folder of JPEGs beside the images is not a second set of them."""
    expected = imd20(tmp_path / "s")
    save(tmp_path / "s/IMD2020/1a3oag/0jpg/c8tuq9k_0.jpg", blob(1), "JPEG")
    save(tmp_path / "s/IMD2020/0jpg/c8tuq9k_0.jpg", blob(1), "JPEG")
    run("imd20", tmp_path / "s", tmp_path / "m")
    opened(tmp_path / "m", expected)


def test_one_folder_not_downloaded(tmp_path: Path) -> None:
    """A mask without its forgery stops a strict import, and is named."""
    imd20(tmp_path / "s")
    (tmp_path / "s/IMD2020/1b8r7b/c94h7ly_0.jpg").unlink()
    with pytest.raises(ImportRefusedError) as caught:
        run("imd20", tmp_path / "s", tmp_path / "m")
    assert "1 masks have no image" in one_line(caught.value)
    assert caught.value.faults[0].file == "IMD2020/1b8r7b/c94h7ly_0_mask.png"


def test_no_masks_at_all(tmp_path: Path) -> None:
    """Originals and forgeries alone."""
    imd20(tmp_path / "s")
    for mask in (tmp_path / "s").rglob("*_mask.png"):
        mask.unlink()
    with pytest.raises(AdvbenchError, match="6 images but no masks"):
        run("imd20", tmp_path / "s", tmp_path / "m")
