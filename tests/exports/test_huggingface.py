"""A folder that the library datasets loads, offline."""

from __future__ import annotations

import hashlib
import io
import json

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.exports.stores import add_dataset


@pytest.fixture
def load(tmp_path, monkeypatch):
    """``datasets.load_dataset`` with a cache of its own."""
    monkeypatch.setattr(datasets.config, "HF_MODULES_CACHE", tmp_path / "modules")

    def run(folder, *arguments, **options):
        cache = str(tmp_path / "cache")
        return datasets.load_dataset(str(folder), *arguments, cache_dir=cache, **options)

    return run


def test_every_image_comes_back_as_an_image(exported, store, load):
    folder, seen = exported("huggingface"), {}
    for victim in ("ifosn", "code"):
        data = load(folder, f"data-{victim}", split="test")
        assert all(
            isinstance(data.features[name], datasets.Image)
            for name in ("image", "original", "mask", "mask_native")
        )
        for row in data:
            key = (row["dataset"], row["victim"], row["variant"], row["sample_id"][5:])
            known = seen[key] = store.images[key]
            assert np.array_equal(row["image"], known.image)
            assert np.array_equal(row["original"], known.original)
            assert np.array_equal(np.asarray(row["mask_native"]), known.mask * np.uint8(255))
            assert np.asarray(row["mask"]).shape == known.image.shape[:2]
            pixels = hashlib.sha256(np.asarray(row["image"]).tobytes()).hexdigest()
            assert row["image_sha256"] == pixels
    assert seen.keys() == store.images.keys()


def test_configurations_and_splits_are_the_card_s(exported, store, load):
    add_dataset(store.out, "data-train")
    add_dataset(store.out, "data-val")
    folder = exported("huggingface")
    names = datasets.get_dataset_config_names(str(folder))
    assert sorted(names) == ["data-code", "data-ifosn"]
    sizes = {split: len(part) for split, part in load(folder, "data-ifosn").items()}
    assert sizes == {"test": 9, "train": 9, "validation": 9}


def test_streaming_gives_the_same(exported, load):
    folder = exported("huggingface")
    whole = load(folder, "data-ifosn", split="test")
    stream = load(folder, "data-ifosn", split="test", streaming=True)
    assert [row["image_sha256"] for row in stream] == whole["image_sha256"]


def test_files_are_bounded_and_hold_every_row_once(exported, store, load):
    folder = exported("huggingface", shard_bytes=15_000)
    files = sorted(folder.rglob("*.parquet"))
    assert len(files) > 2
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    assert len(rows) == len({(r["victim"], r["variant"], r["sample_id"]) for r in rows}) == 12
    assert len(load(folder, "data-ifosn", split="test")) == 9
    for path in files:
        pictures = {
            row[name]["bytes"]
            for row in pq.read_table(path).to_pylist()
            for name in ("image", "original", "mask", "mask_native")
        }
        assert sum(map(len, pictures)) <= 15_000


def test_an_original_is_stored_once_for_all_its_variants(exported):
    """Three variants share it; the column is as large as its distinct pictures."""
    (path,) = exported("huggingface").glob("data/data-ifosn/*.parquet")
    column = pq.read_table(path)["original"].to_pylist()
    once = sum(len(data) for data in {picture["bytes"] for picture in column})
    file = pq.ParquetFile(path).metadata
    chunks = [file.row_group(0).column(i) for i in range(file.num_columns)]
    (stored,) = [c.total_compressed_size for c in chunks if c.path_in_schema == "original.bytes"]
    assert len(column) == 9
    assert once <= stored < 1.2 * once


def test_rows_are_where_the_metadata_says(exported):
    import csv

    folder = exported("huggingface", shard_bytes=15_000)
    with (folder / "metadata.csv").open(newline="") as file:
        for told in csv.DictReader(file):
            row = pq.read_table(folder / told["file"]).slice(int(told["row"]), 1).to_pylist()[0]
            for name in ("sample_id", "variant", "victim", "image_sha256"):
                assert row[name] == told[name]
            image = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))
            assert hashlib.sha256(image.tobytes()).hexdigest() == told["image_sha256"]
            assert json.loads(row["attack_spec"]) == json.loads(told["attack_spec"])
