"""What plug-ins may not do: errors name them and the rule, and no image or score comes of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from advbench.attacks.base import Attack
from advbench.attacks.batch import Adversarial, Batch
from advbench.attacks.cw import CW
from advbench.attacks.fgsm import FGSM
from advbench.defenses.base import Defense
from advbench.defenses.none import NoDefense
from advbench.errors import AdvbenchError
from advbench.pipelines.adaptive import Through
from advbench.pipelines.cells import Cell
from advbench.pipelines.scoring import predict
from advbench.victims.base import Victim

from .attacks.toys import ALL, Toy, linear, pictures


def spoilt(network: nn.Module, after: int = 0) -> nn.Module:
    """The network with finite weights whose logits overflow, once so many passes were made."""

    class Spoilt(nn.Module):
        passes = 0

        def forward(self, images: Tensor) -> Tensor:
            self.passes += 1
            scale = 1e38 if self.passes > after else 1.0
            return network(images) * scale * scale

    return Spoilt()


@pytest.mark.parametrize("name", ALL)
def test_overflow_is_noticed_by_every_attack(name: str) -> None:
    """The victim, the image, the step; finite weights are no excuse."""
    batch = pictures(2)
    with pytest.raises(AdvbenchError) as caught:
        batch.attacked(ALL[name], Toy(spoilt(linear()), watch=lambda images: None))
    text = str(caught.value)
    assert "victim toy (toy)" in text
    assert "NaN or infinite at step 1 of " in text
    assert "picture-0" in text


def test_the_step_is_the_first_that_broke() -> None:
    batch = pictures(1)
    for attack in (ALL["bim"].only([1]), CW(steps=4, lr=2e-3)):
        victim = Toy(spoilt(linear(), after=2), watch=lambda images: None)
        with pytest.raises(AdvbenchError, match="at step 3 of"):
            batch.attacked(attack, victim)


class Returning(nn.Module):
    """What a function makes of the images and their logits."""

    def __init__(self, change: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.change = linear(), change

    def forward(self, images: Tensor) -> Any:
        return self.change(images, self.inner(images))


WRONG_LOGITS: dict[str, tuple[Callable[[Tensor, Tensor], Any], str]] = {
    "two classes": (lambda x, z: torch.cat([z, z], 1), "must be floats N×1×H×W, here 2×1×7×11"),
    "no channel": (lambda x, z: z[:, 0], "must be floats N×1×H×W"),
    "half size": (lambda x, z: z[..., ::2, ::2], "must be floats N×1×H×W"),
    "a tuple": (lambda x, z: (z, z), "they are of type tuple"),
    "a number an image": (lambda x, z: z.mean((1, 2, 3)), "they are float32 2"),
    "whole numbers": (lambda x, z: z.long(), "they are int64"),
    "nothing": (lambda x, z: None, "they are of type NoneType"),
}


@pytest.mark.parametrize("name", WRONG_LOGITS)
@pytest.mark.parametrize("attack", [FGSM(), CW(steps=2)], ids=lambda attack: attack.name)
def test_wrong_logits_are_refused(name: str, attack: Attack) -> None:
    change, rule = WRONG_LOGITS[name]
    victim = Toy(Returning(change), watch=lambda images: None)
    batch = pictures(2)
    with pytest.raises(AdvbenchError, match=f"^victim toy: logits: .*{rule}"):
        batch.attacked(attack, victim, batch=2)


WRONG_DEFENSES: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "a tuple": (lambda x: (x,), "must be floats N×3×H×W as they came"),
    "bytes": (lambda x: x.mul(255).byte(), "must be floats"),
    "smaller": (lambda x: x[..., 1:], "must be floats"),
    "grey levels": (lambda x: x * 255, r"must lie in \[0, 1\]"),
    "negative": (lambda x: x - 1, r"must lie in \[0, 1\]; they reach from -1"),
    "0/0": (lambda x: (x - x) / (x - x), "231 of 231 values are NaN"),
    "in place": (lambda x: x.mul_(0.5), "changes its images in place"),
}


class Wrong(Defense):
    name: ClassVar[str] = "wrong"
    kind: str

    def defend(self, images: Tensor, strength: float | None, keys: object) -> Any:
        return WRONG_DEFENSES[self.kind][0](images)


@pytest.mark.parametrize("kind", WRONG_DEFENSES)
def test_wrong_defenses_are_refused(kind: str) -> None:
    """In scores, under attack and in Python alike."""
    x, defense = pictures(1).x, Wrong(kind=kind)
    rule = f"^defense wrong.*{WRONG_DEFENSES[kind][1]}"
    with pytest.raises(AdvbenchError, match=f"{rule}.*image one, defense wrong"):
        predict(Toy(linear()), Cell(defense, None), x.clone(), "one", seed=0)
    with pytest.raises(AdvbenchError, match=rule):
        defense(x.clone(), ["one"])
    with pytest.raises(AdvbenchError, match=rule):
        pictures(1).attacked(Through(attack=FGSM(eps=(2,)), defense=defense), Toy(linear()))


class Mapped(Toy):
    """A victim that makes its map itself."""

    change: Callable[[Tensor], Any]

    def probabilities(self, images: Tensor) -> Any:
        return self.change(images[:, :1])


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda p: (p - p) / (p - p), "77 of 77 values are NaN or infinite"),
        (lambda p: p[..., 1:], "must be floats N×1×H×W"),
        (lambda p: p.squeeze(), "must be floats N×1×H×W"),
        (lambda p: p.mul_(0.5), "changes its images in place"),
    ],
)
def test_wrong_maps_are_no_scores(change: Callable[[Tensor], Any], rule: str) -> None:
    victim = Mapped(linear())
    victim.change = change
    nothing = Cell(NoDefense(), None)
    with pytest.raises(AdvbenchError, match=f"^victim toy.*{rule}.*image one, defense none"):
        predict(victim, nothing, pictures(1).x, "one", seed=0)


class WrongAttack(Attack):
    name: ClassVar[str] = "wrongly"
    kind: str
    eps: tuple[float, ...] = (3.0,)

    @property
    def intensities(self) -> tuple[float, ...]:
        return self.eps

    def budget(self, intensity: float) -> int | None:
        return 3

    def passes(self) -> int:
        return 1

    def perturb(self, victim: Any, batch: Batch) -> Any:
        x = batch.x
        return {
            "a tensor": x,
            "no intensity": {},
            "other intensity": {2.0: [Adversarial(image, 0, 0, 0) for image in x]},
            "too few": {3.0: [Adversarial(x[0], 0, 0, 0)]},
            "tensors": {3.0: list(x)},
            "another shape": {3.0: [Adversarial(image[:, 1:], 0, 0, 0) for image in x]},
            "NaN": {3.0: [Adversarial(image * math.nan, 0, 0, 0) for image in x]},
            "NaN loss": {3.0: [Adversarial(image, 0, math.nan, 0) for image in x]},
            "grey levels": {3.0: [Adversarial(image * 255, 0, 0, 0) for image in x]},
        }[self.kind]


WRONG_ATTACKS = {
    "a tensor": "must return a dict with a key for each intensity",
    "no intensity": "must return a dict with a key for each intensity",
    "other intensity": "must return a dict with a key for each intensity",
    "too few": "must return a list of one result an image",
    "tensors": "must return Adversarial, not Tensor",
    "another shape": "must be floats",
    "NaN": "wrongly-3 on picture-0: 231 of 231 values are NaN",
    "NaN loss": "wrongly-3 on picture-0: its loss is not finite",
    "grey levels": r"wrongly-3 on picture-0: must lie in \[0, 1\]",
}


@pytest.mark.parametrize("kind", WRONG_ATTACKS)
def test_wrong_attacks_are_refused(kind: str) -> None:
    with pytest.raises(AdvbenchError, match=f"^attack wrongly: .*{WRONG_ATTACKS[kind]}"):
        pictures(2).attacked(WrongAttack(kind=kind), Toy(linear()))


class NamelessAttack(Attack):
    intensities = WrongAttack.intensities
    budget = WrongAttack.budget
    passes = WrongAttack.passes
    perturb = WrongAttack.perturb


class NamelessVictim(Victim):
    build_network = Toy.build_network
    logits = Toy.logits
    taps = Toy.taps


def test_classes_without_a_name_are_told() -> None:
    for make in (NamelessAttack, NamelessAttack.create):
        with pytest.raises(AdvbenchError, match=r"^attack class NamelessAttack has no name; give"):
            make()
    with pytest.raises(AdvbenchError, match=r"^victim class NamelessVictim has no name; give"):
        NamelessVictim.load()


def test_arrays_in_place_of_tensors_are_refused() -> None:
    """By attacks, victims and defenses alike."""
    images, masks = np.zeros((1, 3, 4, 5), np.uint8), np.zeros((1, 4, 5), bool)
    victim = Toy(linear())
    with pytest.raises(ValueError, match=r"images must be a torch tensor, not ndarray; .*N×3×H×W"):
        FGSM()(victim, images, masks)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"masks must be a torch tensor, not ndarray"):
        FGSM()(victim, torch.from_numpy(images), masks)  # type: ignore[arg-type]
    rule = r"images must be float in \[0, 1\], a torch tensor N×3×H×W; they are ndarray"
    with pytest.raises(AdvbenchError, match=f"^victim toy: {rule}"):
        victim(images)  # type: ignore[arg-type]
    with pytest.raises(AdvbenchError, match=f"^defense none: {rule}"):
        NoDefense()(images, ["one"])  # type: ignore[arg-type]


def test_probabilities_are_of_floats() -> None:
    levels = torch.zeros(1, 3, 4, 5, dtype=torch.uint8)
    with pytest.raises(AdvbenchError, match=r"float in \[0, 1\].*; they are uint8 1×3×4×5"):
        Toy(linear()).probabilities(levels)
    assert Toy(linear())(levels).shape == (1, 1, 4, 5)
