"""``advlib:NAME`` and ``transferattack:NAME`` on stubs of the packages."""

from __future__ import annotations

import pickle
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import advbench
from advbench.errors import AdvbenchError

from .toys import Toy, pictures, wavy_net


class Steps:
    """The constructor and the loop that TransferAttack's attacks share."""

    def __init__(self, model_name: str, epsilon: float, alpha: float, epoch: int = 10) -> None:
        self.model = self.load_model(model_name)
        self.epsilon, self.alpha, self.epoch = epsilon, alpha, epoch

    def load_model(self, name: str) -> Any:
        raise AssertionError("downloads")

    def __call__(self, data: Tensor, label: Tensor) -> Tensor:
        assert label.dtype == torch.long
        assert label.shape == (1, *data.shape[2:])
        delta = torch.zeros_like(data)
        for _ in range(self.epoch):
            x = (data + delta).requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(self.model(x), label), x)
            delta = (delta + self.alpha * gradient.sign()).clamp(-self.epsilon, self.epsilon)
            delta = (data + delta).clamp(0, 1) - data
        return delta


class Random(Steps):
    def __call__(self, data: Tensor, label: Tensor) -> Tensor:
        return 9 * torch.randn_like(data)


class Copies(Steps):
    """Steps along the mean gradient of three copies, with labels repeated as an image's one is."""

    def __call__(self, data: Tensor, label: Tensor) -> Tensor:
        label = label.clone().detach().to(data.device)
        x = data.clone().requires_grad_()
        logits = self.model(torch.cat([x * scale for scale in (1, 0.5, 0.25)]))
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, label.repeat(3)), x)
        assert type(gradient) is Tensor
        return self.epsilon * gradient.sign()


class Gathers(Steps):
    def __call__(self, data: Tensor, label: Tensor) -> Tensor:
        return self.model(data).gather(1, label.view(-1, 1))


def pdpgd(
    model: Any, inputs: Tensor, labels: Tensor, *, norm: float, num_steps: int = 500
) -> Tensor:
    assert norm == float("inf")
    x = inputs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), labels), x)
    return inputs + num_steps / 255 * gradient.sign()


def alma_prox(model: Any, inputs: Tensor, labels: Tensor) -> Tensor:
    """One step up the package's ratio of logits, which wants three classes."""
    x = inputs.clone().requires_grad_()
    logits = model(x)
    highest = logits.topk(3, dim=1).values
    assert (logits.argmax(1) < 2).all()
    signed = (logits[:, 1] - logits[:, 0]) * (2 * labels - 1)
    assert (highest[:, 0] - highest[:, 2] >= 1).all()
    (gradient,) = torch.autograd.grad((signed / (highest[:, 0] - highest[:, 2])).sum(), x)
    return inputs - gradient.sign()


ZOO = {
    "ifgsm": (".gradient.ifgsm", "Steps"),
    "random": (".gradient.random", "Random"),
    "copies": (".input_transformation.copies", "Copies"),
    "gathers": (".input_transformation.gathers", "Gathers"),
    "ttp": (".generation.ttp", "TTP"),
}


@pytest.fixture(autouse=True)
def _packages(monkeypatch: pytest.MonkeyPatch) -> None:
    zoo: Any = ModuleType("transferattack")
    zoo.attack_zoo = ZOO
    zoo.load_attack_class = lambda name: globals()[ZOO[name][1]]
    monkeypatch.setitem(sys.modules, "transferattack", zoo)
    library: Any = ModuleType("adv_lib.attacks.segmentation")
    library.pdpgd, library.alma_prox = pdpgd, alma_prox
    for name in ("adv_lib", "adv_lib.attacks"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, library.__name__, library)


def test_sign_steps_of_the_package_are_those_of_bim():
    """φ/10 a step, ten steps, with the victim in place of the package's own models."""
    batch, victim = pictures(3), Toy(wavy_net())
    own = advbench.load_attack("bim", eps=[1, 4], alpha="eps/10", iterations=10)
    theirs = advbench.load_attack("transferattack:ifgsm", eps=[1, 4])
    expected = own(victim, batch.images, batch.masks, batch.ids)
    found = theirs(victim, batch.images, batch.masks, batch.ids)
    for phi in (1, 4):
        variant = found[f"transferattack_ifgsm-{phi}"]
        assert torch.equal(variant, expected[f"bim-{phi}"])


@pytest.mark.parametrize(
    ("name", "arguments"), [("transferattack:random", {}), ("advlib:pdpgd", {"num_steps": 30})]
)
def test_budget_and_grid_are_enforced_and_batches_do_not_matter(name, arguments):
    batch, victim = pictures(3), Toy(wavy_net())
    attack = advbench.load_attack(name, eps=[2], arguments=arguments)
    (found,) = attack(victim, batch.images, batch.masks, batch.ids).values()
    assert found.dtype == torch.uint8
    assert (found.int() - batch.images.int()).abs().amax() == 2
    (alone,) = attack(victim, batch.images[1:2], batch.masks[1:2], batch.ids[1:2]).values()
    assert torch.equal(alone, found[1:2])
    again = pickle.loads(pickle.dumps(attack))
    assert (again.name, again.arguments) == (name, arguments)
    assert again.variant_spec(2) == attack.variant_spec(2)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("advlib:asma", "minimises an L2 norm"),
        ("advlib:fmn", "no segmentation attack of adv-lib; there are alma_prox, dag, pdpgd$"),
        ("transferattack:ttp", "made for classifiers of images; there are ifgsm, random"),
        ("transferattack:other", "unknown; there are ifgsm, random"),
    ],
)
def test_refusals_give_the_reason(name, reason):
    with pytest.raises(AdvbenchError, match=f"^attack {name}: .*{reason}"):
        advbench.load_attack(name)


def test_a_third_class_keeps_the_direction_of_the_logit():
    """A step down z/(1 + |z|), written out here."""
    batch, victim = pictures(1), Toy(wavy_net())
    attack = advbench.load_attack("advlib:alma_prox", eps=[3])
    (found,) = attack(victim, batch.images, batch.masks, batch.ids).values()
    x = (batch.images / 255).requires_grad_()
    z = victim.logits(x)
    sign = 2 * batch.masks[:, None].float() - 1
    (gradient,) = torch.autograd.grad((sign * z / (1 + z.abs())).sum(), x)
    expected = (batch.images - 3 * gradient.sign()).clamp(0, 255)
    assert (found == expected).float().mean() > 0.999


def test_labels_are_repeated_image_by_image():
    """The gradient is that of the loss with each pixel's own label beside each copy."""
    batch, victim = pictures(2), Toy(wavy_net())
    attack = advbench.load_attack("transferattack:copies", eps=[3])
    (found,) = attack(victim, batch.images, batch.masks, batch.ids).values()
    x = (batch.images / 255).requires_grad_()
    y = batch.masks[:, None].float()
    loss = sum(
        F.binary_cross_entropy_with_logits(victim.logits(x * scale), y) for scale in (1, 0.5, 0.25)
    )
    (gradient,) = torch.autograd.grad(loss, x)
    expected = (batch.images + 3 * gradient.sign()).clamp(0, 255)
    assert (found == expected).float().mean() > 0.999


def test_an_attack_that_fails_on_maps_is_named():
    batch, victim = pictures(1), Toy(wavy_net())
    attack = advbench.load_attack("transferattack:gathers", eps=[1])
    with pytest.raises(AdvbenchError, match=r"^attack transferattack:gathers: .*cannot run it"):
        attack(victim, batch.images, batch.masks, batch.ids)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "transferattack", None)
    with pytest.raises(AdvbenchError, match=r"cannot import transferattack.*PYTHONPATH"):
        advbench.load_attack("transferattack:ifgsm")
