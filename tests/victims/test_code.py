"""CoDE: the authors' network, its rollout, and the golden figures of their code."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import advbench
from advbench.victims.code.mbconv import SamePadConv
from advbench.victims.code.network import SIZES, CodeNetwork, clip_to_unit

from .golden import assert_keys, differences, picture, set_weights
from .gradients import assert_gradient


@pytest.fixture(scope="module")
def full() -> CodeNetwork:
    return CodeNetwork(SIZES["full"]).eval()


@pytest.fixture(scope="module")
def small():
    return advbench.load_victim("code", size="small", weights=None)


def lively() -> CodeNetwork:
    """Random weights whose actions are large enough to meet the clip on both sides."""
    torch.manual_seed(0)
    network = CodeNetwork(SIZES["small"])
    with torch.no_grad():
        weight = network.mu[7].weight
        weight.sub_(weight.mean()).mul_(1000)
    return network.double().eval()


def test_full_size_has_the_authors_counts(full):
    """spec: 14,275,975 parameters, 903 entries, and the parts' counts."""

    def count(*names: str) -> int:
        return sum(p.numel() for n, p in full.named_parameters() if n.startswith(names))

    assert count("") == 14_275_975
    assert len(full.state_dict()) == 903
    assert count("conv_stem", "down") == 12_272_212
    assert count("p_", "mu", "sigma") == 1_043_786
    assert count("v_") == 959_977
    # What inference needs: neither sigma nor the critic.
    assert count("conv_stem", "down", "p_", "mu") == 13_253_069


def test_full_size_has_the_authors_keys(full):
    assert_keys(full, "code")


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-7), (torch.float32, 2e-2)])
def test_golden_figures(dtype, bound):
    """Means, probabilities, variance, value and input gradient of the authors' code."""
    network = CodeNetwork(SIZES["full"]).to(dtype).eval()
    set_weights(network)
    image, mask = (value.to(dtype) for value in picture("code", 256, 256))
    x = image.requires_grad_()
    maps = network.encode(x)
    actor, critic = network.actor(maps), network.critic(maps)
    found: dict[str, Tensor] = {}
    probability = torch.zeros_like(mask)
    for step in (1, 2, 3):
        policy = network.policy(actor, probability)
        if step == 1:
            found |= {"sigma_1": policy.variance, "value_1": network.value(critic, probability)}
            weighted = (policy.mean * (2 * mask - 1)).mean()
            (found["grad_mu1"],) = torch.autograd.grad(weighted, x, retain_graph=True)
        probability = (probability + 0.5 * policy.mean).clamp(0, 1)
        found |= {f"mu_{step}": policy.mean, f"prob_{step}": probability}
    found["mu_from_mask"] = network.mean(actor, mask)
    apart = differences("code", {name: value[..., ::4, ::4] for name, value in found.items()})
    assert max(apart.values()) <= bound, apart


def test_blocks_equal_those_of_a_library(full):
    """segmentation-models-pytorch's EfficientNet-B4, whose keys these are; at its own side and at
    the working size."""
    encoders = pytest.importorskip("segmentation_models_pytorch.encoders")
    library = encoders.get_encoder("efficientnet-b4", weights=None).double().eval()
    state = library.state_dict()
    ours = CodeNetwork(SIZES["full"]).double().eval()
    first = 0
    for number in range(1, 5):
        down = ours.get_submodule(f"down{number}")
        for block in down.blocks:
            prefix = f"_blocks.{first}."
            theirs = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            block.load_state_dict(theirs)
            first += 1
    assert first == 30
    for side in (95, 128):
        x = y = torch.rand(1, 48, side, side, dtype=torch.float64)
        for number in range(1, 5):
            x = ours.get_submodule(f"down{number}")(x)
        for block in library._blocks[:30]:
            y = block(y)
        assert torch.allclose(x, y, rtol=1e-9, atol=1e-12)


def test_padding_is_that_of_380_pixels(full):
    """spec 4.2: static, whatever the image's size."""
    strided = {
        name: (module.before, module.after)
        for name, module in full.named_modules()
        if isinstance(module, SamePadConv) and module.stride == (2, 2)
    }
    assert strided == {
        "conv_stem.0": (0, 1),
        "down1.blocks.2._depthwise_conv": (0, 1),
        "down2.blocks.0._depthwise_conv": (2, 2),
        "down3.blocks.0._depthwise_conv": (0, 1),
        "down4.blocks.6._depthwise_conv": (1, 2),
    }


def test_map_stays_in_the_unit_interval_and_both_clips_agree():
    network = lively()
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        plain = network.rollout(images, "autograd")
        through = network.rollout(images, "straight-through")
    for ours, theirs in zip(through, plain, strict=True):
        assert torch.equal(ours, theirs)
        assert float(ours.min()) >= 0
        assert float(ours.max()) <= 1
    assert (plain[-1] == 0).any()
    assert (plain[-1] == 1).any()


def test_rollout_against_the_recurrence():
    network = lively()
    images = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        actor = network.actor(network.encode(images))
        expected = torch.zeros(1, 1, 64, 64, dtype=torch.float64)
        for found in network.rollout(images):
            expected = torch.clip(expected + network.policy(actor, expected).mean / 2, 0, 1)
            assert torch.equal(found, expected)


def test_gradients_of_the_clip():
    """Straight-through: one everywhere. Autograd: one inside, zero at the bounds and beyond."""
    values = [-0.5, 0.0, 0.25, 1.0, 1.5]
    for clip, expected in (
        ("straight-through", [1.0] * 5),
        ("autograd", [0.0, 0.0, 1.0, 0.0, 0.0]),
    ):
        x = torch.tensor(values, requires_grad=True)
        clipped = clip_to_unit(x, clip)
        assert clipped.tolist() == [0.0, 0.0, 0.25, 1.0, 1.0]
        (gradient,) = torch.autograd.grad(clipped.sum(), x)
        assert gradient.tolist() == expected


def test_saturated_pixels_keep_a_gradient():
    """Where the map is clipped, autograd sees nothing and the victim's logits still do."""
    network = lively()
    images = torch.rand(1, 3, 64, 64, dtype=torch.float64, requires_grad=True)
    pixel = int((network.rollout(images)[-1] == 0).flatten().nonzero()[0])
    norms = {}
    for clip in ("straight-through", "autograd"):
        final = network.rollout(images, clip)[-1].flatten()[pixel]
        (gradient,) = torch.autograd.grad(final, images)
        norms[clip] = float(gradient.abs().max())
    assert norms["autograd"] == 0 < norms["straight-through"]


def test_logits_are_those_of_the_limited_probability(small):
    images = torch.rand(1, 3, 64, 64)
    probability = small.probabilities(images)
    limited = probability.clamp(0.02, 0.98)
    assert torch.allclose(torch.sigmoid(small.logits(images)), limited, atol=1e-6)


def test_batch_mates_do_not_matter(small):
    x = torch.rand(3, 3, 64, 96)
    alone = torch.cat([small.logits(image[None]) for image in x])
    assert torch.allclose(small.logits(x), alone, atol=1e-4)


def test_input_gradient_by_finite_differences():
    network = CodeNetwork(SIZES["small"]).double().eval().requires_grad_(False)
    torch.manual_seed(0)
    x = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    weight = torch.randn(1, 1, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        for parameter in network.mu.parameters():
            parameter.abs_()  # actions are positive and small: no pixel meets the clip
        network.mu[7].weight.mul_(0.01)

    def value(image: Tensor) -> Tensor:
        return (network.rollout(image, "autograd")[-1] * weight).sum()

    assert float(network.rollout(x)[-1].min()) > 0
    assert float(network.rollout(x)[-1].max()) < 1
    assert_gradient(value, x, rel=1e-4)


def test_taps_cover_the_network_in_order(small):
    """Nine stages, three a third; each depends on the image alone, so it fires once."""
    seen: list[str] = []
    handles = [
        module.register_forward_hook(lambda m, i, o, name=name: seen.append(name))
        for depth in ("shallow", "middle", "topmost")
        for name, module in small.taps(depth).items()
    ]
    small.logits(torch.rand(1, 3, 64, 64))
    for handle in handles:
        handle.remove()
    assert seen == [
        name for depth in ("shallow", "middle", "topmost") for name in small.taps(depth)
    ]
    assert len(seen) == 9


def test_small_size_is_the_same_network(small):
    names = {k.partition(".")[0] for k in CodeNetwork(SIZES["full"]).state_dict()}
    assert {k.partition(".")[0] for k in small.network.state_dict()} == names
    assert sum(p.numel() for p in small.network.parameters()) < 2_000_000
