"""ANSM as a defense: bound to a victim, by the weights that were trained for it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import advbench
from advbench.defenses import trained
from advbench.defenses.ansm import files
from advbench.defenses.ansm.defense import ANSM, MultiANSM
from advbench.defenses.ansm.network import SIZES, AnsmNetwork
from advbench.errors import AdvbenchError
from advbench.pipelines.config import with_networks
from advbench.report.panels import recorded_cell

from .toys import disturbed

ONE, OTHER = ({"name": "toy", "size": "small", "weights_sha256": c * 64} for c in "1a")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks for two victims."""
    made = tmp_path_factory.mktemp("weights")
    for name, seed, victim in (("one", 0, ONE), ("other", 1, OTHER)):
        path = made / f"{name}.safetensors"
        save_file(disturbed(seed).state_dict(), path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        card = {"victim_sha256": victim["weights_sha256"], "sha256": sha256}
        (made / f"{name}.json").write_text(json.dumps(card))
    return made


@pytest.fixture
def one(folder: Path) -> ANSM:
    return ANSM.create(weights=(str(folder / "one.safetensors"),))


@pytest.fixture
def both(folder: Path) -> ANSM:
    return ANSM.create(weights=tuple(str(path) for path in sorted(folder.glob("*.safetensors"))))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(1, 3, 33, 40, generator=torch.Generator().manual_seed(0))


def refusal(defense: ANSM, victim: dict[str, str] = ONE) -> str:
    with pytest.raises(AdvbenchError) as caught:
        defense.for_victim(victim)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defends_as_its_network_does(one, images):
    with torch.no_grad():
        expected = disturbed(0)(images)
    found = one.for_victim(ONE)(images, ["d/a"])
    assert list(found) == ["ansm"]
    assert torch.equal(found["ansm"], expected)
    assert not torch.equal(expected, images)


def test_each_victim_has_its_network(both, images):
    with torch.no_grad():
        for seed, victim in enumerate((ONE, OTHER)):
            found = both.for_victim(victim).defend(images, None, [()])
            assert torch.equal(found, disturbed(seed)(images))


def test_unbound_it_defends_nothing(one, images):
    one.for_victim(ONE)
    for defense in (one, advbench.load_defense("ansm")):
        with pytest.raises(AdvbenchError, match="belongs to a victim"):
            defense(images, ["d/a"])


def test_specification_names_the_weights_and_no_path(one, folder, tmp_path):
    path = folder / "one.safetensors"
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    spec = one.for_victim(ONE).variant_spec(None)
    assert spec == {"defense": "ansm", "weights_sha256": expected}
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes(path.read_bytes())
    assert ANSM.create(weights=(str(moved),)).for_victim(ONE).variant_spec(None) == spec


def test_weights_for_another_victim_are_refused(one):
    text = refusal(one, OTHER)
    assert "none is for toy (small) with weights aaaaaaaaaaaa" in text
    assert "train ansm --victim toy --victim-size small --weights CHECKPOINT" in text


def test_without_weights_the_shipped_ones_are_asked_for(monkeypatch, folder, tmp_path, images):
    assert "no shipped network for toy (small); train it with: advbench train ansm" in refusal(
        ANSM.create()
    )
    (tmp_path / "pretrained").mkdir()
    for suffix in ("safetensors", "json"):
        data = (folder / f"one.{suffix}").read_bytes()
        (tmp_path / "pretrained" / f"toy-small.{suffix}").write_bytes(data)
    monkeypatch.setattr(trained.resources, "files", lambda package: tmp_path)
    with torch.no_grad():
        found = ANSM.create().for_victim(ONE).defend(images, None, [()])
        assert torch.equal(found, disturbed(0)(images))
    shipped = tmp_path / "pretrained" / "toy-small.safetensors"
    flipped = bytearray(shipped.read_bytes())
    flipped[-9] ^= 1
    shipped.write_bytes(flipped)
    assert "toy-small.safetensors: not the bytes that advbench ships" in refusal(ANSM.create())
    text = refusal(ANSM.create(), OTHER)
    assert "trained for other weights than aaaaaaaaaaaa" in text
    assert "train ansm --victim toy --victim-size small --weights CHECKPOINT, and" in text
    weights = str(folder / "other.safetensors")
    assert "train ansm --victim toy, and" in refusal(ANSM.create(weights=(weights,)))


def test_a_network_of_several_attacks_is_one_of_ansm_multi(folder, tmp_path, monkeypatch):
    """Whether shipped or one's own, for the same victim and beside the other."""
    pretrained = tmp_path / "pretrained"
    pretrained.mkdir()
    for source, name, recipe in (("one", "", "stored"), ("other", "-multi", "several")):
        path = pretrained / f"toy-small{name}.safetensors"
        path.write_bytes((folder / f"{source}.safetensors").read_bytes())
        card = json.loads((folder / f"{source}.json").read_text())
        card |= {"victim_sha256": ONE["weights_sha256"], "recipe": {"noise": recipe}}
        path.with_suffix(".json").write_text(json.dumps(card))
    paths = {path.stem: path for path in pretrained.glob("*.safetensors")}
    both = tuple(map(str, paths.values()))
    expected = {
        kind: hashlib.sha256(paths[stem].read_bytes()).hexdigest()
        for kind, stem in ((ANSM, "toy-small"), (MultiANSM, "toy-small-multi"))
    }
    assert "no shipped network for toy (small); train it" in refusal(MultiANSM.create())
    monkeypatch.setattr(trained.resources, "files", lambda package: tmp_path)
    for kind, sha256 in expected.items():
        for given in (both, both[::-1], ()):
            spec = kind.create(weights=given).for_victim(ONE).variant_spec(None)
            assert spec == {"defense": kind.name, "weights_sha256": sha256}
    # A user's files serve whichever of the two was recorded.
    for kind, sha256 in expected.items():
        specification = json.dumps({"defense": kind.name, "weights_sha256": sha256})
        found = recorded_cell(specification, ONE, with_networks(both))
        assert json.dumps(found.specification) == specification
    several, stored = (str(paths[f"toy-small{name}"]) for name in ("-multi", ""))
    assert "not of ansm, as its card says" in refusal(ANSM.create(weights=(several,)))
    text = refusal(MultiANSM.create(weights=(stored,)))
    assert "not of ansm-multi, as its card says; train it with: advbench train ansm" in text
    assert "--set noise=several, and give it with --ansm-weights" in text


def test_weights_without_a_card_are_taken_at_their_word(folder, tmp_path):
    data = (folder / "one.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(data)
    for card in (None, "{}", "[]"):
        if card:
            (tmp_path / "w.json").write_text(card)
        bound = ANSM.create(weights=(str(tmp_path / "w.safetensors"),)).for_victim(OTHER)
        assert bound.variant_spec(None)["weights_sha256"] == hashlib.sha256(data).hexdigest()


def test_weights_without_their_card_hide_no_others(folder, tmp_path):
    for source, name in (("one", "a"), ("other", "b")):
        (tmp_path / f"{name}.safetensors").write_bytes(
            (folder / f"{source}.safetensors").read_bytes()
        )
    (tmp_path / "b.json").write_bytes((folder / "other.json").read_bytes())
    both = ANSM.create(weights=tuple(str(tmp_path / f"{name}.safetensors") for name in "ab"))
    chosen = both.for_victim(OTHER).variant_spec(None)["weights_sha256"]
    assert chosen == hashlib.sha256((tmp_path / "b.safetensors").read_bytes()).hexdigest()
    assert "none is for toy" in refusal(both, ONE)


def test_weights_beside_the_card_of_others_are_refused(folder, tmp_path):
    """Such as one flipped bit."""
    path = tmp_path / "a.safetensors"
    path.write_bytes((folder / "one.safetensors").read_bytes())
    path.with_suffix(".json").write_bytes((folder / "other.json").read_bytes())
    text = refusal(ANSM.create(weights=(str(path),)), ONE)
    assert "a.safetensors: not the file that a.json beside it names" in text


@pytest.mark.parametrize("size", list(SIZES))
@pytest.mark.parametrize("upsampling", ["nearest", "subpixel"])
def test_size_and_upsampling_are_read_from_the_weights(size, upsampling, tmp_path):
    path, network = tmp_path / "w.safetensors", AnsmNetwork(size, upsampling=upsampling)
    save_file(network.state_dict(), path)
    _, found = files.read_network(path)
    assert (found.size, found.upsampling) == (size, upsampling)


@pytest.mark.parametrize("fault", ["text", "empty", "other", "less", "more"])
def test_other_files_are_refused(fault, folder, tmp_path):
    path, state = tmp_path / "w.safetensors", disturbed(0).state_dict()
    if fault in ("text", "empty"):
        path.write_text("hello" if fault == "text" else "")
    else:
        last = list(state)[-1]
        made = {
            "other": {"a": torch.zeros(2)},
            "less": {key: value for key, value in state.items() if key != last},
            "more": state | {"a": torch.zeros(2)},
        }
        save_file(made[fault], path)
    expected = "not a weights file" if fault in ("text", "empty") else "no weights of ANSM; give a"
    assert f"{path}: {expected}" in refusal(ANSM.create(weights=(str(path),)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_diverged_weights_are_refused(value, tmp_path):
    path, state = tmp_path / "w.safetensors", disturbed(0).state_dict()
    state["ups.2.2.running_mean"][1] = value
    save_file(state, path)
    text = refusal(ANSM.create(weights=(str(path),)))
    assert f"{path}: ups.2.2.running_mean holds NaN or infinity" in text


def test_missing_file_is_named():
    text = refusal(ANSM.create(weights=("nowhere.safetensors",)))
    assert text.startswith("--ansm-weights nowhere.safetensors: no such file")
    assert "advbench train ansm" in text


@pytest.mark.parametrize("bound_within", [False, True])
def test_inference_mode_and_gradients(bound_within, one, images):
    """One after the other, wherever it was bound."""
    with torch.inference_mode(bound_within):
        bound = one.for_victim(ONE)
    with torch.inference_mode():
        defended = bound.defend(images, None, [()])
    x = images.clone().requires_grad_()
    through = bound.through(x, None, [()])
    weights = torch.linspace(-1, 1, images.numel()).view_as(images)
    (through * weights).sum().backward()
    assert torch.equal(through.detach(), defended)

    y = images.clone().requires_grad_()
    (disturbed(0)(y) * weights).sum().backward()
    assert torch.equal(x.grad, y.grad)
    assert not torch.allclose(x.grad, weights)


def test_binding_draws_no_random_number(one):
    before = torch.get_rng_state()
    one.for_victim(ONE)
    assert torch.equal(torch.get_rng_state(), before)


def test_other_defenses_stand_before_any_victim():
    jpeg = advbench.load_defense("jpeg")
    assert jpeg.for_victim(ONE) is jpeg
