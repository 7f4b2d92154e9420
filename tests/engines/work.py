"""What engines are given to do in these tests; importable where it is unpickled."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import torch

from advbench.engines.units import Advance, WorkUnit
from advbench.errors import AdvbenchError


def units(count: int) -> list[WorkUnit[int]]:
    return [WorkUnit(f"unit {n}", (str(n),), n + 1, n) for n in range(count)]


class Log:
    """Squares a number and leaves a file for every time that it was asked to.

    Args:
        deaths: how often each of the first units kills its process before it is done.
        seconds: how long each takes.
    """

    def __init__(
        self, folder: Path, deaths: dict[int, int] | None = None, seconds: float = 0
    ) -> None:
        self.folder, self.deaths, self.seconds = folder, deaths or {}, seconds
        self.more_than_a_pipe_holds = bytes(1 << 20)

    def __call__(self, number: int, advance: Advance) -> int:
        tries = len(list(self.folder.glob(f"{number}-*")))
        (self.folder / f"{number}-{tries}").write_text(str(os.getpid()))
        if tries < self.deaths.get(number, 0):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds)
        advance(number + 1)
        return number * number


class Faulty:
    """Fails at one unit."""

    def __call__(self, number: int, advance: Advance) -> int:
        if number == 2:
            raise AdvbenchError("unit two: the disk is full; free some space")
        advance(number + 1)
        return number


class Together:
    """Waits until two processes are at work; whether they were."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, number: int, advance: Advance) -> bool:
        (self.folder / str(os.getpid())).touch()
        until = time.monotonic() + 120
        while len(list(self.folder.iterdir())) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        return len(list(self.folder.iterdir())) == 2


class Elsewhere:
    """Is not there where it is unpickled."""

    def __reduce__(self) -> object:
        return _missing, ("net.pth: not the file that the run started with; copy it here",)


def _missing(problem: str) -> None:
    raise AdvbenchError(problem)


class Locked:
    """Cannot be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, number: int, advance: Advance) -> int:
        return number


class Threads:
    """How many threads torch takes."""

    def __call__(self, number: int, advance: Advance) -> int:
        return torch.get_num_threads()


class Weighted:
    """Has tensors of its own."""

    def __init__(self) -> None:
        self.weights = torch.arange(100_000)

    def __call__(self, number: int, advance: Advance) -> int:
        return int(self.weights[number])
