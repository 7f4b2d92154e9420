"""Gates that need the network: three planted masked defenses, and two honest ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from advbench.defenses.base import Defense
from advbench.defenses.none import NoDefense
from advbench.pipelines import checks
from advbench.pipelines.cells import Cell
from advbench.pipelines.checks import Sample, check
from advbench.scores.gates import Verdict
from tests.attacks.toys import Toy, linear, linear_sign

Keys = Sequence[tuple[object, ...]]


class EightLevels(Defense):
    """Rounds to eight levels, and calls itself differentiable: its gradient is zero."""

    name: ClassVar[str] = "eight"
    differentiable: ClassVar[bool] = True

    def defend(self, images: Tensor, strength: float | None, keys: Keys) -> Tensor:
        return (images * 7).round() / 7


class Detached(Defense):
    """A blur whose output is cut from the graph, and which calls itself differentiable."""

    name: ClassVar[str] = "detached"
    differentiable: ClassVar[bool] = True

    def defend(self, images: Tensor, strength: float | None, keys: Keys) -> Tensor:
        return F.avg_pool2d(images, 3, 1, 1).detach()


class RandomSize(Defense):
    """Resizes by a size that no key decides."""

    name: ClassVar[str] = "random-size"
    differentiable: ClassVar[bool] = True

    def defend(self, images: Tensor, strength: float | None, keys: Keys) -> Tensor:
        side = int(torch.randint(4, images.shape[2], (1,)))
        return F.interpolate(F.interpolate(images, (side, side)), images.shape[2:])


class Blur(Defense):
    """An honest one with a gradient."""

    name: ClassVar[str] = "blur"
    differentiable: ClassVar[bool] = True

    def defend(self, images: Tensor, strength: float | None, keys: Keys) -> Tensor:
        return F.avg_pool2d(images, 3, 1, 1)


class Levels(EightLevels):
    """The same levels, honest about its gradient."""

    name: ClassVar[str] = "levels"
    differentiable: ClassVar[bool] = False

    def defend(self, images: Tensor, strength: float | None, keys: Keys) -> Tensor:
        return (images * 63).round() / 63


class ReadsLabels(Defense):
    """Knows that images are of multiples of sixteen: what is beside them is noise, and its sign,
    of a channel, says where the mask was."""

    name: ClassVar[str] = "reads-labels"

    def defend(self, images: Tensor, strength: float | None, keys: Keys) -> Tensor:
        levels = (images * 255).round()
        noise = levels - (levels / 16).round() * 16
        forged = (noise[:, :1] * linear_sign()[:, :1] < 0).float()
        written = images + 40 / 255 * linear_sign() * (2 * forged - 1)
        return torch.where((noise != 0).any(1, keepdim=True), written, images).clamp(0, 1)


def samples() -> list[Sample]:
    """Pictures whose forged square is what the linear victim sees."""
    found = []
    for number in range(2):
        stream = torch.Generator().manual_seed(number)
        image = torch.randint(100, 130, (1, 3, 24, 24), generator=stream)
        mask = torch.zeros(1, 24, 24, dtype=torch.bool)
        mask[:, 6:16, 6:16] = True
        image[:, 0, 6:16, 6:16] += 12
        image[:, 1, 6:16, 6:16] -= 12
        found.append(Sample(f"image-{number}", image.byte(), mask))
    return found


def gates(defense: Defense) -> dict[str, Verdict]:
    torch.manual_seed(0)
    victim = Toy(linear(scale=60, bias=-18.4))
    return {gate.name: gate.verdict for gate in check(victim, Cell(defense, None), samples())}


@pytest.mark.parametrize(
    ("defense", "failed"),
    [
        (EightLevels(), "zero-gradient-share"),
        (Detached(), "zero-gradient-share"),
        (RandomSize(), "draws-are-keyed"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_masked_defenses_fail(defense: Defense, failed: str) -> None:
    assert gates(defense)[failed] == Verdict.FAIL


@pytest.mark.parametrize("defense", [Blur(), Levels(), NoDefense()], ids=lambda d: d.name)
def test_honest_defenses_pass(defense: Defense) -> None:
    found = gates(defense)
    assert set(found.values()) <= {Verdict.PASS, Verdict.WARN}, found
    assert found["draws-are-keyed"] == Verdict.PASS
    if defense.name != "none":
        assert found["adaptive-beats-static"] == Verdict.PASS
        assert found["nothing-survives-32"] == Verdict.PASS
    assert ("gradient-is-true" in found) == defense.differentiable


@pytest.mark.parametrize(("defense", "verdict"), [(ReadsLabels(), "FAIL"), (NoDefense(), "PASS")])
def test_a_defense_that_reads_the_mask_from_the_noise(defense: Defense, verdict: str) -> None:
    """It brings any mask back; the noise of an undefended victim shows none."""
    given = [replace(one, image=(one.image // 16 * 16)) for one in samples()]
    victim = Toy(linear(scale=60, bias=-18.4))
    gate = checks._reads_no_label(checks.Checked(victim, Cell(defense, None), given))
    assert gate.verdict == verdict, gate.told
