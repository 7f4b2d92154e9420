"""What the README says is what the code does."""

from __future__ import annotations

import hashlib
import re
import shlex
from pathlib import Path

import click
import pandas as pd
import pytest

from advbench.cli.main import cli

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def commands() -> list[str]:
    """Lines that begin with ``advbench``, from all code blocks."""
    found = []
    for document in DOCUMENTS:
        for block in re.findall(r"```bash\n(.*?)```", document.read_text(), re.DOTALL):
            whole = block.replace("\\\n", " ")
            lines = (line.partition(" #")[0].strip() for line in whole.splitlines())
            found += [line for line in lines if line.startswith("advbench ")]
    return found


@pytest.mark.parametrize("line", commands())
def test_documented_commands_parse(line):
    """Every command and option that the documents show exists, and takes the value it is given."""
    context = click.Context(cli, info_name="advbench")
    command, arguments = cli, shlex.split(line)[1:]
    while isinstance(command, click.Group):
        name, command, arguments = command.resolve_command(context, arguments)
        context = click.Context(command, info_name=name, parent=context)
    given, _, _ = command.make_parser(context).parse_args(arguments)
    for parameter in command.params:
        value = given.get(parameter.name)
        if isinstance(parameter.type, click.Choice) and isinstance(value, str):
            parameter.type_cast_value(context, value)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_the_result_picture_is_of_the_leaderboard():
    """Drawn by ``benchmarks/readme_chart.py`` from the committed CSV as it is."""
    board = ROOT / "manifests" / "leaderboards" / "builtin2.csv"
    sha256 = hashlib.sha256(board.read_bytes()).hexdigest()
    assert sha256 in (ROOT / "docs" / "results.svg").read_text()


def test_the_result_table_is_of_the_leaderboard():
    """The rows of README's first table, from the committed CSV."""
    text = (ROOT / "README.md").read_text().partition("| defense | original |")[2]
    board = pd.read_csv(ROOT / "manifests" / "leaderboards" / "builtin2.csv")
    board = board[board.victim == "mvssnet"]
    attacks = ["original", "fgsm", "cw", "bim", "pgd", "mifgsm", "pgn", "pgd_adaptive"]
    for line in text.splitlines()[2:6]:
        label, *shown = (cell.strip() for cell in line.strip("|").split("|"))
        name, _, strength = label.lower().partition(" ")
        row = board[board.defense == name]
        row = row[row.strength == float(strength)] if strength else row
        # Nothing stands before the undefended victim: PGD through it is PGD.
        met = [*attacks[:-1], "pgd"] if name == "none" else attacks
        assert [int(cell) for cell in shown] == [round(row[f"{a}_rp"].item()) for a in met]
