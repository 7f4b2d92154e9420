"""An attack leaves the victim, the random numbers and the settings as it found them."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advbench.attacks.gradient import InputGradient
from advbench.attacks.losses import localization_loss
from advbench.inference.numerics import deterministic_mode
from advbench.victims.base import Numerics

from .toys import ALL, BOUNDED, Pictures, Toy, linear, pictures, wavy_net


def busy_net() -> nn.Sequential:
    """Batch norm and dropout, modes and flags deliberately mixed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.Dropout(0.5),
            nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)),
            nn.Conv2d(4, 1, 1),
        )


def mixed(network: nn.Sequential) -> None:
    network.train()
    network[1].eval()
    network[3].eval()
    network[3][1].train()
    for index, parameter in enumerate(network.parameters()):
        parameter.requires_grad_(index % 2 == 0)


def backend_flags() -> tuple[bool, ...]:
    cudnn = torch.backends.cudnn
    return (
        cudnn.allow_tf32,
        cudnn.benchmark,
        cudnn.deterministic,
        torch.backends.cuda.matmul.allow_tf32,
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.are_deterministic_algorithms_enabled(),
    )


def state(network: nn.Module) -> dict[str, Any]:
    numpy_state = np.random.get_state()
    return {
        "values": {key: value.clone() for key, value in network.state_dict().items()},
        "modes": [(name, module.training) for name, module in network.named_modules()],
        "frozen": [(name, p.requires_grad) for name, p in network.named_parameters()],
        "grads": [p.grad for p in network.parameters()],
        "torch": torch.get_rng_state(),
        "numpy": (numpy_state[1].tolist(), numpy_state[2]),
        "python": random.getstate(),
        "flags": backend_flags(),
    }


def assert_untouched(network: nn.Module, before: dict[str, Any]) -> None:
    after = state(network)
    for key, value in before["values"].items():
        assert torch.equal(value, after["values"][key]), key
    assert torch.equal(before["torch"], after["torch"])
    assert all(grad is None for grad in after["grads"])
    for key in ("modes", "frozen", "numpy", "python", "flags"):
        assert before[key] == after[key], key


class BrokenError(Exception):
    """What a broken victim raises."""


@pytest.mark.parametrize("fails_at", [None, 1, 3], ids=["whole", "at once", "later"])
@pytest.mark.parametrize("name", ALL)
def test_nothing_is_left_changed(name: str, fails_at: int | None) -> None:
    """Values, running statistics, modes, flags, gradients and generators, on an error too."""
    calls: list[bool] = []

    def watch(images: Tensor) -> None:
        calls.append(any(module.training for module in victim.network.modules()))
        if len(calls) == fails_at:
            raise BrokenError

    victim = Toy(busy_net(), watch)
    mixed(victim.network)
    before = state(victim.network)
    with pytest.raises(BrokenError) if fails_at else nullcontext():
        pictures(3).attacked(ALL[name], victim)
    assert_untouched(victim.network, before)
    assert calls
    assert not any(calls)


@pytest.mark.parametrize(("numerics", "tf32"), [("exact", False), ("bf16", True), ("fast", True)])
def test_deterministic_mode_sets_what_it_restores(numerics: Numerics, tf32: bool) -> None:
    """TF32 is off within unless asked for, whatever it was; all is back after an error."""
    cudnn, network = torch.backends.cudnn, busy_net()
    kept = backend_flags()
    cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = True, True, False
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        with torch.no_grad():
            before = backend_flags()
            with suppress(BrokenError), deterministic_mode(network, numerics):
                assert backend_flags() == (tf32, False, True, tf32, True, False, before[-1])
                assert not any(parameter.requires_grad for parameter in network.parameters())
                raise BrokenError
            assert backend_flags() == before
    finally:
        cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = kept[:3]
        torch.backends.cuda.matmul.allow_tf32 = kept[3]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", ALL)
def test_callers_without_gradients(name: str, mode: Callable[[], Any]) -> None:
    """The same images for a caller under no_grad or inference_mode, made there or not."""
    victim, expected = Toy(wavy_net()), pictures(2).attacked(ALL[name], Toy(wavy_net()))
    with mode():
        batch = pictures(2)
        found = batch.attacked(ALL[name], victim)
    assert batch.images.is_inference() == (mode is torch.inference_mode)
    outside = batch.attacked(ALL[name], victim)
    for variant, result in expected.items():
        assert torch.equal(found[variant].images, result.images)
        assert torch.equal(outside[variant].images, result.images)


@pytest.mark.parametrize("name", BOUNDED)
def test_predicted_targets_without_gradients(name: str) -> None:
    """The victim's own mask can be had under inference_mode."""
    attack, victim = BOUNDED[name].model_copy(update={"target": "pred"}), Toy(wavy_net())
    expected = pictures(2).attacked(attack, victim)
    with torch.inference_mode():
        found = pictures(2).attacked(attack, victim)
    assert all(torch.equal(found[v].images, expected[v].images) for v in expected)


@pytest.mark.parametrize("z", [17.0, 40.0, -40.0, 80.0, -80.0])
def test_saturated_victims_are_attacked(z: float) -> None:
    """Where the probability's gradient has died, the loss on logits still has one: ∓w/HW."""
    forged = z < 0
    network = linear(bias=z, scale=1e-4)
    batch = pictures(1)
    y = torch.full_like(batch.y, forged)
    gradient = InputGradient(Toy(network), y)
    expected = network.weight.detach().expand_as(batch.x) / batch.y.numel() * (1 - 2 * y)
    assert torch.allclose(gradient(batch.x), expected, rtol=1e-5)
    assert gradient.zero_gradients.tolist() == [0]
    assert gradient.loss_last.item() == pytest.approx(abs(z), rel=1e-4)
    x = batch.x.clone().requires_grad_()
    (dead,) = torch.autograd.grad(F.binary_cross_entropy(network(x).sigmoid(), y), x)
    assert dead.abs().max() <= 1e-5 * expected.abs().max()
    uniform = Pictures(batch.images, y[:, 0].bool(), batch.ids)
    for name in ("fgsm", "bim", "mifgsm"):
        result = uniform.attacked(BOUNDED[name], Toy(network))[f"{name}-3"]
        assert (result.images != batch.images).float().mean() > 0.5


def test_the_loss_is_a_mean_per_image_in_float32() -> None:
    """One value an image, whatever its batch-mates and the precision of its logits."""
    z = torch.tensor([[-3.0, 20.0], [0.5, 90.0]]).view(2, 1, 1, 2)
    y = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(2, 1, 1, 2)
    expected = torch.tensor([(3 + np.log1p(np.exp(-3)) + 20) / 2, np.log1p(np.exp(0.5)) / 2])
    for logits in (z, z.bfloat16()):
        found = localization_loss(logits, y)
        assert found.dtype == torch.float32
        assert torch.allclose(found, expected.float(), rtol=1e-6)
