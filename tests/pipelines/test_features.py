"""Images as points: what is taken of them, and how layers are joined."""

from __future__ import annotations

import numpy as np
import torch

from advbench.defenses.none import NoDefense
from advbench.pipelines import features
from advbench.pipelines.cells import Cell
from advbench.pipelines.features import describe, points

UNDEFENDED = Cell(NoDefense(), None)


def image_of(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_pixels_are_single_pixels_over_the_whole_image(toy):
    image = image_of(128, 192)
    found = describe(toy, UNDEFENDED, image, "a")["pixels"]["image"].reshape(3, 64, 64)
    chosen = image[1::2, 1::3].transpose(2, 0, 1)  # the middle ones of 2×3
    assert np.allclose(found, chosen / 255)


def test_features_are_those_of_the_network(toy):
    """Of a map as large as the grid all positions; of a smaller one each several times."""
    image = image_of(8, 4)
    found = describe(toy, UNDEFENDED, image, "a")
    x = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        maps = toy.network[0](x - 0.5)
    for depth in ("shallow", "middle", "topmost"):
        expected = maps[0].repeat_interleave(2, dim=2).flatten()
        assert np.allclose(found[depth]["0"], expected, atol=1e-6)


def test_a_defense_comes_first(toy):
    from advbench.defenses.median import Median

    image = image_of(64, 64)
    cell = Cell(Median.create(kernel=3), 3)
    found = describe(toy, cell, image, "a")["pixels"]["image"]
    filtered = cell.defense.filter(image, 3, ()).transpose(2, 0, 1)
    assert np.allclose(found.reshape(3, 64, 64), filtered / 255)


def test_layers_weigh_the_same(monkeypatch):
    rng = np.random.default_rng(1)
    small, large = rng.normal(size=(5, 4)), 1000 * rng.normal(size=(5, 30))
    cloud = [{"middle": {"a": a, "b": b}} for a, b in zip(small, large, strict=True)]
    moved = [{"middle": {"a": a + 1, "b": b}} for a, b in zip(small, large, strict=True)]
    joined = points({"o": cloud, "m": moved}, "middle", "o")
    centred = joined["o"] - joined["o"].mean(axis=0)
    for part in (centred[:, :4], centred[:, 4:]):
        assert np.isclose((part**2).sum(axis=1).mean(), 1)
    assert np.allclose(joined["m"][:, 4:], joined["o"][:, 4:])
    monkeypatch.setattr(features, "MOST", 10)
    few = points({"o": cloud, "m": moved}, "middle", "o")
    assert few["o"].shape == (5, 10)
    where = [
        int(np.flatnonzero((joined["o"] == column[:, None]).all(0))[0]) for column in few["o"].T
    ]
    assert np.array_equal(few["m"], joined["m"][:, where])
