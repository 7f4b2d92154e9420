"""``advbench.wrap``: any module as a victim, and what is refused."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import advbench
from advbench.errors import AdvbenchError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Localizer(nn.Module):
    """Four convolutions; what the last one gives leaves it as ``ending`` says."""

    def __init__(self, ending: str = "logits", stride: int = 1, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        classes = 2 if ending in ("two-class", "softmax") else 1
        self.first = nn.Conv2d(3, 8, 3, stride, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(8, classes, 3, padding=1)
        self.ending, self.scale = ending, scale

    def forward(self, x: Tensor) -> Any:
        x = torch.tanh(self.second(torch.tanh(self.first(x))))
        z = self.scale * self.last(torch.tanh(self.third(x)))
        endings = {
            "probability": torch.sigmoid,
            "method": Tensor.sigmoid,
            "softmax": lambda z: F.softmax(z, 1)[:, -1, ...].unsqueeze(1),
            "by hand": lambda z: 1 / (1 + (-z).exp()),
            "squeezed": lambda z: torch.sigmoid(z)[:, 0],
            "dict": lambda z: {"map": z, "edges": z},
            "pair": lambda z: (z, z),
            "rounded": torch.round,
            "detached": torch.detach,
            "batch mean": lambda z: z - z.mean(0, keepdim=True),
            "random": lambda z: z + torch.randn_like(z),
            "whole": lambda z: z.long(),
            "many": lambda z: z.expand(-1, 3, -1, -1),
            "nan": lambda z: z * float("nan"),
        }
        return endings.get(self.ending, lambda z: z)(z)


def images(count: int = 1, height: int = 13, width: int = 10) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_logits_are_those_of_the_module_on_what_it_expects():
    module, x = Localizer(), images(2)
    victim = advbench.wrap(module, mean=MEAN, std=STD, bgr=True, threshold=0.3)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    assert torch.equal(victim.logits(x), module((x.flip(1) - mean) / std))
    assert (victim.threshold, victim.space, victim.weights.label) == (0.3, "native", "wrapped")
    assert victim.name == "Localizer"
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize("ending", ["probability", "method", "softmax", "squeezed"])
def test_logits_are_taken_from_before_the_sigmoid(ending):
    """Where a float32 probability is exactly 1 and its gradient exactly 0."""
    module, x = Localizer(ending, scale=900.0), images().requires_grad_()
    logits = advbench.wrap(module, output="probability").logits(x)
    probability = module(x).reshape(logits.shape)
    assert torch.allclose(torch.sigmoid(logits), probability, rtol=0, atol=1e-6)
    sure = probability == 1
    assert sure.any()
    (gradient,) = torch.autograd.grad(logits[sure].sum(), x, retain_graph=True)
    (hidden,) = torch.autograd.grad(probability[sure].sum(), x)
    assert gradient.abs().amax() > 1
    assert hidden.abs().amax() < 1e-5


def test_logits_of_a_probability_whose_sigmoid_is_not_seen():
    module, x = Localizer("by hand", scale=9.0), images().requires_grad_()
    logits = advbench.wrap(module, output="probability").logits(x)
    plain = Localizer("logits", scale=9.0).eval()(x)
    assert torch.allclose(logits, plain, rtol=1e-3, atol=1e-3)
    gradients = [torch.autograd.grad(z.sum(), x)[0] for z in (logits, plain)]
    assert torch.allclose(*gradients, rtol=1e-2, atol=1e-3)


def test_two_classes_are_a_difference():
    module, x = Localizer("two-class"), images()
    logits = advbench.wrap(module, output="two-class").logits(x)
    softmax = module(x).softmax(1)[:, 1:]
    assert torch.allclose(torch.sigmoid(logits), softmax, atol=1e-6)


def test_a_key_names_the_map():
    module, x = Localizer("dict"), images()
    assert torch.equal(advbench.wrap(module, key="map").logits(x), module(x)["map"])


def test_a_smaller_map_is_resized():
    module, x = Localizer(stride=2), images(1, 12, 10)
    logits = advbench.wrap(module).logits(x)
    assert logits.shape == (1, 1, 12, 10)
    assert torch.equal(logits, F.interpolate(module(x), (12, 10), mode="bilinear"))


@pytest.mark.parametrize("sides", [(1, 1), (1, 24), (17, 2), (16, 16), (17, 19)])
@pytest.mark.parametrize(
    "fits", [{"multiple": 8}, {"multiple": 8, "smallest": 20}, {"side": 16}, {"tile": 16}], ids=str
)
def test_any_size(sides, fits):
    """A map of the image's own size, and gradients of it at every pixel."""

    class Picky(Localizer):
        def forward(self, x: Tensor) -> Any:
            height, width = x.shape[2:]
            if "side" in fits:
                assert (height, width) == (16, 16)
            if "multiple" in fits:
                assert height % 8 == width % 8 == 0
                assert min(height, width) >= fits.get("smallest", 1)
            if "tile" in fits:
                assert max(height, width) <= 16
            return super().forward(x)

    x = images(2, *sides).requires_grad_()
    logits = advbench.wrap(Picky(), **fits).logits(x)
    assert logits.shape == (2, 1, *sides)
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    assert (gradient.abs().amax(1) > 0).float().mean() > 0.9


def test_padding_leaves_what_it_does_not_reach():
    """A pixel further from the border than the network sees has the map of the unpadded image."""
    module, x = Localizer(), images(1, 21, 19)
    padded = advbench.wrap(module, multiple=8).logits(x)
    assert torch.equal(padded[..., :18, :16], module(x)[..., :18, :16])


@pytest.mark.parametrize(
    "settings", [{"side": 16}, {"multiple": 4, "bgr": True}, {"tile": 10}, {"mean": MEAN}], ids=str
)
@pytest.mark.parametrize("ending", ["logits", "probability", "by hand", "two-class"])
def test_gradient_is_that_of_finite_differences(settings, ending):
    output = "probability" if ending == "by hand" else ending
    victim = advbench.wrap(Localizer(ending).double(), output=output, **settings)
    x = images(1, 13, 10).double().requires_grad_()
    weight = torch.randn(1, 1, 13, 10, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((victim.logits(x) * weight).sum(), x)
    step = 1e-6 * torch.randn_like(x)
    with torch.no_grad():
        rise = ((victim.logits(x + step) - victim.logits(x - step)) * weight).sum()
    assert torch.isclose(rise, 2 * (gradient * step).sum(), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("ending", "settings", "rule"),
    [
        ("dict", {}, "returns a mapping; give key=, one of map, edges$"),
        ("dict", {"key": "mask"}, "has no 'mask'; there are map, edges$"),
        ("pair", {}, "returns 2 things"),
        ("many", {}, r"its map is \(1, 3, 13, 10\).*must be N×1×h×w"),
        ("logits", {"output": "two-class"}, r"must be N×2×h×w"),
        ("whole", {}, "of type torch.int64"),
        ("nan", {}, "holds NaN or infinity"),
        ("logits", {"output": "probability"}, "reaches from .* no probabilities"),
        ("detached", {}, "no gradient reaches the image"),
        ("random", {}, "another map the second time"),
    ],
)
def test_broken_rules_are_named(ending, settings, rule):
    victim = advbench.wrap(Localizer(ending, scale=5.0), name="acme", **settings)
    with pytest.raises(AdvbenchError, match=f"^victim acme: .*{rule}"):
        victim.logits(images().requires_grad_())


def test_a_batch_whose_images_depend_on_each_other():
    module = Localizer("batch mean")
    with pytest.raises(AdvbenchError, match="changes with the others of its batch"):
        advbench.wrap(module).logits(images(2))
    alone = advbench.wrap(module, one_at_a_time=True).logits(images(2))
    assert alone.abs().amax() == 0


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"output": "mask"}, "output 'mask'; there are logits, probability, two-class$"),
        ({"threshold": 1.5}, "threshold 1.5"),
        ({"side": 0}, "side 0; give at least 1"),
        ({"mean": (123.0, 117.0, 104.0)}, r"three numbers in \[0, 1\]"),
        ({"std": (0.0, 1.0, 1.0)}, "std above 0"),
        ({"name": "../mine"}, "name '../mine'"),
    ],
)
def test_arguments_out_of_range(settings, fault):
    with pytest.raises(AdvbenchError, match=fault):
        advbench.wrap(Localizer(), **settings)


def test_identity_is_of_weights_structure_and_reading():
    module = Localizer()
    same = advbench.wrap(module).weights.sha256
    assert advbench.wrap(Localizer()).weights.sha256 == same
    others = [
        advbench.wrap(module, bgr=True).weights.sha256,
        advbench.wrap(Localizer(stride=2)).weights.sha256,
    ]
    with torch.no_grad():
        module.last.bias += 1e-3
    others.append(advbench.wrap(module).weights.sha256)
    assert len({same, *others}) == 4


def test_attacks_and_pickles():
    victim = advbench.wrap(Localizer("probability"), output="probability", multiple=4)
    pixels = (255 * images(2)).byte()
    masks = torch.zeros(2, 13, 10, dtype=torch.bool)
    masks[:, 3:9, 2:7] = True
    attack = advbench.load_attack("bim", eps=[3], iterations=4)
    result = attack.run(victim, pixels, masks, ["a", "b"])["bim-3"]
    assert not any(detail.zero_gradients for detail in result.details)
    assert all(detail.loss_last > detail.loss_first for detail in result.details)
    again = pickle.loads(pickle.dumps(victim))
    assert torch.equal(attack(again, pixels, masks, ["a", "b"])["bim-3"], result.images)


def test_gradient_attacks_refuse_a_victim_without_gradients():
    victim = advbench.wrap(Localizer("rounded"), differentiable=False, name="votes")
    assert victim.logits(images()).shape == (1, 1, 13, 10)
    pixels, masks = (255 * images()).byte(), torch.ones(1, 13, 10, dtype=torch.bool)
    with pytest.raises(AdvbenchError, match="attack fgsm: follows gradients, and victim votes"):
        advbench.load_attack("fgsm", eps=[1])(victim, pixels, masks, ["a"])


def test_features_by_depth():
    """By order of execution, and refused where there are none."""
    victim = advbench.wrap(Localizer(), side=16)
    assert list(victim.taps("shallow")) == ["first"]
    assert list(victim.taps("middle")) == ["second"]
    assert list(victim.taps("topmost")) == ["third"]
    module = nn.Sequential(nn.Conv2d(3, 1, 1))
    with pytest.raises(AdvbenchError, match=r"victim Sequential: no layers.*ansm cannot"):
        advbench.wrap(module).taps("middle")
