"""Weights: loaded without unpickling, named by their sha256 and by where they came from."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from advbench.errors import AdvbenchError, first_line

# Prefixes that the authors' files put before their networks' own keys.
_PREFIXES = ("module.det_net.", "module.", "det_net.")


@dataclass(frozen=True)
class Weights:
    """Which weights a victim carries.

    Attributes:
        sha256: of the file's bytes; of the tensors for random weights.
        label: ``builtin`` (trained by this project on the built-in data), ``random``, or
            ``file:`` with the first 12 hex digits of the sum.
    """

    sha256: str
    label: str


def builtin_path(victim: str, size: str) -> Path:
    """Where the shipped weights of a victim lie, whether or not they exist."""
    with resources.as_file(resources.files("advbench.victims") / "weights") as folder:
        return folder / f"{victim}-{size}.safetensors"


def load_network_weights(
    network: nn.Module, victim: str, size: str, source: str | None, seed: int
) -> Weights:
    """Put weights into ``network``; ``source`` as in :meth:`Victim.load`."""
    if source is None:
        return Weights(_state_sha256(network.state_dict()), f"random:{seed}")
    path = builtin_path(victim, size) if source == "builtin" else Path(source)
    if not path.is_file():
        raise AdvbenchError(
            f"{victim} ({size}): no built-in weights of that size; give --weights PATH"
            if source == "builtin"
            else f"{path}: no such weights file; give --weights the path of a checkpoint"
        )
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    load_state(network, _without_prefix(read_state(path, data), network), path, victim, size)
    return Weights(sha256, label_of(path, sha256))


def label_of(path: Path, sha256: str) -> str:
    """``builtin`` where the card beside the file says so and its sum agrees, else ``file:…``."""
    card = path.with_suffix(".json")
    if card.is_file():
        described: dict[str, Any] = json.loads(card.read_text())
        if described.get("sha256") == sha256:
            return str(described.get("label", f"file:{sha256[:12]}"))
    return f"file:{sha256[:12]}"


def read_state(path: Path, data: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors or torch file, read with ``weights_only=True``."""
    try:
        if path.suffix == ".safetensors":
            return load_safetensors(data)
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise AdvbenchError(
            f"{path}: not a weights file that can be read ({first_line(error)})"
        ) from error
    if isinstance(content, dict):
        for key in ("state_dict", "model"):
            if isinstance(content.get(key), dict):
                content = content[key]
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return dict(content)
    raise AdvbenchError(f"{path}: holds no state_dict; give a file of network weights")


def load_state(
    network: nn.Module, state: dict[str, Tensor], path: Path, victim: str, size: str
) -> None:
    """Strict load whose refusal says which keys and shapes differ."""
    own = network.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [key for key in own.keys() & state.keys() if own[key].shape != state[key].shape]
    if missing or extra or shapes:
        faults = [
            f"{len(keys)} {what} (first: {keys[0]})"
            for what, keys in (
                ("missing keys", missing),
                ("unknown keys", extra),
                ("keys of another shape", sorted(shapes)),
            )
            if keys
        ]
        raise AdvbenchError(f"{path}: does not fit {victim} ({size}): {', '.join(faults)}")
    network.load_state_dict(state)


def _without_prefix(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    own = network.state_dict().keys()
    for prefix in _PREFIXES:
        stripped = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if own & stripped.keys():
            return stripped
    return state


def _state_sha256(state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
