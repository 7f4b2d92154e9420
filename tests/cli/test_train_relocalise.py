"""The control by the command line alone: train, evaluate."""

from __future__ import annotations

import json
from pathlib import Path

TINY = "--set crop=32 --set batch=2 --set epochs=2"


def test_train_and_evaluate(imported, toy, advbench_command, tmp_path, *, monkeypatch):
    split = ("--train", 0.6, "--val", 0.2, "--out", imported)
    assert advbench_command("dataset", "split", "mine", *split).code == 0
    monkeypatch.chdir(tmp_path)
    options = ("--dataset", "mine", "--out", imported)
    ran = advbench_command("train", "relocalise", *toy, *options, *TINY.split())
    weights = Path("runs") / "relocalise-toy-full-mine" / "toy-full.safetensors"
    assert ran.code == 0, ran.err
    given = ("--defense", "relocalise", "--relocalise-weights", weights)
    assert ran.out == f"weights: {weights}; use them with evaluate {' '.join(map(str, given))}\n"
    assert "epoch 2/2: loss " in ran.err
    card = json.loads((tmp_path / weights).with_suffix(".json").read_text())
    assert card["localizer"]["name"] == "mvssnet"
    assert weights.stat().st_size < 30_000

    made = advbench_command("generate", "--attack", "fgsm", "--eps", 2, *options, *toy)
    assert made.code == 0, made.err
    command = ("evaluate", "--out", imported, *toy[:2])
    ran = advbench_command(*command, *given[:2])
    assert ran.code == 2
    assert "no shipped network for toy (full); train it with: advbench train rel" in ran.err
    scored = json.loads(advbench_command(*command, *given, "--json").out)
    assert "relocalise" in {row["defense"] for row in scored["table"]}
    (left_out,) = json.loads(advbench_command(*command, "--defense", "all", "--json").out)[
        "left_out"
    ]
    assert left_out.startswith("defense ansm: ")
