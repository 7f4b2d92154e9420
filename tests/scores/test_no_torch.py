"""Tables can be made where no torch is wanted."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
import advbench.scores.metrics, advbench.scores.protocols
import advbench.scores.records, advbench.scores.tables
print(sorted({"torch", "timm", "torchvision"} & set(sys.modules)))
"""


def test_scores_import_no_torch() -> None:
    """In a fresh interpreter, no module of the room brings torch with it."""
    found = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=120
    )
    assert found.stdout.strip() == "[]"
