"""What was edited or overwritten under its old name is another thing."""

from __future__ import annotations

import importlib
import json
import os
import py_compile
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from advbench import sources, wrap
from advbench.attacks.bim import BIM
from advbench.attacks.package_attack import PackageAttack
from advbench.attacks.torchattacks_adapter import TorchAttack
from advbench.errors import AdvbenchError
from advbench.pipelines.provenance import attack_identity, victim_identity
from advbench.sources import source_sha256, with_file_sums
from advbench.victims.ifosn.victim import IFOSN

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


VERSIONS = {"1.0": "x + 1", "1.1": "x + 1", "1.0 edited": "x + 2"}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Installs one of some versions of a package, and gives the class in it that is adapted."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    site = tmp_path / "site-packages"
    (site / "theirs").mkdir(parents=True)
    monkeypatch.syspath_prepend(site)

    def install(which: str) -> Any:
        version = which.partition(" ")[0]
        for old in site.glob("*.dist-info"):
            shutil.rmtree(old)
        (site / "theirs" / "__init__.py").write_text("")
        (site / "theirs" / "steps.py").write_text(f"def step(x):\n    return {VERSIONS[which]}\n")
        (site / "theirs" / "net.py").write_text(
            "from torch import nn\nfrom .steps import step\n\n"
            "class Net(nn.Conv2d):\n    pass\n\n"
            "def attack(x):\n    return step(x)\n"
        )
        about = site / f"theirs_dist-{version}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Name: theirs-dist\nVersion: {version}\n")
        (about / "top_level.txt").write_text("theirs\n")
        for name in [name for name in sys.modules if name.startswith("theirs")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        sources._sources.cache_clear()
        sources._distributions.cache_clear()
        return importlib.import_module("theirs.net")

    yield install
    for name in [name for name in sys.modules if name.startswith("theirs")]:
        del sys.modules[name]


def test_an_adapted_package_is_named_by_version_and_source(installed) -> None:
    """Of a wrapped network and of an attack: another version or an edited one is another thing."""

    class Adapter(PackageAttack):
        name = "theirs:attack"

        def adapted(self) -> Any:
            return (net.attack,)

        def one(self, *given: Any) -> Any: ...

        def passes(self) -> int: ...

    found = []
    for version in VERSIONS:
        net = installed(version)
        victim = wrap(net.Net(3, 1, 1), name="theirs")
        for identity in (victim_identity(victim), attack_identity(Adapter(eps=(1,)), 1)):
            assert identity["packages"] == f"theirs-dist {version.partition(' ')[0]}"
            found.append((identity["packages"], identity["source"]))
    assert len(set(found)) == len(found)
    assert found[0][1] == found[2][1]


def test_the_real_torchattacks_is_named() -> None:
    torchattacks = pytest.importorskip("torchattacks")
    said = attack_identity(TorchAttack(method="PGD"), 1)
    assert said["packages"] == f"torchattacks {metadata.version('torchattacks')}"
    assert len(said["source"]) == 64
    other = attack_identity(TorchAttack(method="NIFGSM"), 1)
    assert other["source"] != said["source"]
    assert torchattacks.PGD


def test_own_victims_and_attacks_name_no_packages() -> None:
    """Their keys are those of the first version, also where a layer comes from a library."""
    victim = IFOSN.load("small", weights=None)
    assert set(victim_identity(victim)) == {"name", "size", "weights_sha256", "weights"}
    assert attack_identity(BIM(eps=(1,)), 1) == BIM(eps=(1,)).variant_spec(1)


def test_an_edit_that_python_does_not_see_is_refused(tmp_path: Path, monkeypatch) -> None:
    """Of the same size and time: Python runs the bytecode of the former version."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "edited_thing", raising=False)
    file = tmp_path / "edited_thing.py"
    file.write_text("class Thing:\n    factor = 1\n")
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    py_compile.compile(str(file), doraise=True)
    sources._sources.cache_clear()
    assert source_sha256(importlib.import_module("edited_thing").Thing)
    file.write_text("class Thing:\n    factor = 2\n")
    os.utime(file, ns=times)
    del sys.modules["edited_thing"]
    sources._sources.cache_clear()
    importlib.invalidate_caches()
    thing = importlib.import_module("edited_thing").Thing
    assert thing.factor == 1
    with pytest.raises(AdvbenchError, match=r"edited_thing\.py: was edited, but Python still runs"):
        source_sha256(thing)
