"""Keyed randomness: every random number belongs to a name, never to a position in a run.

The seed of a stream is the first eight bytes of SHA-256 over its parts, so what is drawn for an
image does not depend on batch size, order, device count or resume.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def stream_key(*parts: object) -> int:
    """A 64-bit key from the parts' text, joined by ``|``."""
    digest = hashlib.sha256("|".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def numpy_stream(*parts: object) -> np.random.Generator:
    """A NumPy generator (PCG64) for the key of ``parts``."""
    return np.random.Generator(np.random.PCG64(stream_key(*parts)))


def torch_stream(*parts: object) -> torch.Generator:
    """A CPU torch generator for the key of ``parts``; draw on the CPU, then move."""
    import torch

    return torch.Generator("cpu").manual_seed(stream_key(*parts))
