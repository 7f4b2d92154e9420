"""Images at fault stop an import, or are left out by name; originals are never touched."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from advbench.datasets.dataset import open_folder
from advbench.datasets.importing.layouts.folder import import_folder
from advbench.datasets.manifest import read_manifest
from advbench.errors import AdvbenchError

from .pictures import forged_folder, imported_or_refused, one_line, picture, save, truth


def other_size(source: Path) -> None:
    save(source / "Gt/bad.png", truth(0, 12, 24))


def transposed(source: Path) -> None:
    save(source / "Gt/bad.png", truth(0).T)


def empty_mask(source: Path) -> None:
    save(source / "Gt/bad.png", np.zeros((12, 20), dtype=bool))


def full_mask(source: Path) -> None:
    save(source / "Gt/bad.png", np.ones((12, 20), dtype=bool))


def grey_mask(source: Path) -> None:
    save(source / "Gt/bad.png", np.full((12, 20), 127, dtype=np.uint8))


def missing_mask(source: Path) -> None:
    (source / "Gt/bad.png").unlink()


def two_masks(source: Path) -> None:
    save(source / "Gt/bad_gt.png", truth(1))


def unreadable_mask(source: Path) -> None:
    (source / "Gt/bad.png").write_text("oops")


def unreadable_image(source: Path) -> None:
    (source / "Tp/bad.png").write_bytes(b"")


def truncated_image(source: Path) -> None:
    data = (source / "Tp/bad.png").read_bytes()
    (source / "Tp/bad.png").write_bytes(data[: len(data) // 2])


FAULTS: dict[Callable[[Path], None], tuple[str, ...]] = {
    other_size: ("24×12", "20×12"),
    transposed: ("12×20", "20×12"),
    empty_mask: ("empty", "highest level 0 of 255"),
    full_mask: ("full",),
    grey_mask: ("empty", "highest level 127 of 255"),
    missing_mask: ("no mask",),
    two_masks: ("bad.png", "bad_gt.png"),
    unreadable_mask: ("not an image",),
    unreadable_image: ("empty",),
    truncated_image: ("decoded",),
}
each_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two sound images beside the one that gets the fault."""
    return forged_folder(tmp_path / "source", ("a", "bad", "c"))


@each_fault
def test_a_fault_stops(source: Path, tmp_path: Path, fault: Callable[[Path], None]) -> None:
    """The image and the reason are told, and nothing is written."""
    fault(source)
    with pytest.raises(AdvbenchError) as caught:
        import_folder(source, tmp_path / "m", "mine")
    text = one_line(caught.value)
    assert "1 of 3" in text
    assert "Tp/bad.png" in text
    assert all(part in text for part in FAULTS[fault])
    assert not (tmp_path / "m").exists()


@each_fault
def test_allow_exclude(source: Path, tmp_path: Path, fault: Callable[[Path], None]) -> None:
    """With leave, the image stays in the manifest with its reason, and out of the dataset."""
    fault(source)
    result = import_folder(source, tmp_path / "m", "mine", allow_exclude=True)
    assert list(result.excluded) == ["Tp/bad.png"]
    info, rows = read_manifest(tmp_path / "m")
    assert info.counts == {"forged": 2, "authentic": 0, "excluded": 1}
    (left_out,) = (row for row in rows if row.excluded)
    assert left_out.image == "Tp/bad.png"
    assert left_out.excluded == result.excluded["Tp/bad.png"]
    assert all(part in left_out.excluded for part in FAULTS[fault])
    opened = open_folder(tmp_path / "m")
    assert [row.name for row in opened.rows] == ["a", "c"]
    assert np.array_equal(opened.image(opened.rows[1]), picture(2))


@each_fault
def test_manifest_is_the_same_elsewhere(
    source: Path, tmp_path: Path, fault: Callable[[Path], None]
) -> None:
    """No absolute path stands in it: the same files in another place give the same bytes."""
    fault(source)
    shutil.copytree(source, tmp_path / "there")
    import_folder(source, tmp_path / "m1", "mine", allow_exclude=True)
    import_folder(tmp_path / "there", tmp_path / "m2", "mine", allow_exclude=True)
    for name in ("manifest.csv", "dataset.json"):
        data = (tmp_path / "m1" / name).read_bytes()
        assert str(tmp_path).encode() not in data
        assert data == (tmp_path / "m2" / name).read_bytes()


def test_all_faults_are_counted(source: Path, tmp_path: Path) -> None:
    """Not only the first: the user mends them in one go."""
    other_size(source)
    (source / "Gt/c.png").unlink()
    with pytest.raises(AdvbenchError, match="2 of 3") as caught:
        import_folder(source, tmp_path / "m", "mine")
    assert "Tp/bad.png" in one_line(caught.value)
    assert "Tp/c.png" in str(caught.value)


def test_nothing_left(source: Path, tmp_path: Path) -> None:
    """A dataset without images is none, even where exclusion is allowed."""
    for mask in (source / "Gt").iterdir():
        mask.unlink()
    with pytest.raises(AdvbenchError):
        import_folder(source, tmp_path / "m", "mine", allow_exclude=True)
    assert not (tmp_path / "m").exists()


def test_nearly_full_mask_is_kept(source: Path, tmp_path: Path) -> None:
    """A picture forged nearly all over is odd, not wrong: a warning, and nothing is inverted."""
    mask = np.ones((12, 20), dtype=bool)
    mask[5, 5] = False
    save(source / "Gt/bad.png", mask)
    result = import_folder(source, tmp_path / "m", "mine")
    opened = open_folder(tmp_path / "m")
    assert np.array_equal(opened.mask(opened.rows[1]), mask)
    (warning,) = result.report["warnings"]
    assert warning["image"] == "Tp/bad.png"
    assert "99.6%" in warning["warning"]
    assert "inverted" in warning["warning"]


@pytest.mark.parametrize("allow", [False, True])
def test_originals_untouched(source: Path, tmp_path: Path, allow: bool) -> None:
    """Byte for byte, no file added, none touched, whether the import goes through or not."""

    def state() -> dict[str, tuple[bytes, int]]:
        return {
            str(path): (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns)
            for path in [source, *source.rglob("*")]
        }

    other_size(source)
    before = state()
    assert len(before) == 9
    try:
        import_folder(source, tmp_path / "m", "mine", allow_exclude=allow)
    except AdvbenchError:
        assert not allow
    assert state() == before


@pytest.mark.parametrize("where", ["Tp/a.png", "Gt/a.png", "Tp"])
def test_what_is_imported_can_be_opened(source: Path, tmp_path: Path, where: str) -> None:
    """A link out of the folder is refused at once, or works later; never accepted, then refused."""
    (source / where).rename(tmp_path / "outside")
    (source / where).symlink_to(tmp_path / "outside")
    imported_or_refused(source, tmp_path / "m")


def test_progress(source: Path, tmp_path: Path) -> None:
    """Counts go up to the total and end there."""
    seen: list[tuple[int, int]] = []
    import_folder(
        source, tmp_path / "m", "mine", progress=lambda done, total: seen.append((done, total))
    )
    assert seen == sorted(seen)
    assert seen[-1] == (3, 3)
    assert {total for _, total in seen} == {3}
