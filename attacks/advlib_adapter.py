"""Segmentation attacks of adversarial-library (adv-lib; tried with 0.2.8): ``advlib:pdpgd``."""

from __future__ import annotations

import inspect
import math
import sys
from types import FunctionType, ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from advbench.attacks.package_attack import PackageAttack, TwoClasses
from advbench.errors import AdvbenchError

# What makes them L∞ attacks. The step of dag, 0.5 in the package, is for other units.
LINF: dict[str, dict[str, Any]] = {
    "alma_prox": {},
    "dag": {"p": math.inf, "γ": 0.001},
    "pdpgd": {"norm": math.inf},
}
_L2 = ("asma", "pdgd")
_THREE_CLASSES = ("alma_prox",)  # its loss divides by the range of the three highest logits


class AdvLibAttack(PackageAttack):
    """Finds the least L∞ noise that moves 99 % of the pixels; what exceeds φ is clamped to it."""

    package: ClassVar[str] = "adv_lib"
    installation: ClassVar[str] = "pip install adv-lib"
    method: ClassVar[str]

    def adapted(self) -> tuple[FunctionType]:
        return (inspect.unwrap(self._function()),)

    def passes(self) -> int:
        steps = inspect.signature(self._function()).parameters
        known = next((steps[name] for name in ("num_steps", "max_iter") if name in steps), None)
        given = self.arguments.get(known.name, known.default) if known else 1
        return len(self.eps) * int(given)

    def one(self, model: TwoClasses, image: Tensor, mask: Tensor, eps: float) -> Tensor:
        taken = ThirdClass(model) if self.method in _THREE_CLASSES else model
        # A proximal step is decorated by torch.compile, which takes a C++ compiler and its time.
        with torch.compiler.set_stance("force_eager"):
            return self._function()(taken, image, mask, **(LINF[self.method] | self.arguments))

    @classmethod
    def _function(cls) -> Any:
        # Its loggers import visdom, which they need when a run is watched alone.
        sys.modules.setdefault("visdom", ModuleType("visdom"))
        return getattr(cls.imported("adv_lib.attacks.segmentation"), cls.method)


class ThirdClass(nn.Module):
    """Logits of pristine, forged, and a class that no pixel gets: one below the lower of the two.

    The difference of logits over their range is then z/(1 + |z|), which has the sign of z and grows
    with it.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        return torch.cat([logits, logits.amin(1, keepdim=True) - 1], 1)


def advlib(method: str) -> type[AdvLibAttack]:
    """The attack class of ``advlib:NAME``.

    Raises:
        AdvbenchError: it is no L∞ attack on segmentation of the package.
    """
    name = f"advlib:{method}"
    if method in _L2:
        raise AdvbenchError(f"attack {name}: minimises an L2 norm, and φ is an L∞ budget")
    if method not in LINF:
        raise AdvbenchError(
            f"attack {name}: no segmentation attack of adv-lib; there are {', '.join(LINF)}"
        )
    return type("AdvLib", (AdvLibAttack,), {"name": name, "method": method, "__module__": __name__})
