"""The uint8 grid and the budget: exact for every grey level, every attack, every odd case."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from advbench.attacks.apgd import APGD
from advbench.attacks.linf import IteratedAttack
from advbench.attacks.mifgsm import Momentum
from advbench.attacks.pgd import PGD
from advbench.images import level_budget, quantise, to_unit

from .toys import ALL, BOUNDED, Flat, Pictures, Toy, floats, linear, patient, pictures, wavy_net

ITERATED = {name: attack for name, attack in BOUNDED.items() if name != "fgsm"}
FROM_IMAGE = {
    name: attack for name, attack in ITERATED.items() if not isinstance(attack, PGD | APGD)
}
LEVELS = torch.arange(256).byte().view(1, 1, 16, 16).expand(1, 3, 16, 16).contiguous()


@pytest.mark.parametrize("eps", [(0.4, 1, 2.5, 3), (17, 255)], ids=str)
@pytest.mark.parametrize("name", BOUNDED)
def test_budget_and_form(name: str, eps: tuple[float, ...]) -> None:
    """Within φ as floats up to rounding, within ⌊φ⌋ grey levels exactly, and an image at that."""
    attack, batch = BOUNDED[name].only(eps), pictures()
    before = batch.images.clone(), batch.masks.clone()
    for radius, result in zip(eps, batch.attacked(attack, Toy(wavy_net())).values(), strict=True):
        found, images = floats(result), result.images
        assert (found - batch.x).abs().max() <= radius / 255 + 1e-7
        assert (found != batch.x).any()
        assert 0 <= found.min() <= found.max() <= 1
        assert (images.short() - batch.images.short()).abs().max() <= int(radius)
        assert images.dtype == torch.uint8
        assert images.shape == batch.images.shape
        assert found.dtype == torch.float32
        assert images.device == found.device == torch.device("cpu")
        assert not found.requires_grad
        base, levels = batch.images.numpy().astype(int), found.double().numpy() * 255
        admitted = levels.clip(base - int(radius), base + int(radius))
        assert np.abs(images.numpy() - admitted).max() <= 0.5 + 1e-4
    assert torch.equal(batch.images, before[0])
    assert torch.equal(batch.masks, before[1])


@pytest.mark.parametrize("name", [name for name in ALL if name not in BOUNDED])
def test_form_without_budget(name: str) -> None:
    """C&W gives images too, rounded to nearest, and leaves its input alone."""
    batch = pictures()
    before = batch.images.clone()
    for result in batch.attacked(ALL[name], Toy(wavy_net())).values():
        nearest = np.rint(floats(result).double().numpy() * 255).clip(0, 255)
        assert result.images.dtype == torch.uint8
        assert np.array_equal(result.images.numpy(), nearest)
        assert not floats(result).requires_grad
    assert torch.equal(batch.images, before)


@pytest.mark.parametrize("name", ALL)
def test_call_gives_the_images_of_run(name: str) -> None:
    """Calling an attack is :meth:`run` with the images alone."""
    attack, batch, victim = ALL[name], pictures(2), Toy(wavy_net())
    called = attack(victim, batch.images, batch.masks[:, None], batch.ids, seed=5)
    results = batch.attacked(attack, victim, seed=5)
    assert list(called) == list(results) == [attack.variant_name(v) for v in attack.intensities]
    assert all(torch.equal(called[variant], results[variant].images) for variant in results)


@pytest.mark.parametrize("name", [name for name in BOUNDED if name != "pgn"])
def test_gradients_are_taken_at_images_within_the_budget(name: str) -> None:
    """The start and every iterate lie in [0, 1] and in the ball; PGN alone looks beyond."""
    batch, seen = pictures(1), []
    victim = Toy(wavy_net(), lambda images: seen.append(images.detach().clone()))
    batch.attacked(BOUNDED[name].only([3]), victim)
    points = torch.cat(seen)
    assert 0 <= points.min() <= points.max() <= 1
    assert (points - batch.x).abs().max() <= 3 / 255 + 1e-7


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_whole_steps_lose_nothing(k: int, sign: int) -> None:
    """At each of 256 levels X ± k is stored as such, however its float was summed."""
    exact = (LEVELS.int() + sign * k).clamp(0, 255)
    at_once = to_unit(LEVELS) + sign * k / 255
    in_tenths = to_unit(LEVELS)
    for _ in range(10):
        in_tenths = in_tenths + sign * k / 255 / 10
    for moved in (at_once, at_once.clamp(0, 1), in_tenths):
        assert torch.equal(quantise(moved, LEVELS, k).int(), exact)
        assert torch.equal(quantise(moved, LEVELS).int(), exact)
    truncated = at_once.clamp(0, 1).mul(255).byte().int()
    assert (truncated != exact).any() or sign == 1


@patient
@given(
    st.integers(0, 255),
    st.floats(-0.5, 1.5, width=32),
    st.one_of(st.none(), st.integers(0, 255)),
)
def test_quantise_one_value(original: int, value: float, budget: int | None) -> None:
    """The nearest level among those that the budget and a byte admit."""
    low, high = (0, 255) if budget is None else (original - budget, original + budget)
    admitted = range(max(low, 0), min(high, 255) + 1)
    stored = quantise(
        torch.full((1, 3, 1, 1), value),
        torch.full((1, 3, 1, 1), original, dtype=torch.uint8),
        budget,
    )
    assert stored.dtype == torch.uint8
    (level,) = stored.unique().tolist()
    assert level in admitted
    best = min(abs(candidate - value * 255) for candidate in admitted)
    assert abs(level - value * 255) <= best + 1e-4


@patient
@given(st.floats(0, 255))
def test_level_budget_is_the_floor(eps: float) -> None:
    """⌊φ⌋, but a φ that misses a whole number by a rounding counts as that number."""
    assert eps - 1 < level_budget(eps) <= eps + 1e-6
    assert level_budget(float(int(eps))) == int(eps)
    assert level_budget(math.nextafter(int(eps), 0)) == int(eps)


@pytest.mark.parametrize("name", BOUNDED)
def test_no_budget_no_change(name: str) -> None:
    """φ = 0 gives the image back, bit for bit, also beside another φ."""
    batch = pictures()
    results = batch.attacked(BOUNDED[name].only((0, 2)), Toy(wavy_net()))
    nothing, something = results.values()
    assert torch.equal(floats(nothing), batch.x)
    assert torch.equal(nothing.images, batch.images)
    assert not torch.equal(something.images, batch.images)


@pytest.mark.parametrize("name", ["fgsm", *FROM_IMAGE])
def test_flat_victim(name: str) -> None:
    """A gradient that is zero everywhere moves nothing and is counted each time."""
    attack, batch = BOUNDED[name], pictures()
    gradients = attack.only(attack.intensities[:1]).passes()
    for result in batch.attacked(attack, Toy(Flat())).values():
        assert torch.equal(floats(result), batch.x)
        assert torch.equal(result.images, batch.images)
        assert [item.zero_gradients for item in result.details] == [gradients] * 3


@pytest.mark.parametrize("name", ALL)
def test_no_zero_gradient_is_counted_where_there_is_none(name: str) -> None:
    """The count is of gradients that are zero everywhere: one colour is enough."""
    network = linear()
    network.weight.data[:, 1:] = 0
    for result in pictures().attacked(ALL[name], Toy(network)).values():
        assert [item.zero_gradients for item in result.details] == [0, 0, 0]


class AsleepAtFirst(nn.Module):
    """A linear network whose first answer hangs on nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.calls = linear(), 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return self.network(images) * (self.calls > 1)


@pytest.mark.parametrize("name", FROM_IMAGE)
def test_a_zero_gradient_does_not_freeze_what_follows(name: str) -> None:
    """One zero gradient costs one step at most: the momentum stays a number."""
    attack: IteratedAttack = FROM_IMAGE[name].model_copy(update={"eps": (3.0,)})
    batch = pictures(1)
    (result,) = batch.attacked(attack, Toy(AsleepAtFirst())).values()
    moved = (floats(result) - batch.x).abs() * 255
    assert [item.zero_gradients for item in result.details] == [1]
    assert moved[(batch.images >= 3) & (batch.images <= 252)].min() > 1.9


def test_momentum_of_a_zero_gradient() -> None:
    """m ← μ·m + g/mean|g| per row; a row without gradient keeps μ·m."""
    g = torch.tensor([[2.0, -6.0], [0.0, 0.0]]).view(2, 1, 1, 2)
    momentum = Momentum(lambda x: x, 0.5)
    first = momentum(g)
    assert first.flatten().tolist() == [0.5, -1.5, 0.0, 0.0]
    second = momentum(g.flip(0))
    assert second.flatten().tolist() == [0.25, -0.75, 0.5, -1.5]


@pytest.mark.parametrize("forged", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_masks_of_one_kind(name: str, forged: bool) -> None:
    """All authentic or all forged: finite, and attacked like any other."""
    batch = pictures()
    uniform = Pictures(batch.images, torch.full_like(batch.masks, forged), batch.ids)
    for result in uniform.attacked(ALL[name], Toy(wavy_net())).values():
        assert floats(result).isfinite().all()
        if forged or ALL[name].region != "forged":
            assert (floats(result) != batch.x).any()
        else:
            assert torch.equal(floats(result), batch.x)
        numbers = [(item.loss_first, item.loss_last) for item in result.details]
        assert np.isfinite(numbers).all()
