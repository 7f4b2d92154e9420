"""Run something again and again, killed once at each of its writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]


def at_every_write(run: Callable[[int], object]) -> int:
    """Kill ``run(0)`` at its first sync to disk, ``run(1)`` at its second, until one gets through.

    A file is synced before it has its name and its folder after, so each name is seen before and
    after it is there. No other thread may run, since the process forks. Returns how often it
    killed.
    """
    number = 0
    while True:
        child = os.fork()
        if not child:
            _die_at_sync(number)
            run(number)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 0:
            return number
        assert status == -signal.SIGKILL, f"it ended by itself with {status}"
        number += 1


def _die_at_sync(number: int) -> None:
    left, real = iter(range(number)), os.fsync

    def fsync(descriptor: int) -> None:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        real(descriptor)

    os.fsync = fsync


def in_new_process(code: str, *arguments: object) -> str:
    """What a Python program prints; it may import the tests."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    ran = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
