"""Pictures that two imported datasets share, and those that leak from training into test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from advbench.datasets.importing.fingerprints import NEAR, dhash, is_plain, near_pairs
from advbench.datasets.importing.importing import import_found
from advbench.datasets.importing.layouts.known import find

from .pictures import Pixels, picture, save
from .trees import casia_v2, misd


def photograph(seed: int, height: int = 96, width: int = 144) -> Pixels:
    """Something smooth and structured, as photographs are."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """CASIA v2 for training, imported into ``datasets``; its ani_00018 is a photograph."""
    casia_v2(tmp_path / "casia")
    save(tmp_path / "casia/CASIA2/Au/Au_ani_00018.jpg", photograph(1), "JPEG", quality=95)
    save(tmp_path / "casia/CASIA2/Au/Au_ani_20016.jpg", photograph(2), "JPEG", quality=95)
    imported("casiav2", tmp_path / "casia", tmp_path / "datasets")
    return tmp_path / "datasets"


def imported(layout: str, source: Path, datasets: Path, **how: Any) -> list[dict[str, Any]]:
    """Import beside what is there; the overlaps of the report."""
    beside = sorted(datasets.iterdir()) if datasets.is_dir() else []
    folder = datasets / layout
    done = import_found(
        find(layout, source), folder, layout, others=[b for b in beside if b != folder], **how
    )
    return done.report["overlaps"]


@pytest.fixture
def authentic(tmp_path: Path) -> Path:
    """MISD's folder Au, whose photographs are nobody else's."""
    misd(tmp_path / "misd")
    return tmp_path / "misd/Au"


def test_nothing_shared(tmp_path: Path, authentic: Path, out: Path) -> None:
    """Independent pictures are not reported."""
    assert imported("misd", tmp_path / "misd", out) == []


def test_same_file(tmp_path: Path, authentic: Path, out: Path) -> None:
    """MISD's authentic image is CASIA's: a leak, and so is what was made from it."""
    leaking = tmp_path / "casia/CASIA2/Au/Au_ani_00018.jpg"
    (authentic / "Au_ani_00001.jpg").write_bytes(leaking.read_bytes())
    (overlap,) = imported("misd", tmp_path / "misd", out)
    assert overlap["dataset"] == "casiav2"
    (pair,) = overlap["pairs"]
    assert (pair["sample"], pair["other"]) == ("misd/Au_ani_00001", "casiav2/Au_ani_00018")
    assert (pair["how"], pair["leak"]) == ("file", True)
    assert pair["splits"][0] == "test"
    assert overlap["counts"] == {"file": 1, "pixels": 0, "near": 0, "leaks": 1}
    # ani_00001 and ani_0001 stand in the names of two of the three.
    assert overlap["built_on"] == 2


@pytest.mark.parametrize(
    ("change", "how"),
    [
        ("repacked", "pixels"),
        ("compressed", "near"),
        ("smaller", "near"),
        ("forged", "near"),
    ],
)
def test_same_picture(tmp_path: Path, authentic: Path, out: Path, change: str, *, how: str) -> None:
    """Other bytes, other quality, other size, a small part replaced."""
    theirs = cv2.imread(str(tmp_path / "casia/CASIA2/Au/Au_ani_00018.jpg"))[..., ::-1].copy()
    path = authentic / "Au_ani_00001.jpg"
    if change == "repacked":
        save(path, theirs, "PNG")
    elif change == "compressed":
        save(path, theirs, "JPEG", quality=50)
    elif change == "smaller":
        save(path, cv2.resize(theirs, (96, 64), interpolation=cv2.INTER_AREA), "JPEG", quality=80)
    else:
        theirs[40:50, 60:75] = 255
        save(path, theirs, "PNG")
    (overlap,) = imported("misd", tmp_path / "misd", out)
    (pair,) = overlap["pairs"]
    assert (pair["sample"], pair["how"], pair["leak"]) == ("misd/Au_ani_00001", how, True)
    assert (pair["distance"] == 0) or how == "near"


def test_both_for_test(tmp_path: Path, authentic: Path, out: Path) -> None:
    """Shared, and no leak."""
    imported("casiav2", tmp_path / "casia", out, split="test")
    save(authentic / "Au_ani_00001.jpg", photograph(1), "JPEG", quality=95)
    (overlap,) = imported("misd", tmp_path / "misd", out)
    assert overlap["counts"] == {"file": 1, "pixels": 0, "near": 0, "leaks": 0}
    assert overlap["built_on"] == 0


def test_the_other_way_round(tmp_path: Path, authentic: Path, out: Path) -> None:
    """Test first, training after: the later import tells."""
    save(authentic / "Au_ani_00001.jpg", photograph(1), "JPEG", quality=95)
    imported("misd", tmp_path / "misd", out)
    (overlap,) = imported("casiav2", tmp_path / "casia", out)
    assert overlap["dataset"] == "misd"
    assert overlap["counts"]["leaks"] == 1
    assert overlap["built_on"] == 1  # Tp_D_CNN_M_N_ani00018_sec00096_00138


@pytest.mark.parametrize("damage", ["manifest.csv", "dataset.json", "fingerprints.csv"])
def test_a_neighbour_at_fault(tmp_path: Path, authentic: Path, out: Path, damage: str) -> None:
    """What cannot be compared is told, and hinders nothing."""
    (out / "casiav2" / damage).write_text("oops\n1")
    (overlap,) = imported("misd", tmp_path / "misd", out)
    assert overlap["dataset"] == "casiav2"
    assert damage in overlap["error"]


def test_neighbours_without_fingerprints(tmp_path: Path, authentic: Path, out: Path) -> None:
    """Of older imports files and pixels are compared."""
    (out / "casiav2/fingerprints.csv").unlink()
    save(authentic / "Au_ani_00001.jpg", photograph(1), "JPEG", quality=95)
    (overlap,) = imported("misd", tmp_path / "misd", out)
    assert overlap["counts"]["file"] == 1


def test_distances() -> None:
    """All pairs within reach and no other, by counting bits one by one."""
    rng = np.random.default_rng(3)
    ours = [int(v) for v in rng.integers(0, 2**63, 300, dtype=np.int64)]
    theirs = list(ours[:40])
    for k, value in enumerate(theirs):
        for bit in rng.choice(64, k % 7, replace=False):
            theirs[k] ^= 1 << int(bit)
        assert (value ^ theirs[k]).bit_count() == k % 7
    expected = [
        (i, k, (one ^ other).bit_count())
        for i, one in enumerate(ours)
        for k, other in enumerate(theirs)
        if (one ^ other).bit_count() <= NEAR
    ]
    assert sorted(near_pairs(ours, theirs)) == sorted(expected)
    assert len(expected) >= 29
    assert near_pairs([], theirs) == near_pairs(ours, []) == []


def test_plain_pictures_say_nothing() -> None:
    """Flat and evenly shaded ones all have the same hash."""
    flat = np.full((48, 72, 3), 90, dtype=np.uint8)
    shaded = np.repeat(np.arange(72, dtype=np.uint8)[None, :, None] * 3, 48, 0).repeat(3, 2)
    for pixels in (flat, shaded, shaded[:, ::-1].copy()):
        assert is_plain(dhash(pixels))
    assert not is_plain(dhash(photograph(5)))
    assert not is_plain(dhash(picture(5, 48, 72)))


def test_hash_of_tiny_images() -> None:
    """Smaller than the hash's own grid."""
    for shape in ((1, 1), (1, 9), (3, 2)):
        assert 0 <= dhash(picture(0, *shape)) < 2**64
