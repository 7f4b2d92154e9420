"""The committed leaderboards follow from the records beside them, to the byte."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from advbench.registry import ATTACKS, DEFENSES, VICTIMS
from advbench.scores.floors import FLOORS

FOLDER = Path(__file__).parents[2] / "manifests" / "leaderboards"
NAMES = sorted(path.stem for path in FOLDER.glob("*.csv"))


def test_there_is_one():
    assert NAMES


@pytest.mark.parametrize("name", NAMES)
def test_rebuilt_from_its_records(name, advbench_command, tmp_path):
    records = FOLDER / f"{name}.parquet"
    ran = advbench_command("leaderboard", "build", "--records", str(records), "--to", str(tmp_path))
    assert ran.code == 0, ran.err
    assert (tmp_path / f"{name}.csv").read_bytes() == (FOLDER / f"{name}.csv").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_it_is_whole(name):
    """Every defense and attack before each victim of it, all on the same images."""
    board = pd.read_csv(FOLDER / f"{name}.csv")
    assert set(board.victim) == set(VICTIMS.standard())
    for _, rows in board.groupby("victim"):
        assert set(rows.defense) == {*DEFENSES.standard(), *FLOORS}
        assert (rows.complete == ~rows.defense.isin(FLOORS)).all()
        assert rows.n.nunique() == 1
    assert {f"{attack}_rp" for attack in ATTACKS.standard()} < set(board.columns)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_at_the_floor_is_ranked(name):
    """A map that marks nearly everything, as behind a blur, is worth no place."""
    board = pd.read_csv(FOLDER / f"{name}.csv")
    ranked = board[board["rank"].notna()]
    assert (ranked.worst_mcc_low > 0).all()
    blurred = board[(board.defense == "gaussian") & (board.strength == 10)]
    assert len(blurred)
    assert blurred["rank"].isna().all()


@pytest.mark.parametrize("name", NAMES)
def test_the_name_says_what_the_attacker_knew(name):
    board = pd.read_csv(FOLDER / f"{name}.csv")
    adaptive = [column for column in board.columns if column.endswith("_adaptive_rp")]
    assert name.endswith("-static") == (not adaptive)
