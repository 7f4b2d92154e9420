"""Merge a checked submission into a folder of leaderboards."""

from __future__ import annotations

import pandas as pd

from advbench.errors import AdvbenchError
from advbench.files import write_atomically
from advbench.scores.leaderboard import leaderboard
from advbench.scores.records import read_records, write_merged
from advbench.scores.tables import as_csv
from advbench.scores.threats import ADAPTIVE
from advbench.submissions.check import Checked


def add(checked: Checked, static: bool = False) -> pd.DataFrame:
    """Add the defense's records to those that it was checked against, and derive the CSV anew.

    Args:
        static: leave adaptive attacks out, as a static leaderboard does.

    Returns:
        the new leaderboard.

    Raises:
        AdvbenchError: a row of the same defense and strength is there already.
    """
    path = checked.against
    present = read_records(path)
    own = checked.records[checked.records.defense == checked.claims.defense]
    if static:
        own = own[own.threat != ADAPTIVE]
    keys = ["victim", "size", "weights_sha256", "protocol", "defense", "strength"]
    both = own[keys].drop_duplicates().merge(present[keys].drop_duplicates())
    if len(both):
        raise AdvbenchError(
            f"{path}: {checked.claims.defense} before {both.victim.iloc[0]} is there already; "
            "give the new one another name"
        )
    merged = pd.concat([present, own], ignore_index=True)
    board = leaderboard(merged)
    write_merged(path, merged)
    write_atomically(path.with_suffix(".csv"), as_csv(board))
    return board
