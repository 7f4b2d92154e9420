"""Which threat model a variant belongs to, read off its specification."""

from __future__ import annotations

import json
import math

import pytest

from advbench.scores.threats import Attacked, threat_of
from advbench.shards.schema import Settings

PGD = {"attack": "pgd", "eps": 3, "steps": 10, "target": "gt"}
JPEG = {"defense": "jpeg", "quality": 90}


@pytest.mark.parametrize(
    ("added", "threat"),
    [
        ({}, "static"),
        ({"region": "forged"}, "static"),
        ({"through": JPEG}, "adaptive"),
        ({"surrogate": {"name": "code"}}, "transfer"),
        ({"queries": 500}, "query"),
        ({"queries": 500, "through": JPEG}, "query"),
        ({"through": None, "surrogate": None}, "static"),
    ],
)
def test_by_what_the_attacker_knew(added: dict[str, object], threat: str) -> None:
    assert threat_of(PGD | added) == threat


def test_what_records_say() -> None:
    """An adaptive variant names its defense by the same JSON as the records of that defense."""
    found = Attacked.by(PGD | {"through": JPEG, "region": "seam"}, "pgd-3@jpeg-90", 3.0, 3)
    assert (found.variant, found.attack, found.intensity) == ("pgd-3@jpeg-90", "pgd", 3.0)
    assert (found.threat, found.region, found.target) == ("adaptive", "seam", "gt")
    assert found.through == json.dumps(JPEG, sort_keys=True)
    assert found.budget == 3.0
    cw = Attacked.by({"attack": "cw", "surrogate": {"name": "code"}}, "cw-50", 50.0, None)
    assert (cw.threat, cw.surrogate, cw.region) == ("transfer", "code", "whole")
    assert math.isnan(cw.budget)


@pytest.mark.parametrize(
    ("attack", "variant", "intensity"),
    [
        ("pgd", "pgd-3", 3.0),
        ("pgd", "pgd-0.5@jpeg-90", 0.5),
        ("cw", "cw-250@gaussian-10", 250.0),
        ("ta-pgd", "ta-pgd-1e+06", 1e6),
        ("a-1", "a-1-2", 2.0),
        ("warp", "warp", None),
    ],
)
def test_the_intensity_of_a_variant(attack: str, variant: str, intensity: float | None) -> None:
    settings = Settings("adversarial", "mine", "native", variant=variant, attack={"attack": attack})
    assert settings.intensity == intensity
