"""Settings: scalars or lists in, anything else refused in one line that says what is taken."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from pydantic import ValidationError

import advbench
from advbench.errors import AdvbenchError

BAD: list[tuple[str, dict[str, Any]]] = [
    ("jpeg", {"quality": 0}),
    ("jpeg", {"quality": 101}),
    ("jpeg", {"quality": 75.5}),
    ("jpeg", {"quality": "high"}),
    ("jpeg", {"quality": None}),
    ("jpeg", {"quality": []}),
    ("jpeg", {"quality": [75, 0]}),
    ("jpeg", {"quality": [[75]]}),
    ("jpeg", {"qualty": 75}),
    ("jpeg", {"sigma": 5}),
    ("median", {"kernel": 1}),
    ("median", {"kernel": 4}),
    ("median", {"kernel": -3}),
    ("median", {"kernel": 257}),
    ("median", {"kernel": [3, 4]}),
    ("resize", {"scale": 0}),
    ("resize", {"scale": 0.04}),
    ("resize", {"scale": 4.1}),
    ("resize", {"scale": -0.5}),
    ("resize", {"scale": math.nan}),
    ("resize", {"scale": [0.5, 1]}),
    ("gaussian", {"sigma": 0.02}),
    ("gaussian", {"sigma": 0}),
    ("gaussian", {"sigma": -1}),
    ("gaussian", {"sigma": 256}),
    ("gaussian", {"sigma": math.inf}),
    ("gaussian", {"sigma": math.nan}),
    ("gaussian", {"sigma": ()}),
    ("none", {"strength": 1}),
]


@pytest.mark.parametrize(("name", "settings"), BAD, ids=str)
def test_refused(name: str, settings: dict[str, Any]) -> None:
    """One line with the defense, the setting at fault, and the settings where it is unknown."""
    with pytest.raises(AdvbenchError) as caught:
        advbench.load_defense(name, **settings)
    text = str(caught.value)
    assert "\n" not in text
    field = next(iter(settings))
    assert text.startswith(f"defense {name}: {field}: ")
    known = {"jpeg": "quality", "median": "kernel", "resize": "scale", "gaussian": "sigma"}
    if field != known.get(name):
        assert text.endswith(f"there are {known.get(name, 'none')}")


GOOD: list[tuple[str, dict[str, Any], tuple[float, ...]]] = [
    ("jpeg", {"quality": 75}, (75,)),
    ("jpeg", {"quality": [75, 1, 100]}, (75, 1, 100)),
    ("jpeg", {"quality": (30,)}, (30,)),
    ("median", {"kernel": 255}, (255,)),
    ("resize", {"scale": 0.05}, (0.05,)),
    ("resize", {"scale": [4, 0.5]}, (4.0, 0.5)),
    ("gaussian", {"sigma": 255}, (255.0,)),
    ("gaussian", {"sigma": 0.1}, (0.1,)),
]


@pytest.mark.parametrize(("name", "settings", "strengths"), GOOD, ids=str)
def test_accepted(name: str, settings: dict[str, Any], strengths: tuple[float, ...]) -> None:
    """Bounds included; one value is a list of one."""
    assert advbench.load_defense(name, **settings).strengths == strengths


def test_defaults() -> None:
    """Several strengths each, and none for the undefended image."""
    for name in ("jpeg", "resize", "median", "gaussian"):
        assert len(advbench.load_defense(name).strengths) == 3
    assert advbench.load_defense("none").strengths == (None,)
    assert list(advbench.load_defense("none").keys(["d/a"], None, 5)) == [(5, "d/a", "none")]


def test_frozen() -> None:
    """A specification does not change once it is made: it is the provenance key."""
    defense = advbench.load_defense("jpeg", quality=75)
    with pytest.raises(ValidationError):
        defense.quality = (10,)
    assert defense.strengths == (75,)


@pytest.mark.parametrize("settings", [{"sigma": [2.0, 2.0000001]}, {"sigma": [5, 5]}], ids=str)
def test_every_strength_has_a_result(settings: dict[str, Any]) -> None:
    """Strengths of one name would overwrite each other: refused, or told apart, or made one."""
    try:
        defense = advbench.load_defense("gaussian", **settings)
    except AdvbenchError:
        return
    names = [defense.variant_name(strength) for strength in defense.strengths]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("name", "strength", "told"), [("median", 3, "3"), ("jpeg", 80, "80"), ("gaussian", 2, "2.0")]
)
def test_a_strength_is_told_one_way(name, strength, told):
    """However it was written: 3 and 3.0 would else be two defenses."""
    field = advbench.load_defense(name).strength_field
    defense = advbench.load_defense(name, **{field: strength})
    texts = {json.dumps(defense.variant_spec(each)) for each in (strength, float(strength))}
    (text,) = texts
    assert f": {told}" in text
