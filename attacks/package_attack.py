"""L∞ attacks of other packages: the victim as a classifier of pixels, the budget enforced here."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from advbench.attacks.gradient import InputGradient
from advbench.attacks.linf import BoundedAttack
from advbench.errors import AdvbenchError, first_line
from advbench.plugins import import_package
from advbench.registry import ATTACKS
from advbench.rng import stream_key
from advbench.victims.base import Victim

_GLOBAL_RANDOM = threading.Lock()  # torch has one generator for all threads


class PackageAttack(BoundedAttack):
    """An attack that a package of the user's brings, such as ``advlib:pdpgd``.

    Its global random numbers are seeded per image, and what it returns is clamped to the budget and
    to [0, 1]; the uint8 grid comes after.

    Attributes:
        arguments: of the package's own function or class, but for the budget.
    """

    package: ClassVar[str]
    installation: ClassVar[str]

    arguments: dict[str, Any] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        return self.name.replace(":", "_")

    @abstractmethod
    def one(self, model: TwoClasses, image: Tensor, mask: Tensor, eps: float) -> Tensor:
        """The package's own attack of an image 1×3×H×W with a mask 1×H×W of 0 and 1."""

    def perturb_rows(
        self, gradient: InputGradient, x: Tensor, eps: Tensor, keys: Sequence[tuple[object, ...]]
    ) -> Tensor:
        model = TwoClasses(gradient.victim).eval()
        rows = []
        for image, y, radius, key in zip(x, gradient.y, eps.flatten().tolist(), keys, strict=True):
            devices = [x.device] if x.device.type == "cuda" else []
            with _GLOBAL_RANDOM, torch.random.fork_rng(devices=devices):
                torch.manual_seed(stream_key(*key))
                rows.append(self._tried(model, image[None], y.long(), radius))
        noise = (torch.stack(rows) - x).minimum(eps).maximum(-eps)
        return (x + noise).clamp(0, 1)

    def _tried(self, model: TwoClasses, image: Tensor, mask: Tensor, eps: float) -> Tensor:
        try:
            found = self.one(model, image, mask, eps)
        except (AdvbenchError, torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:  # of a stranger's code
            raise AdvbenchError(
                f"attack {self.name}: {self.package} cannot run it on maps "
                f"({type(error).__name__}: {first_line(error)})"
            ) from error
        if not isinstance(found, Tensor) or found.shape != image.shape:
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise AdvbenchError(f"attack {self.name}: returns {shape} for an image {image.shape}")
        return found.detach()[0]

    @classmethod
    def imported(cls, module: str) -> Any:
        """A module of the package.

        Raises:
            AdvbenchError: it is missing, or something that it needs is.
        """
        hint = f"{cls.installation}; see docs/other-attacks.md"
        return import_package(module, f"attack {cls.name}", hint)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """By name: the class of a name is made on the spot."""
        return _made_again, (self.name, self.model_dump())


class TwoClasses(nn.Module):
    """Logits (0, z) of pristine and forged: their cross-entropy is J."""

    def __init__(self, victim: Victim) -> None:
        super().__init__()
        self.network = victim.network
        self._logits = victim.logits

    def forward(self, x: Tensor) -> Tensor:
        logits = self._logits(x)
        return torch.cat([torch.zeros_like(logits), logits], 1)


def _made_again(name: str, fields: dict[str, Any]) -> Any:
    return ATTACKS.get(name)(**fields)
