"""Numerics that are not exact: what they change, what they are called, and the gate before them."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import Tensor, nn

import advbench
from advbench.attacks.bim import BIM
from advbench.attacks.losses import localization_loss
from advbench.errors import AdvbenchError
from advbench.exports.selection import select
from advbench.inference.fast import with_numerics
from advbench.pipelines import agreement
from advbench.pipelines.agreement import check_agreement
from advbench.pipelines.evaluate import EvaluationJob, evaluate
from advbench.pipelines.generate import GenerationJob, generate
from advbench.pipelines.suites.plan import make_plan
from advbench.pipelines.suites.suite import Suite
from advbench.scores.protocols import protocol
from advbench.scores.records import read_records
from advbench.scores.tables import long_table
from advbench.shards.store import ShardStore

ATTACK = BIM.create(eps=(3.0,), iterations=3)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(agreement, "ATTACKS", (ATTACK,))


@pytest.fixture
def job(small_dataset, toy, tmp_path) -> GenerationJob:
    rows = small_dataset.select("test", label=1)
    return GenerationJob(
        small_dataset, rows, with_numerics(toy, "bf16"), [ATTACK], tmp_path / "out"
    )


def pair(job: GenerationJob, number: int) -> tuple[Tensor, Tensor]:
    """uint8 1×3×H×W and bool 1×H×W."""
    row = job.rows[number]
    image = torch.from_numpy(job.dataset.image(row).copy()).permute(2, 0, 1)[None]
    return image, torch.from_numpy(job.dataset.mask(row).copy())[None]


def turned(victim, columns: int):
    """A fast twin whose logits are turned over on the leftmost columns."""
    twin, right = copy.copy(victim), victim.logits

    def logits(images: Tensor) -> Tensor:
        signs = torch.ones(images.shape[3])
        signs[:columns] = -1
        return right(images) * signs

    twin.logits, twin.numerics, twin.exact = logits, "fast", victim
    return twin


def gradient(image: Tensor, truth: Tensor, logits) -> Tensor:
    x = (image.float() / 255).requires_grad_()
    loss = nn.functional.binary_cross_entropy_with_logits(logits(x), truth[:, None].float())
    return torch.autograd.grad(loss, x)[0]


def test_bfloat16_is_autocast_around_a_float32_image(toy):
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    found = with_numerics(toy, "bf16").logits(x)
    with torch.autocast("cpu", torch.bfloat16):
        expected = toy.network(x - 0.5) + 20 * (x.mean(1, keepdim=True) - 0.5)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected.float())
    assert not torch.equal(found, toy.logits(x))
    (back,) = torch.autograd.grad(localization_loss(found, torch.ones_like(found)).sum(), x)
    assert back.dtype == torch.float32
    assert with_numerics(toy, "exact") is toy


@pytest.mark.parametrize("numerics", ["fast", "bf16"])
def test_twins_are_pickled_as_what_they_were_made_from(numerics):
    victim = advbench.load_victim("ifosn")
    twin = with_numerics(victim, numerics)
    again = pickle.loads(pickle.dumps(twin))
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(again.logits(x), twin.logits(x))
        assert not torch.equal(again.logits(x), victim.logits(x))
    assert (again.numerics, again.exact.numerics) == (numerics, "exact")
    assert len(pickle.dumps(twin)) < 10_000


def test_shards_and_records_say_it_and_nothing_is_mixed(job, toy):
    toy.network[2].weight.data.mul_(100)  # so that roundings decide some signs
    job = replace(job, victim=with_numerics(toy, "bf16"))
    generate(job)
    generate(replace(job, victim=toy))  # beside it, in the same folder
    entries = ShardStore(job.out / "shards").entries("tiny/toy")
    assert {(entry.settings.variant, entry.settings.precision) for entry in entries} == {
        ("bim-3", "fp32"),
        ("bim~bf16-3", "bf16"),
    }
    stored = {
        (item["variant"], item["sample_id"]): item["image"]
        for item in advbench.open_dataset(job.out)
    }
    differ = []
    for number, row in enumerate(job.rows):
        for victim, variant in ((toy, "bim-3"), (job.victim, "bim~bf16-3")):
            made = ATTACK.run(victim, *pair(job, number), [row.sample_id])["bim-3"].images
            expected = made[0].permute(1, 2, 0).numpy()
            assert np.array_equal(stored[variant, row.sample_id], expected)
        both = (stored[name, row.sample_id] for name in ("bim-3", "bim~bf16-3"))
        differ.append(not np.array_equal(*both))
    assert any(differ)
    evaluate(EvaluationJob(job.out, [], protocol("f1/v1")), lambda identity: toy)
    table = long_table(read_records(job.out / "records"))
    assert list(table.attack) == ["original", "bim", "bim~bf16"]
    assert list(table.intensity[1:]) == [3, 3]
    groups = select(job.out / "shards", (), (), ("bim~bf16",))
    assert [list(group.variants) for group in groups] == [["bim~bf16-3"]]


@pytest.mark.parametrize("columns", [1, 5])
def test_agreement_by_hand(columns, job, toy, monkeypatch):
    monkeypatch.setattr(agreement, "MOST_RP", 1000)
    twin = turned(toy, columns)
    found = check_agreement(replace(job, victim=twin))
    shares, scores = [], {"clean": [], "exact": [], "fast": []}
    for number, row in enumerate(job.rows):
        image, truth = pair(job, number)
        exact = gradient(image, truth, toy.logits).flatten().tolist()
        other = gradient(image, truth, twin.logits).flatten().tolist()
        same = sum(abs(a) for a, b in zip(exact, other, strict=True) if np.sign(a) == np.sign(b))
        shares.append(same / sum(map(abs, exact)))
        images = {"clean": image} | {
            key: ATTACK.run(victim, image, truth, [row.sample_id])["bim-3"].images
            for key, victim in (("exact", toy), ("fast", twin))
        }
        for key, each in images.items():
            with torch.no_grad():
                marked = toy.probabilities(each.float() / 255)[0, 0] > toy.threshold
            scores[key].append(f1_score(truth.flatten(), marked.flatten(), zero_division=0))
    means = {key: np.mean(values) for key, values in scores.items()}
    (difference,) = found.differences
    expected = 100 * (means["fast"] - means["exact"]) / means["clean"]
    assert difference.rp == pytest.approx(expected)
    assert difference.attack == "bim-3"
    assert difference.low <= difference.rp <= difference.high
    assert found.signs == pytest.approx(np.mean(shares), rel=1e-4)
    assert found.signs < 1


def test_what_is_not_as_strong_is_refused_before_anything_is_made(job, toy):
    refused = replace(job, victim=turned(toy, 8))
    with pytest.raises(
        AdvbenchError,
        match=r"--numerics fast: on 5 images \d+\.\d\d % of the gradient has its exact sign, and "
        r"F1 differs in RP points by bim-3 \+\d+\.\d+ \(.*; 0.5 are allowed",
    ):
        generate(refused)
    assert not list(job.out.rglob("*.h5"))


def test_a_plan_tells_it_too(small_dataset, toy, tmp_path, monkeypatch):
    monkeypatch.setattr(agreement, "MOST_RP", -1)
    suite = Suite.model_validate(
        {
            "schema": "advbench.suite/1",
            "title": "lower",
            "datasets": ["tiny"],
            "victims": {"ifosn": {"weights": "random"}},
            "attacks": {"fgsm": {}},
            "numerics": "bf16",
        }
    )
    plan = make_plan(suite, tmp_path, lambda name: small_dataset, lambda name: toy)
    assert [fault.problem[:25] for fault in plan.faults] == ["--numerics bf16: on 5 imag"[:25]]


def test_measured_once(job, toy, monkeypatch):
    first = check_agreement(job)
    monkeypatch.setattr(agreement, "measured", lambda *_: pytest.fail("measured again"))
    assert check_agreement(job) == first
    assert generate(job).agreement == str(first)
    for other in (
        replace(job, victim=with_numerics(toy, "fast")),
        replace(job, rows=job.rows[:2]),
    ):
        with pytest.raises(pytest.fail.Exception, match="measured again"):
            check_agreement(other)
    (kept,) = (job.out.parent / "cache").rglob("*.json")
    kept.write_text("{")
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        check_agreement(job)
