"""Rows in batches that shrink when memory runs out, side by side on a CPU; the result is the same
either way."""

from __future__ import annotations

import atexit
import gc
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

# On a GPU: rows beyond which nothing is gained, and images enough to fill them.
GPU_ROWS, GPU_IMAGES = 64, 32

_pool: ContextVar[ThreadPoolExecutor | None] = ContextVar("pool", default=None)
_what: ContextVar[Hashable] = ContextVar("what", default=None)
_stop: ContextVar[threading.Event | None] = ContextVar("stop", default=None)
_limit: ContextVar[int] = ContextVar("limit", default=1)
_fitted: dict[Hashable, int] = {}


def default_batch(device: torch.device) -> int:
    """Rows that meet the victim at once: one on the CPU, where kernels sum in an order that
    depends on the batch, so that an image's bytes never depend on its batch-mates; on a GPU what
    fitted the last time, within :func:`remembering`, and many the first time."""
    return 1 if device.type == "cpu" else _fitted.get(_what.get(), GPU_ROWS)


@contextmanager
def remembering(what: Hashable) -> Iterator[None]:
    """Keep the batch that memory allows for the next time that the same is done: without it, every
    call would run out of memory once more."""
    token = _what.set(what)
    try:
        yield
    finally:
        _what.reset(token)


def images_at_once(device: torch.device) -> int:
    """How many images to hand to an attack together."""
    return torch.get_num_threads() if device.type == "cpu" else GPU_IMAGES


@contextmanager
def side_by_side(device: torch.device, reentrant: bool = True) -> Iterator[None]:
    """On the CPU, one thread a row and as many rows at a time as there were threads.

    Some kernels sum in an order that depends on their threads, so bytes would depend on the
    machine; and rows scale better than the kernels of one. Within another, its threads are used:
    threads that are new have PyTorch's buffers to fill.

    Args:
        reentrant: whether several threads may be in the victim at once.
    """
    if device.type != "cpu" or (reentrant and _pool.get() is not None):
        yield
        return
    threads = torch.get_num_threads()
    pool, stop = None, threading.Event()
    if threads > 1 and reentrant:
        pool = ThreadPoolExecutor(threads, initializer=_stop.set, initargs=(stop,))
        _let_threads_end()
    token = _pool.set(pool)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _pool.reset(token)
        stop.set()
        if pool is not None:
            # After an interrupt there is nothing to wait for.
            pool.shutdown(wait=False, cancel_futures=True)


def beside_others() -> bool:
    """Whether rows have threads of their own here, or this is one of them."""
    return _pool.get() is not None or _stop.get() is not None


def go_on() -> None:
    """To be called between two passes: where :func:`side_by_side` was left, by an interrupt, rows
    that its threads still have would keep the program from ending.

    Raises:
        CancelledError: it was.
    """
    stop = _stop.get()
    if stop is not None and stop.is_set():
        raise CancelledError


def rows_allowed() -> int:
    """The most rows that may meet the victim at once, within the work of :func:`in_batches`."""
    return _limit.get()


@cache
def _let_threads_end() -> None:
    """A thread that has run a backward pass takes the interpreter's lock once more after Python has
    joined it, to free what PyTorch keeps for it; where the interpreter is gone by then, the whole
    process aborts."""
    atexit.register(time.sleep, 0.05)


def in_batches(
    rows: Sequence[T], batch: int, work: Callable[[Sequence[T]], Sequence[R]]
) -> list[R]:
    """``work`` over ``rows``, ``batch`` at a time, one result a row, in their order.

    Out of memory halves the batch and does the same rows again from their beginning; rows that did
    not fit beside others are done again alone. A single row that does not fit raises.

    Raises:
        torch.OutOfMemoryError: one row does not fit, on whichever device.
    """
    pool = _pool.get()
    if pool is None:
        return _one_after_another(rows, batch, work)

    def attempt(chunk: Sequence[T]) -> list[R] | None:
        try:
            return _one_after_another(chunk, batch, work)
        except torch.OutOfMemoryError:
            return None

    chunks = [rows[start : start + batch] for start in range(0, len(rows), batch)]
    results: list[R] = []
    for chunk, done in zip(chunks, list(pool.map(attempt, chunks)), strict=True):
        results += _one_after_another(chunk, batch, work) if done is None else done
    return results


def _one_after_another(
    rows: Sequence[T], batch: int, work: Callable[[Sequence[T]], Sequence[R]]
) -> list[R]:
    results: list[R] = []
    while len(results) < len(rows):
        chunk = rows[len(results) : len(results) + batch]
        token = _limit.set(batch)
        try:
            done = work(chunk)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            if batch == 1:
                raise torch.OutOfMemoryError(str(error)) from error
            done = None
        finally:
            _limit.reset(token)
        if done is None:  # outside the except block, so that its traceback holds no tensors
            batch = max(1, min(batch, len(chunk)) // 2)
            if _what.get() is not None:
                _fitted[_what.get()] = batch
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        results.extend(done)
    return results


def _is_out_of_memory(error: Exception) -> bool:
    """PyTorch's error of a GPU, Python's own, or the plain one of PyTorch's CPU allocator."""
    return isinstance(
        error, torch.OutOfMemoryError | MemoryError
    ) or "DefaultCPUAllocator: can't allocate memory" in str(error)
