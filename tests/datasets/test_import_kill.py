"""An import that is killed shows no half of a dataset, and the next one leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

from advbench.datasets.dataset import open_folder
from advbench.datasets.importing.layouts.folder import import_folder
from advbench.files import temporaries
from tests.killing import in_new_process

from .pictures import forged_folder

KILLED = """
import sys
from pathlib import Path
from advbench.datasets.importing.layouts.folder import import_folder
from tests.killing import at_every_write

source, target = map(Path, sys.argv[1:])
print(at_every_write(lambda kill: import_folder(source, target / str(kill), "mine")))
"""


def test_an_import_killed_at_every_write(tmp_path: Path) -> None:
    source = forged_folder(tmp_path / "source", ("a", "b"))
    info = import_folder(source, tmp_path / "whole", "mine").info
    kills = int(in_new_process(KILLED, source, tmp_path / "killed"))
    assert kills >= 2 * 5
    for kill in range(kills):
        folder = tmp_path / "killed" / str(kill)
        if (folder / "dataset.json").exists():
            assert open_folder(folder).root == source, "visible without its location"
        import_folder(source, folder, "mine")
        assert open_folder(folder).info == info
    assert list(temporaries(tmp_path)) == []
