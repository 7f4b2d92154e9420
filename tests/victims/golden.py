"""Golden figures: what the authors' code gives in float64 for weights and images made by a rule."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

FOLDER = Path(__file__).parents[1] / "data" / "golden"


def rng(name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def assert_keys(network: nn.Module, victim: str) -> None:
    """The authors' keys and shapes."""
    keys = json.loads((FOLDER / f"{victim}_keys.json").read_text())
    assert {k: list(v.shape) for k, v in network.state_dict().items()} == dict(keys)


def set_weights(network: nn.Module, frozen: tuple[str, ...] = ()) -> None:
    """Weights by the rule of the golden figures; keys that ``frozen`` ends stay as they are."""
    state = network.state_dict()
    for key, value in state.items():
        last = key.rpartition(".")[2]
        if last == "num_batches_tracked" or key.endswith(frozen or ("\0",)):
            continue
        z = torch.from_numpy(np.asarray(rng(key).standard_normal(tuple(value.shape))))
        if last == "running_mean":
            z = 0.1 * z
        elif last == "running_var":
            z = 1 + 0.2 * z.abs()
        elif last in ("alpha", "beta", "gamma"):
            z = torch.full_like(z, 0.5)
        elif last == "kernel":
            z = 0.1 + z.abs()
        elif last == "pos_embedding":
            z = 0.02 * z
        elif last == "bias":
            z = 0.05 * z
        elif z.ndim == 1:
            z = 1 + 0.1 * z
        else:
            z = z / np.sqrt(max(1, int(np.prod(value.shape[1:]))))
        state[key] = z
    network.load_state_dict(state)


def picture(victim: str, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Image and mask by rule: float64 1×3×H×W in [0, 1], float64 1×1×H×W in {0, 1}."""
    coarse = torch.from_numpy(rng(f"input:{victim}").random((1, 3, height // 8, width // 8)))
    image = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    noise = rng(f"noise:{victim}").standard_normal((1, 3, height, width))
    mask = torch.zeros(1, 1, height, width, dtype=torch.float64)
    mask[..., height // 4 : height // 2, width // 3 : 2 * width // 3] = 1
    return (image + 0.05 * torch.from_numpy(noise)).clamp(0, 1), mask


def differences(victim: str, found: Mapping[str, Tensor]) -> dict[str, float]:
    """Largest difference per array, relative to the array's largest magnitude."""
    expected = np.load(FOLDER / f"{victim}.npz")
    assert set(found) == set(expected.files)
    apart = {}
    for name, value in found.items():
        theirs = expected[name]
        ours = value.detach().double().numpy().reshape(theirs.shape)
        apart[name] = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    return apart
