"""An attack that did nothing is told where the images are made."""

from __future__ import annotations

from pathlib import Path

import pytest

VICTIM = """
from typing import ClassVar
from torch import nn
from advbench.victims.base import Victim

class Silent(Victim):
    \"\"\"A victim without a gradient.\"\"\"
    name: ClassVar[str] = "silent"

    @classmethod
    def build_network(cls, size):
        return nn.Conv2d(3, 1, 1)

    def logits(self, images):
        return LOGITS

    def taps(self, depth):
        return {"0": self.network}
"""


@pytest.mark.parametrize(
    ("attack", "unchanged"), [("fgsm", 5), ("bim", 5), ("pgd", 0), ("pgn", 5), ("cw", 5)]
)
def test_a_victim_without_gradients(
    attack, unchanged, imported, advbench_command, *, tmp_path, monkeypatch
) -> None:
    """A rounded map leaves images as they are, or where PGD's random start put them."""
    Path(tmp_path, "silent_victim.py").write_text(
        VICTIM.replace("LOGITS", "self.network(images).round()")
    )
    monkeypatch.chdir(tmp_path)
    quick = {"pgn": ("--set", "neighbours=1"), "cw": ("--steps", 20)}.get(attack, ("--eps", 3))
    arguments = ("--attack", attack, *quick, "--dataset", "mine", "--out", imported)
    own = ("--plugin", "silent_victim:Silent", "--victim", "silent", "--weights", "random")
    ran = advbench_command("generate", *arguments, *own)
    assert ran.code == 0, ran.err
    assert f"warning: silent under {attack}-" in ran.err
    assert "100 % of the gradients are zero" in ran.err
    assert ("5 of 5 images are as they were" in ran.err) == bool(unchanged)

    ran = advbench_command("generate", *arguments, *own)  # all of which are there
    assert f"warning: silent under {attack}-" in ran.err
    assert ", made earlier: " in ran.err
    assert "of the gradients are zero" in ran.err
    assert ("5 of 5 images are as they were" in ran.err) == bool(unchanged)


def test_a_suite_tells_it_too(imported, advbench_command, tmp_path, monkeypatch) -> None:
    source = VICTIM.replace("LOGITS", "self.network(images).round()")
    Path(tmp_path, "silent_victim.py").write_text(source)
    Path(tmp_path, "suite.toml").write_text(
        'schema = "advbench.suite/1"\ntitle = "t"\ndatasets = ["mine"]\n'
        '[victims.silent]\nweights = "random"\n[attacks.fgsm]\neps = [3]\n'
    )
    monkeypatch.chdir(tmp_path)
    command = ("run", "suite.toml", "--plugin", "silent_victim:Silent", "--out", imported)
    for when in ("", ", made earlier"):
        ran = advbench_command(*command)
        assert ran.code == 0, ran.err
        warning = f"warning: silent on mine under fgsm-3{when}: 5 of 5 images are as they were"
        assert warning in ran.err


def test_nothing_is_told_where_all_is_well(imported, toy, advbench_command) -> None:
    for _ in range(2):
        ran = advbench_command(
            "generate", "--attack", "fgsm", "--dataset", "mine", "--out", imported, *toy
        )
        assert ran.code == 0
        assert "warning" not in ran.err
