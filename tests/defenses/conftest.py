"""Pictures for defenses, and one torch thread: a second one only waits on a busy machine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ..attacks.conftest import _one_thread  # noqa: F401


@pytest.fixture
def batch() -> Tensor:
    """Three uint8 pictures of odd sides: noise, shapes, and shapes in other colours."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (33, 47, 3))
    shapes = np.kron(rng.integers(0, 256, (3, 4, 3)), np.ones((12, 12, 1), dtype=int))[:33, :47]
    stacked = np.stack([noise, shapes, 255 - shapes[::-1]]).astype(np.uint8)
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()
