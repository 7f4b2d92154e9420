"""Two processes train together: gradients, curve and validation are those of the whole batch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from advbench.defenses.ansm.network import AnsmNetwork
from advbench.defenses.ansm.recipe import AnsmRecipe
from advbench.defenses.ansm.training import train
from advbench.engines.processes import Processes
from advbench.errors import AdvbenchError
from advbench.training.data import Crops
from advbench.training.loop import TrainingRun

from .toys import layered, pairs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    script = Path(__file__).with_name("together.py")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*launch, script, folder], check=True, timeout=240)
    return folder


@pytest.fixture(scope="module")
def left(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_gradients_are_those_of_the_whole_batch(left):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Tanh(), nn.Conv2d(2, 1, 3))
    network(torch.rand(4, 3, 8, 8)).square().mean().backward()
    for parameter, *found in zip(
        network.parameters(), *(one["gradients"] for one in left), strict=True
    ):
        assert parameter.grad is not None
        for gradient in found:
            torch.testing.assert_close(gradient, parameter.grad)


def test_each_knows_its_place_and_reports_the_same(left):
    assert [one["processes"] for one in left] == [[0, 2, 1.0], [1, 2, 1.0]]
    assert left[0]["curve"] == left[1]["curve"]
    assert len(left[0]["curve"]) == 2


@torch.no_grad()
def test_validation_is_of_every_image(folder, left):
    """Three images over two processes, against the saved weights alone."""
    path = folder / "run" / "layered-small.safetensors"
    assert json.loads(path.with_suffix(".json").read_text())["best_epoch"] == 1
    network = AnsmNetwork("small").eval()
    network.load_state_dict(load_file(path))
    victim, examples, scores = layered(), pairs(3, 100), []
    for number in range(3):
        both, truth = examples.load(number)
        clean, adversarial = torch.from_numpy(both / 255).permute(2, 0, 1).float()[None].chunk(2, 1)
        maps = [victim.logits(x) for x in (clean, network(clean), network(adversarial))]
        forged = [(torch.sigmoid(z) > victim.threshold)[0, 0].numpy() for z in maps]
        scores.append([2 * (f & truth).sum() / (f.sum() + truth.sum()) for f in forged])
    undefended, original, fgsm = np.mean(scores, 0)
    expected = [100 * original / undefended, 100 * fgsm / undefended]
    assert left[0]["curve"][-1][1:] == pytest.approx(expected, abs=1e-3)


def test_processes_divide_every_batch():
    crops = Crops(pairs(8), AnsmRecipe(crop=32, batch=4))
    parts = zip(crops.epoch(0), crops.epoch(0, 0, 2), crops.epoch(0, 1, 2), strict=True)
    for (whole, masks), *halves in parts:
        for rank, (images, of_images) in enumerate(halves):
            assert torch.equal(images, whole[rank::2])
            assert torch.equal(of_images, masks[rank::2])


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    processes = Processes()
    processes.count = 3
    recipe = AnsmRecipe(crop=32, batch=4)
    source = {"content_sha256": ""}
    with pytest.raises(AdvbenchError, match=r"batch of 4 .* 3 processes; give --set batch=3"):
        train(
            layered(),
            "small",
            pairs(4),
            pairs(1),
            source=source,
            recipe=recipe,
            run=TrainingRun(tmp_path, processes=processes),
        )


def test_one_gpu_for_all_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(AdvbenchError, match="--device cuda:1: each process takes its own GPU"):
        Processes("cuda:1")
