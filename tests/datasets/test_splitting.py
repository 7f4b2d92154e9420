"""Splits by source photograph: nothing that a photograph is part of stands on two sides."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from advbench.datasets.dataset import Dataset, open_folder
from advbench.datasets.importing.layouts.folder import import_folder
from advbench.datasets.splitting import connected, split_folder
from advbench.errors import AdvbenchError

CASIA = r"[a-z]{3}\d{4}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty tiny pictures with names as CASIA gives them, of one or two photographs each."""
    rng = np.random.default_rng(0)
    for name in ("Tp", "Gt"):
        (tmp_path / name).mkdir()
    for number in range(40):
        a, b = rng.integers(0, 40, 2) if number % 2 else [rng.integers(0, 40)] * 2
        stem = f"Sp_D_CNN_A_ani{a:04d}_ani{b:04d}_{number:04d}"
        pixels = rng.integers(0, 255, (8, 8, 3)).astype(np.uint8)
        PillowImage.fromarray(pixels).save(tmp_path / "Tp" / f"{stem}.png")
        mask = np.zeros((8, 8), np.uint8)
        mask[2:4] = 255
        PillowImage.fromarray(mask).save(tmp_path / "Gt" / f"{stem}.png")
    import_folder(tmp_path, tmp_path / "data", "mine")
    return tmp_path / "data"


def photographs_by_split(data: Dataset) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for row in data.rows:
        _, _, _, _, first, second, _ = Path(row.image).stem.split("_")
        found[row.split] |= {first, second}
    return found


def test_no_photograph_is_on_two_sides(folder):
    before = open_folder(folder)
    counts = split_folder(folder, 0.5, 0.2, CASIA)
    data = open_folder(folder)
    sides = photographs_by_split(data)
    assert not sides["train"] & sides["val"]
    assert not sides["train"] & sides["test"]
    assert not sides["val"] & sides["test"]
    assert counts == {s: len(data.select(s)) for s in ("train", "val", "test")}
    assert all(counts.values())
    # The same images, and nothing lost of them.
    assert data.info.content_sha256 == before.info.content_sha256
    assert [row.pixels_sha256 for row in data.rows] == [row.pixels_sha256 for row in before.rows]


def test_same_seed_same_splits_and_another_seed_others(folder):
    found = []
    for seed in (0, 0, 1):
        split_folder(folder, 0.5, 0.2, CASIA, seed=seed)
        found.append([row.split for row in open_folder(folder).rows])
    assert found[0] == found[1] != found[2]


def test_without_sources_the_groups_of_the_manifest_count(folder):
    """Folders have no groups of their own: each image is alone, and parts come out exactly."""
    assert split_folder(folder, 0.5, 0.25) == {"train": 20, "val": 10, "test": 10}


@given(st.lists(st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=3), max_size=12))
@settings(deadline=None)
def test_groups_are_connected_components(sets):
    graph = networkx.Graph()
    for names in sets:
        graph.add_nodes_from(names)
        graph.add_edges_from(pairwise(names))
    expected = {name: min(part) for part in networkx.connected_components(graph) for name in part}
    assert connected(sets) == expected


@pytest.mark.parametrize(
    ("train", "val", "sources", "message"),
    [
        (0.0, 0.1, None, "--train 0"),
        (0.9, 0.1, None, "below 1"),
        (float("nan"), 0.1, None, "--train nan"),
        (0.5, float("nan"), None, "--val nan"),
        (0.5, 0.1, "(", "no regular expression"),
        (0.5, 0.1, "xyz", "matches nothing in 40 names"),
    ],
)
def test_refusals(folder, train, val, sources, *, message):
    before = (folder / "manifest.csv").read_bytes()
    with pytest.raises(AdvbenchError, match=message):
        split_folder(folder, train, val, sources)
    assert (folder / "manifest.csv").read_bytes() == before
