"""What was edited or overwritten under its old name is another thing."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

from advbench.sources import source_sha256, with_file_sums

PLUGIN = '''
"""A plug-in in two modules, with a file beside it."""
import os
from pathlib import Path

from .maths import half

class Thing:
    table = "table.bin"

    def do(self):
        from mine import late
        return half(late.VALUE)
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "thing.py").write_text(PLUGIN)
    (folder / "maths.py").write_text("from mine.deeper import two\ndef half(x): return x / two\n")
    (folder / "deeper.py").write_text("two = 2\n")
    (folder / "late.py").write_text("VALUE = 3\n")
    (folder / "stranger.py").write_text("VALUE = 3\n")
    (folder / "table.bin").write_bytes(b"\1\2")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def sha256() -> str | None:
    """As a new process sees it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]
    importlib.invalidate_caches()
    return source_sha256(importlib.import_module("mine.thing").Thing)


@pytest.mark.parametrize(
    "file", ["thing.py", "maths.py", "deeper.py", "late.py", "table.bin", "__init__.py"]
)
def test_each_file_of_a_plugin_counts(package: Path, file: str) -> None:
    """Its own, what it imports, at the top and within functions, and the files it names."""
    first = sha256()
    assert first == sha256()
    with (package / file).open("ab") as opened:
        opened.write(b"# other\n")
    assert sha256() != first


def test_what_it_does_not_use_does_not_count(package: Path) -> None:
    first = sha256()
    (package / "stranger.py").write_text("VALUE = 4\n")
    (package / "notes.txt").write_text("nothing")
    assert sha256() == first


def test_own_and_library_classes_have_none() -> None:
    import torch

    from advbench.attacks.bim import BIM

    assert source_sha256(BIM, [torch.nn.Conv2d, dict]) is None


def test_a_class_without_a_file_is_named_by_its_code() -> None:
    def made(body: str) -> type:
        space: dict[str, type] = {"__name__": "__main__no_file"}
        exec(f"class Thing:\n    def do(self, x):\n        return {body}\n", space)
        return space["Thing"]

    assert source_sha256(made("x + 1")) == source_sha256(made("x + 1"))
    assert source_sha256(made("x + 1")) != source_sha256(made("x + 2"))
    assert source_sha256(made("x + 1")) != source_sha256(made("x - 1"))


def test_files_in_settings_are_named_by_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever they lie; other texts stay."""
    monkeypatch.chdir(tmp_path)
    Path("dn.pt").write_bytes(b"one")
    Path("moved.pt").write_bytes(b"one")
    Path("nets").mkdir()
    Path("nets", "a.pt").write_bytes(b"one")
    spec = {
        "weights": "dn.pt",
        "many": ["moved.pt", "mean"],
        "folder": "./nets",
        "x": 3,
        "y": "y" * 280,
    }
    first = with_file_sums(spec)
    assert json.loads(json.dumps(first)) == first
    assert first["weights"] == first["many"][0] != "dn.pt"
    assert (first["many"][1], first["x"], first["y"]) == ("mean", 3, "y" * 280)
    Path("dn.pt").write_bytes(b"two")
    Path("nets", "a.pt").write_bytes(b"two")
    second = with_file_sums(spec)
    assert second["many"] == first["many"]
    assert second["weights"] != first["weights"]
    assert second["folder"] != first["folder"]
