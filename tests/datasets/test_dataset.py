"""An opened dataset gives the pixels that its manifest describes, or refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from advbench.datasets.dataset import Dataset, open_folder
from advbench.datasets.manifest import write_manifest
from advbench.errors import AdvbenchError

from .pictures import AUTHENTIC, INFO, dataset, one_line, picture, row, save, truth


@pytest.fixture
def opened(tmp_path: Path) -> Dataset:
    return open_folder(dataset(tmp_path / "set"))


def refused(opened: Dataset, part: str) -> str:
    with pytest.raises(AdvbenchError) as caught:
        getattr(opened, part)(opened.rows[0])
    return one_line(caught.value)


def test_images_and_masks(opened: Dataset) -> None:
    """Exactly what was saved."""
    assert opened.id == "mine"
    for seed, one in enumerate(opened.rows):
        assert np.array_equal(opened.image(one), picture(seed))
        mask = opened.mask(one)
        assert mask.dtype == np.bool_
        assert np.array_equal(mask, truth(seed))


def test_select(tmp_path: Path) -> None:
    """By split and label, in order of id, without what is excluded."""
    rows = [
        row("d", split="train"),
        row("c"),
        row("b", **AUTHENTIC),
        row("a", excluded="unreadable"),
        row("X"),
    ]
    write_manifest(tmp_path, rows, **INFO)
    opened = open_folder(tmp_path)

    def names(**how: object) -> list[str]:
        return [one.name for one in opened.select(**how)]  # type: ignore[arg-type]

    assert names() == ["X", "b", "c", "d"]
    assert names(split="test") == ["X", "b", "c"]
    assert names(split="test", label=1) == ["X", "c"]
    assert names(label=0) == ["b"]
    assert names(limit=2) == ["X", "b"]
    assert names(split="test", label=1, limit=0) == []
    assert names(split="val") == []


@pytest.mark.parametrize("how", ["BMP", "TIFF", "PNG"])
def test_same_pixels_in_another_file(opened: Dataset, how: str) -> None:
    """What counts is the decoded image, not how its file is packed."""
    save(opened.root / "images/a.png", picture(0), how)
    assert np.array_equal(opened.image(opened.rows[0]), picture(0))


def test_one_level_more(opened: Dataset) -> None:
    """A single value that is off by one level is noticed."""
    changed = picture(0)
    changed[3, 5, 1] ^= 1
    save(opened.root / "images/a.png", changed)
    assert "a.png" in refused(opened, "image")


def test_other_shape_of_the_same_bytes(opened: Dataset) -> None:
    """The same values in rows of another length are another image."""
    save(opened.root / "images/a.png", picture(0).reshape(20, 12, 3))
    refused(opened, "image")


def test_one_mask_pixel(opened: Dataset) -> None:
    """A single mask bit is noticed, and so is the same run of bits in another shape."""
    changed = truth(0)
    changed[0, 0] ^= True
    save(opened.root / "masks/a.png", changed)
    assert "a.png" in refused(opened, "mask")
    save(opened.root / "masks/a.png", truth(0).reshape(20, 12))
    refused(opened, "mask")


@pytest.mark.parametrize("part", ["image", "mask"])
def test_symlink_that_leaves(opened: Dataset, part: str, tmp_path: Path) -> None:
    """A link out of the folder is refused even where it shows the right pixels."""
    path = opened.root / f"{part}s/a.png"
    path.rename(tmp_path / "elsewhere.png")
    path.symlink_to(tmp_path / "elsewhere.png")
    refused(opened, part)
    path.unlink()
    (tmp_path / "elsewhere.png").rename(opened.root / "inside.png")
    path.symlink_to(opened.root / "inside.png")
    assert getattr(opened, part)(opened.rows[0]).shape[:2] == (12, 20)


def test_folder_link_that_leaves(opened: Dataset, tmp_path: Path) -> None:
    """Nor does a linked folder lead out."""
    (opened.root / "images").rename(tmp_path / "images")
    (opened.root / "images").symlink_to(tmp_path / "images")
    refused(opened, "image")


@pytest.mark.parametrize("part", ["image", "mask"])
@pytest.mark.parametrize("what", ["nothing", "folder", "empty", "text", "loop", "dangling"])
def test_no_image_there(opened: Dataset, part: str, what: str) -> None:
    """Whatever stands in an image's place is told in one line."""
    path = opened.root / f"{part}s/a.png"
    path.unlink()
    match what:
        case "folder":
            path.mkdir()
        case "empty":
            path.touch()
        case "text":
            path.write_text("404: not found")
        case "loop":
            path.symlink_to(path)
        case "dangling":
            path.symlink_to(opened.root / "gone.png")
    assert "a.png" in refused(opened, part)


@pytest.mark.parametrize("path", ["a\0b.png", "a" * 300 + ".png"], ids=["NUL", "long"])
@pytest.mark.parametrize("part", ["image", "mask"])
def test_paths_that_no_disk_holds(tmp_path: Path, part: str, path: str) -> None:
    """Refused on opening or on reading, in one line either way."""
    write_manifest(tmp_path, [row(**{part: path})], **INFO)
    with pytest.raises(AdvbenchError) as caught:
        getattr(open_folder(tmp_path), part)(row(**{part: path}))
    one_line(caught.value)


def test_files_elsewhere(tmp_path: Path) -> None:
    """``location.json`` leads to the files; a manifest alone does not."""
    folder = dataset(tmp_path / "set", files=tmp_path / "files")
    refused(open_folder(folder), "image")
    (folder / "location.json").write_text(json.dumps({"root": str(tmp_path / "files")}))
    opened = open_folder(folder)
    assert np.array_equal(opened.image(opened.rows[1]), picture(1))


BAD_LOCATIONS = ["", "{", "[]", "null", "{}", '{"root": 5}', '{"root": null}', '"x"']


@pytest.mark.parametrize("text", [*BAD_LOCATIONS, '{"root": "/no/such/folder"}'])
def test_bad_location(tmp_path: Path, text: str) -> None:
    """A location that cannot be read, or is not there, is refused on opening."""
    folder = dataset(tmp_path)
    (folder / "location.json").write_text(text)
    with pytest.raises(AdvbenchError) as caught:
        open_folder(folder)
    assert "location.json" in one_line(caught.value)
