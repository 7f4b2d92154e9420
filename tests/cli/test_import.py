"""``advbench dataset import``: what it prints, and what works afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from .conftest import columns

STEM = "Sp_S_NNN_A_nat{0:04d}_nat{0:04d}_{0:04d}"
TRANSPOSED = "Sp_D_CNN_A_sec0012_ani0007_0275"


@pytest.fixture
def casia(tmp_path: Path) -> Path:
    """Thirty pairs of CASIA v1, the one whose mask lies on its side, and two authentic images."""
    rng = np.random.default_rng(0)
    root = tmp_path / "casia"
    for folder in ("CASIA1/Tp", "CASIA1/Au", "CASIA 1.0 groundtruth/CM"):
        (root / folder).mkdir(parents=True)

    def image(path: str) -> None:
        pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        PillowImage.fromarray(pixels).save(root / path, "JPEG")

    mask = np.zeros((40, 48), np.uint8)
    mask[5:20, 8:15] = 255
    for name in [STEM.format(number) for number in range(30)] + [TRANSPOSED]:
        image(f"CASIA1/Tp/{name}.jpg")
        turned = np.rot90(mask, -1) if name == TRANSPOSED else mask
        PillowImage.fromarray(np.ascontiguousarray(turned)).save(
            root / f"CASIA 1.0 groundtruth/CM/{name}_gt.png"
        )
    image("CASIA1/Au/Au_nat_0001.jpg")
    image("CASIA1/Au/Au_nat_0002.jpg")
    return root


def test_import_by_name(casia, tmp_path, advbench_command):
    """The layout is the name, and the dataset can be used at once."""
    out = ("--out", tmp_path / "out")
    before = advbench_command("generate", "--attack", "fgsm", "--dataset", "casiav1", *out)
    assert "advbench dataset import casiav1 PATH" in before.err
    ran = advbench_command("dataset", "import", "casiav1", casia, *out)
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0] == "found: 31 forged, 31 masks, 2 authentic"
    assert "differs: 31 forged found, 921 published" in lines
    assert f"repaired: CASIA1/Tp/{TRANSPOSED}.jpg: mask turned by rot90" in lines
    assert "31 forged images, 2 authentic (33 test); use it with --dataset casiav1" in lines[-1]
    checked = advbench_command("dataset", "check", "casiav1", *out)
    assert checked.out == "casiav1: 33 images as their manifest describes them\n"


def test_a_repaired_mask_that_is_altered_is_noticed(casia, tmp_path, advbench_command):
    """Masks beside the manifest are checked like the originals."""
    out = ("--out", tmp_path / "out")
    assert advbench_command("dataset", "import", "casiav1", casia, *out).code == 0
    (mask,) = (tmp_path / "out/datasets/casiav1/masks").iterdir()
    PillowImage.fromarray(np.zeros((40, 48), np.uint8)).save(mask)
    ran = advbench_command("dataset", "check", "casiav1", *out)
    assert ran.code == 2
    assert f"{mask}: not the mask that the manifest of casiav1 describes" in ran.err


def test_json_is_the_report(casia, tmp_path, advbench_command):
    """What a program reads is what lies in the file."""
    arguments = ("dataset", "import", "casiav1", casia, "--out", tmp_path, "--json")
    report = json.loads(advbench_command(*arguments).out)
    path = tmp_path / "datasets/casiav1/import_report.json"
    assert report == json.loads(path.read_text())
    assert report["imported"] == {"forged": 31, "authentic": 2, "excluded": 0}


def break_masks(casia: Path, count: int) -> None:
    for number in range(count):
        (casia / f"CASIA 1.0 groundtruth/CM/{STEM.format(number)}_gt.png").unlink()


def test_many_faults_make_one_table(casia, tmp_path, advbench_command):
    """Twenty in full, the rest counted; then one line, and nothing is written."""
    break_masks(casia, 25)
    arguments = ("dataset", "import", "casiav1", casia, "--out", tmp_path / "out")
    ran = advbench_command(*arguments)
    assert ran.code == 2
    rows = [line for line in ran.err.splitlines() if "no-mask" in line and "│" in line]
    assert len(rows) == 20
    assert f"CASIA1/Tp/{STEM.format(0)}.jpg" in columns(ran.err)[0]
    assert "5 more; all 25: 25 no-mask" in ran.err
    last = ran.err.splitlines()[-1]
    assert last.startswith("advbench: error: ")
    assert "25 of 33 images are at fault" in last
    assert last.endswith("mend them, or leave them out with --allow-exclude")
    assert not (tmp_path / "out").exists()
    report = json.loads(advbench_command(*arguments, "--json").out)
    assert len(report["faults"]) == 25
    assert set(report["faults"][0]) == {"file", "check", "value", "fix"}

    ran = advbench_command(*arguments, "--allow-exclude")
    assert ran.code == 0
    assert ran.out.count("left out: CASIA1") == 10
    assert "left out: 15 more, see the report" in ran.out
    assert "6 forged images, 2 authentic" in ran.out


def test_list(casia, tmp_path, advbench_command):
    """Only what a file lists; faults elsewhere are nobody's concern."""
    break_masks(casia, 25)
    chosen = tmp_path / "chosen.txt"
    chosen.write_text(f"{STEM.format(27)}.jpg\r\n\n{STEM.format(28)}\n")
    arguments = ("dataset", "import", "casiav1", casia, "--out", tmp_path, "--name", "few")
    ran = advbench_command(*arguments, "--list", chosen)
    assert ran.code == 0, ran.err
    assert "2 forged images (2 test); use it with --dataset few" in ran.out
    assert "differs" not in ran.out
    chosen.write_text(f"{STEM.format(27)}\nSp_S_nowhere_0001\n")
    ran = advbench_command(*arguments, "--list", chosen)
    assert ran.code == 2
    assert "1 of 2 names are not in" in ran.err
    assert "Sp_S_nowhere_0001" in ran.err
    assert advbench_command(*arguments, "--list", chosen, "--allow-exclude").code == 0
    for content, expected in ((b"", "holds no names"), (b"\xff\xfe", "no UTF-8 text")):
        chosen.write_bytes(content)
        assert expected in advbench_command(*arguments, "--list", chosen).err
    assert "no such file" in advbench_command(*arguments, "--list", tmp_path / "none").err


def test_again_under_another_name(casia, tmp_path, advbench_command):
    """The second import says what it shares with the first, and reads nothing that was written."""
    arguments = ("dataset", "import", "casiav1", casia, "--out", casia / "advbench-data")
    assert advbench_command(*arguments).code == 0
    ran = advbench_command(*arguments, "--name", "again", "--split", "train")
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[0] == "found: 31 forged, 31 masks, 2 authentic"
    assert "leak: 33 pairs with casiav1 stand in training and in test (33 same files" in ran.out


def test_layout_is_named_when_two_letters_are_swapped(tmp_path, advbench_command):
    ran = advbench_command("dataset", "import", "msid", tmp_path)
    assert ran.err == "advbench: error: unknown layout 'msid'; did you mean misd, imd20?\n"


def test_list_says_what_can_be_imported(advbench_command):
    out = advbench_command("list", "datasets").out
    assert "to import: columbia, casiav1, casiav2, imd20, misd" in out
