"""Croissant metadata that mlcroissant accepts, and whose records are what was written."""

from __future__ import annotations

import csv
import hashlib
import json
import math

import mlcroissant
import numpy as np
import pytest
from mlcroissant._src.operation_graph.operations import extract

KINDS = ("png", "webdataset", "huggingface")
# How each format's pictures are found, and what names them.
PICTURES = {"png": "images-content", "webdataset": "pictures-content"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """mlcroissant caches what it unpacks by relative path, whatever export that belongs to."""
    monkeypatch.setattr(extract, "EXTRACT_PATH", extract.epath.Path(tmp_path / "unpacked"))


def opened(folder) -> mlcroissant.Dataset:
    return mlcroissant.Dataset(str(folder / "croissant.json"))


def plain(record: dict) -> dict:
    """Names without their record set, text as str, NaN as None."""
    found = {}
    for name, value in record.items():
        value = value.decode() if isinstance(value, bytes) else value
        missing = isinstance(value, float) and math.isnan(value)
        found[name.partition("/")[2]] = None if missing else value
    return found


@pytest.mark.parametrize("with_images", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_valid_without_a_warning(kind, with_images, exported, store, *, tmp_path, caplog):
    if with_images:
        folder = exported(kind, url="https://example.org/set", creator="Somebody")
    else:
        store.manifest(redistribution="no")
        store.export(kind, folder := tmp_path / "residuals")
    with caplog.at_level("WARNING"):
        dataset = opened(folder)
    assert dataset.metadata.ctx.issues.errors == set()
    assert dataset.metadata.ctx.issues.warnings == set()
    assert caplog.records == []
    described = json.loads((folder / "croissant.json").read_text())
    assert described["datePublished"] == "2026-01-02"
    assert "redistribution" in described["license"][0]
    for record_set in dataset.metadata.record_sets:
        assert next(iter(dataset.records(record_set.uuid)))


@pytest.mark.parametrize("kind", KINDS)
def test_records_equal_the_metadata(kind, exported):
    folder = exported(kind)
    with (folder / "metadata.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    read = [plain(record) for record in opened(folder).records("adversarial")]
    assert len(read) == len(written) == 12
    for ours, theirs in zip(read, written, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            if isinstance(value, int | float):
                assert value == float(theirs[name])
            else:
                assert (value or "") == theirs[name]


@pytest.mark.parametrize("kind", ["png", "webdataset"])
def test_pictures_of_file_sets(kind, exported):
    """Joined by path, every adversarial image has the pixels that the metadata promise."""
    dataset = opened(exported(kind))
    pictures = {}
    for record in map(plain, dataset.records(PICTURES[kind])):
        pictures[record["path"]] = np.asarray(record["content"])
    rows = [plain(record) for record in dataset.records("adversarial")]
    for row in rows:
        pixels = hashlib.sha256(pictures[row["image"]].tobytes()).hexdigest()
        assert pixels == row["image_sha256"]


def test_pictures_in_parquet(exported, store):
    dataset, seen = opened(exported("huggingface")), 0
    for victim in ("ifosn", "code"):
        for row in map(plain, dataset.records(f"data-{victim}")):
            known = store.images["data", victim, row["variant"], row["sample_id"][5:]]
            assert np.array_equal(row["image"], known.image)
            assert np.array_equal(row["original"], known.original)
            assert np.array_equal(np.asarray(row["mask_native"]) > 0, known.mask)
            seen += 1
    assert seen == 12


@pytest.mark.parametrize(
    ("kind", "pattern", "record_set"),
    [("png", "metadata.csv", "adversarial"), ("webdataset", "*.tar", "pictures-content")],
)
def test_a_changed_file_is_refused(kind, pattern, record_set, exported):
    folder = exported(kind)
    path = next(folder.rglob(pattern))
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(mlcroissant.GenerationError):
        list(opened(folder).records(record_set))


@pytest.mark.parametrize("kind", KINDS)
def test_sums_are_those_of_the_files(kind, exported):
    folder = exported(kind)
    told = dict(
        reversed(line.split("  ", 1)) for line in (folder / "SHA256SUMS").read_text().splitlines()
    )
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    assert told.keys() == files.keys() - {"SHA256SUMS"}
    for name, digest in told.items():
        assert hashlib.sha256(files[name].read_bytes()).hexdigest() == digest
    for entry in json.loads((folder / "croissant.json").read_text())["distribution"]:
        if entry["@type"] == "cr:FileObject":
            path = files[entry["contentUrl"]]
            assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
