"""An import that is killed shows no half of a dataset, and the next one leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

from advbench.datasets.dataset import open_folder
from advbench.datasets.importers.folder import import_folder
from advbench.files import temporaries
from tests.killing import in_new_process

from .pictures import forged_folder

KILLED = """
import sys
from pathlib import Path
from advbench.datasets.dataset import open_folder
from advbench.datasets.importers.folder import import_folder
from tests.killing import at_every_write

source, target = Path(sys.argv[1]), Path(sys.argv[2])

def check():
    if (target / "dataset.json").exists():
        data = open_folder(target)
        assert data.root == source, "visible without its location"
        for row in data.select():
            data.image(row), data.mask(row)

print(at_every_write(lambda: import_folder(source, target, "mine"), check))
"""


def test_an_import_killed_at_every_write(tmp_path: Path) -> None:
    source = forged_folder(tmp_path / "source", ("a", "b"))
    import_folder(source, tmp_path / "whole", "mine")
    kills = int(in_new_process(KILLED, source, tmp_path / "target"))
    assert kills >= 2 * 5
    assert open_folder(tmp_path / "target").info == open_folder(tmp_path / "whole").info
    assert list(temporaries(tmp_path)) == []
