"""Plug-ins from where the user stands, and whose fault it is when they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

VICTIM = """
from typing import ClassVar
from torch import nn
from advbench.victims.base import Victim

class Mine(Victim):
    \"\"\"A victim of mine.\"\"\"
    name: ClassVar[str] = "mine"

    @classmethod
    def build_network(cls, size):
        return nn.Conv2d(3, 1, 1)

    def logits(self, images):
        BODY
        return self.network(images)

    def taps(self, depth):
        return {"0": self.network}
"""
FAULTS = {
    "raise ValueError('no such luck')": "raised",
    "return images.no_such_method()": "raised",
    "raise SystemExit(0)": "ended the program",
    "import sys; sys.exit('bye')": "ended the program",
    "raise KeyError()": "raised",
}


@pytest.fixture
def run(tmp_path: Path):
    def run(*arguments: object, module: str = "own_victim", body: str = "pass"):
        (tmp_path / f"{module}.py").write_text(VICTIM.replace("BODY", body))
        return subprocess.run(
            [sys.executable, "-m", "advbench", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def generating(out: Path, plugin: str) -> tuple[object, ...]:
    data = ("--dataset", "mine", "--out", out, "--limit", 2, "--shard-size", 1)
    own = ("--plugin", plugin, "--victim", "mine", "--weights", "random")
    return ("generate", "--attack", "fgsm", "--eps", 3, *data, *own)


@pytest.mark.parametrize(
    ("module", "plugin"),
    [
        ("own_victim", "own_victim:Mine"),
        ("own_victim", "./own_victim.py:Mine"),
        ("own-victim", "./own-victim.py:Mine"),
        ("statistics", "statistics:Mine"),
        ("statistics", "./statistics.py:Mine"),
        ("timm", "timm:Mine"),
    ],
)
def test_a_plugin_where_the_user_stands(run, module: str, plugin: str) -> None:
    """By module and by file, also under a name of Python's or of a library."""
    ran = run("list", "victims", "--plugin", plugin, module=module)
    assert ran.returncode == 0, ran.stderr
    assert "A victim of mine." in ran.stdout


@pytest.mark.parametrize("plugin", ["./missing.py:Mine", "own_victim.py", "./own_victim.py:No"])
def test_a_plugin_that_is_not_there(run, plugin: str) -> None:
    ran = run("list", "--plugin", plugin)
    assert ran.returncode == 2
    assert ran.stderr.startswith("advbench: error: --plugin")
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize("body", FAULTS)
def test_a_fault_of_a_plugin_is_told_as_its_own(
    imported, tmp_path, monkeypatch, advbench_command, *, body: str
) -> None:
    """File, line and function; one that ends the program does not end it with 0."""
    monkeypatch.chdir(tmp_path)
    name = f"faulty_{abs(hash(body))}"
    Path(f"{name}.py").write_text(VICTIM.replace("BODY", body))
    ran = advbench_command(*generating(imported, f"./{name}.py:Mine"))
    assert ran.code == 2
    assert f"a plug-in {FAULTS[body]} (" in ran.err
    assert f"{name}.py, line 15, in logits)" in ran.err
    assert "fault of advbench" not in ran.err


def test_a_shadowing_plugin_reaches_other_processes(run, imported) -> None:
    """And its faults come back from there."""
    arguments = (*generating(imported, "statistics:Mine"), "--workers", 2)
    ran = run(*arguments, module="statistics")
    assert ran.returncode == 0, ran.stderr
    ran = run(
        *generating(imported, "statistics:Mine"),
        "--workers",
        2,
        "--attack",
        "bim",
        module="statistics",
        body="raise ValueError('no such luck')",
    )
    assert ran.returncode == 2, ran.stderr
    assert "statistics.py, line 15, in logits): ValueError: no such luck" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("genrate", "did you mean generate"),
        ("dataset improt", "did you mean import?"),
        ("train ansn", "did you mean ansm?"),
        ("xyzzy", "there are check, dataset"),
    ],
)
def test_nearest_commands(advbench_command, arguments: str, said: str) -> None:
    ran = advbench_command(*arguments.split())
    assert (ran.code, said in ran.err) == (2, True)


def test_a_victim_that_draws_its_maps_is_refused(
    imported, tmp_path, monkeypatch, advbench_command
) -> None:
    """Its scores cannot be repeated."""
    monkeypatch.chdir(tmp_path)
    source = Path(__file__).with_name("toy_victim.py").read_text()
    kept, drawn = "return self.network(", "return images.new_empty(()).normal_() + self.network("
    (tmp_path / "drawing_victim.py").write_text(source.replace(kept, drawn))
    data = ("--attack", "fgsm", "--dataset", "mine", "--out", imported)
    own = ("--plugin", "drawing_victim:ToyVictim", "--victim", "toy", "--weights", "random")
    ran = advbench_command("generate", *data, *own)
    assert ran.code == 2
    assert "victim toy: gives two maps of the same image (mine/" in ran.err


@pytest.mark.parametrize(
    ("line", "attribute", "said"),
    [
        ("class Tiny(torch.nn.Module): pass", "Tiny", "victim = advbench.wrap(Tiny())"),
        ("net = torch.nn.Conv2d(3, 1, 1)", "net", "victim = advbench.wrap(net)"),
        ("class A(advbench.Attack): pass", "A", "the class has no name; give it one: name: "),
        ("class D(advbench.Defense): pass", "D", "the class has no name; give it one: name: "),
        ("class V(advbench.Victim): pass", "V", "the class has no name; give it one: name: "),
    ],
)
def test_bare_modules_and_nameless_classes_are_told_the_remedy(
    tmp_path, monkeypatch, advbench_command, *, line: str, attribute: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(f"newcomer_{attribute}.py").write_text(f"import advbench, torch\n\n{line}\n")
    ran = advbench_command("list", "victims", "--plugin", f"./newcomer_{attribute}.py:{attribute}")
    assert ran.code == 2
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1
