"""An edited plug-in or an overwritten file never takes over the images or scores of the former."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

DEFENSE = """
from typing import ClassVar
import torch
from advbench.defenses.base import Defense

class Scaled(Defense):
    \"\"\"Scale by what a file says.\"\"\"
    name: ClassVar[str] = "scaled"
    weights: str = ""

    def defend(self, images, strength, keys):
        factor = FACTOR
        if self.weights:
            factor = float(open(self.weights).read())
        return images * factor
"""
VICTIM = """
from typing import ClassVar
from torch import nn
from advbench.victims.base import Victim

class Own(Victim):
    \"\"\"A pointwise net.\"\"\"
    name: ClassVar[str] = "own"

    @classmethod
    def build_network(cls, size):
        return nn.Conv2d(3, 1, 1)

    def logits(self, images):
        return self.network(images) * FACTOR

    def taps(self, depth):
        return {"0": self.network}
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, advbench_command):
    """Write a plug-in of a factor and run a command with it, as a new process would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def run(name: str, text: str, factor: float, *arguments: object):
        sys.modules.pop(name, None)
        sys.path_importer_cache.clear()
        Path(f"{name}.py").write_text(text.replace("FACTOR", repr(factor)))
        kind = text.partition("class ")[2].partition("(")[0]
        return advbench_command(*arguments, "--plugin", f"{name}:{kind}")

    return run


@pytest.fixture
def made(imported, toy, advbench_command) -> Path:
    data = ("--attack", "fgsm", "--dataset", "mine", "--out", imported, *toy)
    assert advbench_command("generate", *data).code == 0
    return imported


def scores(ran) -> dict[str, float]:
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    return {
        "scored": found["scored"],
        **{row["attack"]: row["f1"] for row in found["table"] if row["defense"] == "scaled"},
    }


def test_an_edited_defense_is_scored_anew(made, toy, plugin, tmp_path) -> None:
    """To the scores that a fresh folder gives; what did not change is reused."""
    arguments = ("evaluate", "--defense", "scaled", "--out", made, *toy[:4], "--json")
    first = scores(plugin("own_defense", DEFENSE, 1.0, *arguments))
    again = scores(plugin("own_defense", DEFENSE, 1.0, *arguments))
    assert again == {**first, "scored": 0}
    edited = scores(plugin("own_defense", DEFENSE, 0.2, *arguments))
    assert edited["scored"] == first["scored"] / 2  # the undefended ones are as before
    assert edited["original"] != first["original"]


def test_an_overwritten_file_is_scored_anew(made, toy, plugin, tmp_path) -> None:
    own = ("--set", "weights=dn.pt", "--json")
    arguments = ("evaluate", "--defense", "scaled", "--out", made, *toy[:4], *own)
    Path("dn.pt").write_text("1.0")
    first = scores(plugin("own_defense", DEFENSE, 1.0, *arguments))
    Path("dn.pt").write_text("0.2")
    second = scores(plugin("own_defense", DEFENSE, 1.0, *arguments))
    assert second["scored"] > 0
    assert second["original"] != first["original"]
    Path("moved.pt").write_text("0.2")
    moved = (*arguments[:-3], "--set", "weights=moved.pt", "--json")
    assert scores(plugin("own_defense", DEFENSE, 1.0, *moved)) == {**second, "scored": 0}


def test_an_edited_victim_needs_new_images(imported, plugin) -> None:
    """It is refused with the shards of the former one, by generate and evaluate alike."""
    data = ("--attack", "fgsm", "--dataset", "mine", "--out", imported)
    own = ("--victim", "own", "--weights", "random")
    assert plugin("own_victim", VICTIM, 4.0, "generate", *data, *own).code == 0
    assert plugin("own_victim", VICTIM, 4.0, "evaluate", "--out", imported).code == 0
    ran = plugin("own_victim", VICTIM, 5.0, "generate", *data, *own)
    assert (ran.code, "made with other settings (victim.source" in ran.err) == (2, True)
    ran = plugin("own_victim", VICTIM, 5.0, "evaluate", "--out", imported)
    assert (ran.code, "made with other source code of it" in ran.err) == (2, True)
