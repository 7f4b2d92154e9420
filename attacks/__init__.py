"""White-box attacks on forgery localizers: one file an attack, listed in the registry.

The classes can be imported from here: ``from advbench.attacks import PGD``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from advbench.attacks.base import Attack
    from advbench.attacks.bim import BIM
    from advbench.attacks.cw import CW
    from advbench.attacks.fgsm import FGSM
    from advbench.attacks.mifgsm import MIFGSM
    from advbench.attacks.pgd import PGD
    from advbench.attacks.pgn import PGN

__all__ = ["BIM", "CW", "FGSM", "MIFGSM", "PGD", "PGN", "Attack"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "base" if name == "Attack" else name.lower()
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
