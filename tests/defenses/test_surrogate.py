"""Attacks through a defense: forward the defense, backward its own gradient or the identity's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest
import torch
from torch import Tensor

import advbench
from advbench.defenses.base import Defense

KEYS: list[tuple[object, ...]] = [(0, "d/a", "x"), (0, "d/b", "x"), (0, "d/c", "x")]
ALL: list[tuple[str, float | None]] = [
    ("none", None),
    ("jpeg", 50),
    ("resize", 0.5),
    ("median", 5),
    ("gaussian", 10.0),
]


class Square(Defense):
    """A differentiable defense."""

    name: ClassVar[str] = "square"
    differentiable: ClassVar[bool] = True

    def defend(
        self, images: Tensor, strength: float | None, keys: Sequence[tuple[object, ...]]
    ) -> Tensor:
        return images**2


class HardSquare(Square):
    """The same one, as if it had no gradient."""

    differentiable: ClassVar[bool] = False


def gradient(defense: Defense, strength: float | None, x: Tensor, upstream: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(defense.through(x, strength, KEYS), x, upstream)
    return found


@pytest.mark.parametrize(("name", "strength"), ALL)
def test_forward(name: str, strength: float | None, batch: Tensor) -> None:
    """The same image as without gradient, to the last bit of the grid."""
    defense = advbench.load_defense(name)
    x = batch.float() / 255 + torch.linspace(-0.3, 0.3, batch.shape[-1]) / 255
    expected = defense.defend(x, strength, KEYS)
    found = defense.through(x.clone().requires_grad_(), strength, KEYS)
    assert (found - expected).abs().max() < 1e-6
    assert found.requires_grad
    if name != "none":
        assert (found - x).abs().max() > 1 / 255


@pytest.mark.parametrize(("name", "strength"), ALL)
def test_backward_is_the_identity(name: str, strength: float | None, batch: Tensor) -> None:
    """Whatever gradient arrives goes through unchanged."""
    upstream = torch.randn(batch.shape, generator=torch.Generator().manual_seed(0))
    found = gradient(advbench.load_defense(name), strength, batch.float() / 255, upstream)
    assert torch.equal(found, upstream)


def test_own_gradient_where_there_is_one(batch: Tensor) -> None:
    """A differentiable defense keeps its own; the same function declared otherwise does not."""
    x = batch.double() / 255
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    assert torch.allclose(gradient(Square(), None, x, upstream), 2 * x * upstream)
    assert torch.equal(gradient(HardSquare(), None, x, upstream), upstream)


def test_surrogate_leaves_no_graph_in_the_defense(batch: Tensor) -> None:
    """The defense itself sees a detached image, so that nothing in it is differentiated."""
    seen: list[bool] = []

    class Spy(HardSquare):
        def defend(
            self, images: Tensor, strength: float | None, keys: Sequence[tuple[object, ...]]
        ) -> Tensor:
            seen.append(images.requires_grad)
            return images.round()

    Spy().through((batch.float() / 255).requires_grad_(), None, KEYS)
    assert seen == [False]
