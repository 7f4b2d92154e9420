"""The guide's wrapped segmentation network, built without weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

import advbench

GUIDE = Path(__file__).parents[3] / "docs" / "other-localizers.md"


def test_the_guides_network_of_torchvision():
    (block,) = re.findall(r"```python\n(from torchvision.*?)```", GUIDE.read_text(), re.DOTALL)
    names: dict[str, Any] = {"advbench": advbench}
    torch.manual_seed(0)
    exec(block, names)
    module, victim = names["module"], names["victim"]
    x = torch.rand(2, 3, 64, 64)
    softmax = module(x)["out"].softmax(1)[:, 1:]
    assert torch.allclose(victim.probabilities(x), softmax, atol=1e-6)
    pixels, masks = (255 * torch.rand(1, 3, 45, 70)).byte(), torch.ones(1, 45, 70, dtype=torch.bool)
    (detail,) = (
        advbench.load_attack("fgsm", eps=[2]).run(victim, pixels, masks, ["a"])["fgsm-2"].details
    )
    assert detail.zero_gradients == 0
