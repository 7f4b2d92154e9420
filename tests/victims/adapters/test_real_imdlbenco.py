"""The package IMDLBenCo itself, in the environment of docs/other-localizers.md.

``pytest -s`` prints the figures that stand there.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import advbench
from advbench.attacks.losses import localization_loss
from advbench.errors import AdvbenchError

MODELS = ["Mesorch", "IML_ViT@224", "SparseViT", "PSCC_Net@128", "MantraNet", "ObjectFormer"]
MODELS += ["MVSSNet@128", "Trufor@128", "MSCDI_Net@256"]
MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

pytestmark = pytest.mark.slow


@pytest.fixture(params=MODELS)
def victim(request: pytest.FixtureRequest) -> Any:
    pytest.importorskip("IMDLBenCo.model_zoo")
    return advbench.load_victim(f"imdlbenco:{request.param}", weights=None)


def package(network, x):
    """The package's own map of images in [0, 1]."""
    zeros = torch.zeros(len(x), 1, *x.shape[2:])
    given = {"image": (x - MEAN) / STD, "mask": zeros, "edge_mask": zeros}
    return network(**given, label=torch.zeros(len(x)))["pred_mask"]


def settle(network, x):
    """Take the statistics of batch norms from these images."""
    twin = copy.deepcopy(network)  # a pass may change it
    for module in twin.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train()
            module.momentum = None
    with torch.no_grad():
        package(twin, x)
    for name, value in twin.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            network.get_buffer(name).copy_(value)


def reacts(victim, image):
    """Tell whether a new network's logits depend on the image by more than rounding: PSCC_Net's
    gradient is 3e-9, in which differences drown."""
    if not victim.differentiable:
        return True
    image = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(victim.logits(image).sum(), image)
    return bool(gradient.abs().max() > 1e-5)


@pytest.fixture
def any_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses take a target in any precision: PSCC_Net makes its own in float32. ``float`` leaves
    float64 alone: Mesorch calls it on its attention."""
    for name in ("binary_cross_entropy", "binary_cross_entropy_with_logits"):
        loss = getattr(F, name)

        def cast(*given, loss=loss, **named):
            named |= dict(zip(("input", "target"), given, strict=False))
            return loss(**named | {"target": named["target"].to(named["input"])})

        monkeypatch.setattr(F, name, cast)
    single = torch.Tensor.float
    monkeypatch.setattr(
        torch.Tensor, "float", lambda x: x if x.dtype == torch.float64 else single(x)
    )


def test_maps_and_gradients(victim, any_dtype):
    """The package's own map to 1e-6, alone and in a batch; gradients as differences."""
    side = victim.reading.fitting.side or 64
    x = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    if not reacts(victim, x[:1]):
        settle(victim.network, x)
    # MantraNet normalises over the batch, and rescales a filter at each pass.
    parts = x[:, None] if victim.reading.one_at_a_time else [x]
    copies = [copy.deepcopy(victim.network) for _ in parts]
    with torch.no_grad():
        logits = victim.logits(x)
        own = torch.cat([package(*pair) for pair in zip(copies, parts, strict=True)])
        off = (torch.sigmoid(logits) - own).abs().max()
        alone = victim.logits(x[1:])
        print(f"\n{victim.name}: map {off:.1e}, alone {(alone - logits[1:]).abs().max():.1e}")
        assert off <= 1e-6
        assert torch.allclose(alone, logits[1:], rtol=1e-4, atol=1e-4)
    if not victim.differentiable:
        return
    in_precision(victim.network, torch.float64)
    one = x[:1].double().requires_grad_()
    weight = torch.randn(1, 1, side, side, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((victim.logits(one) * weight).sum(), one)
    assert (gradient != 0).double().mean() > 0.99
    for value, number in zip(*gradient.abs().flatten().topk(3), strict=True):
        errors = []
        for step in (1e-8, 1e-7, 1e-6, 1e-5):
            found = difference(victim, one, weight, number=int(number), step=step)
            errors.append(float((found - gradient.flatten()[number]).abs() / value))
            if errors[-1] <= 1e-3:
                break
        print(f"{victim.name}: gradient {value:.1e}, difference off by {min(errors):.1e} of it")
        assert min(errors) <= 1e-3
    in_precision(victim.network, torch.float32)
    attacked(victim, (255 * x[:1]).byte())


def in_precision(network, dtype):
    """Mesorch keeps its cosine transforms as plain attributes, which ``Module.to`` leaves alone."""
    network.to(dtype)
    for module in network.modules():
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                vars(module)[name] = value.to(dtype)


def difference(victim, image, weight, *, number, step):
    """Divided central difference of the weighted logits along one value of the image; a small step
    drowns in rounding, a large one crosses kinks."""
    along = torch.zeros_like(image).flatten()
    along[number] = step
    along = along.view_as(image)
    with torch.no_grad():
        rise = ((victim.logits(image + along) - victim.logits(image - along)) * weight).sum()
    return rise / (2 * step)


def attacked(victim, images):
    """FGSM and PGD keep to two grey levels and raise the loss of each image."""
    masks = torch.zeros(len(images), *images.shape[2:], dtype=torch.bool)
    masks[:, : images.shape[2] // 2] = True

    def loss(batch):
        with torch.no_grad():
            return localization_loss(victim.logits(batch / 255), masks[:, None].float())

    before = loss(images)
    for name, settings in (("fgsm", {}), ("pgd", {"iterations": 2})):
        attack = advbench.load_attack(name, eps=[2], **settings)
        found = torch.as_tensor(attack(victim, images, masks)[f"{name}-2"])
        assert found.dtype == torch.uint8
        assert (found.int() - images.int()).abs().amax((1, 2, 3)).tolist() == [2] * len(images)
        assert (loss(found) > before).all(), name


@pytest.mark.parametrize(("name", "reason"), [("SPAN", "random layers"), ("Cat_Net", "JPEG")])
def test_what_cannot_be_attacked_is_refused(name, reason):
    pytest.importorskip("IMDLBenCo.model_zoo")
    with pytest.raises(AdvbenchError, match=reason):
        advbench.load_victim(f"imdlbenco:{name}", weights=None)
