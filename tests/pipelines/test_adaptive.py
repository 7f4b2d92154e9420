"""Attacks through a defense and on a surrogate: toys with a known optimum, and whole pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

import advbench
from advbench.attacks.noise import Noise
from advbench.attacks.pgd import PGD
from advbench.defenses.base import Defense
from advbench.errors import AdvbenchError
from advbench.pipelines import evaluate as scoring
from advbench.pipelines import generate as making
from advbench.pipelines.adaptive import Through, Transfer, resized
from advbench.pipelines.cells import Cell, named_cells, split_strength
from advbench.rng import torch_stream
from advbench.scores.protocols import protocol
from advbench.scores.records import read_records
from tests.attacks.toys import Toy, linear, linear_sign, pictures

Keys = Sequence[tuple[object, ...]]


class Invert(Defense):
    """1 − x, without a gradient of its own: the identity's points the wrong way."""

    name: ClassVar[str] = "invert"

    def defend(self, images: Tensor, strength: float | None, keys: Keys) -> Tensor:
        return (1 - images).detach()

    def smooth(self, images: Tensor, strength: float | None) -> Tensor:
        return 1 - images


class Invertible(Invert):
    """The same, differentiable."""

    name: ClassVar[str] = "invertible"
    differentiable: ClassVar[bool] = True

    def defend(self, images: Tensor, strength: float | None, keys: Keys) -> Tensor:
        return 1 - images


class Coin(Defense):
    """1 − x for one key in four, x for the others: in the mean, the gradient of x/2."""

    name: ClassVar[str] = "coin"
    random: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True

    def defend(self, images: Tensor, strength: float | None, keys: Keys) -> Tensor:
        flips = [torch.rand(1, generator=torch_stream(*key)).item() < 0.25 for key in keys]
        flip = torch.tensor(flips).view(-1, 1, 1, 1)
        return torch.where(flip, 1 - images, images)


def corner(sign: int, eps: float = 2) -> Tensor:
    """Where the loss of the linear victim is largest, or that of its inverse."""
    batch = pictures()
    noise = sign * eps * (1 - 2 * batch.y) * linear_sign()
    return (batch.images + noise).clamp(0, 255).byte()


def stored(attack: PGD | Through, scale: float = 1.0) -> Tensor:
    batch = pictures()
    (result,) = batch.attacked(attack, Toy(linear(scale=scale))).values()
    return result.images


def test_own_gradient_ends_in_the_corner_of_victim_and_defense() -> None:
    attack = Through(attack=PGD(eps=2), defense=Invertible())
    assert torch.equal(stored(attack), corner(-1))
    assert torch.equal(stored(PGD(eps=2)), corner(1))


def test_the_surrogate_that_hurts_more_is_kept() -> None:
    """The identity's gradient helps the victim; the smooth one's result is taken."""
    attack = Through(attack=PGD(eps=2), defense=Invert())
    assert attack.passes() == 2 * PGD(eps=2).passes()
    assert torch.equal(stored(attack), corner(-1))


def test_expectation_over_draws_ends_in_the_corner_of_the_mean() -> None:
    """Few draws walk to and fro; the mean of many goes one way, on a victim whose gradient is as
    large at 1 − x."""
    attack = Through(attack=PGD(eps=2), defense=Coin(), draws=64)
    assert torch.equal(stored(attack, 0.1), corner(1))
    assert attack.passes() == 64 * PGD(eps=2).passes()
    few = Through(attack=PGD(eps=2, iterations=3), defense=Coin(), draws=2)
    assert not torch.equal(stored(few, 0.1), corner(1))


def test_draws_belong_to_images() -> None:
    """Batch, order and company change no byte; another seed does."""
    attack = Through(attack=PGD(eps=2, iterations=3), defense=Coin(), draws=2)
    batch, victim = pictures(4), Toy(linear())
    (whole,) = (r.images for r in batch.attacked(attack, victim, batch=4).values())
    for index in ([3, 1], [2]):
        (some,) = (r.images for r in batch.take(index).attacked(attack, victim).values())
        assert torch.equal(some, whole[index])
    (other,) = (r.images for r in batch.attacked(attack, victim, seed=1).values())
    assert not torch.equal(other, whole)


def test_specification() -> None:
    """The variant names the defense, and its specification says what was done."""
    attack = Through(attack=PGD(eps=(1, 3)), defense=advbench.load_defense("jpeg"), strength=90)
    assert attack.variant_name(3) == "pgd-3@jpeg-90"
    said = attack.variant_spec(3)
    assert said == PGD().variant_spec(3) | {
        "through": {"defense": "jpeg", "quality": 90},
        "gradients": ["identity", "smooth"],
    }
    assert attack.only([3]).intensities == (3,)
    assert attack.brief().passes() == 2
    noisy = Through(attack=Noise(eps=1), defense=advbench.load_defense("gaussian"), strength=5.0)
    assert noisy.variant_spec(1)["draws"] == 8
    assert "gradients" not in noisy.variant_spec(1)
    seam = Through(attack=PGD(eps=1, region="seam"), defense=Coin())
    assert (seam.region, seam.variant_name(1)) == ("seam", "pgd-1-seam@coin")


def test_a_surrogate_is_attacked_in_place_of_the_victim() -> None:
    """On the linear victim: the corner of the surrogate, whatever the victim."""
    inverse = Toy(linear(bias=-0.1, scale=-1.0))
    inverse.name = "inverse"
    attack = Transfer(attack=PGD(eps=2), surrogate=inverse)
    assert torch.equal(stored(attack), corner(-1))
    assert attack.variant_name(2) == "pgd-2~inverse"
    assert attack.variant_spec(2)["surrogate"]["name"] == "inverse"


def test_a_surrogate_sees_its_own_size(square_toy) -> None:
    images = torch.rand((1, 3, 48, 64), generator=torch.Generator().manual_seed(0))
    assert resized(square_toy, (32, 32)) is square_toy
    found = resized(square_toy, (48, 64)).logits(images)
    assert found.shape == (1, 1, 48, 64)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("ansm", ("ansm", None)), ("jpeg-90", ("jpeg", 90)), ("resize-0.5", ("resize", 0.5))],
)
def test_names_of_defenses(text: str, expected: tuple[str, float | None]) -> None:
    assert split_strength(text) == expected


def test_named_defenses(toy) -> None:
    assert [cell.name for cell in named_cells("jpeg-90", toy, {})] == ["jpeg-90"]
    assert [cell.name for cell in named_cells("median", toy, {"median": {"kernel": [3, 9]}})] == [
        "median-3",
        "median-9",
    ]
    for text, match in (("jpge-90", "jpeg"), ("none-3", "no strengths"), ("jpeg-900", "quality")):
        with pytest.raises(AdvbenchError, match=match):
            named_cells(text, toy, {})


@pytest.fixture
def adaptive(small_dataset, toy, tmp_path) -> making.GenerationJob:
    """Static and adaptive shards of two defenses beside each other, one authentic image too."""
    pgd = PGD(eps=2, iterations=2)
    cells = [cell for name in ("jpeg-70", "gaussian-5") for cell in named_cells(name, toy, {})]
    attacks = [pgd, *(Through(attack=pgd, defense=c.defense, strength=c.strength) for c in cells)]
    rows = [*small_dataset.select("test", label=1, limit=2)]
    rows += small_dataset.select("test", label=0, limit=1)
    return making.GenerationJob(small_dataset, rows, toy, attacks, tmp_path / "out")


def test_each_variant_meets_the_defense_that_it_was_made_through(adaptive, toy) -> None:
    """An adaptive variant has one cell, whatever is asked for; the originals have all of them."""
    made = making.generate(adaptive)
    assert made.made == 3 * len(adaptive.rows)
    job = scoring.EvaluationJob(adaptive.out, [advbench.load_defense("median", kernel=3)],
                              protocol("f1/v1"))  # fmt: skip
    found = scoring.evaluate(job, lambda identity: toy)
    assert found.left_out == []
    records = read_records(adaptive.out / "records")
    names = records.defense + records.strength.map("-{:g}".format).replace("-nan", "")
    cells = {variant: set(names[records.variant == variant]) for variant in set(records.variant)}
    assert cells == {
        "original": {"none", "median-3", "jpeg-70", "gaussian-5"},
        "pgd-2": {"none", "median-3"},
        "pgd-2@jpeg-70": {"jpeg-70"},
        "pgd-2@gaussian-5": {"gaussian-5"},
    }
    assert set(records.threat[records.variant.str.contains("@")]) == {"adaptive"}
    authentic = records[records.mcc.isna()]
    assert len(authentic) == len(records) * (len(adaptive.rows) - 2) / len(adaptive.rows)
    assert scoring.evaluate(job, lambda identity: toy).scored == 0


def test_a_defense_that_changed_is_told(adaptive, toy, monkeypatch) -> None:
    """Shards whose defense is another one now are left out, with the reason."""
    attack = replace(adaptive, attacks=adaptive.attacks[1:2])
    making.generate(attack)
    monkeypatch.setattr(
        "advbench.pipelines.pending.defense_of",
        lambda specification, identity: (advbench.load_defense("jpeg", quality=50), 50),
    )
    found = scoring.evaluate(
        scoring.EvaluationJob(adaptive.out, [], protocol("f1/v1")), lambda identity: toy
    )
    (reason,) = found.left_out
    assert "pgd-2@jpeg-70" in reason
    assert "another one now" in reason


def test_through_takes_part_in_engines_and_plans(adaptive) -> None:
    """Specifications are pickled whole, and units say what they do."""
    import pickle

    units = making.missing_tasks(adaptive, making.GenerationCounts())
    again = pickle.loads(pickle.dumps(units))
    assert [unit.name for unit in again] == [unit.name for unit in units]
    assert Cell(adaptive.attacks[1].defense, 70).name == "jpeg-70"


def test_images_out_of_range_are_the_attacks_own() -> None:
    """PGN looks at neighbours beyond [0, 1], which a defense may leave there."""
    attack = Through(
        attack=advbench.load_attack("pgn", eps=[2], neighbours=1), defense=Invertible()
    )
    assert stored(attack).dtype == torch.uint8
