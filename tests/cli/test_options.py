"""Options that several verbs share."""

from __future__ import annotations

import pytest

from advbench.cli.options import choose_engine
from advbench.engines.local import Local


@pytest.mark.parametrize(
    ("visible", "device", "gpu"),
    [
        ("2,3", "cuda:1", "3"),
        ("GPU-8932f937,GPU-7a1c", "cuda:0", "GPU-8932f937"),
        ("", "cuda:1", "1"),
        ("2,3", "cuda:5", "5"),  # torch_device refuses it
        ("2,3", "cuda:one", "one"),
    ],
)
def test_workers_see_the_gpu_that_is_named(monkeypatch, visible, device, gpu):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert choose_engine("local", 2, None, None, unit_memory=None, device=device) == Local(
        2, (gpu,)
    )
