"""ANSM by the command line alone: divide, attack, train, resume, evaluate."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from advbench.cli.progress import Progress

TINY = "--set crop=32 --set batch=2 --set epochs_first=2 --set epochs_mgr=1 --set lr_first=1e-3"


@pytest.fixture
def train(imported, toy, advbench_command, tmp_path, *, monkeypatch):
    """``advbench train ansm`` for the toy victim on a divided dataset, in a folder of its own."""
    split = ("--train", 0.6, "--val", 0.2, "--out", imported)
    assert advbench_command("dataset", "split", "mine", *split).out == "3 train, 1 val, 1 test\n"
    monkeypatch.chdir(tmp_path)

    def run(*more: object):
        options = ("--size", "small", "--dataset", "mine", "--out", imported, *TINY.split())
        return advbench_command("train", "ansm", *toy, *options, *more)

    return run


def test_train_and_evaluate(train, imported, toy, tmp_path, *, advbench_command):
    ran = train()
    weights = Path("runs") / "ansm-toy-small-mine" / "toy-full.safetensors"
    assert ran.code == 0, ran.err
    assert ran.out == (
        f"weights: {weights}; use them with evaluate --defense ansm --ansm-weights {weights}\n"
    )
    lines = [line for line in ran.err.splitlines() if line.startswith("epoch ")]
    assert [line.partition(":")[0] for line in lines] == [
        *("epoch 1/3 (ffa)", "epoch 2/3 (ffa)", "epoch 3/3 (mgr)")
    ]
    card = json.loads((tmp_path / weights).with_suffix(".json").read_text())
    assert card["recipe"]["lr_first"] == 1e-3
    assert card["recipe"]["lr_mgr"] == 1e-5  # of the full size of a victim
    assert (card["size"], card["victim_size"]) == ("small", "full")
    assert card["pairs"]["training_images"] == 3

    arguments = ("--attack", "fgsm", "--eps", 2, "--dataset", "mine", "--out", imported)
    assert advbench_command("generate", *arguments, *toy).code == 0
    command = ("evaluate", "--defense", "ansm,median", "--kernel", 3, "--out", imported, *toy[:2])
    ran = advbench_command(*command)
    assert ran.code == 2
    assert "no shipped network for toy (full); train it with: advbench train ansm" in ran.err
    ran = advbench_command(*command, "--ansm-weights", weights, "--json")
    scored = json.loads(ran.out)
    assert scored["scored"] == 2 * 3
    rows = pd.DataFrame(scored["table"])
    assert len(rows[rows.defense == "ansm"]) == 2
    again = json.loads(advbench_command(*command, "--ansm-weights", weights, "--json").out)
    assert (again["scored"], again["reused"]) == (0, 6)
    ran = advbench_command("evaluate", "--defense", "all", *command[3:])
    assert ran.code == 0, ran.err
    assert "left out: defense ansm: no shipped network for toy (full); train it with" in ran.out


def test_the_same_command_resumes(train, tmp_path, monkeypatch):
    assert train("--to", "whole").code == 0
    real = Progress.note

    def stop(self: Progress, text: str) -> None:
        if text.startswith("epoch 2/"):
            raise KeyboardInterrupt
        real(self, text)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "note", stop)
        ran = train("--to", "stopped")
    assert ran.code == 130
    assert "run the same command again, it resumes" in ran.err
    ran = train("--to", "stopped")
    assert ran.code == 0, ran.err
    assert "epoch 2/" not in ran.err
    assert "epoch 3/3 (mgr)" in ran.err
    whole, resumed = (tmp_path / name / "toy-full.safetensors" for name in ("whole", "stopped"))
    assert whole.read_bytes() == resumed.read_bytes()


def test_too_few_images_are_told(train):
    ran = train("--limit", 1)
    assert ran.code == 2
    assert "1 training images do not fill a batch of 2" in ran.err
