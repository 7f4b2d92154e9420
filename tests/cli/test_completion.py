"""Names complete in the shell, and doctor is fit to paste."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

import advbench
from advbench.cli.main import cli


def completed(*arguments: str) -> list[str]:
    shell = ShellComplete(cli, {}, "advbench", "_ADVBENCH_COMPLETE")
    return [item.value for item in shell.get_completions(list(arguments[:-1]), arguments[-1])]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("generate", "--attack", "mif"), ["mifgsm"]),
        (("generate", "--attack", "fgsm,mif"), ["fgsm,mifgsm"]),
        (("generate", "--victim", "mvss"), ["mvssnet"]),
        (("evaluate", "--defense", "jp"), ["jpeg"]),
        (("show", "--victim", "ifo"), ["ifosn"]),
        (("train", "ansm", "--victim", "ifo"), ["ifosn"]),
        (("leaderboard", "si"), ["site"]),
    ],
)
def test_names_complete(arguments, found):
    assert completed(*arguments) == found


def test_imported_datasets_complete(imported):
    assert completed("generate", "--out", str(imported), "--dataset", "min") == ["mine"]


def test_doctor_shows_no_home(monkeypatch, tmp_path, advbench_command):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ADVBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    ran = advbench_command("doctor", "--out", tmp_path / "new", "--json")
    found = {item["what"]: item["is"] for item in json.loads(ran.out)}
    assert str(tmp_path) not in ran.out
    assert found["cache"] == "~/cache"
    assert found["output"] == "~/new"
    assert found["advbench"].startswith(advbench.__version__)
    assert "umap-learn" in found["optional"]


def test_version(advbench_command):
    ran = advbench_command("--version")
    assert (ran.code, ran.out) == (0, f"advbench, version {advbench.__version__}\n")
