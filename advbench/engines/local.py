"""The local engine: units one after another in this process, or in several of this machine."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.queues import Queue
from multiprocessing.sharedctypes import Synchronized
from threading import Thread
from typing import Any, TypeVar

from advbench.engines.units import Advance, Work, WorkUnit, not_sent, once_each
from advbench.errors import AdvbenchError
from advbench.plugins import from_plugin
from advbench.progress import TaskProgress
from advbench.registry import add_plugin, added_plugins

T = TypeVar("T")
R = TypeVar("R")

# Deaths without a unit done in between, as when the system kills what takes too much memory.
TRIES = 3
# Between two looks at how far the processes are.
SECONDS = 0.5


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
        self, work: Work[T, R], units: Sequence[WorkUnit[T]], progress: TaskProgress
    ) -> Iterator[R]:
        """See :class:`advbench.engines.units.Engine`."""
        pending = once_each(units)
        total, done = sum(unit.cost for unit in pending), 0
        if self.workers > 1 and len(pending) > 1:
            shown = 0

            def running(unit: WorkUnit[T], reported: int) -> None:
                nonlocal shown
                shown = max(shown, min(max(done, reported), total))
                progress(unit.name, shown, total)

            for unit, result in self._spread(work, pending, running):
                done += unit.cost
                running(unit, done)
                yield result
            return
        for unit in pending:

            def report(cost: int, unit: WorkUnit[T] = unit) -> None:
                nonlocal done
                done += cost
                progress(unit.name, done, total)

            yield work(unit.payload, report)

    def _spread(
        self,
        work: Work[T, R],
        units: Sequence[WorkUnit[T]],
        running: Callable[[WorkUnit[T], int], None],
    ) -> Iterator[tuple[WorkUnit[T], R]]:
        left = {unit.key: unit for unit in units}
        try:
            # The queue does it in a thread of its own, which hides what cannot be pickled.
            pickle.dumps(work)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise not_sent(error) from error
        deaths = 0
        _start_tracker()
        while left:
            reported = get_context("spawn").Value("q", 0)
            pool = self._pool(work, min(self.workers, len(left)), reported)
            try:
                with _signals_kept_from_processes():
                    waiting: dict[Future[R], WorkUnit[T]] = {
                        pool.submit(_do, unit.payload): unit for unit in left.values()
                    }
                while waiting:
                    done = wait(waiting, SECONDS, return_when=FIRST_COMPLETED).done
                    running(next(iter(waiting.values())), reported.value)
                    # A death fails all that wait; what was done before it counts first.
                    for future in sorted(done, key=lambda each: each.exception() is not None):
                        unit = waiting.pop(future)
                        result = future.result()
                        del left[unit.key]
                        deaths = 0
                        yield unit, result
            except BrokenProcessPool as error:
                deaths += 1
                if deaths == TRIES:
                    raise AdvbenchError(
                        f"a worker died {TRIES} times with no unit done in between, most "
                        "likely for want of memory; take fewer --workers (what is finished stays)"
                    ) from error
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _pool(
        self, work: Work[Any, Any], processes: int, reported: Synchronized[int]
    ) -> ProcessPoolExecutor:
        import torch

        context = get_context("spawn")
        # Queues, so that no GPU is looked for before the process knows which it may see.
        places: Queue[str] = context.Queue()
        works: Queue[Work[Any, Any]] = context.Queue()
        for queue in (places, works):
            queue.cancel_join_thread()  # at exit, for the copy of a process that died
        for number in range(processes):
            places.put(self.gpus[number % len(self.gpus)] if self.gpus else "")
            works.put(work)
        # Torch's own number heeds OMP_NUM_THREADS and the cores that this process may use.
        threads = max(1, torch.get_num_threads() // self.workers)
        start = partial(_start, works=works, plugins=added_plugins(), reported=reported)
        return ProcessPoolExecutor(processes, context, start, (places, threads))


def _start_tracker() -> None:
    """Start the process that clears away what a killed run leaves, so that it does so without a
    word; before signals are kept from processes, else it would let them through."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker"
    try:
        resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


@contextmanager
def _signals_kept_from_processes() -> Iterator[None]:
    """Start processes that Ctrl-C in a terminal does not reach: they end with this one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_work: Work[Any, Any]
_reported: Synchronized[int]


def _start(
    places: Queue[str],
    threads: int,
    *,
    works: Queue[Work[Any, Any]],
    plugins: Sequence[str],
    reported: Synchronized[int],
) -> None:
    """In each process, once."""
    global _work, _reported  # noqa: PLW0603
    _reported = reported
    Thread(target=_end_with_parent, daemon=True).start()
    os.environ["CUDA_VISIBLE_DEVICES"] = places.get()
    try:
        import torch

        torch.set_num_threads(threads)
        for target in plugins:
            add_plugin(target)
        _work = works.get()
    except Exception as error:
        # Raised here it would look like a death; each unit raises it instead.
        _work = _Unable(error)


def _end_with_parent() -> None:
    """A killed parent cannot end its processes, which would work on and wait for ever."""
    parent = parent_process()
    if parent:
        parent.join()
        os._exit(1)


class _Unable:
    """In place of work that could not be unpickled."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __call__(self, payload: Any, advance: Advance) -> Any:
        raise self._error


def _do(payload: Any) -> Any:
    try:
        return _work(payload, _report)
    except (Exception, SystemExit) as error:
        # Told here, where the traceback is.
        raise from_plugin(error) or error from error


def _report(cost: int) -> None:
    with _reported.get_lock():
        _reported.value += cost
