"""COVERAGE, DSO-1, Korus, CocoGlide, AutoSplice and NIST16 as they lie, rebuilt in small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from advbench.datasets.importing.check import slug
from advbench.datasets.importing.layouts.declared import RULES
from advbench.datasets.importing.layouts.known import DATASETS
from advbench.datasets.importing.problems import ImportRefusedError
from advbench.errors import AdvbenchError

from .pictures import Truth, one_line, picture, save
from .trees import blob, opened, report_of, run

Expected = dict[str, Truth | None]


def image(path: Path, seed: int) -> None:
    save(
        path,
        picture(seed, 48, 72),
        {".tif": "TIFF", ".jpg": "JPEG"}.get(path.suffix.lower(), "PNG"),
    )


def coverage(root: Path) -> Expected:
    """Regions of copy and paste lie between the masks."""
    for seed in (1, 2):
        image(root / f"image/{seed}.tif", seed)
        image(root / f"image/{seed}t.tif", 10 + seed)
        for region in ("copy", "paste", "forged"):
            drawn = blob(seed) if region == "forged" else blob(20 + seed)
            save(root / f"mask/{seed}{region}.tif", drawn, "TIFF")
    (root / "label").mkdir()
    (root / "label/1.mat").write_bytes(b"MATLAB")
    return {"1": None, "1t": blob(1), "2": None, "2t": blob(2)}


def dso1(root: Path) -> Expected:
    """Black is forged."""
    image(root / "DSO-1/splicing-01.png", 1)
    image(root / "DSO-1/splicing-02.png", 2)
    image(root / "DSO-1/normal-01.png", 3)
    for seed in (1, 2):
        save(root / f"DSO-1-Fake-Images-Masks/splicing-0{seed}.png", ~blob(seed))
    return {"splicing-01": blob(1), "splicing-02": blob(2), "normal-01": None}


def korus(root: Path) -> Expected:
    """Masks of three levels; the same names under every camera and in every folder."""
    expected: Expected = {}
    for seed, camera in enumerate(("Canon_60D", "Sony_A57")):
        image(root / camera / "tampered-realistic/DSC01.TIF", seed)
        image(root / camera / "pristine/DSC01.TIF", 10 + seed)
        levels = blob(seed).astype(np.uint8) * 255
        levels[levels.shape[0] // 2 :] //= 2
        assert len(np.unique(levels)) == 3
        save(root / camera / "ground-truth/DSC01.PNG", levels)
        expected[f"{camera.lower()}_dsc01"] = blob(seed)
        expected[f"{camera.lower()}_dsc01_authentic"] = None
    return expected


def cocoglide(root: Path) -> Expected:
    """The number in COCO alone joins the three names."""
    for number, what in ((114871, "dining table"), (871, "clock")):
        image(root / f"fake/glide_inpainting_val2017_{number}_up.png", number)
        image(root / f"real/{what}_{number}.png", number + 1)
        save(root / f"mask/{what}_{number}_mask.png", blob(number))
    (root / "table.csv").write_text("real,fake,mask,prompt\n")
    return {
        "glide_inpainting_val2017_114871_up": blob(114871),
        "glide_inpainting_val2017_871_up": blob(871),
        slug("dining table_114871"): None,
        "clock_871": None,
    }


def autosplice(root: Path) -> Expected:
    """Two forgeries of one photograph share its mask; three qualities share their names."""
    for quality in (75, 90, 100):
        for name, seed in (("7_0", 1), ("7_1", 2), ("9_0", 3)):
            image(root / f"Forged_JPEG{quality}/{name}.jpg", quality + seed)
    for number in (7, 9):
        image(root / f"Authentic/{number}.jpg", number)
        save(root / f"Mask/{number}_mask.png", blob(number))
    return {"7_0": blob(7), "7_1": blob(7), "9_0": blob(9), "7": None, "9": None}


HEAD = (
    "TaskID|ProbeFileID|ProbeFileName|ProbeMaskFileName|IsTarget|IsManipulationTypeRemoval|"
    "IsManipulationTypeSplice|IsManipulationTypeCopyClone|BaseFileName"
)


def nist16(root: Path) -> Expected:
    """Tables join probes and masks of other numbers; one probe stands in two tables."""
    inner = root / "NC2016_Test0613"
    manipulation = [
        "m|1|probe/NC2016_0001.jpg|reference/manipulation/mask/NC2016_3942.png|Y|N|Y|N|world/B.jpg",
        "m|2|probe/NC2016_0002.jpg|reference/manipulation/mask/NC2016_3943.png|Y|Y|N|N|world/B.jpg",
        "m|3|probe/NC2016_0003.jpg||N|N|N|N|",
    ]
    removal = [
        "r|2|probe/NC2016_0002.jpg|reference/removal/mask/NC2016_9.png|Y|Y|N|N|world/B.jpg",
        "r|1|probe/NC2016_0001.jpg||N|N|Y|N|world/B.jpg",
    ]
    for task, rows in (("manipulation", manipulation), ("removal", removal)):
        table = inner / f"reference/{task}/NC2016-{task}-ref.csv"
        table.parent.mkdir(parents=True)
        table.write_text("\n".join([HEAD, *rows, ""]))
    for number in (1, 2, 3):
        image(inner / f"probe/NC2016_000{number}.jpg", number)
    save(inner / "reference/manipulation/mask/NC2016_3942.png", ~blob(1))
    save(inner / "reference/manipulation/mask/NC2016_3943.png", ~blob(2))
    save(inner / "reference/removal/mask/NC2016_9.png", ~blob(9))
    image(inner / "world/B.jpg", 7)
    return {"NC2016_0001": blob(1), "NC2016_0002": blob(2), "NC2016_0003": None}


TREES: dict[str, Callable[[Path], Expected]] = {
    "coverage": coverage,
    "dso1": dso1,
    "korus": korus,
    "cocoglide": cocoglide,
    "nist16": nist16,
    **{f"autosplice{quality}": autosplice for quality in (75, 90, 100)},
}


def test_each_declared_layout_is_rebuilt_here() -> None:
    assert set(TREES) == {*RULES, "nist16"}
    assert set(TREES) < set(DATASETS)


@pytest.mark.parametrize("layout", sorted(TREES))
def test_every_image_has_its_mask(tmp_path: Path, layout: str) -> None:
    """Bit by bit, with the counts beside those published."""
    expected = TREES[layout](tmp_path / "s")
    run(layout, tmp_path / "s", tmp_path / "m")
    opened(tmp_path / "m", expected)
    report = report_of(tmp_path / "m")
    assert report["excluded"] == report["faults"] == report["orphan_masks"] == []
    forged = sum(mask is not None for mask in expected.values())
    published = report["published"]["forged"]
    assert report["found"]["forged"] == forged < published
    assert f"{forged} forged found, {published} published" in report["differences"]


@pytest.mark.parametrize("layout", sorted(TREES))
def test_a_missing_mask_is_told(tmp_path: Path, layout: str) -> None:
    TREES[layout](tmp_path / "s")
    masks = [f for f in (tmp_path / "s").rglob("*") if "mask" in f.parent.name.lower()]
    masks += list((tmp_path / "s").rglob("ground-truth/*"))
    wanted = [f for f in masks if not f.stem.endswith(("copy", "paste")) and f.stem != "NC2016_9"]
    sorted(wanted)[0].unlink()
    with pytest.raises(ImportRefusedError) as caught:
        run(layout, tmp_path / "s", tmp_path / "m")
    assert "no-mask" in one_line(caught.value)
    assert not (tmp_path / "m").exists()


def groups(folder: Path) -> dict[str, str]:
    from advbench.datasets.dataset import open_folder

    return {row.name: row.source_group for row in open_folder(folder).rows}


@pytest.mark.parametrize(
    ("layout", "together", "apart"),
    [
        ("coverage", ("1", "1t"), ("1", "2")),
        (
            "korus",
            ("canon_60d_dsc01", "canon_60d_dsc01_authentic"),
            ("canon_60d_dsc01", "sony_a57_dsc01"),
        ),
        (
            "cocoglide",
            ("clock_871", "glide_inpainting_val2017_871_up"),
            ("clock_871", "glide_inpainting_val2017_114871_up"),
        ),
        ("autosplice90", ("7_0", "7_1", "7"), ("7", "9")),
        ("nist16", ("NC2016_0001", "NC2016_0002"), ("NC2016_0001", "NC2016_0003")),
    ],
)
def test_forgeries_of_one_photograph_are_one_group(
    tmp_path: Path, layout: str, together: tuple[str, ...], apart: tuple[str, str]
) -> None:
    TREES[layout](tmp_path / "s")
    run(layout, tmp_path / "s", tmp_path / "m")
    found = groups(tmp_path / "m")
    assert len({found[name] for name in together}) == 1
    assert found[apart[0]] != found[apart[1]]


def test_the_folder_itself_may_be_given(tmp_path: Path) -> None:
    """PATH is the folder that a pattern begins with, as with ``4cam_splc`` of Columbia."""
    expected = korus(tmp_path / "s")
    run("korus", tmp_path / "s/Canon_60D", tmp_path / "m")
    opened(tmp_path / "m", {k: v for k, v in expected.items() if k.startswith("canon")})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.unlink(), "no table reference/manipulation"),
        (lambda table: table.write_text("a|b\n1|2\n"), "no column ProbeFileName"),
        (lambda table: table.write_bytes(b"\xff\xfe\0"), "NC2016-manipulation-ref.csv"),
    ],
)
def test_nist16_without_its_table(tmp_path: Path, change: Any, message: str) -> None:
    nist16(tmp_path / "s")
    inner = tmp_path / "s/NC2016_Test0613/reference"
    (inner / "removal/NC2016-removal-ref.csv").unlink()
    change(inner / "manipulation/NC2016-manipulation-ref.csv")
    with pytest.raises(AdvbenchError, match=message) as caught:
        run("nist16", tmp_path / "s", tmp_path / "m")
    one_line(caught.value)
