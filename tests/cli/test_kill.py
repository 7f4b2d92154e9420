"""A run that is killed anywhere resumes and ends with the content of one that was not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

KILLS = 10


def command(out: Path, data: Path) -> list[str]:
    options = "--plugin toy_victim:ToyVictim --victim toy --weights random --attack all"
    sizes = "--shard-size 1 --steps 40,80 --set iterations=20 --set neighbours=4"
    arguments = [*options.split(), *sizes.split(), "--dataset", str(data), "--out", str(out)]
    return [sys.executable, "-m", "advbench", "generate", *arguments]


@pytest.mark.slow
def test_ten_kills_at_random_moments(imported, tmp_path, advbench_command):
    """SIGKILL between the first shard and the end of the run, ten times."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    data = imported / "datasets" / "mine"
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = {"env": environment, "cwd": tmp_path, "stderr": subprocess.DEVNULL}
    subprocess.run(command(whole, data), check=True, **options)
    expected = json.loads(advbench_command("verify", "--out", whole, "--json").out)
    total = len(list(whole.rglob("*.h5")))

    moments = random.Random(0)
    for kill in range(KILLS):
        process = subprocess.Popen(command(killed, data), **options)
        wanted = (kill + 1) * total // (KILLS + 1)
        while len(list(killed.rglob("*.h5"))) < wanted and process.poll() is None:
            time.sleep(0.005)
        time.sleep(moments.random() * 0.3)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL, "the run ended before it was killed"
    subprocess.run(command(killed, data), check=True, **options)

    found = json.loads(advbench_command("verify", "--out", killed, "--json").out)
    assert found["problems"] == expected["problems"] == []
    assert found["images"] == expected["images"]
    assert found["content_sha256"] == expected["content_sha256"]
