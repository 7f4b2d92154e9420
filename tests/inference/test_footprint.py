"""Estimates of a pass against closed forms and what the process really took."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import advbench
from advbench.defenses.base import Defense
from advbench.defenses.none import NoDefense
from advbench.errors import AdvbenchError
from advbench.inference import footprint as estimates
from advbench.inference.footprint import footprint, forward_footprint
from advbench.pipelines import sizes
from advbench.pipelines.cells import Cell

# In a process of its own, whose peak the kernel sets back; nn.Tanh keeps its output.
MEASURED = """
import torch, advbench
from torch import nn
from advbench.inference.footprint import footprint, forward_footprint
from advbench.memory import resident
torch.set_num_threads(1)
layers = [nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 8, 3, padding=1), nn.Tanh()]
victim = advbench.wrap(nn.Sequential(*layers, nn.Conv2d(8, 1, 1)), tile={tile})
image = torch.rand(1, 3, 1024, 1280, requires_grad=True)
before = resident("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
{work}
taken = resident("VmHWM") - before
# Only now: what it frees would be taken again unseen.
estimate = {estimate}(victim, 1024, 1280)
print(estimate.how, estimate.bytes / taken)
"""


PASSES = {
    "footprint": "torch.autograd.grad(victim.logits(image).mean(), image)",
    "forward_footprint": "with torch.inference_mode(): victim.probabilities(image.detach())",
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("estimate", PASSES)
@pytest.mark.parametrize(("tile", "how"), [(None, "whole"), (512, "tiled")])
def test_estimate_is_near_what_is_taken(tile, how, estimate):
    code = MEASURED.format(tile=tile, estimate=estimate, work=PASSES[estimate])
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert printed[0] == how
    assert 0.7 < float(printed[1]) < 2.5


def three_at_once(images: torch.Tensor) -> torch.Tensor:
    """Twelve bytes a pixel twice, then thrice, then twice; views and changes in place add none."""
    one = images + 1
    two = one * 2
    three = (one.flatten(2) + two.flatten(2)).view_as(one)
    del one
    two.add_(1)
    return three * 2


def test_what_is_alive_at_once_is_counted():
    pixels = 64 * 64
    most, largest = 36 * pixels, 12 * pixels
    expected = estimates.FORWARD_MORE * most + estimates.FORWARD_LARGEST * largest
    assert estimates._alive(three_at_once, torch.device("cpu"), 64) == int(expected)


class Attention(nn.Module):
    """Keeps a matrix of all pixels with all pixels."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        small = nn.functional.avg_pool2d(images.mean(1, keepdim=True), 8)
        flat = small.flatten(2)
        mixed = torch.softmax(flat.mT @ flat, -1) @ flat.mT
        return mixed.mT.view_as(small)


@pytest.mark.parametrize("estimate", [footprint, forward_footprint])
def test_attention_grows_with_the_square_of_pixels(estimate):
    one, four = (estimate(advbench.wrap(Attention()), side, side).bytes for side in (1024, 2048))
    assert 12 < four / one < 17


def test_resized_victims_hold_the_same_whatever_comes():
    victim = advbench.wrap(nn.Conv2d(3, 1, 1), side=64)
    one, other = footprint(victim, 100, 100), footprint(victim, 6000, 4000)
    assert one == other
    assert str(one).startswith("resized to 64×64")


def test_beside_a_forward_pass_stands_the_image():
    victim = advbench.wrap(nn.Conv2d(3, 1, 1), side=64)
    one, other = (forward_footprint(victim, height, 4000).bytes for height in (1000, 3000))
    assert other - one == estimates.BESIDE_BYTES_PER_PIXEL * 2000 * 4000


class Wide(Defense):
    """Holds sixteen copies of the image."""

    name = "wide"

    def defend(self, images, strength, keys):
        return images.repeat(1, 16, 1, 1)[:, :3]


def row(height: int, width: int) -> Any:
    return SimpleNamespace(height=height, width=width, image="big.jpg")


@pytest.fixture
def victim(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    layers = [nn.Conv2d(3, 8, 1), nn.Tanh(), nn.Conv2d(8, 1, 1)]
    return advbench.wrap(nn.Sequential(*layers), name="mine", reentrant=True)


def test_what_memory_cannot_hold_is_refused_before_any_pass(victim):
    needed = footprint(victim, 4000, 6000).bytes
    rows = [row(100, 100), row(4000, 6000)]
    assert "largest image 6000×4000 whole" in sizes.check_memory(victim, rows, 4 * needed)
    with pytest.raises(AdvbenchError, match=r"4 at once; .*: set OMP_NUM_THREADS=2"):
        sizes.check_memory(victim, rows, 3 * needed - 1)
    with pytest.raises(AdvbenchError, match=r"big.jpg of 6000×4000 whole, about .* GB a gradient"):
        sizes.check_memory(victim, rows, needed - 1)


def test_ordinary_images_are_not_asked_about(victim, monkeypatch):
    monkeypatch.setattr(sizes, "footprint", None)
    assert sizes.check_memory(victim, [row(1000, 1000)], 0) == ""
    assert sizes.check_memory(victim, [], 0) == ""


def test_forward_passes_that_do_not_fit_are_refused(victim):
    plain, wide = Cell(NoDefense(), None), Cell(Wide(), None)
    sides = {"small.jpg": (100, 100), "big.jpg": (4000, 6000)}
    needed = forward_footprint(victim, 4000, 6000).bytes
    told = sizes.check_forward(victim, sides, [plain], memory=4 * needed)
    assert told == f"largest image 6000×4000 whole, about {needed / 1e9:.1f} GB a forward pass"
    with pytest.raises(AdvbenchError, match=r"4 at once; .*: set OMP_NUM_THREADS=2"):
        sizes.check_forward(victim, sides, [plain], memory=3 * needed - 1)
    assert sizes.check_forward(victim, sides, [plain], alone=True, memory=needed)
    for cells, memory in (([plain], needed - 1), ([plain, wide], needed)):
        with pytest.raises(AdvbenchError, match=r"victim mine: big.jpg of 6000×4000 .*leave such"):
            sizes.check_forward(victim, sides, cells, alone=True, memory=memory)
    assert sizes.check_forward(victim, {"small.jpg": (100, 100)}, [plain], memory=0) == ""
