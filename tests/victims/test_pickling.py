"""A victim goes to other processes as what it was loaded from."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

import advbench
from advbench.errors import AdvbenchError
from advbench.victims.weights import builtin_path


@pytest.mark.parametrize("weights", ["builtin", None])
def test_the_same_victim_comes_out(weights):
    victim = advbench.load_victim("hdfnet", size="small", weights=weights)
    data = pickle.dumps(victim)
    assert len(data) < 1000
    again = pickle.loads(data)
    images = torch.rand(1, 3, 256, 256)
    with torch.inference_mode():
        assert torch.equal(again.logits(images), victim.logits(images))
    assert again.weights == victim.weights


def test_another_file_in_its_place_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = load_file(builtin_path("hdfnet", "small"))
    save_file(state, "own.safetensors")
    data = pickle.dumps(advbench.load_victim("hdfnet", size="small", weights="own.safetensors"))
    monkeypatch.chdir("/")
    assert pickle.loads(data).weights.label.startswith("file:")
    name = next(key for key, value in state.items() if value.is_floating_point())
    save_file(state | {name: state[name] + 1}, tmp_path / "own.safetensors")
    with pytest.raises(AdvbenchError, match=r"own\.safetensors: another file"):
        pickle.loads(data)


@pytest.mark.parametrize("twin_of", [copy.copy, copy.deepcopy])
def test_a_copy_is_of_the_network_as_it_is(twin_of):
    victim = advbench.load_victim("hdfnet", weights=None, size="small")
    with torch.no_grad():
        next(victim.network.parameters()).add_(1)
    images = torch.rand(1, 3, 256, 256)
    with torch.inference_mode():
        expected = victim.logits(images)
        twin = twin_of(victim)
        assert torch.equal(twin.logits(images), expected)
        assert torch.equal(pickle.loads(pickle.dumps(twin)).logits(images), expected)
    shared = twin.network is victim.network
    assert shared == (twin_of is copy.copy)
