"""On the CPU each torch thread takes a row: the bytes are those of one thread."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

from advbench.attacks.cw import CW
from advbench.attacks.pgd import PGD
from advbench.attacks.torchattacks_adapter import TorchAttack
from advbench.inference.runner import BatchRunner

from ..attacks.toys import ALL, Toy, pictures, wavy_net


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Meeting(Toy):
    """Lets nobody out before two were in, where it may; counts who is inside."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__(wavy_net())
        self.reentrant = reentrant
        self.barrier = threading.Barrier(2, timeout=20)
        self.lock = threading.Lock()
        self.inside = self.most = self.calls = 0
        self.kernel_threads: set[int] = set()

    def logits(self, images: Tensor) -> Tensor:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.kernel_threads.add(torch.get_num_threads())
            self.calls += 1
            early = self.calls <= 2
        if self.reentrant and early:
            self.barrier.wait()
        try:
            return super().logits(images)
        finally:
            with self.lock:
                self.inside -= 1


@pytest.mark.parametrize("name", ALL)
def test_as_many_threads_as_there_are_give_the_same_bytes(name: str) -> None:
    found = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found.append(pictures(5).attacked(ALL[name], Toy(wavy_net())))
        assert torch.get_num_threads() == threads
    for variant, result in found[0].items():
        for other in found[1:]:
            assert torch.equal(result.images, other[variant].images)


def test_rows_are_in_the_victim_at_once() -> None:
    torch.set_num_threads(2)
    victim = Meeting(reentrant=True)
    pictures(4).attacked(ALL["bim"], victim)
    assert victim.most == 2
    assert victim.kernel_threads == {1}


def test_a_victim_that_is_not_reentrant_is_entered_once_at_a_time() -> None:
    torch.set_num_threads(2)
    victim = Meeting(reentrant=False)
    pictures(4).attacked(ALL["bim"], victim)
    assert victim.most == 1
    assert victim.kernel_threads == {1}


def test_an_error_in_a_thread_is_raised_and_leaves_the_threads_as_they_were() -> None:
    torch.set_num_threads(3)
    victim = Toy(wavy_net())
    victim.logits = lambda images: 1 / 0  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        pictures(4).attacked(ALL["bim"], victim)
    assert torch.get_num_threads() == 3
    assert len(pictures(4).attacked(ALL["bim"], Toy(wavy_net()))) == len(ALL["bim"].intensities)


def test_global_random_numbers_are_not_shared_between_threads() -> None:
    """torchattacks draws from torch's one generator."""
    pytest.importorskip("torchattacks")
    attack = TorchAttack(eps=(2, 4), method="PGD", arguments={"steps": 6, "random_start": True})
    found = []
    for threads in (1, 4):
        torch.set_num_threads(threads)
        found.append(pictures(8).attacked(attack, Toy(wavy_net())))
    for variant, result in found[0].items():
        assert torch.equal(result.images, found[1][variant].images)


def test_threads_are_shared_and_never_wait_for_themselves() -> None:
    torch.set_num_threads(2)
    found: list[set[str]] = []

    def who(rows: Sequence[int]) -> list[str]:
        return [threading.current_thread().name] * len(rows)

    def within(rows: Sequence[int]) -> list[str]:
        """The same from a thread of the runner's: its rows go one after another."""
        inner = set(runner.sized("inner").map(range(5), who))
        assert inner == {threading.current_thread().name}
        return [*inner] * len(rows)

    cpu = torch.device("cpu")
    with BatchRunner(cpu) as runner:
        assert torch.get_num_threads() == 1
        assert runner.images_at_once == 2
        found.append(set(runner.map(range(20), who)))
        found.append(set(runner.sized("another").map(range(20), who)))
        found.append(set(runner.map(range(20), within)))
    assert torch.get_num_threads() == 2
    here = {threading.current_thread().name}
    assert not here & set.union(*found)
    assert len(set.union(*found)) <= 2  # one pool's
    with BatchRunner(cpu, reentrant=False) as alone:  # a victim that only one thread may be in
        assert torch.get_num_threads() == 1
        assert set(alone.map(range(20), who)) == here


def test_after_an_interrupt_the_threads_end(request: pytest.FixtureRequest) -> None:
    """Hours of work each, of which they do one pass more at most."""
    torch.set_num_threads(2)
    inside: set[threading.Thread] = set()

    def watch(images: Tensor) -> None:
        inside.add(threading.current_thread())
        time.sleep(0.01)

    def interrupt() -> None:
        while len(inside) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    # What a process in the background does not have.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    victim = Toy(wavy_net(), watch)
    victim.reentrant = True
    for long in (PGD(eps=3, iterations=10_000), CW(steps=10_000)):
        inside.clear()
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            pictures(2).attacked(long, victim)
        for thread in inside:
            thread.join(20)
            assert not thread.is_alive()


# A long switch interval, so that what the threads want of the interpreter comes last, and an end
# that then lets them have it.
LAST_THING = """
import sys
import time
import torch
from advbench.inference.runner import BatchRunner

def backward(rows):
    x = torch.ones(9, requires_grad=True)
    torch.autograd.grad(x.square().sum(), x)
    return list(rows)

class Last:
    def __del__(self, sleep=time.sleep):
        sleep(0.3)

last = Last()
torch.set_num_threads(16)
sys.setswitchinterval(10)
with BatchRunner(torch.device("cpu")) as runner:
    assert runner.map(range(64), backward) == list(range(64))
"""


def test_a_program_whose_last_thing_is_an_attack_ends_well() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LAST_THING],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
