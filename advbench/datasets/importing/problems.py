"""Describe what is wrong with an image of an import: the check, what it found, and what mends
it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from advbench.errors import AdvbenchError

SHOWN = 3


@dataclass(frozen=True)
class Problem:
    """A check that an image did not pass.

    Attributes:
        check: a short name, such as ``size-mismatch``.
        value: what was found.
        fix: what the user can do about it.
    """

    check: str
    value: str
    fix: str

    @property
    def reason(self) -> str:
        """Say why, as it stands in the manifest of an image that was left out."""
        return f"{self.check}: {self.value}"


class ProblemError(Exception):
    """Raised where a check fails."""

    def __init__(self, check: str, value: str, fix: str) -> None:
        super().__init__(value)
        self.problem = Problem(check, value, fix)


@dataclass(frozen=True)
class Fault:
    """A problem with the file that has it, relative to the dataset's root."""

    file: str
    problem: Problem


class ImportRefusedError(AdvbenchError):
    """Files are at fault and may not be left out; holds all of them, and tells the first."""

    def __init__(self, path: Path, faults: Sequence[Fault], images: int, report: object) -> None:
        orphans = [fault for fault in faults if fault.problem.check == "orphan-mask"]
        count = len(faults) - len(orphans)
        parts = [f"{count} of {images} images are at fault"] if count else []
        if orphans:
            parts.append(f"{len(orphans)} masks have no image")
        shown = "; ".join(f"{fault.file}: {fault.problem.reason}" for fault in faults[:SHOWN])
        super().__init__(
            f"{path}: {' and '.join(parts)} ({shown}); mend them, or leave them out with "
            "--allow-exclude"
        )
        self.faults = tuple(faults)
        self.report = report
