"""Weights: what is loaded, what is refused, and what it is called."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import pickle
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import ClassVar

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import advbench
from advbench.errors import AdvbenchError
from advbench.registry import VICTIMS, Entry
from advbench.victims.base import Depth, Size, Victim
from advbench.victims.weights import builtin_path, label_of, load_network_weights

from .golden import FOLDER


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


@pytest.mark.parametrize("name", VICTIMS.standard())
def test_shipped_weights_are_those_of_their_card(name):
    path = builtin_path(name, "small")
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    victim = advbench.load_victim(name)
    assert (victim.size, victim.weights.label) == ("small", "builtin")
    assert victim.weights.sha256 == card["sha256"]
    assert sum(p.numel() for p in victim.network.parameters()) == card["parameters"]


def test_full_size_has_no_shipped_weights():
    with pytest.raises(AdvbenchError, match="no builtin weights of that size; give --weights"):
        advbench.load_victim("ifosn", size="full")


def network_of(shapes: Iterable[tuple[str, list[int]]]) -> nn.Module:
    """A network whose state has these keys and shapes, with random values."""
    root = nn.Module()
    for key, shape in shapes:
        *path, last = key.split(".")
        module = root
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, nn.Module())
            module = getattr(module, part)
        counter = last == "num_batches_tracked"
        module.register_buffer(last, torch.tensor(5) if counter else torch.randn(shape))
    return root


def authors_keys(victim: str) -> list[tuple[str, list[int]]]:
    return [(key, shape) for key, shape in json.loads((FOLDER / f"{victim}_keys.json").read_text())]


def dataparallel(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{key}": value for key, value in state.items()}


def with_simulator(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """IF-OSN's file as train.py writes it: detector and simulator below one module."""
    detector = {f"module.det_net.{key}": value for key, value in state.items()}
    return {"module.osn_net.inc.conv.weight": torch.zeros(2)} | detector


def with_settings(state: dict[str, Tensor]) -> dict[str, object]:
    """CoDE's file: episode, optimizer and command line beside the weights."""
    return {
        "episode": 3,
        "state_dict": state,
        "optimizer": {"state": {0: {"step": 1}}},
        "args": argparse.Namespace(lr=1e-4, gpu="0"),
    }


@pytest.mark.parametrize(
    ("victim", "wrap"),
    [
        ("mvssnet", dict),
        ("mvssnet", dataparallel),
        ("mvssnet", lambda state: {"model": state, "epoch": 3, "args": argparse.Namespace()}),
        ("ifosn", with_simulator),
        ("hdfnet", dict),
        ("hdfnet", dataparallel),
        ("code", with_settings),
        ("code", lambda state: with_settings(dataparallel(state))),
    ],
)
def test_authors_files(tmp_path, victim, wrap):
    """The authors' keys, in smaller shapes, wrapped as their files have them."""
    shapes = [(key, [min(side, 2) for side in shape]) for key, shape in authors_keys(victim)]
    source, target = network_of(shapes), network_of(shapes)
    path = tmp_path / "w.pth"
    path.write_bytes(saved(wrap(source.state_dict())))
    load_network_weights(target, victim, "full", str(path), seed=0)
    theirs, ours = source.state_dict(), target.state_dict()
    assert ours.keys() == dict(shapes).keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


class Toy(Victim):
    """Two sizes that differ in a width; its authors' file holds a classifier besides."""

    name: ClassVar[str] = "toy"
    dead_keys: ClassVar[tuple[str, ...]] = ("classifier.", "sobel.weight")

    @classmethod
    def build_network(cls, size: Size) -> nn.Module:
        width = 8 if size == "full" else 4
        return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Conv2d(width, 1, 1))

    def logits(self, images: Tensor) -> Tensor:
        return self.network(images)

    def taps(self, depth: Depth) -> dict[str, nn.Module]:
        return {"0": self.network[0]}


class Huge(Toy):
    """Fits into no memory."""

    name: ClassVar[str] = "huge"

    @classmethod
    def build_network(cls, size: Size) -> nn.Module:
        return nn.ModuleDict({"head": nn.Linear(10**7, 10**7), "tail": nn.Linear(3, 4)})


class Unbuildable(Toy):
    """Needs values to be built, and the global generator."""

    name: ClassVar[str] = "unbuildable"

    @classmethod
    def build_network(cls, size: Size) -> nn.Module:
        torch.rand(1, device="cpu")
        return nn.Linear(int(torch.ones(1).item()), 1)


@pytest.fixture
def toys(monkeypatch):
    module = ModuleType("toys_of_weights")
    for cls in (Unbuildable, Toy, Huge):
        setattr(module, cls.__name__, cls)
        entry = Entry(f"toys_of_weights:{cls.__name__}", "")
        monkeypatch.setitem(VICTIMS.entries, cls.name, entry)
    monkeypatch.setitem(VICTIMS.entries, "gone", Entry("toys_of_weights:Gone", ""))
    monkeypatch.setitem(sys.modules, "toys_of_weights", module)


@pytest.fixture
def toy_state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    state = Toy.build_network("full").state_dict()
    return {k: torch.randn(v.shape) if v.ndim else torch.tensor(7) for k, v in state.items()}


def load_toy(path, content: object, size: Size = "full") -> Victim:
    path.write_bytes(saved(content))
    return Toy.load(size, str(path))


def toy_refusal(path, content: object, size: Size = "full") -> str:
    with pytest.raises(AdvbenchError) as refused:
        load_toy(path, content, size)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)
    return str(refused.value).removeprefix(f"{path}: ")


def hollow(state: Iterable[tuple[str, Iterable[int]]]) -> dict[str, Tensor]:
    """Tensors of these shapes that take no room, in memory nor in a file."""
    return {
        key: torch.zeros(1).expand(*shape) if shape else torch.tensor(0) for key, shape in state
    }


def test_dead_keys_are_dropped(tmp_path, toy_state):
    """Those that begin as the victim names them, and no others."""
    path = tmp_path / "w.pth"
    dead = {"classifier.0.weight": torch.ones(3), "sobel.weight": torch.full((1,), torch.nan)}
    for wrap in (dict, dataparallel):
        loaded = load_toy(path, wrap(toy_state | dead)).network.state_dict()
        assert all(torch.equal(loaded[key], toy_state[key]) for key in loaded)
    for key in ("my.classifier.weight", "sobel.bias", "osn_net.weight"):
        message = toy_refusal(path, toy_state | dead | {key: torch.ones(1)})
        assert f": 1 unknown keys (first: {key})" in message


def test_what_lies_beside_the_detector_is_its_simulator_alone(tmp_path, toy_state):
    path = tmp_path / "w.pth"
    file = with_simulator(toy_state)
    assert torch.equal(load_toy(path, file).network[2].bias, toy_state["2.bias"])
    message = toy_refusal(path, file | {"module.other.weight": torch.ones(1)})
    assert message == "does not fit toy (full): 1 unknown keys (first: other.weight)"


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "model.net."]
)
def test_prefixes_of_training_scripts_are_taken_off(tmp_path, toy_state, prefix):
    """torch.compile, DataParallel and Lightning, alone or one within another."""
    content = {"state_dict": {prefix + key: value for key, value in toy_state.items()}}
    loaded = load_toy(tmp_path / "w.ckpt", content).network.state_dict()
    assert all(torch.equal(loaded[key], toy_state[key]) for key in loaded)


def test_own_names_that_look_like_a_prefix(tmp_path):
    shapes = [("module.weight", [2, 2]), ("module.bias", [2])]
    source = network_of(shapes)
    path = tmp_path / "w.pth"
    for wrap in (dict, dataparallel):
        path.write_bytes(saved(wrap(source.state_dict())))
        target = network_of(shapes)
        load_network_weights(target, "own", "full", str(path), seed=0)
        assert torch.equal(target.module.weight, source.module.weight)


def test_counters_of_batches_may_be_missing(tmp_path, toy_state):
    """PyTorch before 0.4.1 wrote none; every other key must be there."""
    path = tmp_path / "w.pth"
    counter = toy_state.pop("1.num_batches_tracked")
    assert counter == 7
    loaded = load_toy(path, toy_state).network.state_dict()
    assert loaded["1.num_batches_tracked"] == 0
    assert all(torch.equal(loaded[key], toy_state[key]) for key in toy_state)
    for key in ("1.running_mean", "1.running_var", "1.weight"):
        message = toy_refusal(path, {k: v for k, v in toy_state.items() if k != key})
        assert message == f"does not fit toy (full): 1 missing keys (first: {key})"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(tmp_path, toy_state, dtype):
    stored = {k: v.to(dtype) if v.is_floating_point() else v for k, v in toy_state.items()}
    loaded = load_toy(tmp_path / "w.pth", stored).network.state_dict()
    for key, value in stored.items():
        expected = value.float() if value.is_floating_point() else value
        assert loaded[key].dtype == expected.dtype
        assert torch.equal(loaded[key], expected)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (torch.nan, torch.float32),
        (torch.inf, torch.float16),
        (-torch.inf, torch.bfloat16),
        (1e300, torch.float64),
    ],
)
def test_values_that_are_not_finite(tmp_path, toy_state, value, dtype):
    damaged = toy_state["1.running_var"].to(dtype)
    damaged[3] = value
    message = toy_refusal(tmp_path / "w.pth", toy_state | {"1.running_var": damaged})
    assert message.startswith("1.running_var holds NaN or infinity; ")


@pytest.mark.parametrize("size", ["small", "full"])
def test_other_size_is_named(toys, tmp_path, size):
    state = Toy.build_network(size).state_dict()
    asked = "full" if size == "small" else "small"
    shapes = "[4] instead of [8]" if size == "small" else "[8] instead of [4]"
    assert toy_refusal(tmp_path / "w.pth", dataparallel(state), asked) == (
        f"does not fit toy ({asked}): 7 keys of another shape (first: 0.bias), {shapes}; "
        f"it looks like toy ({size}): give --size {size}"
    )


def test_small_file_for_the_full_network():
    path = str(builtin_path("ifosn", "small"))
    with pytest.raises(AdvbenchError, match=r"; it looks like ifosn \(small\): give --size small$"):
        advbench.load_victim("ifosn", size="full", weights=path)


def test_other_victim_is_named_without_being_built(toys, tmp_path):
    """Compared by shapes alone: this network would take 400 TB."""
    with torch.device("meta"):
        state = Huge.build_network("full").state_dict()
    file = hollow((key, value.shape) for key, value in state.items())
    generator = torch.get_rng_state()
    assert toy_refusal(tmp_path / "w.pth", file) == (
        "does not fit toy (full): 8 missing keys (first: 0.bias), "
        "4 unknown keys (first: head.bias); it looks like huge (full): give --victim huge"
    )
    assert "give --victim huge --size full" in toy_refusal(tmp_path / "w.pth", file, "small")
    assert torch.equal(torch.get_rng_state(), generator)


def test_nothing_is_claimed_of_half_or_less(toys, tmp_path):
    """2 of huge's 4 keys are half; 3 of 4 are more."""
    path = tmp_path / "w.pth"
    shapes = {"head.bias": (10**7,), "tail.weight": (4, 3), "tail.bias": (4,)}
    assert "it looks like huge" in toy_refusal(path, hollow(shapes.items()))
    del shapes["head.bias"]
    assert "looks like" not in toy_refusal(path, hollow(shapes.items()))


def test_nothing_is_claimed_where_the_one_asked_for_is_nearest(toys, tmp_path, toy_state):
    toy_state["extra.weight"] = toy_state.pop("2.weight")
    message = toy_refusal(tmp_path / "w.pth", toy_state)
    assert message.endswith("1 unknown keys (first: extra.weight)")


@pytest.mark.parametrize("victim", ["mvssnet", "ifosn", "hdfnet", "code"])
@pytest.mark.parametrize("wrap", [dict, dataparallel, with_settings])
def test_authors_files_are_recognized(toys, tmp_path, victim, wrap):
    if victim not in VICTIMS.standard():
        pytest.skip("not in this version")
    message = toy_refusal(tmp_path / "w.pth", wrap(hollow(authors_keys(victim))))
    assert message.endswith(f"; it looks like {victim} (full): give --victim {victim}")


@pytest.mark.parametrize(
    "card", [[1], {"sha256": "f" * 64, "label": ["mine"]}, {"sha256": "f" * 64}, {"sha256": 1}, {}]
)
def test_card_that_says_nothing_of_the_file(tmp_path, card):
    (tmp_path / "w.json").write_text(json.dumps(card))
    assert label_of(tmp_path / "w.safetensors", "f" * 64) == "file:ffffffffffff"


@pytest.mark.parametrize("card", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_card_that_cannot_be_read_is_named(tmp_path, card):
    (tmp_path / "w.json").write_bytes(card)
    with pytest.raises(
        AdvbenchError, match=r"w\.json: .*restore this card of w\.pth, or remove it"
    ):
        label_of(tmp_path / "w.pth", "f" * 64)


def test_card_labels_its_file(tmp_path):
    assert label_of(tmp_path / "w.pth", "f" * 64) == "file:ffffffffffff"
    card = {"sha256": "f" * 64, "label": "mine"}
    (tmp_path / "w.json").write_text(json.dumps(card))
    assert label_of(tmp_path / "w.pth", "f" * 64) == "mine"


def test_card_of_another_file(tmp_path):
    """Weights that were changed or overwritten below their card; a file of another ending beside
    them is a file of the user's own."""
    (tmp_path / "w.json").write_text(json.dumps({"sha256": "0" * 64, "label": "mine"}))
    with pytest.raises(AdvbenchError, match=r"w\.safetensors: not the file that w\.json beside it"):
        label_of(tmp_path / "w.safetensors", "f" * 64)
    assert label_of(tmp_path / "w.pth", "f" * 64) == "file:ffffffffffff"


def test_every_changed_field_of_a_card_is_noticed(tmp_path):
    """By the card's own checksum, which counts what it says and not how it is laid out."""
    path = builtin_path("ifosn", "small")
    card = json.loads(path.with_suffix(".json").read_text())
    beside = tmp_path / "w.json"
    beside.write_text(json.dumps(card))
    assert label_of(tmp_path / "w.safetensors", card["sha256"]) == "builtin"
    for field in card:
        for changed in ({**card, field: "else"}, {k: v for k, v in card.items() if k != field}):
            if "card_sha256" not in changed:  # as those of the first version
                continue
            beside.write_text(json.dumps(changed))
            with pytest.raises(AdvbenchError, match=r"w\.json: damaged"):
                label_of(tmp_path / "w.safetensors", card["sha256"])


def test_size_is_what_the_card_says(tmp_path):
    """A file of this project's training needs no --size; without its card it counts as full."""
    path = builtin_path("ifosn", "small")
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"mine{suffix}").write_bytes(path.with_suffix(suffix).read_bytes())
    victim = advbench.load_victim("ifosn", weights=str(tmp_path / "mine.safetensors"))
    assert (victim.size, victim.weights.label) == ("small", "builtin")
    (tmp_path / "mine.json").unlink()
    with pytest.raises(AdvbenchError, match="--size small"):
        advbench.load_victim("ifosn", weights=str(tmp_path / "mine.safetensors"))


def test_damaged_shipped_weights_are_refused(tmp_path, monkeypatch):
    """One flipped bit of a weight: never loaded under another label."""
    real = builtin_path("ifosn", "small")
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"ifosn-small{suffix}").write_bytes(real.with_suffix(suffix).read_bytes())
    path = tmp_path / "ifosn-small.safetensors"
    monkeypatch.setattr("advbench.victims.weights.builtin_path", lambda *_: path)
    assert advbench.load_victim("ifosn").weights.label == "builtin"
    flipped = bytearray(path.read_bytes())
    flipped[-10] ^= 4
    path.write_bytes(flipped)
    with pytest.raises(AdvbenchError, match=r"ifosn-small\.safetensors: not the bytes that"):
        advbench.load_victim("ifosn")
