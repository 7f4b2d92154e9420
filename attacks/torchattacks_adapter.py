"""Attacks of the package torchattacks (Kim 2020, arXiv 2010.01950), run on victims.

    advbench generate --attack torchattacks --set method=NIFGSM --eps 3

The extra ``advbench[torchattacks]`` brings the package.
"""

from __future__ import annotations

import importlib
import inspect
import threading
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from advbench.attacks.gradient import InputGradient
from advbench.attacks.linf import BoundedAttack
from advbench.errors import AdvbenchError
from advbench.rng import stream_key
from advbench.victims.base import Victim

_GLOBAL_RANDOM = threading.Lock()  # torch has one generator for all threads


class TorchAttack(BoundedAttack):
    """Any L∞ attack of torchattacks; its global random numbers are seeded per image.

    Attributes:
        method: the class in torchattacks, such as ``NIFGSM``.
        arguments: of its constructor, but for ``eps``.
    """

    name: ClassVar[str] = "torchattacks"

    method: str = "NIFGSM"
    arguments: dict[str, Any] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"ta_{self.method.lower()}"

    def adapted(self) -> tuple[type]:
        return (self._attack_class(),)

    def passes(self) -> int:
        steps = self.arguments.get("steps") or _default(self._attack_class(), "steps", 1)
        return len(self.eps) * int(steps)

    def perturb_rows(
        self, gradient: InputGradient, x: Tensor, eps: Tensor, keys: Sequence[tuple[object, ...]]
    ) -> Tensor:
        attack_class = self._attack_class()
        wrapped = TwoClasses(gradient.victim).eval()
        rows = []
        for image, y, radius, key in zip(x, gradient.y, eps.flatten().tolist(), keys, strict=True):
            devices = [x.device] if x.device.type == "cuda" else []
            with _GLOBAL_RANDOM, torch.random.fork_rng(devices=devices):
                torch.manual_seed(stream_key(*key))
                attack = attack_class(wrapped, eps=radius, **self.arguments)
                rows.append(attack(image[None], y.long())[0])
        noise = (torch.stack(rows) - x).minimum(eps).maximum(-eps)
        return (x + noise).clamp(0, 1)

    def _attack_class(self) -> Any:
        try:
            package = importlib.import_module("torchattacks")
        except ImportError as error:
            raise AdvbenchError(
                "attack torchattacks: the package is missing; pip install 'advbench[torchattacks]'"
            ) from error
        found = getattr(package, self.method, None)
        if not inspect.isclass(found) or "eps" not in inspect.signature(found).parameters:
            raise AdvbenchError(
                f"attack torchattacks: method {self.method!r} is no L∞ attack of the package"
            )
        return found


class TwoClasses(nn.Module):
    """Logits (0, z) of pristine and forged: their cross-entropy is J."""

    def __init__(self, victim: Victim) -> None:
        super().__init__()
        self.network = victim.network
        self._logits = victim.logits

    def forward(self, x: Tensor) -> Tensor:
        logits = self._logits(x)
        return torch.cat([torch.zeros_like(logits), logits], 1)


def _default(attack_class: Any, parameter: str, otherwise: int) -> int:
    found = inspect.signature(attack_class).parameters.get(parameter)
    return otherwise if found is None else found.default
