"""Ctrl-C and SIGTERM: one message, and an end within seconds whatever is going on."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SECONDS = 3.0
MESSAGE = "stopped; run the same command again, it resumes"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal that ends the program.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(MESSAGE)
        self.number = number


@contextmanager
def prompt_end() -> Iterator[None]:
    """Raise :class:`Stopped` at the first SIGINT or SIGTERM. At the second, or where nothing came
    of the first for :data:`SECONDS`, as in a long kernel, end the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before = [signal.signal(number, _raise) for number in _SIGNALS]
    wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(ours,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in zip(_SIGNALS, before, strict=True):
            signal.signal(number, handler)
        theirs.close()


def end_now(number: int, message: str = MESSAGE) -> NoReturn:
    """End the process without waiting for threads or workers; what is written is whole already."""
    if _ended.acquire(blocking=False):
        cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a bar may have hidden it
        os.write(2, f"{cursor}advbench: error: {message}\n".encode())
        os._exit(128 + number)
    while True:  # the other thread ends the process
        threading.Event().wait()


_ended = threading.Lock()


def _raise(number: int, frame: FrameType | None) -> None:
    for each in _SIGNALS:
        signal.signal(each, _ignore)  # what is cleaned up now is cleaned up undisturbed
    raise Stopped(number)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing: :func:`_watch` handles it."""


def _watch(incoming: socket.socket) -> None:
    """Wait for signals in a thread of its own, which runs while the main one is in a kernel too."""
    first = incoming.recv(1)
    if not first:
        return
    incoming.settimeout(SECONDS)
    try:
        again = incoming.recv(1)
    except TimeoutError:
        again = first
    if again:
        end_now(first[0])
