"""Attacks through a defense: forward the defense, backward its own gradient or the identity's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import advbench
from advbench.defenses.base import Defense
from advbench.defenses.soft_jpeg import soft_jpeg

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


SMOOTH: list[tuple[str, float]] = [
    *(("jpeg", quality) for quality in (95, 70, 50, 20)),
    *(("median", kernel) for kernel in (3, 5, 7)),
    *(("resize", scale) for scale in (0.9, 0.5, 1.3)),
]


def picture() -> Tensor:
    """A photograph's smoothness and texture, 1×3×70×90, on the grid of grey levels."""
    stream = torch.Generator().manual_seed(3)
    coarse = torch.rand((1, 3, 8, 10), generator=stream)
    fine = 0.1 * torch.rand((1, 3, 35, 45), generator=stream)
    image = sum(F.interpolate(x, (70, 90), mode="bilinear") for x in (coarse, fine))
    return (image / 1.1 * 255).round() / 255


@pytest.mark.parametrize(("name", "strength"), SMOOTH)
def test_smooth_is_close_to_the_defense(name: str, strength: float) -> None:
    """Far closer than the identity: the median to the bit, resizing to its rounding, JPEG to a
    part of what it changes."""
    defense, x = advbench.load_defense(name), picture()
    defended, smooth = defense.defend(x, strength, KEYS[:1]), defense.smooth(x, strength)
    error, effect = (255 * (defended - other).abs() for other in (smooth, x))
    if name == "median":
        assert error.max() == 0
    elif name == "resize":
        assert error.max() < 1.6
        assert error.mean() < 0.4
    else:
        assert error.mean() < effect.mean() / 2.5


@pytest.mark.parametrize("name", ["jpeg", "median", "resize"])
def test_through_with_a_smooth_gradient(name: str) -> None:
    """Forward the defense, backward the surrogate's own gradient."""
    defense, strength, x = advbench.load_defense(name), dict(ALL)[name], picture()
    assert defense.surrogates == ("identity", "smooth")
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    inputs = x.clone().requires_grad_()
    found = defense.through(inputs, strength, KEYS[:1], "smooth")
    assert (found - defense.defend(x, strength, KEYS[:1])).abs().max() < 1e-6
    (gradient_,) = torch.autograd.grad(found, inputs, upstream)
    (expected,) = torch.autograd.grad(defense.smooth(inputs, strength), inputs, upstream)
    assert torch.equal(gradient_, expected)
    assert not torch.equal(gradient_, upstream)


def test_surrogates_that_a_defense_has() -> None:
    assert Square().surrogates == ("own",)
    assert HardSquare().surrogates == ("identity",)
    assert advbench.load_defense("gaussian").surrogates == ("identity",)
    assert advbench.load_defense("none").surrogates == ("own",)
    with pytest.raises(NotImplementedError):
        HardSquare().smooth(torch.zeros(1, 3, 2, 2), None)


def test_gradient_of_soft_jpeg() -> None:
    """Central differences in float64, away from where rounding jumps."""
    x = torch.rand((1, 3, 16, 16), generator=torch.Generator().manual_seed(5)).double()
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(6)).double()
    inputs = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(soft_jpeg(inputs, 75), inputs, upstream)
    step = 1e-7 * torch.randn(x.shape, generator=torch.Generator().manual_seed(7)).double()
    up, down = ((upstream * soft_jpeg(x + sign * step, 75)).sum() for sign in (1, -1))
    assert float((up - down) / 2) == pytest.approx(float((found * step).sum()), rel=1e-5)


def test_soft_jpeg_keeps_what_a_table_of_ones_keeps() -> None:
    """At quality 100 every step is 1 level, and grey of whole levels stays as it is."""
    grey = torch.linspace(0, 1, 256).mul(255).round().div(255).view(1, 1, 16, 16).double()
    flat = F.interpolate(grey, scale_factor=16).expand(1, 3, 256, 256)
    assert (soft_jpeg(flat, 100) - flat).abs().max() < 2e-3
