"""advbench: the adversarial benchmark of image forgery localization.

>>> import advbench
>>> advbench.load_attack("pgd", eps=[1, 2, 3]).name
'pgd'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from advbench.api import (
        evaluate,
        generate,
        leaderboard,
        train_ansm,
        train_relocalise,
        train_victim,
    )
    from advbench.attacks.base import Attack
    from advbench.defenses.base import Defense
    from advbench.errors import AdvbenchError
    from advbench.evaluation import Evaluation
    from advbench.shards.dataset import ShardDataset
    from advbench.victims.base import Victim

__version__ = "0.1.0"
__all__ = [
    "AdvbenchError",
    "Attack",
    "Defense",
    "Evaluation",
    "Victim",
    "__version__",
    "evaluate",
    "generate",
    "leaderboard",
    "list_attacks",
    "list_datasets",
    "list_defenses",
    "list_suites",
    "list_victims",
    "load_attack",
    "load_defense",
    "load_victim",
    "open_dataset",
    "train_ansm",
    "train_relocalise",
    "train_victim",
    "wrap",
]

# Imported when they are asked for: torch takes seconds.
_LAZY = {
    "AdvbenchError": "advbench.errors",
    "Attack": "advbench.attacks.base",
    "Defense": "advbench.defenses.base",
    "Evaluation": "advbench.evaluation",
    "Victim": "advbench.victims.base",
    **dict.fromkeys(
        (
            *("evaluate", "generate", "leaderboard"),
            *("train_ansm", "train_relocalise", "train_victim"),
        ),
        "advbench.api",
    ),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'advbench' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def list_attacks() -> list[str]:
    """List the names of all attacks, those of installed plug-ins included."""
    from advbench.registry import ATTACKS

    return ATTACKS.names()


def list_victims() -> list[str]:
    """List the names of all victims."""
    from advbench.registry import VICTIMS

    return VICTIMS.names()


def list_defenses() -> list[str]:
    """List the names of all defenses."""
    from advbench.registry import DEFENSES

    return DEFENSES.names()


def list_datasets(out: str | Path = "advbench-data") -> list[str]:
    """List the built-in datasets, and those that were imported below an output folder."""
    from pathlib import Path

    from advbench.registry import DATASETS

    return [*DATASETS.names(), *sorted(p.name for p in Path(out).glob("datasets/*") if p.is_dir())]


def list_suites() -> list[str]:
    """List the names of the shipped suites."""
    from advbench.registry import SUITES

    return SUITES.names()


def load_victim(
    name: str,
    *,
    size: str | None = None,
    weights: str | Path | None = "builtin",
    device: str = "cpu",
) -> Victim:
    """Load a frozen forgery localizer by registry name; see :meth:`Victim.load`."""
    from advbench.registry import VICTIMS

    source = None if weights is None else str(weights)
    return VICTIMS.get(name).load(size=size, weights=source, device=device)


def load_attack(name: str, *, profile: str = "default", **settings: Any) -> Attack:
    """Build an attack by registry name, with settings on top of a profile; see :class:`Attack`."""
    from advbench.registry import ATTACKS

    return ATTACKS.get(name).create(profile, **settings)


def load_defense(name: str, *, victim: Victim | None = None, **settings: Any) -> Defense:
    """Build a defense by registry name, such as ``load_defense("jpeg", quality=75)``.

    Args:
        victim: the victim that it is to stand before; ``ansm`` needs it.

    Raises:
        AdvbenchError: an unknown name or setting, or nothing trained for this victim.
    """
    from advbench.registry import DEFENSES

    defense: Defense = DEFENSES.get(name).create(**settings)
    if victim is None:
        return defense
    return defense.for_victim(
        {"name": victim.name, "size": victim.size, "weights_sha256": victim.weights.sha256}
    )


def open_dataset(folder: str | Path, *, native_masks: bool = False) -> ShardDataset:
    """Open the shards that ``advbench generate`` wrote as a map-style torch dataset.

    Args:
        native_masks: give masks at the ground truth's own size, not at the image's.
    """
    from advbench.shards.dataset import ShardDataset

    return ShardDataset(folder, native_masks=native_masks)


def wrap(module: nn.Module, **reading: Any) -> Victim:
    """Make a victim of any ``nn.Module``: ``wrap(module, side=512, output="probability")``; see
    :func:`advbench.victims.adapters.wrap.wrap` for what it takes and what such a victim lacks."""
    from advbench.victims.adapters.wrap import wrap as wrap_module

    return wrap_module(module, **reading)
