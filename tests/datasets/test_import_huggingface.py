"""Datasets of Hugging Face: Parquet and image folders that the package itself wrote."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as PillowImage

from advbench.datasets.dataset import open_folder
from advbench.datasets.importing.layouts.huggingface import unpack
from advbench.errors import AdvbenchError

from .pictures import one_line, picture, save, truth


def encoded(pixels: Any, kind: str = "PNG") -> dict[str, Any]:
    buffer = io.BytesIO()
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    PillowImage.fromarray(pixels).save(buffer, kind)
    return {"bytes": buffer.getvalue(), "path": f"any.{kind.lower()}"}


def parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def written_by_the_package(folder: Path, images: str = "image", masks: str = "mask") -> Path:
    features = datasets.Features({images: datasets.Image(), masks: datasets.Image()})
    rows = [
        {images: encoded(picture(0)), masks: encoded(truth(0))},
        {images: encoded(picture(1), "JPEG"), masks: encoded(truth(1))},
        {images: encoded(picture(2)), masks: None},
    ]
    for name, part in (("train", rows[:1]), ("validation", rows[1:2]), ("flux", rows[2:])):
        table = datasets.Dataset.from_list(part, features=features)
        (folder / "data").mkdir(parents=True, exist_ok=True)
        table.to_parquet(folder / f"data/{name}-00000-of-00001.parquet")
    return folder


@pytest.fixture
def import_(advbench_command: Any) -> Any:
    def run(source: Path, out: Path, *more: str) -> Any:
        command = ("dataset", "import", "huggingface", source, "--name", "mine", "--out", out)
        return advbench_command(*command, *more)

    return run


def test_parquet_of_the_package(import_: Any, tmp_path: Path) -> None:
    """Bytes as they are; splits by their names; no mask, no forgery."""
    source = written_by_the_package(tmp_path / "s")
    done = import_(source, tmp_path / "o")
    assert done.code == 0, done.err
    data = open_folder(tmp_path / "o/datasets/mine")
    rows = {row.split: row for row in data.rows}
    assert {split: row.label for split, row in rows.items()} == {"train": 1, "val": 1, "test": 0}
    assert np.array_equal(data.image(rows["train"]), picture(0))
    assert np.array_equal(data.mask(rows["train"]), truth(0))
    assert np.array_equal(data.mask(rows["val"]), truth(1))
    assert data.image_file(rows["val"]).read_bytes() == encoded(picture(1), "JPEG")["bytes"]
    assert rows["val"].orig_format == "JPEG"


def test_other_columns(import_: Any, tmp_path: Path) -> None:
    source = written_by_the_package(tmp_path / "s", "photo", "truth")
    refused = import_(source, tmp_path / "o")
    assert refused.code == 2
    assert "no column 'image'; there are photo, truth: name it by --images" in refused.err
    done = import_(source, tmp_path / "o", "--images", "photo", "--masks", "truth")
    assert done.code == 0, done.err


def test_opensdi(import_: Any, tmp_path: Path) -> None:
    """Its columns: forged in part, generated as a whole (no mask: left out), real."""
    forged, whole, real = (encoded(picture(seed)) for seed in range(3))
    rows = [
        {"key": "partial/a.png", "label": 1, "image": forged, "mask": encoded(truth(0))},
        {"key": "entire/b.png", "label": 1, "image": whole, "mask": None},
        {"key": "real/c.png", "label": 0, "image": real, "mask": None},
    ]
    parquet(tmp_path / "s/data/sd15-00000-of-00001.parquet", rows)
    features = {"image": datasets.Image(), "mask": datasets.Image()}
    table = datasets.Dataset.from_parquet(str(tmp_path / "s/data/sd15-00000-of-00001.parquet"))
    for column, kind in features.items():
        table = table.cast_column(column, kind)
    table.to_parquet(tmp_path / "s/data/sd15-00000-of-00001.parquet")
    strict = import_(tmp_path / "s", tmp_path / "o")
    assert strict.code == 2
    assert "no-mask: label 1 but no mask" in " ".join(strict.err.split())
    assert not (tmp_path / "o/datasets/mine").exists()
    done = import_(tmp_path / "s", tmp_path / "o", "--allow-exclude")
    assert done.code == 0, done.err
    rows_ = open_folder(tmp_path / "o/datasets/mine").rows
    assert {row.name: row.label for row in rows_} == {"sd15_000000": 1, "sd15_000002": 0}


def test_image_folder(import_: Any, tmp_path: Path) -> None:
    """Images with a metadata.csv that names their masks."""
    for seed, name in enumerate(("a", "b")):
        save(tmp_path / f"s/train/{name}.png", picture(seed))
        save(tmp_path / f"s/train/{name}_mask.png", truth(seed))
    lines = ["file_name,mask_file_name", "a.png,a_mask.png", "b.png,b_mask.png", ""]
    (tmp_path / "s/train/metadata.csv").write_text("\n".join(lines))
    done = import_(tmp_path / "s", tmp_path / "o", "--split", "test")
    assert done.code == 0, done.err
    data = open_folder(tmp_path / "o/datasets/mine")
    assert len(data.rows) == 2
    for seed, row in enumerate(data.rows):
        assert row.split == "test"
        assert np.array_equal(data.image(row), picture(seed))
        assert np.array_equal(data.mask(row), truth(seed))


def test_the_name_is_taken(import_: Any, tmp_path: Path) -> None:
    source = written_by_the_package(tmp_path / "s")
    assert import_(source, tmp_path / "o").code == 0
    before = sorted(p.name for p in (tmp_path / "o").rglob("*"))
    again = import_(source, tmp_path / "o")
    assert again.code == 2
    assert "a dataset of that name is there" in again.err
    assert sorted(p.name for p in (tmp_path / "o").rglob("*")) == before


@pytest.mark.parametrize("kind", ["nothing", "no folder", "no image", "half a file"])
def test_what_is_no_dataset(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "s"
    if kind != "no folder":
        source.mkdir()
    if kind == "no image":
        (source / "a.txt").write_text("a")
    if kind == "half a file":
        file = written_by_the_package(source) / "data/train-00000-of-00001.parquet"
        file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(AdvbenchError) as caught:
        unpack(str(source), tmp_path / "m")
    assert str(source) in one_line(caught.value)
    assert not (tmp_path / "m/originals").exists()


def test_without_the_package(import_: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    done = import_(tmp_path, tmp_path / "o")
    assert done.code == 2
    assert "pip install 'advbench[huggingface]'" in done.err
