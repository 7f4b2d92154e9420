"""Run work over rows: a thread a row on a CPU, batches that shrink with memory on a GPU."""

from __future__ import annotations

import atexit
import copy
import gc
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache, partial
from itertools import islice
from typing import ClassVar, Self, TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

# On a GPU: rows beyond which nothing is gained, and images enough to fill them.
GPU_ROWS, GPU_IMAGES = 64, 32
# Of rows that are still coming: threads before a GPU, of which one does what is the CPU's while the
# other has the GPU; and how many pieces of work may wait for each thread.
GPU_THREADS, WAITING = 2, 2


class BatchRunner:
    """Threads, batch size and cancellation of one piece of work, the same results in any of them.

    On a CPU each row meets the network alone, in a thread of its own, and kernels use one thread:
    some sum in an order that depends on the batch or on their threads, so that bytes would depend
    on the machine; and rows scale better than the kernels of one. On a GPU rows meet the network
    in batches, halved when memory runs out.

    Used as a context manager, which starts the threads and leaves torch's number of threads as it
    was. Not entered, it runs everything in the calling thread.

    Args:
        device: of the network.
        reentrant: several threads may be in the network at once.

    Attributes:
        batch: most rows that meet the network at once.
        images_at_once: how many images to hand to an attack together.
        on_pass: called, from any thread, with the rows of each pass that was made.
    """

    # The largest batch that fitted, by work: without it, every run would run out of memory again.
    fitted: ClassVar[dict[Hashable, int]] = {}

    def __init__(self, device: torch.device, *, reentrant: bool = True) -> None:
        cpu = device.type == "cpu"
        threads = torch.get_num_threads() if cpu else 1
        self.device = device
        self.batch = 1 if cpu else GPU_ROWS
        self.images_at_once = threads if cpu else GPU_IMAGES
        self._threads = _Threads((threads if cpu else GPU_THREADS) if reentrant else 1, cpu)
        self._work: Hashable = None
        self.on_pass: Callable[[int], None] = lambda rows: None

    def __enter__(self) -> Self:
        self._threads.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.stop()

    def sized(self, work: Hashable, batch: int | None = None) -> Self:
        """Share these threads for one kind of work.

        Args:
            work: what is done and to what; the batch that fits it is remembered in this process.
            batch: most rows at once; by default one on a CPU, on a GPU what fitted the last time.
        """
        own = copy.copy(self)
        own._work = work
        own.batch = batch or (1 if self.device.type == "cpu" else self.fitted.get(work, GPU_ROWS))
        return own

    def check_cancelled(self) -> None:
        """To be called between two passes: after an interrupt, rows that threads still have would
        keep the program from ending.

        Raises:
            CancelledError: the runner was left.
        """
        if self._threads.left.is_set():
            raise CancelledError

    def map(self, rows: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]]) -> list[R]:
        """Do ``work`` over ``rows``, ``batch`` at a time, one result a row, in their order.

        Out of memory halves the batch and does the same rows again from their beginning; rows that
        did not fit beside others are done again alone.

        Raises:
            torch.OutOfMemoryError: one row does not fit, on whichever device.
        """
        if not self._threads.usable():
            return self._one_after_another(rows, work)

        chunks = [rows[start : start + self.batch] for start in range(0, len(rows), self.batch)]
        attempt = partial(self._unless_out_of_memory, work=work)
        results: list[R] = []
        for chunk, done in zip(chunks, self._threads.map(attempt, chunks), strict=True):
            results += self._one_after_another(chunk, work) if done is None else done
        return results

    def stream(self, rows: Iterable[T], work: Callable[[Sequence[T]], Sequence[R]]) -> Iterator[R]:
        """Do as :meth:`map` does with rows that are still coming: some are worked on while others
        are fetched, and while the caller has the results of those before.

        Raises:
            torch.OutOfMemoryError: one row does not fit, on whichever device.
        """
        coming = iter(rows)
        chunks = iter(lambda: list(islice(coming, min(self.batch, self.images_at_once))), [])
        with self._threads.streaming() as pool:
            if pool is None:
                for chunk in chunks:
                    yield from self._one_after_another(chunk, work)
                return
            attempt = partial(self._unless_out_of_memory, work=work)
            waiting: deque[tuple[list[T], Future[list[R] | None]]] = deque()
            for chunk in chunks:
                waiting.append((chunk, pool.submit(attempt, chunk)))
                if len(waiting) > WAITING * self._threads.count:
                    yield from self._done(waiting, work)
            while waiting:
                yield from self._done(waiting, work)

    def _done(
        self,
        waiting: deque[tuple[list[T], Future[list[R] | None]]],
        work: Callable[[Sequence[T]], Sequence[R]],
    ) -> list[R]:
        chunk, future = waiting.popleft()
        done = future.result()
        if done is not None:
            return done
        wait(future for _, future in waiting)  # what they hold may be what was missing
        return self._one_after_another(chunk, work)

    def _unless_out_of_memory(
        self, chunk: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]]
    ) -> list[R] | None:
        try:
            return self._one_after_another(chunk, work)
        except torch.OutOfMemoryError:
            return None

    def _one_after_another(
        self, rows: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]]
    ) -> list[R]:
        results: list[R] = []
        while len(results) < len(rows):
            chunk = rows[len(results) : len(results) + self.batch]
            try:
                done = work(chunk)
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                if len(chunk) == 1:
                    raise torch.OutOfMemoryError(str(error)) from error
                done = None
            if done is None:  # outside the except block, so that its traceback holds no tensors
                self.batch = self.fitted[self._work] = max(1, len(chunk) // 2)
                gc.collect()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            results.extend(done)
        return results


class _Threads:
    """A pool of threads for rows, with one kernel thread each; on a GPU for streams alone."""

    def __init__(self, count: int, cpu: bool) -> None:
        self.count, self._cpu = count, cpu
        self._pool: ThreadPoolExecutor | None = None
        self._here = threading.local()
        self._before = count
        self.left = threading.Event()

    def start(self) -> None:
        if not self._cpu:
            return
        self._before = torch.get_num_threads()
        if self.count > 1:
            self._pool = ThreadPoolExecutor(self.count, initializer=self._mark)
            _let_threads_end()
        torch.set_num_threads(1)

    def stop(self) -> None:
        self.left.set()
        if self._cpu:
            torch.set_num_threads(self._before)
        if self._pool is not None:
            # After an interrupt there is nothing to wait for.
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def usable(self) -> bool:
        """Threads run, and this is not one of them, whose own rows would wait for themselves."""
        return self._pool is not None and not hasattr(self._here, "is_worker")

    @contextmanager
    def streaming(self) -> Iterator[Executor | None]:
        """Give the threads that rows which are still coming are handed to; None where the calling
        thread does the work. On a GPU they last as long as the stream."""
        if self._cpu:
            yield self._pool if self.usable() else None
            return
        pool = ThreadPoolExecutor(self.count)
        try:
            yield pool
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def map(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        assert self._pool is not None
        return list(self._pool.map(work, items))

    def _mark(self) -> None:
        self._here.is_worker = True


@cache
def _let_threads_end() -> None:
    """Wait a moment at the interpreter's end. A thread that has run a backward pass takes the
    interpreter's lock once more after Python has joined it, to free what PyTorch keeps for it;
    where the interpreter is gone by then, the whole process aborts."""
    atexit.register(time.sleep, 0.05)


def _is_out_of_memory(error: Exception) -> bool:
    """Recognise PyTorch's error of a GPU, Python's own, and that of PyTorch's CPU allocator."""
    return isinstance(
        error, torch.OutOfMemoryError | MemoryError
    ) or "DefaultCPUAllocator: can't allocate memory" in str(error)
