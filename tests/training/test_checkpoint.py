"""A checkpoint is read back as it was written, or refused."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from advbench.errors import AdvbenchError
from advbench.training.checkpoint import Checkpoint

STATE = {"network": {"weight": torch.arange(40.0)}, "curve": [{"epoch": 0, "loss": 0.5}]}


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoint:
    checkpoint = Checkpoint(tmp_path, "key")
    checkpoint.save(STATE, [{"epoch": 0, "loss": 0.5}])
    return checkpoint


def refused(checkpoint: Checkpoint, content: bytes) -> None:
    path = checkpoint.folder / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(AdvbenchError, match=r"checkpoint\.pt: damaged; remove it"):
        checkpoint.load()


def test_read_back(saved: Checkpoint) -> None:
    state = saved.load()
    assert state is not None
    assert torch.equal(state["network"]["weight"], STATE["network"]["weight"])
    assert state["curve"] == STATE["curve"]
    assert Checkpoint(saved.folder / "other", "key").load() is None


def test_every_flipped_bit_is_noticed(saved: Checkpoint) -> None:
    """One in each of 300 bytes, the weights' own among them: none gives a state."""
    content = (saved.folder / "checkpoint.pt").read_bytes()
    draw = random.Random(0)
    places = draw.sample(range(len(content)), 300)
    weights = content.index(STATE["network"]["weight"].numpy().tobytes())
    for place in [*places, *range(weights, weights + 160)]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << draw.randrange(8)
        refused(saved, bytes(flipped))


def test_every_truncation_is_noticed(saved: Checkpoint) -> None:
    """Shorter, empty, or with something behind."""
    content = (saved.folder / "checkpoint.pt").read_bytes()
    for length in (0, 1, 20, 80, 90, len(content) // 2, len(content) - 1):
        refused(saved, content[:length])
    refused(saved, content + b"\0")
    refused(saved, content + content)


def test_a_pickle_of_another_is_not_read(saved: Checkpoint) -> None:
    """A bare file of torch.save has no checksum, whatever it holds."""
    path = saved.folder / "checkpoint.pt"
    torch.save({"key": "key", **STATE}, path)
    refused(saved, path.read_bytes())


def test_another_key_is_refused(saved: Checkpoint) -> None:
    with pytest.raises(AdvbenchError, match="belongs to another recipe"):
        Checkpoint(saved.folder, "other").load()
