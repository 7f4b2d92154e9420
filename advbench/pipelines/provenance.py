"""Collect what stands beside the content of a shard: versions, device, time, cost."""

from __future__ import annotations

import platform
from collections.abc import Collection
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from typing import Any

import torch

import advbench
from advbench.attacks.base import Attack
from advbench.defenses.base import Defense
from advbench.shards.schema import Provenance
from advbench.sources import (
    Adapted,
    is_own,
    package_versions,
    source_sha256,
    with_file_sums,
)
from advbench.victims.base import Victim

_PACKAGES = ("torch", "timm", "numpy", "opencv-python-headless", "h5py", "scikit-image")


@cache
def versions() -> dict[str, str]:
    """Versions of what takes part in the numbers."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "?"
    if torch.version.cuda and torch.cuda.is_available():
        found["cuda"] = torch.version.cuda
        found["cudnn"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    return found


def device_name(device: torch.device) -> str:
    """The model of the device, such as ``x86_64, 2 threads`` or the GPU's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {platform.machine()}, {torch.get_num_threads()} threads"


def provenance(
    device: torch.device, passes: int = 0, seconds: float = 0.0, batch: int = 1
) -> Provenance:
    """Provenance as of now."""
    return Provenance(
        advbench_version=advbench.__version__,
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
        device=device_name(device),
        passes=passes,
        seconds=round(seconds, 3),
        batch=batch,
    )


def victim_identity(victim: Victim) -> dict[str, str]:
    """A victim as it stands in settings and records; one of somebody else's code with the SHA-256
    of its ``source`` and the versions of the ``packages`` that its network comes from."""
    identity = {
        "name": victim.name,
        "size": victim.size,
        "weights_sha256": victim.weights.sha256,
        "weights": victim.weights.label,
    }
    modules = {type(module) for module in victim.network.modules()}
    return identity | _source(type(victim), modules, victim.adapted())


def attack_identity(attack: Attack, intensity: float) -> dict[str, Any]:
    """A variant's specification as it stands in settings: files that it names by their SHA-256, and
    where it is somebody else's the SHA-256 of its source and the versions of the packages."""
    said = with_file_sums(attack.variant_spec(intensity))
    return {**said, **_source(type(attack), adapted=attack.adapted())}


def defense_identity(defense: Defense, strength: float | None) -> dict[str, Any]:
    """A defense's specification as it stands in records, like :func:`attack_identity`."""
    return {**with_file_sums(defense.variant_spec(strength)), **_source(type(defense))}


def _source(
    plugin: type, parts: Collection[type] = (), adapted: Collection[Adapted] = ()
) -> dict[str, str]:
    said = {"source": source_sha256(plugin, parts, adapted)}
    if adapted or not is_own(plugin):
        said["packages"] = package_versions(plugin, (*parts, *adapted))
    return {key: value for key, value in said.items() if value}
