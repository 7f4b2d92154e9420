"""Attacks made against more, or other, than the victim: through a defense, or on a surrogate.

Both are attacks like any other to whatever makes and counts them; their variants are called
``pgd-3@jpeg-90`` and ``pgd-3~mvssnet``.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Annotated, Any, Self

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, Field
from torch import Tensor

from advbench.attacks.base import Attack
from advbench.attacks.batch import Adversarial, Batch
from advbench.attacks.strength import strongest_of
from advbench.defenses.base import Defense, Surrogate
from advbench.errors import AdvbenchError
from advbench.pipelines.cells import Cell
from advbench.pipelines.provenance import attack_identity, defense_identity, victim_identity
from advbench.victims.base import Victim

DRAWS = 8


class _Wrapped(Attack):
    """An attack with another one inside, which says what is not said here."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    attack: Attack

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields, region=fields["attack"].region)

    @property
    def needs_gradients(self) -> bool:  # type: ignore[override]
        return self.attack.needs_gradients

    @property
    def attacks_authentic(self) -> bool:  # type: ignore[override]
        return self.attack.attacks_authentic

    @property
    def intensities(self) -> tuple[float, ...]:
        return self.attack.intensities

    @property
    def suffix(self) -> str:
        """Return what is added to the name of a variant."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        return f"{self.attack.label}{self.suffix}"

    def budget(self, intensity: float) -> int | None:
        return self.attack.budget(intensity)

    def variant_name(self, intensity: float) -> str:
        return f"{self.attack.variant_name(intensity)}{self.suffix}"

    def passes(self) -> int:
        return self.attack.passes()

    def is_reentrant(self, victim: Victim) -> bool:
        return self.attack.is_reentrant(victim)

    def only(self, intensities: Sequence[float]) -> Self:
        return self.model_copy(update={"attack": self.attack.only(intensities)})

    def brief(self, steps: int = 1) -> Self:
        return self.model_copy(update={"attack": self.attack.brief(steps)})


class Through(_Wrapped):
    """An attack on a victim behind a defense at one strength.

    Gradients go through the defense by its own where it has one, else by each of its surrogates in
    turn; for each image the strongest is kept. Behind a random defense each gradient is the mean
    over ``draws`` (EOT).

    Attributes:
        defense: as it stands before the victim, see :meth:`Defense.for_victim`.
    """

    name = "through"

    defense: Defense
    strength: float | None = None
    draws: Annotated[int, Field(ge=2, le=1000)] = DRAWS

    @property
    def suffix(self) -> str:
        return f"@{self.defense.variant_name(self.strength)}"

    def is_reentrant(self, victim: Victim) -> bool:
        return self.defense.reentrant and super().is_reentrant(victim)

    def passes(self) -> int:
        return self.attack.passes() * len(self._surrogates) * self._draws

    def variant_spec(self, intensity: float) -> dict[str, Any]:
        said: dict[str, Any] = {"through": defense_identity(self.defense, self.strength)}
        if self.attack.needs_gradients:
            said["gradients"] = list(self._surrogates)
        if self.defense.random:
            said["draws"] = self.draws
        return attack_identity(self.attack, intensity) | said

    @property
    def _draws(self) -> int:
        return self.draws if self.defense.random else 1

    @property
    def _surrogates(self) -> tuple[Surrogate, ...]:
        return (
            self.defense.surrogates if self.attack.needs_gradients else self.defense.surrogates[:1]
        )

    def perturb(self, victim: Victim, batch: Batch) -> dict[float, list[Adversarial]]:
        behind = [
            behind_defense(victim, self.defense, self.strength, self._draws, surrogate=surrogate)
            for surrogate in self._surrogates
        ]
        found = [self.attack.perturb(one, batch) for one in behind]
        keys = [(batch.seed, name, self.label) for name in batch.ids]
        return {
            intensity: strongest_of(
                [candidate[intensity] for candidate in found],
                behind[0],
                batch.x,
                batch.y,
                budget=self.budget(intensity),
                keys=keys,
                runner=batch.runner,
            )
            for intensity in self.intensities
        }


def behind_defense(
    victim: Victim, defense: Defense, strength: float | None, draws: int, *, surrogate: Surrogate
) -> Victim:
    """Make a twin of a victim that sees images through a defense.

    Args:
        draws: of a random defense, in each gradient.
        surrogate: whose gradient is taken, one of the defense's.
    """

    def logits_for(images: Tensor, keys: Sequence[tuple[object, ...]]) -> Tensor:
        own = [(*key, "through") for key in keys] or [("through", i) for i in range(len(images))]
        if not torch.is_grad_enabled():
            return victim.logits(defense.checked(images, strength, own))
        return victim.logits(defense.through(images, strength, own, surrogate))

    def logits(images: Tensor) -> Tensor:
        return logits_for(images, ())

    return _twin(
        victim,
        logits=logits,
        logits_for=logits_for,
        draws=draws,
        reentrant=victim.reentrant and defense.reentrant,
    )


def through_each(
    attacks: Sequence[Attack], cells: Sequence[Cell], draws: int = DRAWS
) -> list[Attack]:
    """Make each attack one through each defense at its strength."""
    return [
        Through(attack=attack, defense=cell.defense, strength=cell.strength, draws=draws)
        for attack in attacks
        for cell in cells
    ]


class Transfer(_Wrapped):
    """An attack on another victim, whose images are then shown to the one at hand.

    Attributes:
        surrogate: the victim that is attacked; it sees the image at its own working size.
    """

    name = "transfer"

    surrogate: Victim

    @property
    def suffix(self) -> str:
        return f"~{self.surrogate.name}"

    def variant_spec(self, intensity: float) -> dict[str, Any]:
        said = {"surrogate": victim_identity(self.surrogate)}
        return attack_identity(self.attack, intensity) | said

    def is_reentrant(self, victim: Victim) -> bool:
        return self.surrogate.reentrant and super().is_reentrant(victim)

    def perturb(self, victim: Victim, batch: Batch) -> dict[float, list[Adversarial]]:
        return self.attack.perturb(resized(self.surrogate, batch.x.shape[2:]), batch)


def on_surrogate(attacks: Sequence[Attack], surrogate: Victim, victim: Victim) -> list[Attack]:
    """Make each attack one on ``surrogate`` whose images are for ``victim``.

    Raises:
        AdvbenchError: they are the same victim.
    """
    if victim_identity(surrogate) == victim_identity(victim):
        raise AdvbenchError(f"--surrogate {surrogate.name}: is the victim itself; leave it out")
    return [Transfer(attack=attack, surrogate=surrogate) for attack in attacks]


def resized(victim: Victim, sides: Sequence[int]) -> Victim:
    """Make a twin of a victim that takes images of other sides, and gives its map at them."""
    side = victim.working_side
    if side is None or tuple(sides) == (side, side):
        return victim

    def logits(images: Tensor) -> Tensor:
        antialias = victim.resampling == "antialias"
        small = F.interpolate(images, (side, side), mode="bilinear", antialias=antialias)
        return F.interpolate(victim.logits(small), tuple(sides), mode="bilinear")

    return _twin(victim, logits=logits)


def _twin(victim: Victim, **attributes: Any) -> Victim:
    """Make a twin on the same network whose passes go elsewhere first."""
    twin = copy.copy(victim)
    vars(twin).update(attributes)
    return twin
