"""Tiling: its geometry, its blend against the procedure told step by step, and its gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import advbench
from advbench.victims.ifosn.tiling import (
    Tile,
    blend_logits,
    blend_weights,
    tile_visits,
    tiled_logits,
)

SMALL = {"side": 8, "stride": 4}
# Of one tile, of one row, of one column, with the last tile on the stride and off it.
SHAPES = [(5, 7), (8, 8), (5, 13), (8, 9), (14, 3), (12, 12), (9, 16), (17, 11), (21, 30)]


def origins(height: int, width: int) -> list[tuple[int, int]]:
    return [(tile.top, tile.left) for tile in tile_visits(height, width)]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((568, 757), [(0, 0)]),
        ((768, 1152), [(0, 0), (0, 256)]),
        ((896, 896), [(0, 0)] * 4),
        ((1152, 768), [(0, 0), (256, 0)]),
        ((1344, 500), [(0, 0), (448, 0), (448, 0)]),
        ((900, 1400), [(0, 0), (0, 448), (0, 504), (4, 0), (4, 448), (4, 504)]),
    ],
)
def test_the_authors_tiles(shape, expected):
    """The first three are the specification's own cases."""
    assert origins(*shape) == expected


def test_a_short_axis_is_not_padded():
    assert tile_visits(568, 757) == [Tile(0, 0, 568, 757)]
    assert tile_visits(768, 1152) == [Tile(0, 0, 768, 896), Tile(0, 256, 768, 896)]


def told(maps: dict[Tile, np.ndarray], tiles: list[Tile], height: int, width: int) -> np.ndarray:
    """The authors' blend as the specification tells it, over maps h×w, without the uint8 steps."""
    canvas = np.full((height, width), -1.0)
    for top, left, h, w in tiles:
        new = maps[Tile(top, left, h, w)]
        u = (np.arange(h) + 0.5) * 3 / h - 0.5
        v = (np.arange(w) + 0.5) * 3 / w - 0.5
        weight = np.maximum(0, 1 - abs(u - 1))[:, None] * np.maximum(0, 1 - abs(v - 1))[None, :]
        old = canvas[top : top + h, left : left + w].copy()
        mixed = weight * new + (1 - weight) * old
        canvas[top : top + h, left : left + w] = np.where(old < 0, new, mixed)
    assert canvas.min() >= 0
    return canvas


def random_maps(weights: dict[Tile, Tensor], spread: float = 4) -> list[Tensor]:
    torch.manual_seed(0)
    return [
        spread * torch.randn(1, 1, tile.height, tile.width, dtype=torch.float64) for tile in weights
    ]


def as_probabilities(weights: dict[Tile, Tensor], maps: list[Tensor]) -> dict[Tile, np.ndarray]:
    values = [1 / (1 + np.exp(-logits[0, 0].numpy())) for logits in maps]
    return dict(zip(weights, values, strict=True))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rule", [(8, 4), (6, 3), (7, 2)])
def test_blend_is_the_procedure_told(shape, rule):
    """Probabilities, and their logit, in float64."""
    weights = blend_weights(*shape, *rule)
    maps = random_maps(weights)
    expected = told(as_probabilities(weights, maps), tile_visits(*shape, *rule), *shape)
    found = blend_logits(maps, weights)[0, 0].numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(found, np.log(expected / (1 - expected)), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_sum_to_one(shape):
    total = torch.zeros(shape, dtype=torch.float64)
    for tile, weight in blend_weights(*shape, **SMALL).items():
        assert weight.min() >= 0
        total[tile.area] += weight
    assert torch.allclose(total, torch.ones_like(total), rtol=0, atol=1e-15)


@pytest.mark.parametrize("constant", [-90.0, -3.0, 0.0, 0.7, 90.0])
def test_constants_stay(constant):
    weights = blend_weights(17, 30, **SMALL)
    maps = [torch.full((1, 1, *weight.shape), constant) for weight in weights.values()]
    blended = blend_logits(maps, weights)
    assert torch.allclose(blended, torch.full((1, 1, 17, 30), constant), rtol=1e-6, atol=1e-6)


class Network:
    """A hidden layer of 5 channels, a mean over the tile, one logit; keeps the tiles it saw."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        torch.manual_seed(1)
        self.first = torch.randn(5, 3, 3, 3, dtype=dtype)
        self.last = torch.randn(1, 5, 1, 1, dtype=dtype)
        self.seen: list[Tensor] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.seen.append(images.detach().clone())
        hidden = torch.tanh(F.conv2d(images, self.first, padding=1))
        return F.conv2d(hidden - hidden.mean((2, 3), keepdim=True), self.last)


def picture(*shape: int) -> Tensor:
    torch.manual_seed(2)
    return torch.rand(*shape, dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
def test_tiled_network_is_the_procedure_told(shape):
    x, network = picture(1, 3, *shape), Network()
    tiles = tile_visits(*shape, **SMALL)
    maps = {tile: torch.sigmoid(network(x[(..., *tile.area)]))[0, 0].numpy() for tile in tiles}
    found = torch.sigmoid(tiled_logits(network, x, **SMALL))[0, 0].numpy()
    np.testing.assert_allclose(found, told(maps, tiles, *shape), rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [(8, 8), (8, 5), (3, 8), (1, 1)])
@pytest.mark.parametrize("grad", [False, True])
def test_one_tile_is_the_plain_network_once(shape, grad):
    """The full side too, which the authors visit four times."""
    x, network = picture(2, 3, *shape).requires_grad_(grad), Network()
    logits = tiled_logits(network, x, **SMALL)
    if grad:
        logits.sum().backward()
    assert len(network.seen) == 1
    assert torch.equal(logits, network(x))


def test_repeats_are_run_once_but_blended_each_time():
    """8×12: the authors visit (0, 0), (0, 4), (0, 4), and all three again for the bottom row."""
    x, network = picture(1, 3, 8, 12), Network()
    tiles = tile_visits(8, 12, **SMALL)
    assert [tile.left for tile in tiles] == [0, 4, 4, 0, 4, 4]
    found = torch.sigmoid(tiled_logits(network, x, **SMALL))[0, 0].numpy()
    assert [crop.shape for crop in network.seen] == [(1, 3, 8, 8)] * 2
    maps = {tile: torch.sigmoid(network(x[(..., *tile.area)]))[0, 0].numpy() for tile in tiles}
    np.testing.assert_allclose(found, told(maps, tiles, 8, 12), rtol=0, atol=1e-14)
    assert abs(found - told(maps, list(dict.fromkeys(tiles)), 8, 12)).max() > 1e-3


@pytest.mark.parametrize("shape", [(5, 13), (12, 12), (17, 11)])
def test_gradient_by_finite_differences(shape):
    x, network = picture(1, 3, *shape).requires_grad_(), Network()
    weight = torch.randn(1, 1, *shape, dtype=torch.float64)

    def value(image: Tensor) -> Tensor:
        return (tiled_logits(network, image, **SMALL) * weight).sum()

    (gradient,) = torch.autograd.grad(value(x), x)
    h = 1e-6
    for _ in range(5):
        direction = torch.randn_like(x)
        with torch.no_grad():
            numeric = (value(x + h * direction) - value(x - h * direction)) / (2 * h)
        assert float(numeric) == pytest.approx(float((gradient * direction).sum()), rel=1e-6)


@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_saturated_tiles_keep_their_gradient(logit):
    """At every pixel the tiles' gradients sum to 1, as the gradient of a plain logit is 1."""
    weights = blend_weights(17, 12, **SMALL)
    maps = [torch.full((1, 1, *w.shape), logit, requires_grad=True) for w in weights.values()]
    blended = blend_logits(maps, weights)
    assert torch.allclose(blended, torch.full_like(blended, logit))
    received = torch.zeros(17, 12)
    for tile, gradient in zip(weights, torch.autograd.grad(blended.sum(), maps), strict=True):
        received[tile.area] += gradient[0, 0]
    assert torch.allclose(received, torch.ones_like(received), rtol=0, atol=1e-5)


def test_opposed_saturated_tiles_stay_finite():
    weights = blend_weights(5, 12, **SMALL)
    maps = [
        torch.full((1, 1, *w.shape), 200.0 * (-1) ** i).requires_grad_()
        for i, w in enumerate(weights.values())
    ]
    blended = blend_logits(maps, weights)
    gradients = torch.autograd.grad(blended.sum(), maps)
    assert blended.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_checkpoints_change_no_gradient():
    x = picture(2, 3, 17, 12).requires_grad_()
    network, plain = Network(), Network()
    target = torch.rand(2, 1, 17, 12, dtype=torch.float64)
    ours = tiled_logits(network, x, **SMALL)
    weights = blend_weights(17, 12, **SMALL)
    theirs = blend_logits([plain(x[(..., *tile.area)]) for tile in weights], weights)
    assert torch.equal(ours, theirs)
    gradients = [
        torch.autograd.grad(F.binary_cross_entropy_with_logits(logits, target), x)[0]
        for logits in (ours, theirs)
    ]
    assert torch.equal(*gradients)
    assert gradients[0].abs().min() > 0
    assert len(network.seen) == 2 * len(plain.seen)


@pytest.mark.parametrize(("shape", "held"), [((17, 12), False), ((8, 8), True)])
def test_hidden_maps_of_several_tiles_are_not_held(shape, held):
    """What the graph keeps between the passes: the hidden maps of one tile, of several none."""
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    x = picture(1, 3, *shape).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        tiled_logits(Network(), x, **SMALL)
    hidden = [tensor for tensor in kept if tensor.shape == (1, 5, 8, 8)]
    assert bool(hidden) is held


def test_no_gradient_no_second_pass():
    network = Network()
    with torch.no_grad():
        tiled_logits(network, picture(1, 3, 8, 13), **SMALL)
    assert len(network.seen) == 3


def test_batch_mates_do_not_matter():
    x, network = picture(3, 3, 17, 12), Network()
    alone = torch.cat([tiled_logits(network, image[None], **SMALL) for image in x])
    assert torch.allclose(tiled_logits(network, x, **SMALL), alone, rtol=0, atol=1e-12)


def test_ifosn_blends_above_896():
    """900×1000 is four tiles; the victim's map is the told blend of the network's maps."""
    victim = advbench.load_victim("ifosn", size="small", weights=None)
    torch.manual_seed(3)
    x = torch.rand(1, 3, 900, 1000)
    tiles = tile_visits(900, 1000)
    assert len(tiles) == 4
    with torch.no_grad():
        maps = {
            tile: torch.sigmoid(victim.network.logits(2 * x[(..., *tile.area)] - 1))[0, 0].numpy()
            for tile in tiles
        }
    x.requires_grad_()
    found = victim.probabilities(x)
    np.testing.assert_allclose(
        found[0, 0].detach().numpy(), told(maps, tiles, 900, 1000), rtol=0, atol=1e-5
    )
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert gradient.isfinite().all()
    assert gradient.abs().amax((0, 1)).gt(0).float().mean() > 0.5


def test_ifosn_of_one_tile_is_its_network():
    victim = advbench.load_victim("ifosn", size="small", weights=None)
    x = torch.rand(1, 3, 120, 896)
    with torch.no_grad():
        assert torch.equal(victim.logits(x), victim.network.logits((x - 0.5) / 0.5))
