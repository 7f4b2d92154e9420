"""ANSM as a defense: the network that was trained for the victim at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from pydantic import PrivateAttr
from torch import Tensor

from advbench.defenses.ansm.files import read_network, shipped_paths
from advbench.defenses.ansm.network import AnsmNetwork
from advbench.defenses.base import Defense
from advbench.errors import AdvbenchError, NoNetworkError
from advbench.files import file_sha256, user_path
from advbench.victims.weights import card_of, own_card, refuse_unlike_its_card


class ANSM(Defense):
    """Active adversarial noise suppression (Peng, Tan, Mo, Kot, Huang): X + S_φ(X), truncated.

    One network a victim: :meth:`for_victim` picks it, and nothing is defended before.

    Attributes:
        weights: files of ``advbench train ansm``, whose cards name the victims that they are for;
            without any, those that are shipped.
    """

    name: ClassVar[str] = "ansm"
    differentiable: ClassVar[bool] = True

    weights: tuple[str, ...] = ()
    _sha256: str = PrivateAttr(default="")
    _network: AnsmNetwork | None = PrivateAttr(default=None)

    def for_victim(self, victim: Mapping[str, str]) -> Self:
        """The same defense with the network for a victim.

        Args:
            victim: its ``name``, ``size`` and ``weights_sha256``.

        Raises:
            NoNetworkError: none of the files is for it.
            AdvbenchError: no such file, not one of ANSM, or a shipped one that was changed.
        """
        bound = self.model_copy()
        path = self._path_for(victim)
        bound._sha256, bound._network = read_network(path)
        if not self.weights:
            refuse_unlike_its_card(path, bound._sha256)
        return bound

    def variant_spec(self, strength: float | None) -> dict[str, Any]:
        # Where the file lies is no part of what is done.
        return {"defense": self.name, "weights_sha256": self._sha256}

    def defend(
        self, images: Tensor, strength: float | None, keys: Sequence[tuple[object, ...]]
    ) -> Tensor:
        if self._network is None:
            raise AdvbenchError("defense ansm: belongs to a victim; pick one with for_victim")
        # A network made and moved outside inference mode serves within it and with gradients alike.
        with torch.inference_mode(False):
            network = self._network.to(images.device)
        return network(images)

    def _path_for(self, victim: Mapping[str, str]) -> Path:
        name, size, sha256 = victim["name"], victim["size"], victim["weights_sha256"]
        what, shipped = f"{name} ({size})", shipped_paths(name, size)
        fitting = [path for path in shipped if card_of(path).get("victim_sha256") == sha256]
        own = "" if fitting else f" --victim-size {size} --weights CHECKPOINT"
        train = (
            f"train it with: advbench train ansm --victim {name}{own}, and give it with "
            "--ansm-weights PATH"
        )
        if not self.weights:
            if not shipped:
                raise NoNetworkError(f"defense ansm: no shipped network for {what}; {train}")
            if not fitting:
                raise NoNetworkError(
                    f"defense ansm: the shipped network for {what} was trained for other weights "
                    f"than {sha256[:12]}; {train}"
                )
            return fitting[0]
        given = [user_path(path) for path in self.weights]
        for path in given:
            if not path.is_file():
                raise AdvbenchError(f"--ansm-weights {path}: no such file; {train}")
        cards = {path: own_card(path, file_sha256(path)) for path in given}
        for path, card in cards.items():
            if card.get("victim_sha256") == sha256:
                return path
        if len(given) == 1 and not cards[given[0]]:  # there is nothing to choose by, or from
            return given[0]
        raise NoNetworkError(
            f"--ansm-weights {', '.join(self.weights)}: none is for {what} with weights "
            f"{sha256[:12]}; {train}"
        )
