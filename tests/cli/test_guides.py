"""The examples of the guides work as they stand: by name, and from Python."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import advbench
from advbench.scores.records import read_records

from ..attacks.toys import pictures as toy_pictures
from ..pipelines.conftest import ToyVictim, _make

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write the first Python block of a guide to a module and import it."""

    def write(guide: str, name: str):
        block = re.search(r"```python\n(.*?)```", (DOCS / guide).read_text(), re.DOTALL)
        (tmp_path / f"{name}.py").write_text(block[1])
        monkeypatch.syspath_prepend(str(tmp_path))
        return __import__(name)

    yield write
    for name in ("momentum_sign", "bilateral"):
        sys.modules.pop(name, None)


def test_the_attack_of_the_guide(module) -> None:
    """With no memory it is BIM; with memory it is the running mean of signs, by a plain loop."""
    kind = module("add-an-attack.md", "momentum_sign").MomentumSign
    batch, victim = toy_pictures(2), _make(ToyVictim, 3)
    bim = advbench.load_attack("bim", eps=2, iterations=4)
    same = kind(eps=(2,), iterations=4, decay=0)(victim, batch.images, batch.masks)
    assert torch.equal(same["momentum-sign-2"], bim(victim, batch.images, batch.masks)["bim-2"])
    x = batch.images.float() / 255
    y = batch.masks.reshape(2, 1, *x.shape[2:]).float()
    current, momentum = x, torch.zeros_like(x)
    for _ in range(4):
        leaf = current.clone().requires_grad_()
        losses = torch.nn.functional.binary_cross_entropy_with_logits(
            victim.logits(leaf), y, reduction="none"
        )
        (gradient,) = torch.autograd.grad(losses.mean((1, 2, 3)).sum(), leaf)
        momentum = 0.9 * momentum + gradient.sign()
        current = (x + (current + momentum.sign() / 255 - x).clamp(-2 / 255, 2 / 255)).clamp(0, 1)
    found = kind(eps=(2,), iterations=4)(victim, batch.images, batch.masks)
    assert torch.equal(found["momentum-sign-2"], current.mul(255).round().to(torch.uint8))


def test_the_defense_of_the_guide(module) -> None:
    kind = module("add-a-defense.md", "bilateral").Bilateral
    images = toy_pictures(2).images
    defended = kind(sigma_levels=(10,))(images, ["a", "b"])["bilateral-10"]
    for image, found in zip(images, defended, strict=True):
        plain = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        expected = cv2.bilateralFilter(plain, 5, 10, 2)
        assert np.array_equal(found.permute(1, 2, 0).mul(255).round().numpy(), expected)


WRAPPED = """
import torch
import advbench

torch.manual_seed(0)
victim = advbench.wrap(torch.nn.Conv2d(3, 1, 3, padding=1), side=32, name="one-layer")
"""


def test_a_wrapped_module_on_the_command_line(
    imported, tmp_path, monkeypatch, advbench_command
) -> None:
    """By the variable that it is in; its own weights are the only ones."""
    monkeypatch.chdir(tmp_path)
    Path("wrapped_module.py").write_text(WRAPPED)
    mine = ("--plugin", "./wrapped_module.py:victim", "--out", imported)
    fgsm = ("--victim", "one-layer", "--attack", "fgsm", "--eps", 2, "--limit", 2)
    data = ("--dataset", imported / "datasets" / "mine")
    ran = advbench_command("generate", *mine, *fgsm, *data)
    assert ran.code == 0, ran.err
    ran = advbench_command("evaluate", *mine, "--defense", "median", "--kernel", 3)
    assert ran.code == 0, ran.err
    records = read_records(imported / "records")
    assert set(records.victim) == {"one-layer"}
    assert len(records) == 2 * 2 * 2
    assert set(records[records.variant == "fgsm-2"].linf) == {2}
    ran = advbench_command("generate", *mine, *fgsm, *data, "--weights", "mine.pth")
    assert ran.code == 2
    assert "one-layer: is a wrapped module as it is; leave out --size and --weights" in ran.err


def test_both_on_the_command_line(module, imported, toy, advbench_command) -> None:
    """As the guides say it: an attack and a defense of one's own end in a leaderboard row."""
    module("add-an-attack.md", "momentum_sign")
    module("add-a-defense.md", "bilateral")
    mine = ("--plugin", "momentum_sign:MomentumSign", "--plugin", "bilateral:Bilateral")
    data = ("--dataset", imported / "datasets" / "mine", "--out", imported)
    ran = advbench_command(
        *("generate", *mine, *toy, "--attack", "momentum-sign", "--eps", "1,3", *data)
    )
    assert ran.code == 0, ran.err
    victim = ("--plugin", "toy_victim:ToyVictim", "--weights", "random")
    ran = advbench_command(
        *("evaluate", *mine, *victim, "--defense", "bilateral", "--set", "sigma_levels=10"),
        *("--out", imported),
    )
    assert ran.code == 0, ran.err
    ran = advbench_command("leaderboard", "build", "--out", imported)
    assert ran.code == 0, ran.err
    boards = list((imported / "leaderboard").glob("*.csv"))
    assert any("bilateral" in board.read_text() for board in boards)
