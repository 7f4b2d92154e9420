"""Square, stripes and the ensemble."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from advbench.attacks.ensemble import Ensemble
from advbench.attacks.queries import QueryAttack, Square, Stripes
from advbench.attacks.strength import damage
from advbench.errors import AdvbenchError

from .toys import Pictures, Toy, floats, linear, pictures, wavy_net

QUERY: list[QueryAttack] = [Square(eps=3, queries=60), Stripes(eps=3, queries=60)]
NAMED = pytest.mark.parametrize("attack", QUERY, ids=lambda attack: attack.name)


def block() -> Pictures:
    batch = pictures(3, 16, 20)
    masks = torch.zeros_like(batch.masks)
    masks[:, 4:12, 4:12] = True
    return Pictures(batch.images, masks, batch.ids)


def scores(attack: QueryAttack, victim: Toy, images: Tensor, batch: Pictures) -> Tensor:
    return attack.score(victim.network(images), batch.y, victim.threshold)


@NAMED
def test_asks_without_gradients_and_as_often_as_said(attack: QueryAttack) -> None:
    """A victim without gradients serves, and every question is a map of one image."""
    seen: list[bool] = []
    victim = Toy(wavy_net(), lambda images: seen.append(images.requires_grad))
    victim.differentiable = False
    block().take([0]).attacked(attack, victim)
    assert seen == [False] * attack.passes() == [False] * 60
    assert attack.variant_spec(3.0)["queries"] == 60


@NAMED
def test_the_best_question_is_the_answer(attack: QueryAttack) -> None:
    """The result scores what the best of all questions scored, above the original, and every
    pixel moves by φ where it can."""
    batch, seen = block().take([1]), []
    network = wavy_net()
    victim = Toy(network, lambda images: seen.append(images.clone()))
    (result,) = batch.attacked(attack, victim).values()
    plain = Toy(network)
    asked = torch.stack([scores(attack, plain, images, batch) for images in seen])
    found = scores(attack, plain, floats(result), batch)
    assert torch.isclose(found.double(), asked.double().max())
    assert found > scores(attack, plain, batch.x, batch)
    inner = (batch.images > 3) & (batch.images < 252)
    moved = (result.images.int() - batch.images.int()).abs()[inner]
    assert set(moved.tolist()) == {3}


@NAMED
def test_an_image_does_not_see_its_batch_mates(attack: QueryAttack) -> None:
    batch, victim = block(), Toy(wavy_net())
    (together,) = batch.attacked(attack, victim, batch=3).values()
    (alone,) = batch.take([2]).attacked(attack, victim).values()
    assert torch.equal(together.images[2], alone.images[0])
    (other,) = batch.attacked(attack, victim, seed=1).values()
    assert not torch.equal(other.images, together.images)


def test_more_queries_do_more() -> None:
    """On a linear victim Square nears what the corner of the ball scores."""
    batch, victim = block(), Toy(linear(scale=4))
    found = []
    for queries in (5, 50, 800):
        attack = Square(eps=8, queries=queries)
        (result,) = batch.attacked(attack, victim).values()
        found.append(float(scores(attack, victim, floats(result), batch).mean()))
    assert found[0] < found[1] < found[2]


def test_stripes_never_see_more_than_the_binary_map() -> None:
    """A victim of the same decisions and other confidences gives the same images."""
    batch, attack = block(), Stripes(eps=3, queries=40)
    results = [batch.attacked(attack, Toy(Scaled(by))) for by in (1.0, 7.0)]
    assert torch.equal(results[0]["stripes-3"].images, results[1]["stripes-3"].images)


class Scaled(torch.nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.inner, self.by = wavy_net(), by

    def forward(self, images: Tensor) -> Tensor:
        return self.by * self.inner(images)


def test_the_ensemble_is_the_strongest_of_its_members() -> None:
    """Image by image at least as strong as each member alone, at the cost of all."""
    batch, victim = block(), Toy(wavy_net())
    attack = Ensemble(eps=1)

    def damages(images: Tensor) -> Tensor:
        return damage(victim.logits(images.float() / 255), batch.y, 0.5)

    kept = damages(batch.attacked(attack, victim)["ensemble-1"].images)
    for member in attack.members:
        (alone,) = batch.attacked(member, victim).values()
        assert (kept >= damages(alone.images)).all()
    assert attack.passes() == 3 * 21
    assert attack.variant_spec(1.0)["version"] == 1


def test_the_ensemble_has_its_own_losses() -> None:
    with pytest.raises(AdvbenchError, match="losses of its own"):
        Ensemble.create(loss="dice")
