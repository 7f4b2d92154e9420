"""Pick the network that was trained for the victim at hand: one's own file, or the shipped one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from pydantic import PrivateAttr
from torch import nn

from advbench.defenses.base import Defense
from advbench.errors import AdvbenchError, NoNetworkError
from advbench.files import file_sha256, user_path
from advbench.victims.weights import card_of, own_card, refuse_unlike_its_card


def shipped_path(verb: str, victim: str, size: str) -> Path:
    """Name the file of the shipped network for a victim, whether or not there is one.

    Args:
        verb: of ``advbench train``, which is also the package that the file lies in.
    """
    with resources.as_file(resources.files(f"advbench.defenses.{verb}")) as folder:
        return folder / "pretrained" / f"{victim}-{size}.safetensors"


class TrainedDefense(Defense):
    """A defense with one network a victim: :meth:`for_victim` picks it, nothing is defended before.

    Attributes:
        verb: of ``advbench train``, what makes the files.
        settings: that the verb needs beside the victim, as typed.
        files_field: the field that holds a user's files, a tuple; the shipped ones where empty.
        option: the option that fills it.
    """

    verb: ClassVar[str]
    settings: ClassVar[str] = ""
    files_field: ClassVar[str]
    option: ClassVar[str]

    _sha256: str = PrivateAttr(default="")
    _network: nn.Module | None = PrivateAttr(default=None)

    @classmethod
    def takes(cls, card: Mapping[str, Any]) -> bool:
        """Tell whether a file with this card is one of this defense."""
        return True

    @abstractmethod
    def read(self, path: Path) -> tuple[str, nn.Module]:
        """The sha256 of a file, and the network that it holds, frozen.

        Raises:
            AdvbenchError: no such file, or not one of this defense.
        """

    def for_victim(self, victim: Mapping[str, str]) -> Self:
        """The same defense with the network for a victim.

        Args:
            victim: its ``name``, ``size`` and ``weights_sha256``.

        Raises:
            NoNetworkError: none of the files is for it.
            AdvbenchError: as :meth:`read`, or a shipped file that was changed.
        """
        bound = self.model_copy()
        path = self._path_for(victim)
        bound._sha256, bound._network = bound.read(path)
        if not self._files:
            refuse_unlike_its_card(path, bound._sha256)
        return bound

    def variant_spec(self, strength: float | None) -> dict[str, Any]:
        # Where the file lies is no part of what is done.
        return {"defense": self.name, "weights_sha256": self._sha256}

    def network_on(self, device: torch.device) -> nn.Module:
        """The network, moved to a device.

        Raises:
            AdvbenchError: no victim is picked.
        """
        if self._network is None:
            raise AdvbenchError(
                f"defense {self.name}: belongs to a victim; pick one with for_victim"
            )
        # A network made and moved outside inference mode serves within it and with gradients alike.
        with torch.inference_mode(False):
            return self._network.to(device)

    @property
    def _files(self) -> tuple[str, ...]:
        return tuple(getattr(self, self.files_field))

    def _path_for(self, victim: Mapping[str, str]) -> Path:
        name, size, sha256 = victim["name"], victim["size"], victim["weights_sha256"]
        what, plain = f"{name} ({size})", shipped_path(self.verb, name, size)
        every = sorted(plain.parent.glob(f"{plain.stem}*.safetensors"))
        shipped = {path: card for path in every if self.takes(card := card_of(path))}
        fitting = [p for p, card in shipped.items() if card.get("victim_sha256") == sha256]
        own = "" if fitting else f" --victim-size {size} --weights CHECKPOINT"
        train = (
            f"train it with: advbench train {self.verb} --victim {name}{own}{self.settings}, and "
            f"give it with {self.option} PATH"
        )
        if not self._files:
            if not shipped:
                raise NoNetworkError(f"defense {self.name}: no shipped network for {what}; {train}")
            if not fitting:
                raise NoNetworkError(
                    f"defense {self.name}: the shipped network for {what} was trained for other "
                    f"weights than {sha256[:12]}; {train}"
                )
            return fitting[0]
        given = [user_path(path) for path in self._files]
        for path in given:
            if not path.is_file():
                raise AdvbenchError(f"{self.option} {path}: no such file; {train}")
        cards = {path: own_card(path, file_sha256(path)) for path in given}
        own_victim = [p for p, card in cards.items() if card.get("victim_sha256") == sha256]
        for path in own_victim:
            if self.takes(cards[path]):
                return path
        if len(given) == 1 and not cards[given[0]]:  # there is nothing to choose by, or from
            return given[0]
        if own_victim:
            raise NoNetworkError(
                f"{self.option} {own_victim[0]}: not of {self.name}, as its card says; {train}"
            )
        raise NoNetworkError(
            f"{self.option} {', '.join(self._files)}: none is for {what} with weights "
            f"{sha256[:12]}; {train}"
        )
