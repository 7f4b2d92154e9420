"""Taps: the maps of a third of the victim, and nothing left behind."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from advbench.defenses.ansm.features import tapped
from advbench.victims.base import Depth
from advbench.victims.code.victim import CoDE
from advbench.victims.hdfnet.victim import HDFNet
from advbench.victims.ifosn.victim import IFOSN
from advbench.victims.mvssnet.victim import MVSSNet

from .toys import LAYERS, layered


def hooks(victim) -> int:
    return sum(len(module._forward_hooks) for module in victim.network.modules())


@pytest.mark.parametrize("depth", get_args(Depth))
def test_maps_are_what_the_modules_give(depth):
    victim, images = layered(), torch.rand(2, 3, 12, 13)
    with torch.no_grad():
        expected, x = {}, images - 0.5
        for name, module in victim.network.named_children():
            x = module(x)
            expected[name] = x
        with tapped(victim, depth) as features:
            assert features == {}
            victim.logits(images)
    assert list(features) == list(LAYERS[depth])
    assert all(torch.equal(features[name], expected[name]) for name in features)


def test_a_second_run_replaces_the_maps_in_the_same_order():
    victim = layered()
    with torch.no_grad(), tapped(victim, "shallow") as features:
        victim.logits(torch.rand(1, 3, 8, 8))
        first = dict(features)
        victim.logits(torch.rand(1, 3, 8, 8))
    assert list(features) == list(first)
    assert not any(torch.equal(features[name], first[name]) for name in first)


def test_gradients_flow_through_the_maps():
    victim, images = layered(), torch.rand(1, 3, 8, 8).requires_grad_()
    with tapped(victim, "middle") as features:
        victim.logits(images)
    features["2"].square().sum().backward()
    assert images.grad.abs().max() > 0


def test_hooks_are_gone_afterwards():
    victim = layered()
    with tapped(victim, "topmost"):
        assert hooks(victim) == 2
    assert hooks(victim) == 0


def test_hooks_are_gone_after_an_error():
    victim = layered()
    with pytest.raises(RuntimeError), tapped(victim, "topmost"):
        victim.logits(torch.rand(1, 5, 8, 8))
    assert hooks(victim) == 0


@pytest.mark.parametrize("cls", [IFOSN, MVSSNet, HDFNet, CoDE], ids=lambda cls: cls.name)
def test_victims_give_maps(cls):
    """Of four dimensions: what is softmaxed are positions. And the image decides each of them."""
    victim = cls.load("small", None)
    side = 256 if cls is HDFNet else 64
    for depth in get_args(Depth):
        with tapped(victim, depth) as features:
            victim.logits(torch.rand(1, 3, side, side).requires_grad_())
        assert features
        for name, maps in features.items():
            assert maps.ndim == 4, name
            assert maps.requires_grad, name
        assert hooks(victim) == 0
