"""Terminals, names and paths as they are on other people's machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

VERBS = ["--help", "list", "generate --help", "list --json"]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-8"])
def test_any_terminal(encoding: str, tmp_path: Path) -> None:
    """What it lacks is shown as a question mark; a table too."""
    script = (
        "import sys; from advbench.cli.main import cli, _accept_any_text\n"
        "_accept_any_text(sys.stdout)\n"
        "for verb in sys.argv[1:]: cli.main(verb.split(), standalone_mode=False)\n"
        "from rich.console import Console; from rich.table import Table\n"
        "table = Table('φ–'); table.add_row('→ ö'); Console().print(table)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, *VERBS],
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "quickstart" in ran.stdout.decode(encoding)


def test_a_reader_that_has_read_enough() -> None:
    command = f"{sys.executable} -m advbench list | head -1"
    ran = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("attacks\n", "")


def test_accents_of_either_form(pictures, tmp_path, advbench_command) -> None:
    """Images from a Mac, masks and lists from elsewhere; files moved to the other form later."""
    nfd, nfc = (unicodedata.normalize(form, "fälschung") for form in ("NFD", "NFC"))
    for number in range(5):
        image = pictures / "images" / f"photo{number}.png"
        image.rename(image.with_stem(f"{nfd}{number}"))
        mask = pictures / "masks" / f"photo{number}.png"
        mask.rename(mask.with_stem(f"{nfc}{number}_gt"))
    listed = tmp_path / "list.txt"
    listed.write_text("\ufeff" + "\n".join(f"{nfc}{number}.png" for number in range(3)))
    data = ("import", "folder", pictures, "--name", "mine", "--list", listed, "--out", tmp_path)
    ran = advbench_command("dataset", *data)
    assert ran.code == 0, ran.err
    for image in (pictures / "images").iterdir():
        image.rename(image.with_name(unicodedata.normalize("NFC", image.name)))
    ran = advbench_command("dataset", "check", "mine", "--out", tmp_path)
    assert (ran.code, "3 images as their manifest" in ran.out) == (0, True)


def test_home_everywhere(pictures, tmp_path, monkeypatch, advbench_command) -> None:
    """In options with an equals sign, in VICTIM=PATH, and in suites."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    ran = advbench_command(
        "dataset", "import", "folder", "~/pictures", "--name", "my-photos", "--out=~/here"
    )
    assert ran.code == 0, ran.err
    assert (tmp_path / "here/datasets/my-photos/dataset.json").is_file()
    suite = 'schema = "advbench.suite/1"\ntitle = "t"\ndatasets = ["~/here/datasets/my-photos"]\n'
    more = '[victims.ifosn]\nweights = "~/none.pt"\n[attacks.fgsm]\n'
    Path("own.toml").write_bytes(b"\xef\xbb\xbf" + (suite + more).encode())
    for arguments in (["~/own.toml"], ["own.toml", "--weights", "ifosn=~/none.pt"]):
        ran = advbench_command("plan", *arguments, "--json")
        (fault,) = json.loads(ran.out)["faults"]
        assert f"{tmp_path}/none.pt: no such weights file" in fault["problem"]
    assert not (tmp_path / "~").exists()


def test_a_dataset_that_lies_elsewhere(imported, tmp_path, monkeypatch, advbench_command) -> None:
    """It is listed where it is, and told elsewhere."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    pictures = tmp_path / "pictures"
    data = ("dataset", "import", "folder", pictures, "--name", "other", "--out", imported)
    assert advbench_command(*data, "--redistribution", "research-only").code == 0
    ran = advbench_command("list", "datasets", "--out", imported)
    assert "other  " in ran.out
    assert "imported: 5 forged, 0 authentic images" in ran.out
    ran = advbench_command("dataset", "check", "other", "--out", tmp_path / "empty")
    assert (ran.code, f"was imported to {imported}/datasets/other" in ran.err) == (2, True)
    described = json.loads((imported / "datasets/other/dataset.json").read_text())
    assert described["licence"]["redistribution"] == "research-only"


@pytest.mark.parametrize("name", ["mine-train", "a-val", "b-test", "-a", "A", "a/b", ""])
def test_names_of_datasets(name, pictures, tmp_path, advbench_command) -> None:
    ran = advbench_command(
        "dataset", "import", "folder", pictures, f"--name={name}", "--out", tmp_path
    )
    assert ran.code == 2
    assert "--name" in ran.err


def test_masks_of_another_ending(pictures, tmp_path, advbench_command) -> None:
    for mask in (pictures / "masks").iterdir():
        mask.rename(mask.with_stem(f"{mask.stem}_forged"))
    data = ("dataset", "import", "folder", pictures, "--name", "mine", "--out", tmp_path)
    ran = advbench_command(*data)
    assert (ran.code, "--mask-suffix" in ran.err) == (2, True)
    assert advbench_command(*data, "--mask-suffix", "_forged").code == 0
