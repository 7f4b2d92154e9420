"""PGN against its published algorithm, written out with loops in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advbench.attacks.gradient import InputGradient
from advbench.attacks.pgn import PGN
from advbench.inference.runner import BatchRunner

from .toys import GivenGradient, Pictures, Toy, pictures, wavy_net

KEYS = [(0, f"picture-{row}", "pgn", "x") for row in range(3)]
EPS = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).view(-1, 1, 1, 1) / 255
Gradient = Callable[[Tensor], Tensor]


def generator(*key: object) -> torch.Generator:
    """The noise that a test injects: one generator an image."""
    return torch.Generator().manual_seed(1000 + int(str(key[1])[-1]))


def exact_gradient(network: nn.Module, y: Tensor) -> Gradient:
    """∇J in float64 throughout, for rows that repeat the batch."""

    def at(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        z = network(x)
        mask = torch.cat([y] * (len(x) // len(y)))
        losses = (F.softplus(z) - mask * z).mean((1, 2, 3))
        return torch.autograd.grad(losses.sum(), x)[0]

    return at


def transcription(
    attack: PGN, network: nn.Module, x: Tensor, y: Tensor, *, alpha: Tensor
) -> Tensor:
    """Algorithm of the paper, image by image, neighbour by neighbour, pixel noise in [-ζφ, ζφ]."""
    done = []
    for row in range(len(x)):
        eps, step, noise = EPS[row].item(), alpha[row].item(), generator(*KEYS[row])
        gradient = exact_gradient(network, y[row : row + 1])
        original = x[row : row + 1]
        current, momentum = original.clone(), torch.zeros_like(original)
        for _ in range(attack.iterations):
            accumulated = torch.zeros_like(original)
            for _ in range(attack.neighbours):
                uniform = torch.rand(original.shape, generator=noise).double()
                near = current + (2 * uniform - 1) * attack.zeta * eps
                g1 = gradient(near)
                g2 = gradient(near - step * g1 / g1.abs().mean())
                accumulated += (1 - attack.delta) * g1 + attack.delta * g2
            momentum = attack.decay * momentum + accumulated / accumulated.abs().mean()
            low, high = (original - eps).clamp_min(0), (original + eps).clamp_max(1)
            current = (current + step * momentum.sign()).maximum(low).minimum(high)
        done.append(current)
    return torch.cat(done)


@pytest.fixture
def batch() -> Pictures:
    return pictures()


@pytest.fixture
def network() -> nn.Module:
    return wavy_net().double()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"delta": 0.0},
        {"delta": 1.0, "decay": 0.3},
        {"zeta": 0.5, "alpha": 1.5},
        {"iterations": 3, "alpha": "eps/T"},
    ],
    ids=str,
)
def test_the_published_algorithm(
    settings: dict[str, float], batch: Pictures, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same images as the loops with the same noise, for rows of different φ."""
    monkeypatch.setattr("advbench.attacks.pgn.torch_stream", generator)
    attack = PGN(**({"neighbours": 4, "iterations": 5} | settings))
    parts = {"eps/10": EPS / 10, "eps/T": EPS / attack.iterations, 1.5: torch.full_like(EPS, 1.5)}
    alpha = parts[attack.alpha] / (255 if attack.alpha == 1.5 else 1)
    x, y = batch.x.double(), batch.y.double()
    expected = transcription(attack, network, x, y, alpha=alpha)
    assert (expected - x).abs().max() > 0.3 / 255
    injected = attack.perturb_rows(GivenGradient(exact_gradient(network, y), y), x, EPS, KEYS)
    assert (injected - expected).abs().max() <= 1e-15
    own = attack.perturb_rows(InputGradient(Toy(network), y), x, EPS, KEYS)
    assert (own - expected).abs().max() <= 1e-15


class Elsewhere(torch.Tensor):
    """A tensor that says it lies on an accelerator, where neighbours go in stacks."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @property
    def device(self) -> torch.device:
        return torch.device("cuda")


@pytest.mark.parametrize("alpha", ["eps/10", 0.5])
@pytest.mark.parametrize(("allowed", "stacks"), [(1, {3}), (8, {6, 3}), (64, {15})])
def test_neighbours_in_stacks_or_one_by_one(
    alpha: float | str, allowed: int, stacks: set[int], batch: Pictures, *, network: nn.Module
) -> None:
    """How many neighbours meet the victim at once changes no bit in float64, and three rows times
    so many are no more than may."""
    attack = PGN(neighbours=5, iterations=3, alpha=alpha)
    x, y = batch.x.double(), batch.y.double()
    rows: list[int] = []
    victim = Toy(network, lambda images: rows.append(len(images)))
    one_by_one = attack.perturb_rows(InputGradient(victim, y), x, EPS, KEYS)
    assert set(rows) == {3}
    rows.clear()
    runner = BatchRunner(torch.device("cpu")).sized("a test", allowed)
    stacked = attack.perturb_rows(
        InputGradient(victim, y, runner), x, EPS.clone().as_subclass(Elsewhere), KEYS
    )
    assert set(rows) == stacks
    assert (torch.Tensor(stacked) - one_by_one).abs().max() == 0


def test_stacked_rows_have_their_own_gradients(batch: Pictures, network: nn.Module) -> None:
    """Copies stacked before images: each row's gradient is that of its image's mask."""
    y = batch.y.double()
    near = torch.cat([batch.x.double() + shift / 255 for shift in range(4)])
    gradient = InputGradient(Toy(network), y)
    found = gradient(near)
    for row in range(12):
        alone = exact_gradient(network, y[row % 3 : row % 3 + 1])(near[row : row + 1])
        assert (found[row] - alone[0]).norm() < 1e-6 * alone.norm()


@pytest.mark.parametrize("delta", [0.0, 0.3, 1.0])
def test_delta_mixes_the_two_gradients(delta: float) -> None:
    """δ = 0 follows the first gradient only, δ = 1 the second only."""
    first, second = torch.randn((2, 1, 3, 5, 7), generator=torch.Generator().manual_seed(0))
    answers = iter([first, second])
    x = torch.full((1, 3, 5, 7), 0.5)
    attack = PGN(neighbours=1, iterations=1, delta=delta, alpha="eps/2")
    found = attack.perturb_rows(
        GivenGradient(lambda _: next(answers)), x, torch.full((1, 1, 1, 1), 0.1), KEYS[:1]
    )
    expected = x + 0.05 * ((1 - delta) * first + delta * second).sign()
    assert torch.allclose(found, expected, atol=1e-7)


def test_the_second_point_lies_down_the_slope() -> None:
    """x* = x' − α·g/mean|g|, and neither point is clipped to [0, 1]."""
    seen: list[Tensor] = []
    slope = torch.linspace(-1, 1, 3 * 5 * 7).view(1, 3, 5, 7)

    def gradient(x: Tensor) -> Tensor:
        seen.append(x)
        return slope

    x, eps = torch.zeros(1, 3, 5, 7), torch.full((1, 1, 1, 1), 3 / 255)
    PGN(neighbours=1, iterations=1).perturb_rows(GivenGradient(gradient), x, eps, KEYS[:1])
    near, lower = seen
    assert -9 / 255 <= near.min() < -8 / 255
    assert 8 / 255 < near.max() <= 9 / 255
    expected = near - eps / 10 * slope / slope.abs().mean()
    assert torch.allclose(lower, expected, atol=1e-8)
