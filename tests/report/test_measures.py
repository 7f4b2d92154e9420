"""F1, RP and MCC of a report's cells against independent implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from advbench.report.measures import cells, with_clean
from advbench.scores.tables import long_table
from tests.scores.made import frame, record, row, scored


def test_rp_is_that_of_the_tables():
    clean = scored({"a": 0.8, "b": 0.4, "c": math.nan})
    attacked = scored({"a": 0.2, "b": 0.5, "c": 0.9}, "pgd-3")
    records = frame(clean, attacked)
    ours, theirs = cells(with_clean(records)), long_table(records)
    for attack in ("original", "pgd"):
        assert row(ours, attack=attack).rp == pytest.approx(row(theirs, attack=attack).rp)
        assert row(ours, attack=attack).f1 == pytest.approx(row(theirs, attack=attack).f1)
    assert math.isnan(row(ours, attack="pgd").rp_low), "one photograph has no interval"


def test_intervals_are_over_photographs():
    """Ten copies of an image add nothing to what one photograph says."""
    values = {"a": 0.1, "b": 0.9, "c": 0.4, "d": 0.6}
    once = [record(s, f1=v, source_group=s) for s, v in values.items()]
    often = [record(f"{s}{i}", f1=v, source_group=s) for s, v in values.items() for i in range(10)]
    one, ten = (cells(with_clean(frame(r))).iloc[0] for r in (once, often))
    assert (ten.f1, ten.f1_low, ten.f1_high) == pytest.approx((one.f1, one.f1_low, one.f1_high))
    assert ten.photographs == one.photographs == 4
    drawn = np.random.default_rng(1).choice(list(values.values()), (20_000, 4)).mean(1)
    assert (one.f1_low, one.f1_high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.07)


def test_authentic_images_have_false_alarms_and_no_f1():
    nothing = {"f1": math.nan, "mcc": math.nan, "tp": 0, "fn": 0}
    records = frame([record("a", f1=0.5), record("b", marked=0.25, **nothing)])
    found = cells(with_clean(records)).iloc[0]
    assert (found.n, found.authentic, found.f1, found.false_alarms) == (1, 1, 0.5, 0.25)


def test_threats_are_cells_of_their_own():
    attacked = {"attack": "pgd", "intensity": 3.0, "variant": "pgd-3"}
    records = frame([record(), *(record(threat=t, **attacked) for t in ("static", "query"))])
    assert sorted(cells(with_clean(records)).threat) == ["query", "static", "static"]
