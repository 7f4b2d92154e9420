"""The package IMDLBenCo itself, in the environment of docs/other-localizers.md."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import advbench

MODELS = ["Mesorch", "IML_ViT@224", "SparseViT@256", "PSCC_Net", "MantraNet", "ObjectFormer"]
MODELS += ["MVSSNet@128", "Trufor@128", "MSCDI_Net"]
MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

pytestmark = pytest.mark.slow


@pytest.fixture(params=MODELS)
def victim(request: pytest.FixtureRequest) -> Any:
    pytest.importorskip("IMDLBenCo.model_zoo")
    return advbench.load_victim(f"imdlbenco:{request.param}", weights=None)


def test_maps_and_gradients(victim):
    """The package's own map to 1e-6, alone and in a batch; gradients as differences."""
    side = victim.reading.fitting.side or 64
    x = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    zeros = torch.zeros(2, 1, side, side)
    with torch.no_grad():
        logits = victim.logits(x)
        given = {"image": (x - MEAN) / STD, "mask": zeros, "edge_mask": zeros}
        own = victim.network(**given, label=torch.zeros(2))["pred_mask"]
        assert (torch.sigmoid(logits) - own).abs().max() <= 1e-6
        assert torch.allclose(victim.logits(x[1:]), logits[1:], rtol=1e-4, atol=1e-4)
    if not victim.differentiable:
        return
    victim.network.double()
    one = x[:1].double().requires_grad_()
    weight = torch.randn(1, 1, side, side, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((victim.logits(one) * weight).sum(), one)
    assert (gradient != 0).double().mean() > 0.99
    for number in (0, side * side // 2, 2 * side * side + 7):
        step = torch.zeros_like(one).flatten()
        step[number] = 1e-6
        step = step.view_as(one)
        with torch.no_grad():
            rise = ((victim.logits(one + step) - victim.logits(one - step)) * weight).sum()
        assert torch.isclose(rise / 2e-6, gradient.flatten()[number], rtol=1e-3, atol=1e-9)
