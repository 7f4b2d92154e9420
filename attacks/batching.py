"""Rows in batches that shrink when memory runs out; the result is the same either way."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

GPU_BATCH = 8


def default_batch(device: torch.device) -> int:
    """Rows that meet the victim at once: one on the CPU, where kernels sum in an order that
    depends on the batch, so that an image's bytes never depend on its batch-mates."""
    return 1 if device.type == "cpu" else GPU_BATCH


def in_batches(
    rows: Sequence[T], batch: int, work: Callable[[Sequence[T]], Sequence[R]]
) -> list[R]:
    """``work`` over ``rows`` in order, ``batch`` at a time, one result a row.

    Out of memory halves the batch and does the same rows again from their beginning; a single row
    that does not fit raises.
    """
    results: list[R] = []
    while len(results) < len(rows):
        chunk = rows[len(results) : len(results) + batch]
        try:
            done = work(chunk)
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
            done = None
        if done is None:  # outside the except block, so that its traceback holds no tensors
            batch = max(1, min(batch, len(chunk)) // 2)
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        results.extend(done)
    return results
