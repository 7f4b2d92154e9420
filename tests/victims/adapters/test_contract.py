"""``imdlbenco:NAME`` and ``forensichub:NAME`` on stubs of the packages' contract."""

from __future__ import annotations

import argparse
import json
import pickle
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import advbench
from advbench.errors import AdvbenchError

from . import stubs

MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


@pytest.fixture(autouse=True)
def _packages(monkeypatch: pytest.MonkeyPatch) -> None:
    models = stubs.Models(*stubs.MODELS)
    stubs.install(monkeypatch, "IMDLBenCo.model_zoo")
    stubs.install(monkeypatch, "IMDLBenCo.registry", MODELS=models)
    contents = {"MODELS": models, "build_from_registry": stubs.build_from_registry}
    stubs.install(monkeypatch, "ForensicHub.registry", **contents)


def load(name: str, weights: str | None = None) -> Any:
    return advbench.load_victim(name, weights=weights)


def images(count: int, height: int, width: int) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def own(victim: Any, x: Tensor) -> Tensor:
    """The package's own map of an image that fits."""
    zeros = torch.zeros(len(x), 1, *x.shape[2:])
    label = torch.zeros(len(x))
    given = {"image": (x - MEAN) / STD, "mask": zeros, "edge_mask": zeros, "label": label}
    return victim.network(**given)["pred_mask"]


@pytest.mark.parametrize(
    ("name", "side", "space"),
    [
        ("imdlbenco:Mesorch", 512, "bilinear-512"),
        ("imdlbenco:IML_ViT@64", 64, "native"),
        ("imdlbenco:MVSSNet@48", 48, "bilinear-48"),
        ("imdlbenco:Mine@32", 32, "bilinear-32"),
        ("forensichub:Mine@32", 32, "bilinear-32"),
    ],
)
def test_maps_are_the_packages_own(name, side, space):
    """Alone and in a batch, and with gradients at every pixel."""
    victim, x = load(name), images(2, side, side).requires_grad_()
    assert (victim.name, victim.space, victim.weights.label) == (name, space, "random:0")
    logits = victim.logits(x)
    assert torch.allclose(torch.sigmoid(logits), own(victim, x), rtol=0, atol=1e-6)
    assert torch.allclose(victim.logits(x[1:]), logits[1:], atol=1e-5)
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    assert (gradient.abs().amax(1) > 0).all()


def test_a_model_that_normalises_over_the_batch_and_rewrites_a_filter():
    """The package's own first map of each image alone, however often it is asked."""
    victim, x = load("imdlbenco:MantraNet"), images(2, 37, 20)
    first = own(load("imdlbenco:MantraNet"), x[1:])
    for _ in range(3):
        assert torch.allclose(victim.probabilities(x)[1:], first, atol=1e-6)


def test_a_backbone_is_asked_for_a_mask_and_downloads_nothing():
    pytest.importorskip("timm")
    victim, x = load("forensichub:BayerResnet101@48"), images(1, 48, 48)
    first = own(load("forensichub:BayerResnet101@48"), x)
    for _ in range(3):
        assert torch.allclose(victim.probabilities(x), first, atol=1e-6)
    assert not {"jpegio", "DeepfakeBench"} & sys.modules.keys()


def test_models_of_imdlbenco_are_in_forensichubs_registry():
    victim, x = load("forensichub:Mesorch"), images(1, 512, 512)
    assert torch.allclose(victim.probabilities(x), own(victim, x), atol=1e-6)


def test_padding_is_black_at_right_and_bottom():
    victim, x = load("imdlbenco:IML_ViT@64"), images(1, 40, 33)
    padded = torch.zeros(1, 3, 64, 64)
    padded[..., :40, :33] = x
    expected = own(victim, padded)[..., :40, :33]
    assert torch.allclose(victim.probabilities(x), expected, atol=1e-6)


def test_images_larger_than_the_padded_square_are_tiled():
    victim, x = load("imdlbenco:IML_ViT@32"), images(1, 50, 70).requires_grad_()
    logits = victim.logits(x)
    assert logits.shape == (1, 1, 50, 70)
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    assert (gradient.abs().amax(1) > 0).all()


def test_checkpoints_as_the_package_writes_them(tmp_path):
    """Model beside optimizer and settings, read without running anything."""
    trained = load("imdlbenco:Mine").network
    with torch.no_grad():
        trained.layers[0].bias += 0.5
    path = tmp_path / "checkpoint-149.pth"
    settings = argparse.Namespace(lr=1e-4)
    torch.save({"model": trained.state_dict(), "epoch": 149, "args": settings}, path)
    victim = load("imdlbenco:Mine", str(path))
    assert victim.weights.label == f"file:{victim.weights.sha256[:12]}"
    x = images(1, 16, 16)
    assert torch.equal(victim.network.layers(x), trained.layers(x))
    again = pickle.loads(pickle.dumps(victim))
    assert (again.name, again.weights) == (victim.name, victim.weights)


def test_starting_weights_are_left_out_and_loading_works_afterwards(tmp_path):
    victim = load("imdlbenco:MVSSNet@32")
    torch.save({"model": victim.network.state_dict()}, tmp_path / "mine.pth")
    assert load("imdlbenco:MVSSNet@32", str(tmp_path / "mine.pth")).weights.label != "random:0"


def test_a_model_without_gradients_gives_maps_alone():
    victim = load("imdlbenco:MSCDI_Net@256")
    x = images(1, 256, 256)
    assert torch.allclose(victim.probabilities(x), own(victim, x), atol=1e-6)
    masks = torch.ones(1, 256, 256, dtype=torch.bool)
    with pytest.raises(AdvbenchError, match=r"attack bim: follows gradients"):
        advbench.load_attack("bim")(victim, (255 * x).byte(), masks, ["a"])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("imdlbenco:SPAN", "draws new random layers at each pass"),
        ("imdlbenco:Cat_Net", "coefficients and quantisation tables of a JPEG file"),
        ("forensichub:QtResnet101", "coefficients and quantisation tables of a JPEG file"),
        ("forensichub:CAFTB_Net", "reads a folder of SegFormer's weights"),
        ("forensichub:SobelViTBase", "gives a label, and no map"),
        ("forensichub:DTD", "coefficients and quantisation tables of a JPEG file"),
        ("imdlbenco:Mesorch@256", "takes 512.512 only; leave out @256$"),
        ("imdlbenco:SparseViT@768", "multiples of 512; leave out @768$"),
        ("imdlbenco:MSCDI_Net@128", "multiples of 256; leave out @128$"),
        ("imdlbenco:Mine@big", "@ is followed by a number of pixels$"),
        ("imdlbenco:Nobody", "IMDLBenCo has no model 'Nobody'; there are .*Classifier, IML_ViT"),
        ("forensichub:Nobody", r"ForensicHub cannot build it \(KeyError: 'Nobody'\)$"),
    ],
)
def test_refusals_give_the_reason(name, reason):
    with pytest.raises(AdvbenchError, match=f"^victim {name}: .*{reason}"):
        load(name)


def test_a_classifier_is_no_localizer():
    with pytest.raises(AdvbenchError, match="returns has no 'pred_mask'; there are backward_loss"):
        load("forensichub:Classifier@16").logits(images(1, 16, 16))


def test_no_weights_is_told():
    with pytest.raises(
        AdvbenchError, match=r"imdlbenco:Mine \(full\): no builtin weights.*--weights"
    ):
        advbench.load_victim("imdlbenco:Mine")


def test_without_the_package(monkeypatch):
    monkeypatch.delitem(sys.modules, "IMDLBenCo.model_zoo")
    with pytest.raises(AdvbenchError, match=r"cannot import IMDLBenCo.*pip install imdlbenco"):
        load("imdlbenco:Mine")


def test_prefixes_are_listed_and_suggested(advbench_command):
    listed = json.loads(advbench_command("list", "victims", "--json").out)["victims"]
    assert {"imdlbenco:NAME", "forensichub:NAME"} <= listed.keys()
    ran = advbench_command("generate", "--victim", "imdlbenco", "--attack", "fgsm")
    assert ran.code == 2
    assert "did you mean imdlbenco:NAME" in ran.err


def test_generate_and_evaluate(small_dataset, tmp_path, advbench_command):
    out = tmp_path / "out"
    chosen = ("--victim", "imdlbenco:Mine@32", "--weights", "random", "--out", out)
    data = ("--dataset", small_dataset.folder, "--split", "test", "--limit", "2")
    made = advbench_command("generate", *chosen, *data, "--attack", "bim", "--eps", "2", "--json")
    assert json.loads(made.out)[0]["made"] == 2, made.err
    assert len(list((out / "shards").rglob("imdlbenco-Mine-32/bim-2/*.h5"))) == 1
    scored = advbench_command(
        "evaluate", "--defense", "jpeg", "--quality", "75", "--out", out, "--json"
    )
    rows = json.loads(scored.out)["table"]
    assert {row["victim"] for row in rows} == {"imdlbenco:Mine@32"}
    assert np.isfinite([row["f1"] for row in rows]).all()
