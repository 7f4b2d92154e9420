"""ANSM as a defense: the network that was trained for the victim at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from advbench.defenses.ansm.files import read_network
from advbench.defenses.trained import TrainedDefense


class ANSM(TrainedDefense):
    """Active adversarial noise suppression (Peng, Tan, Mo, Kot, Huang): X + S_φ(X), truncated.

    Attributes:
        weights: files of ``advbench train ansm``, whose cards name the victims that they are for;
            without any, those that are shipped.
    """

    name: ClassVar[str] = "ansm"
    differentiable: ClassVar[bool] = True
    verb: ClassVar[str] = "ansm"
    files_field: ClassVar[str] = "weights"
    option: ClassVar[str] = "--ansm-weights"

    weights: tuple[str, ...] = ()

    @classmethod
    def takes(cls, card: Mapping[str, Any]) -> bool:
        return not _learnt_several(card)

    def read(self, path: Path) -> tuple[str, nn.Module]:
        return read_network(path)

    def defend(
        self, images: Tensor, strength: float | None, keys: Sequence[tuple[object, ...]]
    ) -> Tensor:
        defended: Tensor = self.network_on(images.device)(images)
        return defended


class MultiANSM(ANSM):
    """ANSM trained on several attacks and intensities: files whose recipe has ``noise=several``,
    which :class:`ANSM` leaves to it."""

    name: ClassVar[str] = "ansm-multi"
    settings: ClassVar[str] = " --set noise=several"

    @classmethod
    def takes(cls, card: Mapping[str, Any]) -> bool:
        return _learnt_several(card)


def _learnt_several(card: Mapping[str, Any]) -> bool:
    recipe = card.get("recipe")
    return isinstance(recipe, dict) and recipe.get("noise") == "several"
