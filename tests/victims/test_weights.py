"""Weights: what is loaded, what is refused, and what it is called."""

from __future__ import annotations

import hashlib
import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

import advbench
from advbench.errors import AdvbenchError
from advbench.victims.weights import builtin_path


@pytest.fixture(scope="module")
def victim():
    return advbench.load_victim("ifosn", size="small", weights=None)


def load(path):
    return advbench.load_victim("ifosn", size="small", weights=path)


def equal(one, other) -> bool:
    a, b = one.network.state_dict(), other.network.state_dict()
    return all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("wrap", ["plain", "prefix", "state_dict", "safetensors"])
def test_file_formats(victim, tmp_path, wrap):
    """As the authors' files have them: plain, with DataParallel's prefix, under a key."""
    state = victim.network.state_dict()
    path = tmp_path / ("w.safetensors" if wrap == "safetensors" else "w.pth")
    if wrap == "safetensors":
        save_file({k: v.contiguous() for k, v in state.items()}, path)
    elif wrap == "prefix":
        extra = {"module.osn_net.weight": torch.zeros(1)}
        torch.save({f"module.det_net.{k}": v for k, v in state.items()} | extra, path)
    else:
        torch.save(state if wrap == "plain" else {"state_dict": state, "episode": 3}, path)
    loaded = load(path)
    assert equal(loaded, victim)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (loaded.weights.sha256, loaded.weights.label) == (sha256, f"file:{sha256[:12]}")


class Malicious:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (lambda state: pickle.dumps(Malicious()), "not a weights file"),
        (lambda state: b"", "not a weights file"),
        (lambda state: b"not weights", "not a weights file"),
        (lambda state: saved([1, 2]), "holds no state_dict"),
        (lambda state: saved({"a": 1}), "holds no state_dict"),
        (lambda state: saved(dict(list(state.items())[1:])), "1 missing keys"),
        (lambda state: saved(state | {"more": torch.zeros(1)}), "1 unknown keys (first: more)"),
        (
            lambda state: saved(state | {"final.0.bias": torch.zeros(2)}),
            "1 keys of another shape (first: final.0.bias)",
        ),
    ],
)
def test_refusals(victim, tmp_path, content, expected):
    path = tmp_path / "w.pth"
    path.write_bytes(content(dict(victim.network.state_dict())))
    with pytest.raises(AdvbenchError) as refused:
        load(path)
    assert expected in str(refused.value)
    assert str(path) in str(refused.value)


def saved(content: object) -> bytes:
    import io

    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def test_random_weights_have_a_seed(victim):
    cls = type(victim)
    again, other = cls.load("small", None, seed=0), cls.load("small", None, seed=1)
    assert equal(victim, again)
    assert not equal(victim, other)
    assert victim.weights == again.weights != other.weights
    assert other.weights.label == "random:1"


def test_loading_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    advbench.load_victim("ifosn", size="small", weights=None)
    assert torch.equal(torch.rand(3), expected)


def test_victim_is_frozen(victim):
    assert not victim.network.training
    assert not any(p.requires_grad for p in victim.network.parameters())


def test_shipped_weights_are_those_of_their_card():
    path = builtin_path("ifosn", "small")
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    victim = advbench.load_victim("ifosn")
    assert (victim.size, victim.weights.label) == ("small", "builtin")
    assert victim.weights.sha256 == card["sha256"]
    assert sum(p.numel() for p in victim.network.parameters()) == card["parameters"]


def test_full_size_has_no_shipped_weights():
    with pytest.raises(AdvbenchError, match="no built-in weights of that size; give --weights"):
        advbench.load_victim("ifosn", size="full")
