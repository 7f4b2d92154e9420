"""Columbia Uncompressed, rebuilt small: red and green edge masks become binary ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from advbench.datasets.dataset import open_folder
from advbench.datasets.importing.masks import COLUMBIA_GREEN, read_mask
from advbench.datasets.importing.problems import ImportRefusedError
from advbench.errors import AdvbenchError

from .pictures import one_line, save
from .trees import DARK_GREEN, DARK_RED, GREEN, RED, blob, columbia, edge_mask, opened, run, state

NAME = "canong3_canonxt_sub_01"


@pytest.mark.parametrize("folder", ["{name}", "{name}/{name}", "Columbia/{name}"])
def test_layouts(tmp_path: Path, folder: str) -> None:
    """Unpacked once, nested twice as on Kaggle, deeper; the blue-banded twin is no mask."""
    expected = columbia(tmp_path / "s", folder)
    before = state(tmp_path / "s")
    report = run("columbia", tmp_path / "s", tmp_path / "m").report
    rows = opened(tmp_path / "m", expected).rows
    assert state(tmp_path / "s") == before
    assert report["found"] == {"forged": 3, "masks": 3, "authentic": 3}
    assert report["masks_made"] == {COLUMBIA_GREEN: 3}
    assert report["faults"] == report["orphan_masks"] == []
    spliced = [row for row in rows if row.label]
    assert {(row.mask_rule, row.mask_fix) for row in spliced} == {(COLUMBIA_GREEN, "none")}
    assert {row.source_group for row in spliced} == {"canong3_canonxt", "nikond70_kodakdcs330"}
    assert {row.source_group for row in rows if not row.label} == {"canong3_02", "nikond70_11"}


def test_the_folder_of_spliced_images_alone(tmp_path: Path) -> None:
    """PATH may be 4cam_splc itself: authentic images are a luxury."""
    expected = columbia(tmp_path / "s")
    run("columbia", tmp_path / "s/4cam_splc", tmp_path / "m")
    opened(tmp_path / "m", {name: mask for name, mask in expected.items() if mask is not None})


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize("subsampling", [0, 2], ids=["444", "420"])
def test_jpeg_of_any_quality(tmp_path: Path, quality: int, subsampling: int) -> None:
    """The rule undoes the compression, and its smear counts for no foreign colour."""
    truth = blob(3, 240, 360)
    coded = edge_mask(truth)
    assert len(np.unique(coded.reshape(-1, 3), axis=0)) == 4
    path = save(tmp_path / "m.jpg", coded, "JPEG", quality=quality, subsampling=subsampling)
    found = read_mask((path,), COLUMBIA_GREEN)
    assert f1_score(truth.ravel(), found.mask.ravel()) > 0.995
    assert found.off_palette < 0.005


def test_palette_colours_one_by_one(tmp_path: Path) -> None:
    """Both greens are forged, both reds are not."""
    colours = np.array([[RED, DARK_RED, GREEN, DARK_GREEN]], dtype=np.uint8).repeat(8, 0)
    found = read_mask((save(tmp_path / "m.png", colours),), COLUMBIA_GREEN)
    assert found.mask[0].tolist() == [False, False, True, True]
    assert found.off_palette == 0


@pytest.mark.parametrize("other", [(0, 0, 255), (0, 0, 0), (255, 255, 255), (255, 255, 0)])
@pytest.mark.parametrize(("share", "refused"), [(0.01, False), (0.03, True)])
def test_foreign_colours(
    tmp_path: Path, other: tuple[int, int, int], share: float, refused: bool
) -> None:
    """Above two in a hundred pixels of other colours it is another kind of mask."""
    columbia(tmp_path / "s")
    coded = edge_mask(blob(0)).reshape(-1, 3)
    coded[: round(share * len(coded))] = other
    path = tmp_path / f"s/4cam_splc/edgemask/{NAME}_edgemask.jpg"
    save(path, coded.reshape(48, 72, 3), "PNG")
    if not refused:
        run("columbia", tmp_path / "s", tmp_path / "m")
        (row,) = (row for row in open_folder(tmp_path / "m").rows if row.name == NAME)
        assert "off its palette" in row.provenance
        return
    with pytest.raises(ImportRefusedError) as caught:
        run("columbia", tmp_path / "s", tmp_path / "m")
    (fault,) = caught.value.faults
    assert fault.problem.check == "off-palette"
    assert "3.0%" in fault.problem.value


def test_black_and_white_mask_is_refused(tmp_path: Path) -> None:
    """Some copies hold converted masks: those are no edge masks."""
    columbia(tmp_path / "s")
    save(tmp_path / f"s/4cam_splc/edgemask/{NAME}_edgemask.jpg", blob(0), "JPEG")
    with pytest.raises(ImportRefusedError, match="off-palette"):
        run("columbia", tmp_path / "s", tmp_path / "m")


@pytest.mark.parametrize("where", ["in the dataset", "given"])
def test_inverted(tmp_path: Path, where: str) -> None:
    """Named images take red for forged; the rule says so, and no other image changes."""
    expected = columbia(tmp_path / "s")
    path = tmp_path / ("s/inverted.txt" if where == "in the dataset" else "list.txt")
    path.write_text(f"{NAME}.tif\n\n")
    given = None if where == "in the dataset" else path
    report = run("columbia", tmp_path / "s", tmp_path / "m", inverted=given).report
    expected[NAME] = ~expected[NAME]
    data = opened(tmp_path / "m", expected)
    assert report["masks_made"] == {"columbia-red-v1": 1, COLUMBIA_GREEN: 2}
    assert all("inverted.txt" not in one["file"] for one in report["ignored"])
    assert [row.mask_rule for row in data.rows if row.name == NAME] == ["columbia-red-v1"]


def test_inverted_names_no_image(tmp_path: Path) -> None:
    """A slip in the list is told."""
    columbia(tmp_path / "s")
    (tmp_path / "l.txt").write_text("canong3_canonxt_sub_99\n")
    with pytest.raises(AdvbenchError, match="'canong3_canonxt_sub_99' is the name of no image"):
        run("columbia", tmp_path / "s", tmp_path / "m", inverted=tmp_path / "l.txt")


@pytest.mark.parametrize("gone", ["edgemask", "images"])
def test_halves(tmp_path: Path, gone: str) -> None:
    """Without edge masks, or with nothing but them."""
    columbia(tmp_path / "s")
    spliced = tmp_path / "s/4cam_splc"
    for file in spliced.rglob("*"):
        if file.is_file() and ("edgemask" in file.parts) == (gone == "edgemask"):
            file.unlink()
    with pytest.raises(AdvbenchError) as caught:
        run("columbia", tmp_path / "s", tmp_path / "m")
    assert ("no masks" if gone == "edgemask" else "no spliced images") in one_line(caught.value)


def test_one_mask_missing(tmp_path: Path) -> None:
    """The image is named; what the file should be called, too."""
    columbia(tmp_path / "s")
    (tmp_path / f"s/4cam_splc/edgemask/{NAME}_edgemask.jpg").unlink()
    with pytest.raises(ImportRefusedError) as caught:
        run("columbia", tmp_path / "s", tmp_path / "m")
    (fault,) = caught.value.faults
    assert fault.file == f"4cam_splc/{NAME}.tif"
    assert f"{NAME}_edgemask.jpg" in fault.problem.value
