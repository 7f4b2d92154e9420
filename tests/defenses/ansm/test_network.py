"""S_φ: the parts the paper names, any size, and nothing changed before training."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from advbench.defenses.ansm.network import SIZES, AnsmNetwork
from advbench.errors import AdvbenchError

from .toys import disturbed


def kinds(module: nn.Module) -> list[str]:
    """Names of the layers, in order."""
    return [type(layer).__name__ for layer in module.modules() if not list(layer.children())]


def watched(module: nn.Module) -> list[Tensor]:
    """Fills with what the module gives."""
    seen: list[Tensor] = []
    module.register_forward_hook(lambda m, inputs, output: seen.append(output.detach().clone()))
    return seen


@pytest.mark.parametrize("upsampling", ["nearest", "subpixel"])
@pytest.mark.parametrize("size", list(SIZES))
def test_decoder_is_that_of_the_paper(size, upsampling):
    with torch.device("meta"):
        network = AnsmNetwork(size, upsampling=upsampling)
    assert len(network.ups) == 5
    for up in network.ups:
        assert kinds(up)[1:] == ["Conv2d", "BatchNorm2d", "ReLU"]
        assert [*up[0](torch.zeros(1, 8, 3, 5)).shape[2:]] == [6, 10]
    assert len(network.fusions) == 4
    for fusion in network.fusions:
        assert kinds(fusion) == ["Conv2d", "BatchNorm2d", "Conv2d", "ReLU"]
    head = ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d"]
    assert kinds(network.gamma1) == [*head, "Softsign"]
    assert kinds(network.gamma2) == [*head, "Sigmoid"]
    assert network.gamma1[3].out_channels == network.gamma2[3].out_channels == 3
    parts = [network.ups, network.fusions, network.gamma1, network.gamma2]
    convolutions = [m for part in parts for m in part.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 5 + 8 + 4
    assert all(m.kernel_size == (3, 3) and m.stride == (1, 1) for m in convolutions)
    # Each fusion takes the map of its own scale, from a 16th of the side to a half.
    encoded = network.encoder.feature_info.channels()[-2::-1]
    for up, fusion, channels in zip(network.ups, network.fusions, encoded, strict=False):
        assert fusion.layers[0].in_channels == up[1].out_channels + channels


@pytest.mark.parametrize("upsampling", ["nearest", "subpixel"])
def test_upsampling(upsampling):
    """Each value four times, or four channels for the four pixels."""
    up = AnsmNetwork("small", upsampling=upsampling).ups[0][0]
    x = torch.rand(1, 8, 3, 5)
    found = up(x)
    for row, column in itertools.product(range(6), range(10)):
        below = x[0, :, row // 2, column // 2]
        place = 2 * (row % 2) + column % 2
        expected = below if upsampling == "nearest" else below[place::4]
        assert torch.equal(found[0, :, row, column], expected)


def test_full_encoder_is_efficientnet_b4():
    with torch.device("meta"):
        encoder = AnsmNetwork("full").encoder
    # The published count, less what comes after the last stage: 1×1 to 1792, its BN, 1000 classes.
    expected = 19_341_616 - (448 * 1792 + 2 * 1792) - (1792 * 1000 + 1000)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == expected


def test_encoder_sees_normalised_images():
    network, seen = disturbed(), []
    network.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    images = torch.rand(1, 3, 32, 32)
    network(images)
    mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    expected = (images[0].permute(1, 2, 0).numpy() - mean) / std
    assert np.allclose(seen[0][0].permute(1, 2, 0), expected, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_nothing_is_corrected_at_first(training):
    network = AnsmNetwork("small").train(training)
    images = torch.rand(2, 3, 40, 72)
    images[0, :, :2], images[1, :, :2] = 0, 1
    assert torch.equal(network(images), images)


def test_training_can_leave_the_first_state():
    network = AnsmNetwork("small").train()
    network(torch.rand(2, 3, 64, 64)).sum().backward()
    assert network.gamma1[3].weight.grad.abs().max() > 0


def test_every_parameter_learns():
    network = disturbed().train()
    network(0.3 + 0.4 * torch.rand(2, 3, 64, 64)).square().sum().backward()
    idle = [k for k, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


@torch.no_grad()
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (31, 65), (33, 47), (64, 96)], ids=str)
def test_any_size(shape):
    network, images = disturbed(), torch.rand(2, 3, *shape)
    found = network(images)
    assert found.shape == images.shape
    assert found.isfinite().all()
    assert not torch.equal(found, images)


@torch.no_grad()
def test_odd_sides_stay_aligned():
    """A row and a column more at the far end move nothing at the near one."""
    network, images = disturbed(), torch.rand(1, 3, 64, 64)
    whole = network.correction(images)
    found = network.correction(images[..., :63, :63])
    same, moved = (
        (found - whole[..., top : 63 + top, top : 63 + top])[..., :24, :24] for top in (0, 1)
    )
    assert same.abs().mean() < 0.3 * moved.abs().mean()


@torch.no_grad()
def test_correction_is_the_product_of_two_bounded_maps():
    network = disturbed()
    for head in (network.gamma1, network.gamma2):
        head[3].weight.mul_(40)
    before = [watched(head[3]) for head in (network.gamma1, network.gamma2)]
    after = [watched(head) for head in (network.gamma1, network.gamma2)]
    images = torch.rand(1, 3, 33, 40)
    correction = network.correction(images)
    (sign, size), (gamma1, gamma2) = ([seen[0] for seen in each] for each in (before, after))
    assert torch.allclose(gamma1, sign / (1 + sign.abs()))
    assert torch.allclose(gamma2, 1 / (1 + (-size).exp()), atol=1e-6)
    assert torch.equal(correction, gamma1 * gamma2)
    assert 0.9 < gamma1.abs().max() < 1
    assert torch.equal(network(images), (images + correction).clamp(0, 1))


@torch.no_grad()
@pytest.mark.parametrize("sign", [-1, 1])
def test_result_is_truncated_to_the_range(sign):
    network, images = disturbed(), 0.01 + 0.98 * torch.rand(1, 3, 32, 32)
    network.gamma1[3].bias.fill_(1000 * sign)
    network.gamma2[3].bias.fill_(100)
    assert torch.equal(network(images), torch.full_like(images, max(sign, 0)))


@torch.no_grad()
def test_every_encoder_map_counts():
    network, images = disturbed(), torch.rand(1, 3, 64, 64)
    reference = network(images)
    for number in range(5):

        def without(module: nn.Module, inputs: object, maps: list[Tensor], n: int = number) -> list:
            return [m.zero_() if k == n else m for k, m in enumerate(maps)]

        handle = network.encoder.register_forward_hook(without)
        assert not torch.equal(network(images), reference), number
        handle.remove()
    assert torch.equal(network(images), reference)


@torch.no_grad()
def test_images_of_a_batch_are_independent():
    network, images = disturbed(), torch.rand(3, 3, 33, 47)
    together = network(images)
    alone = torch.cat([network(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-5)


def test_gradient_by_image():
    """Along a random direction, against a finite difference in float64."""
    network = disturbed().double()
    images = 0.4 + 0.2 * torch.rand(1, 3, 33, 40, dtype=torch.float64)
    direction, weights = torch.randn_like(images), torch.randn_like(images)
    images.requires_grad_()
    (network(images) * weights).sum().backward()
    with torch.no_grad():
        step = 1e-6
        ends = [(network(images + s * step * direction) * weights).sum() for s in (1, -1)]
    expected = (ends[0] - ends[1]) / (2 * step)
    assert float((images.grad * direction).sum()) == pytest.approx(float(expected), rel=1e-4)


def test_pretrained_weights_that_cannot_be_fetched(monkeypatch):
    def offline(name: str, pretrained: bool, **settings: object) -> None:
        assert (name, pretrained) == ("tf_efficientnet_b4.in1k", True)
        raise OSError("no route")

    monkeypatch.setattr("advbench.defenses.ansm.network.timm.create_model", offline)
    with pytest.raises(AdvbenchError, match=r"pretrained=true: the ImageNet weights of tf_eff"):
        AnsmNetwork("full", pretrained=True)
