"""MVSS-Net: the authors' network, its contract, and the golden figures of their code."""

from __future__ import annotations

from itertools import product
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import advbench
from advbench.victims.base import Depth
from advbench.victims.mvssnet.network import (
    CAM,
    PAM,
    SIZES,
    BayarConv,
    MvssNetwork,
    SobelConv,
    Trunk,
)

from .golden import assert_keys, differences, picture, set_weights
from .gradients import assert_gradient

SOBEL = tuple(f"sobel_{axis}{number}.0.weight" for axis in "xy" for number in range(1, 5))


@pytest.fixture(scope="module")
def full() -> MvssNetwork:
    return MvssNetwork(SIZES["full"]).eval()


@pytest.fixture
def small():
    """Small victim whose attentions have weight."""
    victim = advbench.load_victim("mvssnet", size="small", weights=None)
    nn.init.constant_(victim.network.head.pam.alpha, 0.5)
    nn.init.constant_(victim.network.head.cam.beta, 0.5)
    return victim


@pytest.fixture
def training() -> MvssNetwork:
    """Small network as the training loop holds it: everything asks for a gradient."""
    torch.manual_seed(0)
    return MvssNetwork(SIZES["small"]).train().requires_grad_(True)


def count(network: nn.Module, *names: str) -> int:
    return sum(p.numel() for n, p in network.named_parameters() if n.startswith(names))


def test_full_size_has_the_authors_counts(full):
    """spec: 146,880,335 parameters, 800 entries, and the parts' counts."""
    assert count(full, "") == 146_880_335
    assert len(full.state_dict()) == 800
    assert count(full, "model.") == count(full, "noise_extractor.") == 25_557_032
    assert count(full, "model.fc") + count(full, "noise_extractor.model.fc") == 4_098_000
    assert count(full, "head.") == 95_693_059
    assert count(full, "constrain_conv.") == 72
    sobel = [count(full, f"sobel_x{number}.", f"sobel_y{number}.") for number in range(1, 5)]
    assert sobel == [4_612, 9_220, 18_436, 36_868]


def test_full_size_has_the_authors_keys(full):
    assert_keys(full, "mvssnet")


def test_golden_figures():
    """Logits of regions and edges, input gradient and loss of the authors' code. In float32 the
    gradient was 8e-5 apart with one thread, 1.4e-3 with two."""
    network = MvssNetwork(SIZES["full"]).double().eval().requires_grad_(False)
    set_weights(network, SOBEL)
    for dtype, bound in ((torch.float64, 1e-7), (torch.float32, 1e-2)):
        network.to(dtype)
        image, mask = (value.to(dtype) for value in picture("mvssnet", 256, 256))
        x = image.requires_grad_()
        edges, logits = network(normalised(x))
        loss = F.binary_cross_entropy_with_logits(logits, mask)
        (gradient,) = torch.autograd.grad(loss, x)
        found = {
            "logit": logits[..., ::4, ::4],
            "edge_logit": edges[..., ::2, ::2],
            "input_grad": gradient[..., ::4, ::4],
            "loss": loss,
        }
        apart = differences("mvssnet", found)
        assert max(apart.values()) <= bound, (dtype, apart)


def normalised(rgb: Tensor) -> Tensor:
    """What the authors do with OpenCV's images: the statistics of R are applied to B."""
    blue, green, red = rgb[:, 2], rgb[:, 1], rgb[:, 0]
    return torch.stack([(blue - 0.485) / 0.229, (green - 0.456) / 0.224, (red - 0.406) / 0.225], 1)


def test_trunk_is_torchvisions_resnet50():
    """With stride replaced by dilation in layer4, and its last block dilated by four."""
    resnet50 = pytest.importorskip("torchvision.models").resnet50
    torch.manual_seed(0)
    theirs = resnet50(weights=None, replace_stride_with_dilation=[False, False, True]).eval()
    theirs.layer4[2].conv2.dilation = theirs.layer4[2].conv2.padding = (4, 4)
    trunk = Trunk(SIZES["full"]).eval()
    trunk.load_state_dict(theirs.state_dict())
    kept: list[Tensor] = []
    theirs.layer4.register_forward_hook(lambda module, inputs, output: kept.append(output))
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        theirs(x)
        ours = trunk(x)
    assert [m.shape[1:] for m in ours[:3]] == [(256, 16, 24), (512, 8, 12), (1024, 4, 6)]
    assert torch.allclose(ours[3], kept[0], rtol=1e-5, atol=1e-6)


def test_small_size_is_the_same_network(small):
    """Same parts, fewer parameters, no dead classifiers; the trunks shrink the image by eight."""
    with torch.device("meta"):
        full = {key.split(".")[0] for key in MvssNetwork(SIZES["full"]).state_dict()}
    assert {key.split(".")[0] for key in small.network.state_dict()} == full
    assert not any("fc" in key for key in small.network.state_dict())
    assert count(small.network, "") < 700_000
    assert small.network.model(torch.rand(1, 3, 128, 128))[3].shape[2:] == (16, 16)


def test_working_side_is_the_sizes_own(small):
    assert small.fit(np.zeros((40, 60, 3), np.uint8)).shape == (256, 256, 3)
    assert type(small)(small.network, small.weights, "full").working_side == 512


@pytest.mark.parametrize("shape", [(64, 96), (50, 75)])
def test_shapes(small, shape):
    """Regions at the image's size, edges at a quarter; sides that no layer halves evenly too."""
    edges, regions = small.edges_and_regions(torch.rand(2, 3, *shape))
    assert regions.shape == (2, 1, *shape)
    assert edges.shape == (2, 1, -(-shape[0] // 4), -(-shape[1] // 4))


def test_victim_sees_normalised_bgr(small):
    x = torch.rand(1, 3, 64, 64)
    assert torch.allclose(small.logits(x), small.network.segment(normalised(x)), atol=1e-6)
    assert not torch.allclose(small.logits(x), small.logits(x.flip(1)), atol=1e-4)


def test_regions_are_the_same_with_and_without_edges(small):
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(small.edges_and_regions(x)[1], small.logits(x))


def test_forward_leaves_the_state_unchanged(small):
    before = {key: value.clone() for key, value in small.network.state_dict().items()}
    small.edges_and_regions(torch.rand(1, 3, 64, 64))
    after = small.network.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_bayar_filters_are_constrained():
    """-1 at the centre, the other weights in proportion to the kernel; blind to flat images."""
    conv = BayarConv()
    filters = conv.filters().detach().reshape(3, 25)
    assert torch.equal(filters[:, 12], -torch.ones(3))
    assert torch.allclose(filters.sum(1), torch.zeros(3), atol=1e-6)
    others = torch.cat([filters[:, :12], filters[:, 13:]], 1)
    kernel = conv.kernel.detach()[0]
    assert torch.allclose(others * kernel.sum(1, keepdim=True), kernel, atol=1e-6)
    flat = conv(torch.full((1, 1, 9, 9), 0.7))[..., 2:-2, 2:-2]
    assert torch.allclose(flat, torch.zeros_like(flat), atol=1e-6)


def test_noise_is_seen_in_full_precision():
    """Under mixed precision too: bfloat16 would round a pixel by half a grey level."""
    gray = torch.randn(1, 1, 16, 16)
    attention, x = CAM(), torch.randn(1, 8, 4, 4)
    nn.init.constant_(attention.beta, 0.5)
    conv = BayarConv()
    expected = conv(gray), attention(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = conv(gray), attention(x)
    assert all(torch.equal(*pair) for pair in zip(expected, found, strict=True))


def test_gray_is_that_of_bgr(small):
    """The noise trunk sees no image whose B, G, R balance out by the weights of gray."""
    seen: list[Tensor] = []
    hook = small.network.constrain_conv.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0])
    )
    for channel in range(3):
        small.network.segment(torch.eye(3)[channel].view(1, 3, 1, 1).expand(1, 3, 32, 32))
    hook.remove()
    assert [float(gray.mean()) for gray in seen] == pytest.approx([0.1140, 0.5870, 0.2989])


@pytest.mark.parametrize(("axis", "across", "down"), [("x", -8.0, 0.0), ("y", 0.0, -8.0)])
def test_sobel_measures_slopes(axis, across, down):
    """On a ramp each channel gives minus eight times its slope, along the filter's axis only."""
    conv = SobelConv(4, axis)
    ramp = torch.arange(6.0).expand(1, 4, 6, 6)
    for image, slope in ((ramp, across), (ramp.transpose(2, 3), down)):
        inner = conv(image)[..., 1:-1, 1:-1]
        assert torch.equal(inner, torch.full_like(inner, 4 * slope))


def test_position_attention_by_loops():
    """Softmax over the pixels j of b_i · c_j weighs d_j, times alpha, plus the input."""
    torch.manual_seed(0)
    module = PAM(16).double()
    nn.init.constant_(module.alpha, 0.7)
    x = torch.randn(2, 16, 2, 3, dtype=torch.float64)
    with torch.no_grad():
        found = module(x).flatten(2)
        maps = [conv(x).flatten(2) for conv in (module.conv_b, module.conv_c, module.conv_d)]
        for n, i in product(range(2), range(6)):
            b, c, d = (value[n] for value in maps)
            weights = [float(torch.exp(b[:, i] @ c[:, j])) for j in range(6)]
            mixed = sum(w * d[:, j] for j, w in enumerate(weights)) / sum(weights)
            assert torch.allclose(found[n, :, i], 0.7 * mixed + x.flatten(2)[n, :, i])


def test_channel_attention_by_loops():
    """The weight of channel j for i falls with their scalar product."""
    torch.manual_seed(0)
    module = CAM().double()
    nn.init.constant_(module.beta, 0.7)
    x = torch.randn(2, 5, 2, 3, dtype=torch.float64)
    with torch.no_grad():
        found = module(x)
        for n, i in product(range(2), range(5)):
            weights = [float(torch.exp(-(x[n, i] * x[n, j]).sum())) for j in range(5)]
            mixed = sum(w * x[n, j] for j, w in enumerate(weights)) / sum(weights)
            assert torch.allclose(found[n, i], 0.7 * mixed + x[n, i])


def test_batch_mates_do_not_matter(small):
    x = torch.rand(3, 3, 64, 48)
    alone = torch.cat([small.logits(image[None]) for image in x])
    assert torch.allclose(small.logits(x), alone, atol=1e-5)


def test_input_gradient_by_finite_differences(training):
    network = training.double().eval()
    nn.init.constant_(network.head.pam.alpha, 0.5)
    nn.init.constant_(network.head.cam.beta, 0.5)
    x = torch.randn(1, 3, 48, 48, dtype=torch.float64)
    weights = [torch.randn(1, 1, side, side, dtype=torch.float64) for side in (12, 48)]

    def value(image: Tensor) -> Tensor:
        return sum((w * logits).sum() for w, logits in zip(weights, network(image), strict=True))

    assert_gradient(value, x)


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_edge_gradient_is_finite_without_slopes(training, value):
    """The root of the squared slopes has no slope of its own where both are 0: on a flat image,
    and surely where BN takes all slopes away."""
    for number, axis in product(range(1, 5), "xy"):
        nn.init.constant_(training.get_submodule(f"sobel_{axis}{number}.1").weight, value)
    for name, parameter in training.named_parameters():
        if name.startswith("erb") and name.endswith("conv3.bias"):
            nn.init.constant_(parameter, 5.0)  # so that no ReLU cuts the gradient
    x = torch.full((1, 3, 32, 32), 0.5, requires_grad=True)
    (gradient,) = torch.autograd.grad(training.eval()(x)[0].sum(), x)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_only_the_last_edge_block_gives_negative_values(small):
    seen: dict[str, Tensor] = {}
    for name, module in small.network.named_modules():
        if name.startswith("erb") and "." not in name:
            nn.init.constant_(module.conv3.bias, -5.0)
            module.register_forward_hook(lambda m, i, o, name=name: seen.update({name: o}))
    small.edges_and_regions(torch.rand(1, 3, 64, 64))
    assert len(seen) == 7
    assert {name for name, edges in seen.items() if edges.min() < 0} == {"erb_trans_3"}


def test_all_but_the_sobel_filters_learns(training):
    before = {key: value.clone() for key, value in training.state_dict().items()}
    optimizer = torch.optim.AdamW(training.parameters(), lr=0.01, weight_decay=0.1)
    torch.manual_seed(1)
    for _ in range(2):  # alpha and beta start at 0 and hold their attention's weights back once
        edges, regions = training(torch.randn(2, 3, 64, 64))
        optimizer.zero_grad()
        (edges.square().mean() + regions.square().mean()).backward()
        optimizer.step()
    unmoved = {
        name for name, value in training.named_parameters() if torch.equal(value, before[name])
    }
    assert unmoved == set(SOBEL)


def test_taps_fire_from_shallow_to_topmost(small):
    """In each trunk and in the head, all of them once; their maps belong to the image."""
    seen: list[str] = []
    names = {depth: list(small.taps(depth)) for depth in get_args(Depth)}
    handles = [
        module.register_forward_hook(lambda m, i, o, name=name: seen.append(name))
        for depth in names
        for name, module in small.taps(depth).items()
    ]
    small.logits(torch.rand(1, 3, 64, 64))
    for handle in handles:
        handle.remove()
    assert len(seen) == 6 + 4 + 4
    assert set(seen[-4:]) == set(names["topmost"])
    for trunk in ("model.", "noise_extractor."):
        fired = [name for name in seen if name.startswith(trunk)]
        in_order = [name for depth in names for name in names[depth] if name.startswith(trunk)]
        assert fired == in_order
