"""How much main memory there is for a process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from advbench.memory import main_memory

WHOLE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("group", "files", "expected"),
    [
        ("0::/", {}, WHOLE),
        ("0::/", {"memory.max": "max"}, WHOLE),
        ("0::/", {"memory.max": "1000"}, 1000),
        ("0::/job/step", {"job/memory.max": "1000", "job/step/memory.max": "max"}, 1000),
        ("0::/elsewhere", {"memory.max": "1000"}, 1000),
        ("4:memory:/job", {"memory/job/memory.limit_in_bytes": "2000"}, 2000),
        ("4:memory:/job", {"memory/memory.limit_in_bytes": "9223372036854771712"}, WHOLE),
        ("3:cpuset:/job", {"cpuset/job/memory.max": "1000"}, WHOLE),
    ],
)
def test_limits_of_control_groups(group, files, expected, tmp_path):
    told = {"proc/self/cgroup": group} | {f"sys/fs/cgroup/{k}": v for k, v in files.items()}
    for name, text in told.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert main_memory(tmp_path) == expected


def test_peak_is_this_process_own():
    """Not that of what started it, which ``ru_maxrss`` starts from."""
    ask = "from advbench.memory import peak_memory; print(peak_memory())"
    large = "held = bytes([1]) * 600_000_000; import subprocess, sys"
    run = f"print(subprocess.check_output([sys.executable, '-c', {ask!r}]).decode())"
    command = [sys.executable, "-c", f"{large}; {run}"]
    told = subprocess.run(command, capture_output=True, check=True)
    assert 10**6 < int(told.stdout) < 300_000_000


def test_without_control_groups(tmp_path):
    assert main_memory(tmp_path) == WHOLE
