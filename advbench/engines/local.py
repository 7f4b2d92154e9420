"""The local engine: units one after another in this process, or in several of this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.queues import Queue
from typing import Any, TypeVar

from advbench.engines.units import Work, WorkUnit, once_each
from advbench.errors import AdvbenchError

T = TypeVar("T")
R = TypeVar("R")
Progress = Callable[[str, int, int], None]

TRIES = 3  # of a unit whose worker dies, as when the system kills what takes too much memory


@dataclass(frozen=True)
class Local:
    """Units on this machine.

    Attributes:
        workers: 1 does them here; more start as many processes.
        gpus: what each process may see, as in ``CUDA_VISIBLE_DEVICES``, one a worker; none where
            empty.
    """

    workers: int = 1
    gpus: tuple[str, ...] = ()

    def run(
        self, work: Work[T, R], units: Sequence[WorkUnit[T]], progress: Progress
    ) -> Iterator[R]:
        """See :class:`advbench.engines.units.Engine`."""
        pending = once_each(units)
        total, done = sum(unit.cost for unit in pending), 0
        if self.workers > 1 and len(pending) > 1:
            for unit, result in self._spread(work, pending):
                done += unit.cost
                progress(unit.name, done, total)
                yield result
            return
        for unit in pending:

            def report(cost: int, unit: WorkUnit[T] = unit) -> None:
                nonlocal done
                done += cost
                progress(unit.name, done, total)

            yield work(unit.payload, report)

    def _spread(
        self, work: Work[T, R], units: Sequence[WorkUnit[T]]
    ) -> Iterator[tuple[WorkUnit[T], R]]:
        left = {unit.key: unit for unit in units}
        deaths = 0
        while left:
            pool = self._pool(work)
            try:
                waiting: dict[Future[R], WorkUnit[T]] = {
                    pool.submit(_do, unit.payload): unit for unit in left.values()
                }
                while waiting:
                    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                        unit = waiting.pop(future)
                        result = future.result()
                        del left[unit.key]
                        yield unit, result
            except BrokenProcessPool as error:
                deaths += 1
                if deaths == TRIES:
                    raise AdvbenchError(
                        f"a worker died {TRIES} times, most likely for want of memory; take fewer "
                        "--workers (what is finished stays)"
                    ) from error
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _pool(self, work: Work[Any, Any]) -> ProcessPoolExecutor:
        context = get_context("spawn")
        # Queues, so that no GPU is looked for before the process knows which it may see.
        places: Queue[str] = context.Queue()
        works: Queue[Work[Any, Any]] = context.Queue()
        for number in range(self.workers):
            places.put(self.gpus[number % len(self.gpus)] if self.gpus else "")
            works.put(work)
        threads = max(1, (os.cpu_count() or 1) // self.workers)
        return ProcessPoolExecutor(self.workers, context, _start, (places, threads, works))


_work: Work[Any, Any]


def _start(places: Queue[str], threads: int, works: Queue[Work[Any, Any]]) -> None:
    """In each process, once."""
    global _work  # noqa: PLW0603
    os.environ["CUDA_VISIBLE_DEVICES"] = places.get()
    import torch

    torch.set_num_threads(threads)
    _work = works.get()


def _do(payload: Any) -> Any:
    return _work(payload, lambda cost: None)
