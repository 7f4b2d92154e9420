"""``advbench dataset synthesize``: a dataset from a folder of photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from advbench.datasets.dataset import open_folder


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Ten pictures, one of them twice, and a text."""
    folder = tmp_path / "photographs"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(10):
        pixels = np.kron(rng.integers(0, 256, (9, 12, 3), np.uint8), np.ones((10, 10, 1), np.uint8))
        PillowImage.fromarray(pixels).save(folder / "more" / f"{number}.png")
    (folder / "again.png").write_bytes((folder / "more" / "3.png").read_bytes())
    (folder / "readme.txt").write_text("no photograph")
    return folder


def test_synthesize(photographs: Path, tmp_path: Path, advbench_command) -> None:
    """Splits share no photograph, every file is as its manifest says, and again is the same."""
    found = []
    for out in (tmp_path / "1", tmp_path / "2"):
        options = ("--name", "mine", "--images", "20", "--side", "64", "--out", out)
        ran = advbench_command("dataset", "synthesize", photographs, *options)
        assert ran.code == 0, ran.err
        found.append(open_folder(out / "datasets" / "mine"))
    data, again = found
    assert data.info.content_sha256 == again.info.content_sha256
    assert data.info.counts == {"forged": 20, "authentic": 3, "excluded": 0}
    groups = [{row.source_group for row in data.select(s)} for s in ("train", "val", "test")]
    assert len(set.union(*groups)) == sum(map(len, groups)) <= 10
    for row in data.rows:
        assert data.image(row).shape == (64, 64, 3)
        assert data.mask(row).any() if row.label else row.mask == ""
    ran = advbench_command("dataset", "check", "mine", "--out", tmp_path / "1")
    assert ran.code == 0, ran.err


def test_small_photographs_are_named(photographs: Path, tmp_path: Path, advbench_command) -> None:
    """One line, with the file and what to do."""
    arguments = ("dataset", "synthesize", photographs, "--name", "mine", "--out", tmp_path)
    ran = advbench_command(*arguments)
    assert ran.code == 2
    assert "again.png: 120×90 pixels; a photograph needs 256" in ran.err
    assert not (tmp_path / "datasets").exists()


def test_a_name_is_used_once(photographs: Path, tmp_path: Path, advbench_command) -> None:
    """What is there stays."""
    arguments = ("dataset", "synthesize", photographs, "--name", "mine", "--images", "3")
    options = ("--side", "64", "--out", tmp_path)
    assert advbench_command(*arguments, *options).code == 0
    before = (tmp_path / "datasets" / "mine" / "manifest.csv").read_bytes()
    ran = advbench_command(*arguments, *options, "--seed", "5")
    assert ran.code == 2
    assert "a dataset of that name is there" in ran.err
    assert (tmp_path / "datasets" / "mine" / "manifest.csv").read_bytes() == before
