"""A store of two photographs and of one attack on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from advbench.shards.store import ShardStore

from .made import MADE, adversarial_settings, attacked, original, originals_settings


@pytest.fixture
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((9, 7, 3), (16, 16, 3))]


@pytest.fixture
def store(tmp_path: Path, images) -> Path:
    """The root of two originals and of two images within ±2 of them."""
    root = tmp_path / "shards"
    shards = ShardStore(root)
    shards.add(originals_settings(), [original(i, im) for i, im in enumerate(images)], MADE, 0)
    shards.add(adversarial_settings(2), [attacked(i, im) for i, im in enumerate(images)], MADE, 0)
    shards.write_index()
    return root
