"""Give freed memory back to the system."""

from __future__ import annotations

import ctypes


def release_freed() -> None:
    """Trim the C heap where glibc is: maps and scores of alternating sizes fragment it, and the
    process would grow with the number of images. Elsewhere nothing is done."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return
