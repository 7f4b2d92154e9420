"""CASIA v1 and v2, rebuilt small with their known defects: every image gets its own mask."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from advbench.datasets.importing.defects import defects_of, renames_of
from advbench.datasets.importing.problems import ImportRefusedError
from advbench.datasets.manifest import read_manifest
from advbench.errors import AdvbenchError

from .pictures import one_line, picture, save
from .trees import (
    CASIA_V1_PAIRS,
    ORPHAN,
    TRANSPOSED,
    blob,
    casia_v1,
    casia_v2,
    opened,
    pair,
    report_of,
    run,
    state,
)

WHERE = ["CASIA1/Tp", "CASIA1/Tp/{kind}", "CASIA1/Modified Tp/Tp/{kind}", "CASIA1/Sp", "x"]


@pytest.mark.parametrize("tampered", WHERE)
def test_v1_in_all_its_folders(tmp_path: Path, tampered: str) -> None:
    """The three ways in which it is unpacked, and one of the user's own."""
    expected = casia_v1(tmp_path / "s", tampered)
    before = state(tmp_path / "s")
    run("casiav1", tmp_path / "s", tmp_path / "m")
    opened(tmp_path / "m", expected)
    assert state(tmp_path / "s") == before


def test_v1_report(tmp_path: Path) -> None:
    """What was found, how masks were found, what was repaired, and the one that has no mask."""
    casia_v1(tmp_path / "s")
    result = run("casiav1", tmp_path / "s", tmp_path / "m")
    report = report_of(tmp_path / "m")
    assert report == result.report
    assert report["found"] == {"forged": 11, "masks": 10, "authentic": 3}
    assert report["published"] == {"forged": 921, "masks": 920, "authentic": 800}
    assert len(report["differences"]) == 3
    assert report["masks_found_by"] == {"name": 6, "ids swapped": 1, "rename table": 3}
    (repaired,) = report["repaired"]
    assert repaired["image"] == f"CASIA1/Tp/{TRANSPOSED}.jpg"
    assert "rot90" in repaired["what"]
    (excluded,) = report["excluded"]
    assert excluded["image"] == f"CASIA1/Tp/{ORPHAN}.jpg"
    assert excluded["check"] == "no-mask"
    assert excluded["known"] is True
    assert "Au_cha_0011.jpg" in excluded["value"]
    assert report["faults"] == report["orphan_masks"] == []
    assert [one["file"] for one in report["ignored"]] == [
        "CASIA 1.0 groundtruth/FileNameCorrection.xlsx"
    ]
    assert result.info.counts == {"forged": 10, "authentic": 3, "excluded": 1}


def test_v1_rows(tmp_path: Path) -> None:
    """Kind and photographs follow the corrected names, which are the masks'."""
    expected = casia_v1(tmp_path / "s")
    run("casiav1", tmp_path / "s", tmp_path / "m")
    rows = {row.name: row for row in opened(tmp_path / "m", expected).rows}
    assert {name: rows[name].kind for name, _, _ in CASIA_V1_PAIRS} == {
        name: kind for name, _, kind in CASIA_V1_PAIRS
    }
    assert {row.split for row in rows.values()} == {"test"}
    groups = {name: row.source_group for name, row in rows.items()}
    # ani0045 is a photograph, the donor of one image and nobody else's.
    assert groups["Au_ani_0045"] == groups["Sp_D_CNN_C_ani0068_ani0045_0099"]
    assert groups["Au_cha_0011"] == groups["Sp_D_NRN_A_cha0042_cha0011_0099"]
    assert len(set(groups.values())) == 11
    turned = rows[TRANSPOSED]
    assert (turned.mask_fix, turned.mask) == ("rot90", f"masks/{TRANSPOSED}.png")
    assert (tmp_path / "m" / turned.mask).is_file()
    others = [row for row in rows.values() if row.label and row.name != TRANSPOSED]
    assert {row.mask_fix for row in others} == {"none"}
    assert all((tmp_path / "s" / row.mask).is_file() for row in others)


def test_v1_numbers_decide_nothing(tmp_path: Path) -> None:
    """An image whose ids are nobody's gets no mask, whatever number it shares."""
    casia_v1(tmp_path / "s")
    name = "Sp_D_NNN_A_ani0001_ani0002_0281"
    save(tmp_path / f"s/CASIA1/Tp/{name}.jpg", picture(80, 48, 72), "JPEG")
    mask = tmp_path / "s/CASIA 1.0 groundtruth/Sp/Sp_D_NNN_A_pla0001_pla0002_0281_gt.png"
    save(mask, blob(80))
    with pytest.raises(ImportRefusedError) as caught:
        run("casiav1", tmp_path / "s", tmp_path / "m")
    assert [(fault.file, fault.problem.check) for fault in caught.value.faults] == [
        (f"CASIA1/Tp/{name}.jpg", "no-mask"),
        (mask.relative_to(tmp_path / "s").as_posix(), "orphan-mask"),
    ]
    text = one_line(caught.value)
    assert "1 of 15 images are at fault and 1 masks have no image" in text
    result = run("casiav1", tmp_path / "s", tmp_path / "m", allow_exclude=True)
    assert len(result.excluded) == 2
    assert report_of(tmp_path / "m")["orphan_masks"] == [caught.value.faults[1].file]


def test_v1_swapped_ids_leave_no_choice(tmp_path: Path) -> None:
    """Two masks with the same ids in either order: exact names first, and never a guess."""
    root = tmp_path / "s"
    one, two = "Sp_D_NRN_A_ani0001_ani0002_0500", "Sp_D_NRN_A_ani0002_ani0001_0500"
    expected = {
        name: pair(root / f"Tp/{name}.jpg", root / f"gt/{name}_gt.png", seed)
        for seed, name in enumerate((one, two))
    }
    run("casiav1", root, tmp_path / "m")
    opened(tmp_path / "m", expected)


@pytest.mark.parametrize("already", [False, True])
def test_v1_transposed_mask_that_the_user_mended(tmp_path: Path, already: bool) -> None:
    """The table's repair is made only where the mask does not fit."""
    expected = casia_v1(tmp_path / "s")
    if already:
        mask = tmp_path / f"s/CASIA 1.0 groundtruth/Sp/{TRANSPOSED}_gt.png"
        save(mask, blob(50))
    report = run("casiav1", tmp_path / "s", tmp_path / "m").report
    opened(tmp_path / "m", expected)
    assert len(report["repaired"]) == (0 if already else 1)


def test_v1_another_transposed_mask_is_a_fault(tmp_path: Path) -> None:
    """A shape cannot tell a turn from a mirror: without the table, nothing is turned."""
    casia_v1(tmp_path / "s")
    stem = CASIA_V1_PAIRS[0][1]
    save(tmp_path / f"s/CASIA 1.0 groundtruth/Sp/{stem}_gt.png", blob(0).T)
    with pytest.raises(ImportRefusedError) as caught:
        run("casiav1", tmp_path / "s", tmp_path / "m")
    (fault,) = caught.value.faults
    assert fault.problem.check == "size-mismatch"
    assert "48×72" in fault.problem.value
    assert "72×48" in fault.problem.value
    assert "turn the mask" in fault.problem.fix
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("half", "missing"),
    [("CASIA1", "no tampered images"), ("CASIA 1.0 groundtruth", "no masks")],
)
def test_v1_half_downloaded(tmp_path: Path, half: str, missing: str) -> None:
    """One half alone: one line that says which, and where to get it."""
    casia_v1(tmp_path / "s")
    (tmp_path / "s" / half).rename(tmp_path / "away")
    with pytest.raises(AdvbenchError, match=missing) as caught:
        run("casiav1", tmp_path / "s", tmp_path / "m")
    assert "https://github.com/namtpham/casia1groundtruth" in one_line(caught.value)


def test_v1_masks_without_their_images(tmp_path: Path) -> None:
    """A download that broke off among the images is told by the masks."""
    casia_v1(tmp_path / "s")
    gone = CASIA_V1_PAIRS[:3]
    for image, _, _ in gone:
        (tmp_path / f"s/CASIA1/Tp/{image}.jpg").unlink()
    with pytest.raises(ImportRefusedError, match="3 masks have no image"):
        run("casiav1", tmp_path / "s", tmp_path / "m")


def test_v1_two_copies_of_an_image(tmp_path: Path) -> None:
    """Tp beside Modified Tp: nobody says which one counts."""
    casia_v1(tmp_path / "s")
    name = f"{CASIA_V1_PAIRS[0][0]}.jpg"
    data = (tmp_path / "s/CASIA1/Tp" / name).read_bytes()
    (tmp_path / "s/CASIA1/Modified").mkdir()
    (tmp_path / "s/CASIA1/Modified" / name).write_bytes(data)
    with pytest.raises(AdvbenchError) as caught:
        run("casiav1", tmp_path / "s", tmp_path / "m")
    text = one_line(caught.value)
    assert f"CASIA1/Modified/{name}" in text
    assert f"CASIA1/Tp/{name}" in text


def test_v1_two_masks_of_an_image(tmp_path: Path) -> None:
    """The same mask in CM and in Sp: a fault, not the first one."""
    casia_v1(tmp_path / "s")
    stem = CASIA_V1_PAIRS[0][1]
    save(tmp_path / f"s/CASIA 1.0 groundtruth/CM/{stem}_gt.png", blob(5))
    with pytest.raises(ImportRefusedError) as caught:
        run("casiav1", tmp_path / "s", tmp_path / "m")
    assert [fault.problem.check for fault in caught.value.faults] == ["two-masks"]


def test_v2(tmp_path: Path) -> None:
    """Names, swapped ids, numbers, odd endings; repaired, cropped and corrected masks."""
    expected = casia_v2(tmp_path / "s")
    result = run("casiav2", tmp_path / "s", tmp_path / "m")
    rows = {row.name: row for row in opened(tmp_path / "m", expected).rows}
    report = result.report
    assert report["found"] == {"forged": 8, "masks": 8, "authentic": 4}
    assert report["masks_found_by"] == {"name": 6, "ids swapped": 1, "number": 1}
    (excluded,) = report["excluded"]
    assert excluded["image"] == "CASIA2/Tp/Tp_D_NND_S_N_arc00005_nat00006_01602.tif"
    assert (excluded["check"], excluded["known"]) == ("size-mismatch", True)
    assert [one["what"] for one in report["repaired"]] == ["mask turned by rot90"]
    # The corrected name says D: from a different image.
    assert rows["Tp_S_CRN_S_N_cha00001_cha00002_00777"].kind == "splice"
    assert rows["Tp_S_NNN_S_N_art00010_art00010_11305"].kind == "copymove"


def test_v2_is_dealt_for_training(tmp_path: Path) -> None:
    """Train and validation by photograph, one photograph under two names included."""
    expected = casia_v2(tmp_path / "s")
    for number in range(40):
        name = f"Tp_S_NNN_S_N_nat{number:05d}_nat{number:05d}_{10000 + number}"
        mask = tmp_path / f"s/CASIA 2 Groundtruth/{name}_gt.png"
        expected[name] = pair(tmp_path / f"s/CASIA2/Tp/{name}.jpg", mask, 100 + number)
    run("casiav2", tmp_path / "s", tmp_path / "m")
    data = opened(tmp_path / "m", expected)
    splits = {split: len(data.select(split)) for split in ("train", "val", "test")}
    assert splits["test"] == 0
    assert splits["val"] == round(0.1 * len(data.rows))
    sides: dict[str, set[str]] = {}
    for row in data.rows:
        sides.setdefault(row.source_group, set()).add(row.split)
    assert all(len(side) == 1 for side in sides.values())
    rows = {row.name: row for row in data.rows}
    donor, twin = rows["Au_ani_00018"], rows["Au_ani_20016"]
    assert donor.pixels_sha256 == twin.pixels_sha256
    assert donor.source_group == twin.source_group
    assert donor.source_group == rows["Tp_D_CNN_M_N_ani00018_sec00096_00138"].source_group
    assert report_of(tmp_path / "m")["duplicates"] == [
        ["casiav2/Au_ani_00018", "casiav2/Au_ani_20016"]
    ]


def test_v2_split_by_hand(tmp_path: Path) -> None:
    """``--split`` overrides."""
    casia_v2(tmp_path / "s")
    run("casiav2", tmp_path / "s", tmp_path / "m", split="test")
    assert {row.split for row in read_manifest(tmp_path / "m")[1]} == {"test"}


def test_v2_equal_numbers_decide_nothing(tmp_path: Path) -> None:
    """Where two images share a number, it says nothing."""
    casia_v2(tmp_path / "s")
    extra = tmp_path / "s/CASIA2/Tp/Tp_D_CRN_S_N_pla00001_pla00002_00777.tif"
    save(extra, picture(81, 48, 72), "TIFF")
    with pytest.raises(ImportRefusedError) as caught:
        run("casiav2", tmp_path / "s", tmp_path / "m")
    assert sorted(fault.problem.check for fault in caught.value.faults) == [
        "no-mask",
        "no-mask",
        "orphan-mask",
    ]


def test_tables_are_sound() -> None:
    """What the specification counts, and nothing that points to itself."""
    assert len(renames_of("casiav1")) == 34
    assert len(set(renames_of("casiav1").values())) == 34
    for old, new in renames_of("casiav1").items():
        assert old != new
        assert re.findall(r"\d{4}$", old) == re.findall(r"\d{4}$", new)
    letters = [(old[3], new[3]) for old, new in renames_of("casiav1").items()]
    assert letters.count(("D", "S")) == 9
    assert letters.count(("S", "D")) == 20
    fixes = [defect.fix for defect in defects_of("casiav2").values()]
    assert (fixes.count("rot90"), fixes.count("exclude")) == (5, 12)
