"""The committed leaderboards follow from the records beside them, to the byte."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from advbench.registry import ATTACKS, DEFENSES, VICTIMS

FOLDER = Path(__file__).parents[2] / "manifests" / "leaderboards"
NAMES = sorted(path.stem for path in FOLDER.glob("*.csv"))


def test_there_is_the_built_in_one():
    assert "builtin" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_rebuilt_from_its_records(name, advbench_command, tmp_path):
    records = FOLDER / f"{name}.parquet"
    ran = advbench_command("leaderboard", "build", "--records", str(records), "--to", str(tmp_path))
    assert ran.code == 0, ran.err
    assert (tmp_path / f"{name}.csv").read_bytes() == (FOLDER / f"{name}.csv").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_it_is_whole(name):
    """Every built-in victim, defense and attack, all on the same images, all ranked."""
    board = pd.read_csv(FOLDER / f"{name}.csv")
    assert sorted(board.victim.unique()) == sorted(VICTIMS.standard())
    for _, rows in board.groupby("victim"):
        assert set(rows.defense) == set(DEFENSES.standard())
        assert rows["rank"].notna().all()
        assert rows.n.nunique() == 1
    assert {f"{attack}_rp" for attack in ATTACKS.standard()} < set(board.columns)
