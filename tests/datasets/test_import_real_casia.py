"""CASIA v1 as it is downloaded, where it lies beside the checkout."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from advbench.datasets.dataset import Dataset, open_folder
from advbench.datasets.importing.fingerprints import NEAR, near_pairs, read_fingerprints

from .pictures import Truth
from .trees import CASIA_V1, ORPHAN, TRANSPOSED, report_of, run

pytestmark = pytest.mark.skipif(not CASIA_V1.is_dir(), reason="CASIA v1 is not here")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A strict import of all of it."""
    folder = tmp_path_factory.mktemp("casia") / "casiav1"
    files = sorted(file for file in CASIA_V1.rglob("*") if file.is_file())
    before = [(file, file.stat().st_mtime_ns, file.stat().st_size) for file in files]
    run("casiav1", CASIA_V1, folder)
    after = sorted(file for file in CASIA_V1.rglob("*") if file.is_file())
    assert [(file, file.stat().st_mtime_ns, file.stat().st_size) for file in after] == before
    return folder


@pytest.fixture
def data(folder: Path) -> Dataset:
    return open_folder(folder)


def ids(stem: str) -> list[str]:
    return sorted(re.findall(r"[a-z]{3}\d{4}", stem))


def test_counts(folder: Path, data: Dataset) -> None:
    """921 images, 920 masks, a mask for all but the one that is named; nothing else is wrong."""
    report: dict[str, Any] = report_of(folder)
    authentic = len(list((CASIA_V1 / "CASIA1/Au").iterdir()))
    assert report["found"] == {"forged": 921, "masks": 920, "authentic": authentic}
    assert report["faults"] == report["orphan_masks"] == []
    assert report["masks_found_by"] == {"name": 814, "ids swapped": 72, "rename table": 34}
    assert [one["image"] for one in report["excluded"]] == [f"CASIA1/Tp/{ORPHAN}.jpg"]
    assert [one["image"] for one in report["repaired"]] == [f"CASIA1/Tp/{TRANSPOSED}.jpg"]
    assert len(report["ignored"]) == 3
    covering = [w["image"] for w in report["warnings"] if "covers" in w["warning"]]
    assert len(covering) == 3
    assert report["flags"]["mask_levels_5"] == 1
    assert data.info.counts == {"forged": 920, "authentic": authentic, "excluded": 1}
    forged = data.select(label=1)
    assert sum("icc" in row.flags for row in forged) == 10
    kinds = [row.kind for row in forged]
    assert (kinds.count("copymove"), kinds.count("splice")) == (459, 461)


def test_every_mask_is_its_images(data: Dataset) -> None:
    """920 masks, each once; numbers agree, and ids but where the author's sheet corrects them."""
    from_files = {row.name: Path(row.mask).stem.removesuffix("_gt") for row in data.select(label=1)}
    assert len(set(from_files.values())) == 920
    differing = []
    for image, mask in from_files.items():
        assert image[-4:] == mask[-4:]
        if ids(image) != ids(mask):
            differing.append(image)
    # sec0049, cha0037, cha0041 and arc0004 are the sheet's; ant0063 is no photograph.
    assert len(differing) == 5


def test_masks_lie_where_pixels_changed(data: Dataset) -> None:
    """Where the host photograph is here, what differs from it is what the mask marks."""
    hosts = {ids(row.name.replace("_", ""))[0]: row for row in data.select(label=0)}
    right, wrong = [], []
    forged = data.select(label=1)
    for k, row in enumerate(forged):
        for name in set(ids(row.name)) & set(hosts):
            host = hosts[name]
            if (host.height, host.width) != (row.height, row.width):
                continue
            difference = np.abs(data.image(row).astype(int) - data.image(host)).max(axis=2) > 24
            if difference.mean() > 0.3:
                continue  # the donor, not the host
            right.append(overlap(difference, data.mask(row)))
            other = forged[(k + 1) % len(forged)]
            if (other.height, other.width) == (row.height, row.width):
                wrong.append(overlap(difference, data.mask(other)))
    assert len(right) > 30
    assert min(right) > 0.2
    assert np.median(right) > 0.6
    assert np.median(wrong) < 0.1


def overlap(one: Truth, other: Truth) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


def test_transposed_mask_follows_the_picture(folder: Path, data: Dataset) -> None:
    """Of the four ways to lay it, the table's has the picture's edges under its contour."""
    (row,) = (row for row in data.rows if row.name == TRANSPOSED)
    assert (row.mask_fix, row.width, row.height) == ("rot90", 384, 256)
    path = CASIA_V1 / f"CASIA 1.0 groundtruth/Sp/{TRANSPOSED}_gt.png"
    raw = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 127
    assert raw.shape == (384, 256)
    gray = data.image(row).astype(np.float64).mean(axis=2)
    edges = np.hypot(cv2.Sobel(gray, -1, 1, 0), cv2.Sobel(gray, -1, 0, 1))

    def under_contour(mask: Truth) -> float:
        contour = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((5, 5)))
        return float(edges[contour > 0].mean())

    ways = [np.rot90(raw), np.rot90(raw, -1), raw.T, np.rot90(raw, 2).T]
    scores = [under_contour(way) for way in ways]
    assert scores[0] == max(scores)
    assert scores[0] > 1.2 * sorted(scores)[-2]
    assert np.array_equal(data.mask(row), ways[0])


def test_pixels_are_what_opencv_reads(data: Dataset) -> None:
    """Masks by another program's decoder, a tenth of them, bit by bit."""
    for row in data.select(label=1)[::10]:
        if row.mask_fix == "none":
            read = cv2.imread(str(data.mask_file(row)), cv2.IMREAD_COLOR)
            assert np.array_equal(data.mask(row), read[..., 1] > 127), row.name


def test_fingerprints_know_equal_photographs(folder: Path, data: Dataset) -> None:
    """Pictures within ``NEAR`` bits share a photograph, every one of them, by their names."""
    known = read_fingerprints(folder)
    forged = data.select(label=1)
    hashes = [known[row.sample_id] for row in forged]
    pairs = [(i, k) for i, k, distance in near_pairs(hashes, hashes) if i < k]
    assert len(pairs) > 100
    assert NEAR == 4
    with (folder / "fingerprints.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(data.rows)
    strangers = [
        (forged[i].name, forged[k].name)
        for i, k in pairs
        if not set(ids(forged[i].name)) & set(ids(forged[k].name))
    ]
    assert strangers == []
