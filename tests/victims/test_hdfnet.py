"""HDF-Net: the authors' network, its contract, and the golden figures of their code."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.models.segmentation.deeplabv3 import ASPP

from advbench.errors import AdvbenchError
from advbench.victims.hdfnet.encoders import SRM, Block, VisionTransformer
from advbench.victims.hdfnet.network import FLA, SIZES, HdfNetwork
from advbench.victims.hdfnet.victim import HDFNet

from .golden import assert_keys, differences, picture, set_weights
from .gradients import assert_gradient

MEAN = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64).view(3, 1, 1)


@pytest.fixture(scope="module")
def full() -> HdfNetwork:
    return HdfNetwork(SIZES["full"]).eval()


@pytest.fixture(scope="module")
def small() -> HDFNet:
    return HDFNet.load("small", weights=None)


def small_double(gamma: float) -> HdfNetwork:
    """The small network in float64 whose attention counts: gamma is 0 when fresh."""
    torch.manual_seed(0)
    network = HdfNetwork(SIZES["small"]).double().eval().requires_grad_(False)
    network.fla.gamma.fill_(gamma)
    return network


def test_full_size_has_the_authors_counts(full):
    """spec: 12,156,152 parameters, 521 entries, and the parts' counts."""

    def count(name: str) -> int:
        return sum(p.numel() for p in full.get_submodule(name).parameters())

    parts = {
        **{"": 12_156_152, "bkbone": 3_859_777, "v1": 1_254_272, "v2": 2_172_544},
        **{"v3": 3_238_272, "aspp": 971_520, "fla": 45_313},
        **{"head_1": 577, "head_2": 577, "head_3": 577},
    }
    assert {name: count(name) for name in parts} == parts
    assert len(full.state_dict()) == 521


def test_full_size_has_the_authors_keys(full):
    assert_keys(full, "hdfnet")


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-7), (torch.float32, 2e-3)])
def test_golden_figures(dtype, bound):
    """Three maps of logits, input gradient and loss of the authors' code."""
    network = HdfNetwork(SIZES["full"]).to(dtype).eval()
    set_weights(network, frozen=("srm.SRMWeights",))
    image, mask = (value.to(dtype) for value in picture("hdfnet", 256, 256))
    x = image.requires_grad_()
    maps = network((x - MEAN.to(dtype)) / STD.to(dtype))
    loss = F.binary_cross_entropy_with_logits(maps[0], mask)
    (gradient,) = torch.autograd.grad(loss, x)
    found = {f"logit_{i}": logits[..., ::4, ::4] for i, logits in enumerate(maps, start=1)}
    apart = differences("hdfnet", found | {"input_grad": gradient[..., ::4, ::4], "loss": loss})
    assert max(apart.values()) <= bound, apart


def test_small_size_is_the_same_network(full, small):
    """Same names of modules but for their numbers, fewer parameters."""

    def names(network: torch.nn.Module) -> set[str]:
        return {re.sub(r"\.\d+\b", ".N", key) for key in network.state_dict()}

    assert names(small.network) == names(full)
    assert sum(p.numel() for p in small.network.parameters()) < 900_000


def test_logits_are_the_first_map_of_the_normalised_image(small):
    """And the two other heads rest."""
    x = torch.rand(1, 3, 256, 256)
    expected = small.network(((x - MEAN) / STD).float())
    assert [logits.shape for logits in expected] == [(1, 1, 256, 256)] * 3
    ran = []
    handles = [
        small.network.get_submodule(name).register_forward_hook(
            lambda m, i, o, name=name: ran.append(name)
        )
        for name in ("head_1", "head_2", "head_3")
    ]
    assert torch.allclose(small.logits(x), expected[0], atol=1e-4)
    for handle in handles:
        handle.remove()
    assert ran == ["head_1"]
    for found, same in zip(small.maps(x), expected, strict=True):
        assert torch.allclose(found, same, atol=1e-4)


@pytest.mark.parametrize("shape", [(512, 512), (256, 255), (128, 256)])
def test_other_sides_are_refused(small, shape):
    with pytest.raises(AdvbenchError, match="takes images of 256×256") as caught:
        small.logits(torch.rand(1, 3, *shape))
    assert "×".join(map(str, shape)) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_are_shrunk_without_aliasing(small):
    """Within a grey level of torch's antialiased resize; far from the plain one."""
    image = np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    ours = torch.from_numpy(small.fit(image)).permute(2, 0, 1)[None].double()
    x = torch.from_numpy(image).permute(2, 0, 1)[None].double()

    def apart(antialias: bool) -> float:
        theirs = F.interpolate(x, (256, 256), mode="bilinear", antialias=antialias)
        return float((ours - theirs).abs().max())

    assert apart(antialias=True) <= 1
    assert apart(antialias=False) > 50


def test_batch_mates_do_not_matter():
    network = small_double(gamma=1)
    x = torch.rand(3, 3, 256, 256, dtype=torch.float64)
    together = network.logits(x)
    alone = torch.cat([network.logits(image[None]) for image in x])
    assert torch.allclose(together, alone, rtol=0, atol=1e-10)
    network.fla.gamma.fill_(0)
    assert (network.logits(x[:1]) - alone[:1]).abs().max() > 1e-4


def test_input_gradient_by_finite_differences():
    network = small_double(gamma=0.5)
    x = torch.rand(1, 3, 256, 256, dtype=torch.float64)
    weight = torch.randn(1, 1, 256, 256, dtype=torch.float64)

    def value(image: torch.Tensor) -> torch.Tensor:
        return (network.logits(image) * weight).sum()

    assert_gradient(value, x, rel=1e-4, directions=3)


def test_block_of_stride_1_is_twice_its_branch():
    """No identity and no attention, whatever the name residual says."""
    block = Block(6, 6, expansion=4, stride=1, reduction=2).eval()
    x = torch.randn(2, 6, 8, 8)
    y = F.conv2d(x, block.conv1.weight) / (1 + 1e-5) ** 0.5
    y = F.conv2d(y.clamp(0, 6), block.conv2.weight, padding=1, groups=24) / (1 + 1e-5) ** 0.5
    y = F.conv2d(y.clamp(0, 6), block.conv3.weight) / (1 + 1e-5) ** 0.5
    assert torch.allclose(block(x), (2 * y).clamp(0, 6), atol=1e-5)
    assert len(list(block.children())) == 6


def test_tokens_become_a_map_by_a_raw_reshape():
    """Numbers stay in the order of the tokens: no transposition."""
    vit = VisionTransformer(side=32, patch=8, width=6, depth=1, heads=(2, 4), hidden=8).eval()
    seen = []
    vit.transformer.register_forward_hook(lambda m, i, o: seen.append(o))
    out = vit(torch.randn(2, 3, 32, 32))
    assert seen[0].shape == (2, 16, 6)
    assert out.shape == (2, 6, 4, 4)
    assert out.flatten().tolist() == seen[0].flatten().tolist()


def test_patches_are_flattened_row_column_colour():
    vit = VisionTransformer(side=16, patch=8, width=6, depth=1, heads=(1, 4), hidden=8)
    x = torch.randn(1, 3, 16, 16)
    linear = vit.to_patch_embedding[1]
    found = vit.to_patch_embedding(x)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        patch = x[0, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        expected = linear.weight @ patch.permute(1, 2, 0).flatten() + linear.bias
        assert torch.allclose(found[0, :, row, column], expected, atol=1e-5)


def test_fully_attentional_block_against_loops():
    torch.manual_seed(0)
    samples, channels, height, width = 2, 5, 4, 6
    fla = FLA(channels).double().eval()
    fla.gamma.data.fill_(0.7)
    x = torch.randn(samples, channels, height, width, dtype=torch.float64)
    attended = torch.zeros_like(x)
    for n in range(samples):
        keys = torch.stack([fla.conv1(x[n, :, h].mean(1)) for h in range(height)])
        for w in range(width):
            column = x[n, :, :, w]
            attended[n, :, :, w] += torch.softmax(column @ keys, 1) @ column
        keys = torch.stack([fla.conv2(x[n, :, :, w].mean(1)) for w in range(width)])
        for h in range(height):
            row = x[n, :, h]
            attended[n, :, h] += torch.softmax(row @ keys, 1) @ row
    assert torch.allclose(fla(x), fla.conv(0.7 * attended + x), atol=1e-12)


def test_srm_filters_are_residual_filters():
    """They ignore constant images and see the three colours alike."""
    filters = SRM().SRMWeights
    assert not filters.requires_grad
    assert torch.allclose(filters.sum((2, 3)), torch.zeros(3, 3), atol=1e-6)
    assert torch.equal(filters, filters[:, :1].expand(3, 3, 5, 5))
    assert filters[:, 0, 2, 2].tolist() == [-1, -1, -1]


def test_srm_filters_do_not_train():
    """Even where all parameters are set to train, as the training loop does."""
    torch.manual_seed(0)
    network = HdfNetwork(SIZES["small"]).train().requires_grad_(True)
    before = {key: value.clone() for key, value in network.named_parameters()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=0.1)
    sum(logits.square().mean() for logits in network(torch.randn(2, 3, 256, 256))).backward()
    optimizer.step()
    same = {key for key, value in network.named_parameters() if torch.equal(value, before[key])}
    assert same == {"srm.SRMWeights"}


def test_dropout_rates_are_the_authors(full):
    """0.1 in the transformers: embedding, attention projection, twice in the MLP; 0.5 in ASPP."""
    rates = [
        (name.partition(".")[0], module.p)
        for name, module in full.named_modules()
        if isinstance(module, torch.nn.Dropout)
    ]
    assert [rate for rate in rates if rate[0] == "aspp"] == [("aspp", 0.5)]
    for name, depth in (("v1", 2), ("v2", 4), ("v3", 6)):
        assert [p for part, p in rates if part == name] == [0.1] * (1 + 3 * depth)


def test_aspp_is_torchvisions(full):
    theirs = ASPP(512, [6, 12, 18], 64).eval()
    theirs.load_state_dict(full.aspp.state_dict())
    x = torch.randn(1, 512, 8, 8)
    assert torch.equal(theirs(x), full.aspp(x))


def test_taps_cover_the_network_in_order(small):
    """Shallow, middle, topmost, each a module that gives a map, run once."""
    seen: list[tuple[str, str]] = []
    shapes = {}

    def hook(depth: str, name: str):
        def keep(module, inputs, output):
            seen.append((depth, name))
            shapes[name] = output.shape[2:]

        return keep

    depths = ("shallow", "middle", "topmost")
    handles = [
        module.register_forward_hook(hook(depth, name))
        for depth in depths
        for name, module in small.taps(depth).items()
    ]
    small.logits(torch.rand(1, 3, 256, 256))
    for handle in handles:
        handle.remove()
    assert sorted(seen, key=lambda tap: depths.index(tap[0])) == seen
    assert {name: side for name, (side, _) in shapes.items()} == {
        **{"bkbone.multi_scale": 128, "bkbone.layer1": 64, "bkbone.layer2": 32, "srm": 256},
        **{"bkbone.layer3": 16, "bkbone.layer4": 8, "v1": 8, "v2": 16, "fuse1_2": 16},
        **{"fuse12": 32, "fuse23": 64, "fused": 64},
    }
    assert len(seen) == len(shapes)


def test_topmost_tap_is_what_the_head_is_given(small):
    given = []
    handles = [
        small.network.head_1.register_forward_pre_hook(lambda m, i: given.append(i[0])),
        small.taps("topmost")["fused"].register_forward_hook(lambda m, i, o: given.append(o)),
    ]
    small.logits(torch.rand(1, 3, 256, 256))
    for handle in handles:
        handle.remove()
    assert torch.equal(*given)
