"""A control in the place of a defense: a second localizer that tells the victim what to say.

It takes no noise away. Behind it the victim's map is the other localizer's, which no static attack
aimed at: an RP near or above 100 % behind a redrawn picture is no sign of a purified one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import PrivateAttr
from torch import Tensor, nn

from advbench.defenses.relocalise.localizer import described, localised, read_localizer
from advbench.defenses.relocalise.network import Writer
from advbench.defenses.trained import TrainedDefense
from advbench.errors import AdvbenchError
from advbench.victims.base import Victim
from advbench.victims.checkpoints import read_checkpoint, refuse_diverged
from advbench.victims.weights import own_card


class Relocalise(TrainedDefense):
    """Another localizer's binary map, drawn into the picture in up to ±120 grey levels.

    The map has no gradient: attacks through it take that of the localizer's probabilities.

    Attributes:
        writers: files of ``advbench train relocalise``, whose cards name victim and localizer;
            without any, those that are shipped.
    """

    name: ClassVar[str] = "relocalise"
    verb: ClassVar[str] = "relocalise"
    files_field: ClassVar[str] = "writers"
    option: ClassVar[str] = "--relocalise-weights"
    # That of the localizer, which is not known before a victim is picked.
    reentrant: ClassVar[bool] = False

    writers: tuple[str, ...] = ()
    _localizer: Victim | None = PrivateAttr(default=None)

    def read(self, path: Path) -> tuple[str, nn.Module]:
        sha256, state = read_checkpoint(path)
        shapes = {name: tuple(value.shape) for name, value in state.items()}
        side = max((shape[-1] for shape in shapes.values() if shape), default=0)
        if shapes != dict.fromkeys(("forged", "authentic"), (3, side, side)):
            raise AdvbenchError(
                f"{path}: no weights of relocalise; give a file that advbench train relocalise "
                "wrote"
            )
        with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
            writer = Writer(side)
            refuse_diverged(path, state, writer.state_dict())
            writer.load_state_dict(dict(state))
        try:
            self._localizer = read_localizer(own_card(path, sha256))
        except AdvbenchError as error:
            raise AdvbenchError(f"{path}: {error}") from error
        return sha256, writer.eval().requires_grad_(False)

    def variant_spec(self, strength: float | None) -> dict[str, Any]:
        localizer = described(self._localizer) if self._localizer else {}
        return super().variant_spec(strength) | {"localizer": localizer}

    def defend(
        self, images: Tensor, strength: float | None, keys: Sequence[tuple[object, ...]]
    ) -> Tensor:
        writer, localizer = self._both_on(images.device)
        marks = localised(localizer, images) > localizer.threshold
        drawn: Tensor = writer(images, marks.to(images.dtype))
        return drawn

    def smooth(self, images: Tensor, strength: float | None) -> Tensor:
        """The localizer's probabilities, drawn in place of its binary map."""
        writer, localizer = self._both_on(images.device)
        drawn: Tensor = writer(images, localised(localizer, images))
        return drawn

    def _both_on(self, device: torch.device) -> tuple[nn.Module, Victim]:
        writer, localizer = self.network_on(device), self._localizer
        assert localizer is not None
        with torch.inference_mode(False):
            localizer.network.to(device)
        return writer, localizer

    @classmethod
    def takes(cls, card: Mapping[str, Any]) -> bool:
        return card.get("defense") == cls.name
