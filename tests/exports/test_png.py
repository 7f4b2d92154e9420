"""PNG folders hold the shards' bytes and pair as IMDLBenCo pairs."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def mani_dataset(root: Path) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """As IMDLBenCo's ManiDataset reads: both folders sorted, paired by position, RGB, equal size,
    the mask forged where the mean of its channels is above 127.5."""
    images, masks = sorted(os.listdir(root / "Tp")), sorted(os.listdir(root / "Gt"))
    found = []
    for image_name, mask_name in zip(images, masks, strict=True):
        image = Image.open(root / "Tp" / image_name).convert("RGB")
        mask = Image.open(root / "Gt" / mask_name).convert("RGB")
        assert image.size == mask.size
        found.append((image_name, np.asarray(image), np.asarray(mask).mean(2) > 127.5))
    return found


def nearest(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    rows = np.arange(shape[0]) * mask.shape[0] // shape[0]
    columns = np.arange(shape[1]) * mask.shape[1] // shape[1]
    return mask[rows[:, None], columns]


def test_every_folder_pairs_and_holds_the_bytes_of_the_shards(exported, store):
    folder, seen = exported("png"), 0
    for (dataset, victim, variant, name), known in store.images.items():
        found = {n: (i, m) for n, i, m in mani_dataset(folder / dataset / victim / variant)}
        image, mask = found[f"{name}.png"]
        assert np.array_equal(image, known.image)
        assert np.array_equal(mask, nearest(known.mask, image.shape))
        seen += 1
    assert seen == 3 * 4 == len(list(folder.rglob("data/*/*/Tp/*.png")))


def test_lists_name_the_same_pairs(exported):
    lists = list(exported("png").rglob("list.json"))
    assert len(lists) == 4 + 2
    for path in lists:
        pairs = json.loads(path.read_text())
        assert [a.replace("Tp/", "Gt/") for a, _ in pairs] == [b for _, b in pairs]
        assert sorted(os.listdir(path.parent / "Tp")) == [Path(a).name for a, _ in pairs]
        assert all((path.parent / file).is_file() for pair in pairs for file in pair)


def test_originals_lie_once_with_masks_of_both_sizes(exported, store):
    folder = exported("png")
    assert len(list(folder.rglob("originals-*/Tp/*.png"))) == 3 * 2
    spaces = {"ifosn": "native", "code": "bilinear-16"}
    for (dataset, victim, _, name), known in store.images.items():
        base = folder / dataset / f"originals-{spaces[victim]}"
        assert np.array_equal(Image.open(base / "Tp" / f"{name}.png"), known.original)
        native = np.asarray(Image.open(base / "Gt-native" / f"{name}.png"))
        assert np.array_equal(native, known.mask * np.uint8(255))
        assert np.asarray(Image.open(base / "Gt" / f"{name}.png")).shape == known.image.shape[:2]


@pytest.mark.parametrize("kind", ["png", "webdataset", "huggingface"])
def test_metadata_tells_of_every_image(kind, exported, store):
    with (exported(kind) / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(r["dataset"], r["victim"], r["variant"], r["sample_id"][5:]) for r in rows} == set(
        store.images
    )
    for row in rows:
        known = store.images[row["dataset"], row["victim"], row["variant"], row["sample_id"][5:]]
        difference = np.abs(known.image.astype(int) - known.original)
        assert int(row["linf"]) == difference.max()
        assert float(row["psnr"]) == pytest.approx(
            10 * np.log10(255**2 / (difference**2).mean()), rel=1e-5
        )
        size = (*known.image.shape[:2], *known.mask.shape)
        columns = ("height", "width", "mask_height", "mask_width")
        assert tuple(int(row[c]) for c in columns) == size
        assert json.loads(row["attack_spec"])["alpha"] == 0.5
        assert (row["split"], row["weights_sha256"]) == ("test", "a1" * 32)


def test_paths_of_the_metadata_lead_to_the_images(exported, store):
    folder = exported("png")
    with (folder / "metadata.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            known = store.images["data", row["victim"], row["variant"], row["sample_id"][5:]]
            assert np.array_equal(Image.open(folder / row["image"]), known.image)
            assert np.array_equal(Image.open(folder / row["original"]), known.original)
            assert np.array_equal(
                np.asarray(Image.open(folder / row["mask_native"])) > 0, known.mask
            )
            assert (folder / row["mask"]).is_file()
            assert row["residual"] == ""
