"""Segmentation attacks of adversarial-library 0.2.2 (adv-lib): ``advlib:pdpgd``."""

from __future__ import annotations

import inspect
import math
import sys
from types import FunctionType, ModuleType
from typing import Any, ClassVar

from torch import Tensor

from advbench.attacks.package_attack import PackageAttack, TwoClasses
from advbench.errors import AdvbenchError

# What makes them L∞ attacks. The step of dag, 0.5 in the package, is for other units.
LINF: dict[str, dict[str, Any]] = {
    "alma_prox": {},
    "dag": {"p": math.inf, "γ": 0.001},
    "pdpgd": {"norm": math.inf},
}
_L2 = ("asma", "pdgd")


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
        return self._function()(model, image, mask, **(LINF[self.method] | self.arguments))

    @classmethod
    def _function(cls) -> Any:
        # Its loggers import visdom, which they need when a run is watched alone.
        sys.modules.setdefault("visdom", ModuleType("visdom"))
        return getattr(cls.imported("adv_lib.attacks.segmentation"), cls.method)


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
