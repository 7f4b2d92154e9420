"""What holds for every defense: shape, range, grid, independence of batch-mates."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

import advbench
from advbench.defenses.base import Defense
from advbench.registry import DEFENSES

NAMES = ["none", "jpeg", "resize", "median", "gaussian"]
IDS = ["d/a", "d/b", "d/c"]


def test_these_are_all() -> None:
    """A new built-in filter must come under this contract; ANSM, a network, has one of its own."""
    assert DEFENSES.standard() == [*NAMES, "ansm"]


@pytest.mark.parametrize("name", NAMES)
def test_form(name: str, batch: Tensor) -> None:
    """float32 in [0, 1], of the same shape, on the uint8 grid; the input is left alone."""
    before = batch.clone()
    results = advbench.load_defense(name)(batch, IDS)
    assert torch.equal(batch, before)
    for result in results.values():
        assert result.shape == batch.shape
        assert result.dtype == torch.float32
        assert result.device == batch.device
        assert result.is_contiguous()
        levels = result.double() * 255
        assert levels.min() >= 0
        assert levels.max() <= 255
        assert (levels - levels.round()).abs().max() < 1e-4
        assert torch.equal(levels.round().byte(), batch) == (name == "none")


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 2), (5, 3), (8, 8)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_small_pictures(name: str, shape: tuple[int, int]) -> None:
    """No picture is too small, not even for a kernel larger than it."""
    images = torch.arange(3 * shape[0] * shape[1]).mul(7).remainder(256).byte().view(1, 3, *shape)
    for result in advbench.load_defense(name)(images, ["d/a"]).values():
        assert result.shape == images.shape
        assert torch.isfinite(result).all()


@pytest.mark.parametrize("name", NAMES)
def test_alone_as_in_a_batch(name: str, batch: Tensor) -> None:
    """An image's result depends on no batch-mate and on no position."""
    defense = advbench.load_defense(name)
    together = defense(batch, IDS, seed=3)
    backwards = defense(batch.flip(0), IDS[::-1], seed=3)
    for variant, result in together.items():
        assert torch.equal(backwards[variant].flip(0), result)
        for number, image_id in enumerate(IDS):
            alone = defense(batch[number : number + 1], [image_id], seed=3)[variant]
            assert torch.equal(alone[0], result[number])


@pytest.mark.parametrize("name", NAMES)
def test_uint8_and_float_agree(name: str, batch: Tensor) -> None:
    """Levels and the same levels as fractions are one image."""
    defense = advbench.load_defense(name)
    floats = defense(batch.float() / 255, IDS)
    for variant, result in defense(batch, IDS).items():
        assert torch.equal(floats[variant], result)


@pytest.mark.parametrize("name", ["jpeg", "resize", "median", "gaussian"])
def test_off_the_grid_is_rounded(name: str, batch: Tensor) -> None:
    """Between two levels the nearest counts, and beyond the range the bound."""
    defense = advbench.load_defense(name)
    above = defense((batch.float() + 0.4) / 255, IDS)
    below = defense((batch.float() - 0.4) / 255, IDS)
    beyond = batch.clone()
    beyond[:, :, ::2] = 255
    outside = beyond.float() / 255
    outside[:, :, ::2] = 1.7
    clipped = defense(outside, IDS)
    for variant, result in defense(batch, IDS).items():
        assert torch.equal(above[variant], result)
        assert torch.equal(below[variant], result)
        assert torch.equal(clipped[variant], defense(beyond, IDS)[variant])


SEVERAL: list[tuple[str, str, list[float]]] = [
    ("jpeg", "quality", [90, 30, 75]),
    ("resize", "scale", [0.5, 1.5]),
    ("median", "kernel", [3, 7]),
    ("gaussian", "sigma", [1.5, 8]),
]


@pytest.mark.parametrize(("name", "field", "values"), SEVERAL)
def test_several_strengths_in_one_call(
    name: str, field: str, values: list[Any], batch: Tensor
) -> None:
    """Each strength acts on the image itself, as if asked for alone; names and order as given."""
    together = advbench.load_defense(name, **{field: values})(batch, IDS)
    assert list(together) == [f"{name}-{value:g}" for value in values]
    for value, result in zip(values, together.values(), strict=True):
        alone = advbench.load_defense(name, **{field: value})(batch, IDS)
        assert torch.equal(alone[f"{name}-{value:g}"], result)
    first, second = list(together.values())[:2]
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", NAMES)
def test_specification(name: str) -> None:
    """A frozen JSON object that names defense and strength, and nothing of the other strengths."""
    defense: Defense = advbench.load_defense(name)
    for strength in defense.strengths:
        spec = json.loads(json.dumps(defense.variant_spec(strength)))
        assert spec["defense"] == name
        if defense.strength_field is None:
            assert spec == {"defense": name}
        else:
            assert spec == {"defense": name, defense.strength_field: strength}
    assert defense == advbench.load_defense(name)
    assert hash(defense) == hash(advbench.load_defense(name))
    assert defense.random == (name == "gaussian")
