"""Ctrl-C and SIGTERM: one message, the right exit code, no traceback, nothing left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# A victim that is in a kernel for a minute, or between passes.
VICTIM = """
import ctypes, pathlib, time
from typing import ClassVar
from torch import nn
from advbench.victims.base import Victim

class Slow(Victim):
    name: ClassVar[str] = "slow"

    @classmethod
    def build_network(cls, size):
        return nn.Conv2d(3, 1, 1)

    def logits(self, images):
        pathlib.Path("started").touch()
        WAIT
        return self.network(images)

    def taps(self, depth):
        return {"0": self.network}
"""
WAITS = {
    "kernel": "ctypes.CDLL(None).sleep(60)",
    "python": "[time.sleep(0.01) for _ in range(6000)]",
}


def started(folder: Path, data: Path, wait: str, *more: str) -> subprocess.Popen[str]:
    """A run that has come to its first pass, in a group of its own as in a terminal."""
    (folder / "slow_victim.py").write_text(VICTIM.replace("WAIT", WAITS[wait]))
    options = "--plugin slow_victim:Slow --victim slow --weights random --attack fgsm"
    command = [sys.executable, "-m", "advbench", "generate", *options.split(), *more]
    process = subprocess.Popen(
        [*command, "--shard-size", "1", "--dataset", str(data), "--out", "out"],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (folder / "started").exists() and process.poll() is None:
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(
    ("number", "times", "workers", "wait"),
    [
        (signal.SIGINT, 1, "1", "python"),
        (signal.SIGINT, 1, "1", "kernel"),
        (signal.SIGINT, 2, "2", "kernel"),
        (signal.SIGTERM, 1, "2", "python"),
        (signal.SIGTERM, 1, "1", "kernel"),
    ],
)
def test_one_message_and_an_end(imported, tmp_path, number, times, *, workers, wait) -> None:
    """Whatever the process is in the middle of; the terminal sends Ctrl-C to its workers too."""
    data = imported / "datasets" / "mine"
    process = started(tmp_path, data, wait, "--workers", workers)
    group = os.getpgid(process.pid)
    for _ in range(times):
        if number == signal.SIGINT:
            os.killpg(group, number)
        else:
            process.send_signal(number)
        time.sleep(0.2)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert err.count("advbench: error: stopped; run the same command again") == 1
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("workers are left")
