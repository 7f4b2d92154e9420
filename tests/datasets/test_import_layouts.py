"""Where images and masks lie, and how a mask finds its image."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from advbench.datasets.dataset import open_folder
from advbench.datasets.importing.layouts.folder import Imported, import_folder
from advbench.errors import AdvbenchError

from .pictures import forged_folder, one_line, picture, save, truth


def imported(source: Path, **how: Any) -> dict[str, tuple[str, str]]:
    """Import, open, compare every pixel with what ``forged_folder`` drew; files by name."""
    folder = source.with_name("manifest")
    import_folder(source, folder, "mine", **how)
    opened = open_folder(folder)
    names = [row.name for row in opened.rows]
    assert names == sorted(names)
    for seed, row in enumerate(opened.rows):
        assert np.array_equal(opened.image(row), picture(seed))
        assert np.array_equal(opened.mask(row), truth(seed))
    return {row.name: (row.image, row.mask) for row in opened.rows}


@pytest.mark.parametrize(
    ("images", "masks"),
    [("Tp", "Gt"), ("TP", "GT"), ("tp", "gT"), ("images", "masks"), ("Images", "MASKS")],
)
def test_folder_names_in_any_case(tmp_path: Path, images: str, masks: str) -> None:
    """Both layouts are found however their folders are written."""
    source = forged_folder(tmp_path / "s", images=f"{images}/{{}}.png", masks=f"{masks}/{{}}.png")
    assert imported(source) == {
        "a": (f"{images}/a.png", f"{masks}/a.png"),
        "b": (f"{images}/b.png", f"{masks}/b.png"),
    }


@pytest.mark.parametrize("suffix", ["", "_gt", "_mask"])
@pytest.mark.parametrize("kind", ["bmp", "tif", "PNG"])
def test_mask_names(tmp_path: Path, suffix: str, kind: str) -> None:
    """The mask has the image's stem, plain or with a suffix, in a format of its own."""
    source = forged_folder(tmp_path / "s", ("a", "a.b"), masks=f"Gt/{{}}{suffix}.{kind}")
    found = imported(source)
    assert found["a"] == ("Tp/a.png", f"Gt/a{suffix}.{kind}")
    assert found["a.b"] == ("Tp/a.b.png", f"Gt/a.b{suffix}.{kind}")


def test_names_decide_not_positions(tmp_path: Path) -> None:
    """A mask too many, first in order, shifts nothing (it does where pairs go by position)."""
    source = forged_folder(tmp_path / "s", ("b", "c"))
    save(source / "Gt/a.png", truth(9))
    assert sorted(imported(source)) == ["b", "c"]


def test_one_folder_by_globs(tmp_path: Path) -> None:
    """Images and masks side by side, told apart by their names."""
    source = forged_folder(tmp_path / "s", images="{}.jpg", masks="{}_mask.png")
    found = imported(source, images="*.jpg", masks="*_mask.png")
    assert found == {"a": ("a.jpg", "a_mask.png"), "b": ("b.jpg", "b_mask.png")}


def test_one_folder_same_stem(tmp_path: Path) -> None:
    """A mask glob that matches the images too does not make an image its own mask."""
    source = forged_folder(tmp_path / "s", images="{}.jpg", masks="{}.png")
    found = imported(source, images="*.jpg", masks="*")
    assert found == {"a": ("a.jpg", "a.png"), "b": ("b.jpg", "b.png")}


def test_nested_globs(tmp_path: Path) -> None:
    """Globs reach into folders, and win over the layouts that are there as well."""
    source = forged_folder(tmp_path / "s", images="x/{}/i.png", masks="y/{}.png")
    forged_folder(source, ("q",))
    save(source / "deep/er/a.png", picture(0))
    save(source / "deep/er/a_gt.png", truth(0))
    found = imported(source, images="deep/**/a.png", masks="deep/**/*_gt.png")
    assert found == {"a": ("deep/er/a.png", "deep/er/a_gt.png")}


CLUTTER = ["Thumbs.db", "thumbs.db", "desktop.ini", ".DS_Store", "._a.png", ".hidden"]


def test_clutter_is_ignored(tmp_path: Path) -> None:
    """What operating systems leave behind, lists among masks, folders among images."""
    source = forged_folder(tmp_path / "s")
    for folder in ("Tp", "Gt"):
        for name in CLUTTER:
            (source / folder / name).write_bytes(b"\0")
        (source / folder / "0jpg").mkdir()
        (source / folder / "sub.png").mkdir()
    (source / "Gt/_list.txt").write_text("a.png b.png")
    (source / "readme.txt").write_text("cite us")
    assert sorted(imported(source)) == ["a", "b"]


def test_what_a_row_says(tmp_path: Path) -> None:
    """Sums of the files, size, area and split, by hand."""
    source = forged_folder(tmp_path / "s", ("a",))
    result: Imported = import_folder(source, tmp_path / "m", "mine", split="train")
    (row,) = open_folder(tmp_path / "m").rows
    assert row.image_sha256 == hashlib.sha256((source / "Tp/a.png").read_bytes()).hexdigest()
    assert row.mask_sha256 == hashlib.sha256((source / "Gt/a.png").read_bytes()).hexdigest()
    assert row.pixels_sha256 == hashlib.sha256(picture(0).tobytes()).hexdigest()
    assert (row.height, row.width) == (12, 20)
    assert row.fg_fraction == round(np.count_nonzero(truth(0)) / 240, 6)
    assert (row.split, row.label, row.kind) == ("train", 1, "unknown")
    assert (row.orig_name, row.orig_mode, row.orig_format) == ("a.png", "RGB", "PNG")
    assert row.mask_rule == "gray>127"
    assert result.info.counts == {"forged": 1, "authentic": 0, "excluded": 0}
    assert result.excluded == {}


@pytest.mark.parametrize("make", ["nothing", "images only", "masks only", "empty images"])
def test_no_layout(tmp_path: Path, make: str) -> None:
    """A folder without both halves is refused, and nothing is written."""
    source = tmp_path / "s"
    (source / "other").mkdir(parents=True)
    if make != "nothing":
        forged_folder(source)
        half = {"images only": "Gt", "masks only": "Tp", "empty images": "Tp"}[make]
        for file in (source / half).iterdir():
            file.unlink()
        if make != "empty images":
            (source / half).rmdir()
    with pytest.raises(AdvbenchError) as caught:
        import_folder(source, tmp_path / "m", "mine")
    one_line(caught.value)
    assert not (tmp_path / "m").exists()
