"""IF-OSN: the authors' network, its contract, and the golden figures of their code."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import advbench
from advbench.victims.ifosn.network import SIZES, ScseUnet

from .golden import assert_keys, differences, picture, set_weights
from .gradients import assert_gradient


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


def test_full_size_has_the_authors_keys(full):
    assert_keys(full, "ifosn")


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-7), (torch.float32, 1e-3)])
def test_golden_figures(dtype, bound):
    """Logits, probabilities, input gradient and loss of the authors' code."""
    network = ScseUnet(SIZES["full"]).to(dtype).eval()
    set_weights(network)
    image, mask = (value.to(dtype) for value in picture("ifosn", 128, 160))
    x = image.requires_grad_()
    logits = network.logits((x - 0.5) / 0.5)
    loss = F.binary_cross_entropy_with_logits(logits, mask)
    (gradient,) = torch.autograd.grad(loss, x)
    found = {
        "logit": logits[..., ::2, ::2],
        "prob": torch.sigmoid(logits)[..., ::2, ::2],
        "input_grad": gradient[..., ::2, ::2],
        "loss": loss,
    }
    apart = differences("ifosn", found)
    assert max(apart.values()) <= bound, apart


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
    x = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    weight = torch.randn(1, 1, 32, 32, dtype=torch.float64)

    def value(image: torch.Tensor) -> torch.Tensor:
        return (network.logits(image) * weight).sum()

    assert_gradient(value, x)


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
