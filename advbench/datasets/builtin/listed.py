"""Open photographs from Debian packages, listed in ``manifests/photographs.csv``."""

from __future__ import annotations

import csv
from importlib import resources
from pathlib import Path

from advbench.datasets.builtin.photographs import PhotographFile
from advbench.datasets.manifest import Split
from advbench.errors import AdvbenchError


def listed_photographs(root: Path, split: Split) -> list[PhotographFile]:
    """The photographs of a split, in files below ``root``.

    Args:
        root: ``/`` where the packages are installed, or a folder that they were unpacked to.

    Raises:
        AdvbenchError: one of them is missing; names the packages that bring it.
    """
    listed = resources.files("advbench.manifests") / "photographs.csv"
    rows = [
        row
        for row in csv.DictReader(listed.read_text(encoding="utf-8").splitlines())
        if row["split"] == split
    ]
    # A photograph inside a compiled resource stands as RESOURCE:NAME.
    files = [(row, *row["path"].partition(":")[::2]) for row in rows]
    missing = [(row, path) for row, path, _ in files if not (root / path).is_file()]
    if missing:
        packages = sorted({row["package"] for row, _ in missing})
        raise AdvbenchError(
            f"{root / missing[0][1]}: no such photograph, nor {len(missing) - 1} others; "
            f"unpack Debian's {', '.join(packages)} below {root}"
        )
    return [
        PhotographFile(row["name"], row["group"], root / path, row["sha256"], inside)
        for row, path, inside in files
    ]
