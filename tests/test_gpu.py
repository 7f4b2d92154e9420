"""Compare a GPU with the CPU: ``pytest -m gpu``; ``DEVICE=cpu`` makes a dry run of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import advbench
from advbench.inference.runner import BatchRunner
from advbench.registry import ATTACKS, VICTIMS
from advbench.scores.records import read_records
from advbench.victims.base import Victim

from .attacks.toys import ALL, pictures

DEVICE = os.environ.get("DEVICE", "cuda")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        DEVICE != "cpu" and not torch.cuda.is_available(), reason="there is no CUDA device"
    ),
]


def on_both(name: str) -> tuple[Victim, Victim]:
    return advbench.load_victim(name), advbench.load_victim(name, device=DEVICE)


@pytest.fixture
def crowded() -> Iterator[None]:
    """A device with room for less than a full batch of large images."""
    if DEVICE == "cpu":
        yield
        return
    free, whole = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (2 << 30) / whole, free / whole))
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.mark.parametrize("name", VICTIMS.standard())
def test_maps_are_those_of_the_cpu(name: str) -> None:
    batch = pictures(2, 256, 256)
    here, there = on_both(name)
    with torch.inference_mode():
        expected = here.probabilities(batch.x)
        found = there.probabilities(batch.x.to(there.device)).cpu()
    assert (found - expected).abs().max() < 1e-3


@pytest.mark.parametrize("name", ALL)
def test_attacks_reach_the_loss_of_the_cpu(name: str) -> None:
    """The noise differs where float32 sums differ; what it does to the victim does not."""
    batch, attack = pictures(2, 64, 64), ALL[name]
    here, there = on_both("ifosn")
    expected, found = batch.attacked(attack, here), batch.attacked(attack, there)
    for variant, result in expected.items():
        theirs = found[variant]
        assert theirs.images.device.type == "cpu"
        for mine, other in zip(result.details, theirs.details, strict=True):
            assert other.loss_last == pytest.approx(mine.loss_last, rel=0.05)
        if variant.startswith("fgsm"):
            assert (theirs.images == result.images).float().mean() > 0.98


@pytest.mark.parametrize("name", ATTACKS.standard())
def test_two_runs_give_the_same_bytes(name: str) -> None:
    batch, attack = pictures(2, 64, 64), advbench.load_attack(name, profile="quick")
    victim = advbench.load_victim("mvssnet", device=DEVICE)
    first, second = (batch.attacked(attack, victim) for _ in range(2))
    assert all(torch.equal(first[v].images, second[v].images) for v in first)


def test_out_of_memory_halves_the_batch(crowded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 24 images, more than 2 GB hold at once, each is attacked, as strongly as alone."""
    monkeypatch.setattr(BatchRunner, "fitted", {})
    count, side = (24, 768) if DEVICE != "cpu" else (2, 64)
    batch, attack = pictures(count, side, side), advbench.load_attack("fgsm", eps=3)
    victim = advbench.load_victim("mvssnet", device=DEVICE)
    (found,) = batch.attacked(attack, victim).values()
    (alone,) = batch.take([0]).attacked(attack, victim).values()
    if DEVICE != "cpu":
        assert max(BatchRunner.fitted.values()) < count
    assert (found.images.int() - batch.images.int()).abs().max() == 3
    assert found.details[0].loss_last == pytest.approx(alone.details[0].loss_last, rel=1e-2)


@pytest.mark.parametrize("numerics", ["exact", "fast"])
def test_commands(small_dataset, advbench_command, tmp_path: Path, numerics: str) -> None:
    """Generate, again, and evaluate: the scores are those that the CPU gives the same images."""
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"

    def run(*arguments: object) -> str:
        ran = advbench_command(*arguments)
        assert ran.code == 0, ran.err
        return ran.out

    victim, attack = ("--victim", "ifosn"), ("--attack", "pgd", "--eps", 3)
    made = ("generate", "--dataset", tmp_path / "imported", *victim, *attack, "--out", out)
    where = ("--device", DEVICE, "--numerics", numerics, "--json")
    for expected in (5, 0):
        (counts,) = json.loads(run(*made, *where))
        assert counts["made"] == expected
    shutil.copytree(out, elsewhere)
    scores = []
    for folder, device in ((out, DEVICE), (elsewhere, "cpu")):
        run("evaluate", "--defense", "median", "--out", folder, "--device", device)
        scores.append(read_records(folder / "records").f1)
    assert len(scores[0]) == 5 * 2 * 4
    assert np.allclose(*scores, atol=1e-3)


def test_training_in_mixed_precision(small_dataset, advbench_command, tmp_path: Path) -> None:
    folder = tmp_path / "imported"
    settings = {"batch": 2, "crop": 32, "epochs": 2, "crops_per_image": 2}
    device = ("--device", DEVICE)
    chosen = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    for arguments in (
        ("dataset", "split", folder, "--train", 0.6, "--val", 0.2),
        ("train", "victim", "mvssnet", "--dataset", folder, "--to", tmp_path, *chosen, *device),
    ):
        ran = advbench_command(*arguments)
        assert ran.code == 0, ran.err
    victim = advbench.load_victim("mvssnet", weights=str(tmp_path / "mvssnet-small.safetensors"))
    assert victim.weights.sha256 != advbench.load_victim("mvssnet").weights.sha256
