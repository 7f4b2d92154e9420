"""advbench: the adversarial benchmark of image forgery localization.

>>> import advbench
>>> advbench.load_attack("pgd", eps=[1, 2, 3]).name
'pgd'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from advbench.attacks.base import Attack
    from advbench.defenses.base import Defense
    from advbench.shards.dataset import ShardDataset
    from advbench.victims.base import Victim

__version__ = "0.1.0"
__all__ = ["__version__", "load_attack", "load_defense", "load_victim", "open_dataset", "wrap"]


def load_victim(
    name: str,
    *,
    size: str | None = None,
    weights: str | Path | None = "builtin",
    device: str = "cpu",
) -> Victim:
    """A frozen forgery localizer by registry name; see :meth:`Victim.load`."""
    from advbench.registry import VICTIMS

    source = None if weights is None else str(weights)
    return VICTIMS.get(name).load(size=size, weights=source, device=device)


def load_attack(name: str, *, profile: str = "default", **settings: Any) -> Attack:
    """An attack by registry name, with settings on top of a profile; see :class:`Attack`."""
    from advbench.registry import ATTACKS

    return ATTACKS.get(name).create(profile, **settings)


def load_defense(name: str, **settings: Any) -> Defense:
    """A defense by registry name, such as ``load_defense("jpeg", quality=75)``."""
    from advbench.registry import DEFENSES

    return DEFENSES.get(name).create(**settings)


def open_dataset(folder: str | Path) -> ShardDataset:
    """A map-style torch dataset over the shards that ``advbench generate`` wrote."""
    from advbench.shards.dataset import ShardDataset

    return ShardDataset(folder)


def wrap(module: nn.Module, **reading: Any) -> Victim:
    """A victim made of any ``nn.Module``: ``wrap(module, side=512, output="probability")``; see
    :func:`advbench.victims.adapters.wrap.wrap` for what it takes and what such a victim lacks."""
    from advbench.victims.adapters.wrap import wrap as wrap_module

    return wrap_module(module, **reading)
