"""Less than float32: what it changes, what it does not, and the gate before it."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import Tensor, nn

import advbench
from advbench.attacks.losses import localization_loss
from advbench.errors import AdvbenchError
from advbench.exports.selection import select
from advbench.inference.precision import at_precision
from advbench.pipelines import agreement
from advbench.pipelines.agreement import check_agreement
from advbench.pipelines.generate import Request, generate
from advbench.pipelines.suites.plan import make_plan
from advbench.pipelines.suites.suite import Suite
from advbench.shards.store import ShardStore


@pytest.fixture
def request_(small_dataset, toy, tmp_path) -> Request:
    rows = small_dataset.select("test", label=1)
    attacks = [advbench.load_attack("bim", eps=[3], iterations=3)]
    return Request(small_dataset, rows, toy, attacks, tmp_path / "out", precision="bf16")


def pair(request: Request, number: int) -> tuple[Tensor, Tensor]:
    """uint8 1×3×H×W and bool 1×H×W."""
    row = request.rows[number]
    image = torch.from_numpy(request.dataset.image(row).copy()).permute(2, 0, 1)[None]
    return image, torch.from_numpy(request.dataset.mask(row).copy())[None]


class Noisy:
    """In place of ``at_precision``: logits that are turned over on the leftmost columns."""

    def __init__(self, columns: int) -> None:
        self.columns = columns

    def __call__(self, victim, precision):
        if precision == "fp32":
            return victim
        twin, exact = copy.copy(victim), victim.logits

        def logits(images: Tensor) -> Tensor:
            signs = torch.ones(images.shape[3])
            signs[: self.columns] = -1
            return exact(images) * signs

        twin.logits = logits
        return twin


def gradient(victim, image: Tensor, truth: Tensor, seen) -> Tensor:
    x = (image.float() / 255).requires_grad_()
    loss = nn.functional.binary_cross_entropy_with_logits(seen(x), truth[:, None].float())
    return torch.autograd.grad(loss, x)[0]


def test_bfloat16_is_autocast_around_a_float32_image(toy):
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    found = at_precision(toy, "bf16").logits(x)
    with torch.autocast("cpu", torch.bfloat16):
        expected = toy.network(x - 0.5) + 20 * (x.mean(1, keepdim=True) - 0.5)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected.float())
    assert not torch.equal(found, toy.logits(x))
    (back,) = torch.autograd.grad(localization_loss(found, torch.ones_like(found)).sum(), x)
    assert back.dtype == torch.float32
    assert at_precision(toy, "fp32") is toy
    assert at_precision(toy, "tf32") is toy


def test_shards_hold_what_was_made_so_and_say_it(request_, toy, monkeypatch):
    monkeypatch.setattr(agreement, "LEAST_SIGNS", 0.5)
    toy.network[2].weight.data.mul_(100)  # so that roundings decide some signs
    generate(request_)
    entries = ShardStore(request_.out / "shards").entries("tiny/toy/bim-3")
    assert {entry.settings.precision for entry in entries} == {"bf16"}
    stored = {
        item["sample_id"]: item["image"]
        for item in advbench.open_dataset(request_.out)
        if item["variant"] == "bim-3"
    }
    (attack,) = request_.attacks
    differ = []
    for number, row in enumerate(request_.rows):
        arguments = (toy, *pair(request_, number), [row.sample_id])
        lower, exact = (
            attack.run(*arguments, precision=each)["bim-3"].images[0].permute(1, 2, 0).numpy()
            for each in ("bf16", "fp32")
        )
        assert np.array_equal(stored[row.sample_id], lower)
        differ.append(not np.array_equal(lower, exact))
    assert any(differ)
    with pytest.raises(AdvbenchError, match="made at --precision bf16; only fp32 is exported"):
        select(request_.out / "shards", (), (), ())
    with pytest.raises(AdvbenchError, match="give another --out"):
        generate(replace(request_, precision="fp32"))


@pytest.mark.parametrize("columns", [1, 5])
def test_agreement_by_hand(columns, request_, toy, monkeypatch):
    monkeypatch.setattr(agreement, "at_precision", Noisy(columns))
    monkeypatch.setattr("advbench.attacks.base.at_precision", Noisy(columns))
    monkeypatch.setattr(agreement, "LEAST_SIGNS", 0)
    monkeypatch.setattr(agreement, "MOST_F1", 1)
    found = check_agreement(request_)
    shares, scores = [], {"fp32": [], "bf16": []}
    for number, row in enumerate(request_.rows):
        image, truth = pair(request_, number)
        exact = gradient(toy, image, truth, toy.logits).flatten().tolist()
        other = gradient(toy, image, truth, Noisy(columns)(toy, "bf16").logits).flatten().tolist()
        same = sum(abs(a) for a, b in zip(exact, other, strict=True) if np.sign(a) == np.sign(b))
        shares.append(same / sum(map(abs, exact)))
        for precision, into in scores.items():
            bim = advbench.load_attack("bim", eps=3)
            made = bim.run(toy, image, truth, [row.sample_id], precision=precision)["bim-3"].images
            with torch.no_grad():
                marked = toy.probabilities(made.float() / 255)[0, 0] > toy.threshold
            into.append(f1_score(truth.flatten(), marked.flatten(), zero_division=0))
    assert found.signs == pytest.approx(np.mean(shares), rel=1e-4)
    assert found.f1 == pytest.approx(abs(np.mean(scores["fp32"]) - np.mean(scores["bf16"])))
    assert found.signs < 1


def test_what_agrees_too_little_is_refused_before_anything_is_made(request_, monkeypatch):
    monkeypatch.setattr(agreement, "at_precision", Noisy(8))
    with pytest.raises(AdvbenchError, match=r"--precision bf16: on 5 images \d+\.\d % of the"):
        generate(request_)
    assert not list(request_.out.rglob("*.h5"))


def test_tf32_needs_a_gpu(request_):
    with pytest.raises(AdvbenchError, match="--precision tf32 needs an NVIDIA GPU"):
        generate(replace(request_, precision="tf32"))


def test_a_plan_tells_it_too(small_dataset, toy, tmp_path):
    suite = Suite.model_validate(
        {
            "schema": "advbench.suite/1",
            "title": "lower",
            "datasets": ["tiny"],
            "victims": {"toy": {"weights": "random"}},
            "attacks": {"fgsm": {}},
            "precision": "tf32",
        }
    )
    plan = make_plan(suite, tmp_path, lambda name: small_dataset, lambda name: toy)
    assert [fault.problem for fault in plan.faults] == [
        "--precision tf32 needs an NVIDIA GPU; leave the option out"
    ]
