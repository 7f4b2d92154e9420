"""The guide's wrapped segmentation networks, built without weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import advbench

GUIDE = Path(__file__).parents[3] / "docs" / "other-localizers.md"


@pytest.mark.parametrize(
    ("package", "key", "side"), [("torchvision", "out", 64), ("transformers", "logits", 512)]
)
def test_the_guides_network(package, key, side):
    pytest.importorskip(package)
    (block,) = re.findall(rf"```python\n(from {package}.*?)```", GUIDE.read_text(), re.DOTALL)
    names: dict[str, Any] = {"advbench": advbench}
    torch.manual_seed(0)
    exec(block, names)
    module, victim = names["module"], names["victim"]
    x = torch.rand(2, 3, side, side)
    with torch.no_grad():
        own = F.interpolate(module(x)[key], (side, side), mode="bilinear").softmax(1)[:, 1:]
        assert torch.allclose(victim.probabilities(x), own, atol=1e-6)
    pixels, masks = (255 * torch.rand(1, 3, 45, 70)).byte(), torch.ones(1, 45, 70, dtype=torch.bool)
    (detail,) = (
        advbench.load_attack("fgsm", eps=[2]).run(victim, pixels, masks, ["a"])["fgsm-2"].details
    )
    assert detail.zero_gradients == 0
