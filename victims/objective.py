"""Define what a victim learns from: a loss on crops, and what it keeps beside the network
meanwhile."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advbench.errors import AdvbenchError
from advbench.overlap import dice
from advbench.registry import load_target
from advbench.victims.base import Victim

if TYPE_CHECKING:
    from advbench.training.recipe import Recipe


class Objective(nn.Module, ABC):
    """The loss of one training run. Its parameters are trained beside the network's and dropped
    after training; random numbers come from torch's global generator, which the loop seeds.

    Attributes:
        guided: name of the module that noise guidance listens to; the first shallow tap if None.
        staged: the recipe's ``warm_share`` of the epochs is another, easier stage, which cannot
            give the result.
    """

    guided: ClassVar[str | None] = None
    staged: ClassVar[bool] = False

    def __init__(self, victim: Victim, recipe: Recipe) -> None:
        super().__init__()
        # In a tuple, so that the network's parameters do not count as this module's.
        self._victim = (victim,)
        self.recipe = recipe

    @property
    def victim(self) -> Victim:
        """The victim in training, its network in train mode."""
        return self._victim[0]

    def start_epoch(self, number: int) -> None:
        """Called before each epoch: forget what a checkpoint does not hold."""

    def seen(self, images: Tensor) -> Tensor:
        """Return what the victim saw of ``images`` in the last loss."""
        return images

    def may_end(self, number: int) -> bool:
        """Tell whether the weights after epoch ``number`` may be the result of the run."""
        return not self.staged or number >= self.first_of_last_stage

    @property
    def first_of_last_stage(self) -> int:
        """The first epoch that is not warm."""
        return min(round(self.recipe.warm_share * self.recipe.epochs), self.recipe.epochs - 1)

    @abstractmethod
    def loss(self, images: Tensor, masks: Tensor) -> Tensor:
        """Images float [0, 1] N×3×c×c, masks float N×1×c×c → a scalar to minimise."""


class Localization(Objective):
    """Binary cross-entropy plus soft Dice on the victim's logits: for any victim."""

    def loss(self, images: Tensor, masks: Tensor) -> Tensor:
        return localization_loss(self.victim.logits(images), masks, self.recipe.dice)


def localization_loss(logits: Tensor, masks: Tensor, dice_weight: float) -> Tensor:
    """Binary cross-entropy plus ``dice_weight`` times :func:`dice_loss`."""
    entropy = F.binary_cross_entropy_with_logits(logits, masks)
    # To the masks' precision: sums of squares overflow half precision.
    return entropy + dice_weight * dice_loss(torch.sigmoid(logits).to(masks), masks)


def dice_loss(probability: Tensor, masks: Tensor) -> Tensor:
    """One minus the Dice coefficient over the batch: squared sums, smooth 1."""
    return 1 - dice(probability, masks, smooth=1.0, by_image=False)


def make_objective(victim: Victim, recipe: Recipe) -> Objective:
    """The objective that the recipe names, or the victim's own.

    Raises:
        AdvbenchError: the victim has no objective of that name.
    """
    known = victim.objectives
    name = recipe.objective or next(iter(known))
    if name not in known:
        raise AdvbenchError(
            f"recipe: objective: {victim.name} has no {name!r}; it has {', '.join(known)}"
        )
    found: type[Objective] = load_target(known[name], f"objective {name!r}")
    return found(victim, recipe)
