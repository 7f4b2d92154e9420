"""Main memory: how much there is, and giving back what was freed."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path, PurePosixPath


def release_freed() -> None:
    """Trim the C heap where glibc is: maps and scores of alternating sizes fragment it, and the
    process would grow with the number of images. Elsewhere nothing is done."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return


def peak_memory() -> int:
    """Most bytes that this process has held at once."""
    return resident("VmHWM")


def resident(field: str) -> int:
    """A field of ``/proc/self/status`` in bytes; where there is none, the peak of the process,
    which may count what started it too."""
    for line in _lines(Path("/proc/self/status")):
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def main_memory(root: Path = Path("/")) -> int:
    """Bytes of main memory that this process may take: the machine's, or less where a container or
    a cluster's scheduler limits its control group."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        if controllers in ("", "memory"):
            base = root / "sys/fs/cgroup" / controllers
            name = "memory.limit_in_bytes" if controllers else "memory.max"
            # A container may see its own group as the root, whatever the group is called.
            inner = PurePosixPath(group.lstrip("/"))
            for place in (inner, *inner.parents):
                limits += [int(value) for value in _lines(base / place / name) if value.isdigit()]
    return min(limits)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
