"""IF-OSN: the authors' network, its contract, and the golden figures of their code."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import advbench
from advbench.victims.ifosn import SIZES, ScseUnet

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden figures are not here")


@pytest.fixture(scope="module")
def full() -> ScseUnet:
    return ScseUnet(SIZES["full"]).eval()


@pytest.fixture(scope="module")
def small():
    return advbench.load_victim("ifosn", size="small", weights=None)


def test_full_size_has_the_authors_counts(full):
    """spec: 128,815,441 parameters, 1182 entries, and the parts' counts."""

    def count(*names: str) -> int:
        return sum(p.numel() for n, p in full.named_parameters() if n.startswith(names))

    assert count("") == 128_815_441
    assert len(full.state_dict()) == 1182
    assert count("encoder_stages") == 113_039_984
    assert count("bottlenecks") == 7_424_864
    assert count("decoder_stages") == 8_332_096
    assert (count("last_upsample"), count("final")) == (18_464, 33)


@needs_golden
def test_full_size_has_the_authors_keys(full):
    keys = json.loads((GOLDEN / "ifosn_keys.json").read_text())
    assert {k: list(v.shape) for k, v in full.state_dict().items()} == dict(keys)


def rng(name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def golden_weights(network: torch.nn.Module) -> None:
    """Weights by the rule of the golden figures."""
    state = network.state_dict()
    for key, value in state.items():
        last = key.rpartition(".")[2]
        z = torch.from_numpy(np.asarray(rng(key).standard_normal(tuple(value.shape))))
        if last == "running_mean":
            state[key] = 0.1 * z
        elif last == "running_var":
            state[key] = 1 + 0.2 * z.abs()
        elif last == "bias":
            state[key] = 0.05 * z
        elif last != "num_batches_tracked":
            fan = max(1, int(np.prod(value.shape[1:])))
            state[key] = 1 + 0.1 * z if z.ndim == 1 else z / np.sqrt(fan)
    network.load_state_dict(state)


@needs_golden
def test_golden_figures():
    """Logits, probabilities, input gradient and loss of the authors' code in float64."""
    expected = np.load(GOLDEN / "ifosn.npz")
    network = ScseUnet(SIZES["full"]).double().eval()
    golden_weights(network)
    height, width = 128, 160
    coarse = torch.from_numpy(rng("input:ifosn").random((1, 3, height // 8, width // 8)))
    x = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    x = x + 0.05 * torch.from_numpy(rng("noise:ifosn").standard_normal((1, 3, height, width)))
    x = x.clamp(0, 1).requires_grad_()
    mask = torch.zeros(1, 1, height, width, dtype=torch.float64)
    mask[..., height // 4 : height // 2, width // 3 : 2 * width // 3] = 1
    logits = network.logits((x - 0.5) / 0.5)
    loss = F.binary_cross_entropy_with_logits(logits, mask)
    (gradient,) = torch.autograd.grad(loss, x)
    found = {
        "logit": logits.detach()[..., ::2, ::2],
        "prob": torch.sigmoid(logits).detach()[..., ::2, ::2],
        "input_grad": gradient[..., ::2, ::2],
        "loss": loss.detach(),
    }
    for name, value in found.items():
        theirs = expected[name]
        difference = np.abs(value.numpy().reshape(theirs.shape) - theirs).max()
        assert difference <= 1e-7 * np.abs(theirs).max(), name


def test_small_size_is_the_same_network(small):
    """Same names of modules, fewer parameters."""
    full = {".".join(k.split(".")[:1]) for k in ScseUnet(SIZES["full"]).state_dict()}
    assert {".".join(k.split(".")[:1]) for k in small.network.state_dict()} == full
    assert sum(p.numel() for p in small.network.parameters()) < 2_000_000


@pytest.mark.parametrize("shape", [(250, 381), (64, 64), (33, 40)])
def test_any_size_goes(small, shape):
    assert small.logits(torch.rand(1, 3, *shape)).shape == (1, 1, *shape)


def test_probabilities_are_the_sigmoid_of_the_logits(small):
    x = torch.rand(1, 3, 48, 48)
    ours = small.probabilities(x)
    assert torch.allclose(ours, small.network((x - 0.5) / 0.5), atol=1e-6)


def test_batch_mates_do_not_matter(small):
    x = torch.rand(3, 3, 40, 56)
    alone = torch.cat([small.logits(image[None]) for image in x])
    assert torch.allclose(small.logits(x), alone, atol=1e-5)


def test_input_gradient_by_finite_differences():
    network = ScseUnet(SIZES["small"]).double().eval()
    torch.manual_seed(0)
    x = torch.rand(1, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(1, 1, 32, 32, dtype=torch.float64)

    def value(image: torch.Tensor) -> torch.Tensor:
        return (network.logits(image) * weight).sum()

    (gradient,) = torch.autograd.grad(value(x), x)
    for _ in range(5):
        direction = torch.randn_like(x)
        with torch.no_grad():
            h = 1e-7
            numeric = (value(x + h * direction) - value(x - h * direction)) / (2 * h)
        assert float(numeric) == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


def test_taps_cover_the_network_in_order(small):
    """Thirds by stage count: shallow, middle, topmost, each a module that gives a map."""
    seen: list[str] = []
    handles = [
        module.register_forward_hook(lambda m, i, o, name=name: seen.append(name))
        for depth in ("shallow", "middle", "topmost")
        for name, module in small.taps(depth).items()
    ]
    small.logits(torch.rand(1, 3, 64, 64))
    for handle in handles:
        handle.remove()
    assert len(seen) == 10
    assert seen[:3] == list(small.taps("shallow"))
    assert seen[-4:] == list(small.taps("topmost"))
