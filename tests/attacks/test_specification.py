"""The specification: frozen, JSON both ways, named profiles, honest costs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from advbench.attacks.apgd import APGD
from advbench.attacks.base import Attack
from advbench.attacks.bim import BIM
from advbench.attacks.cw import CW
from advbench.attacks.fgsm import FGSM
from advbench.attacks.losses import LOSSES
from advbench.attacks.mifgsm import MIFGSM
from advbench.attacks.noise import Noise
from advbench.attacks.pgd import PGD
from advbench.attacks.pgn import PGN

from .toys import ALL, OPTIMISED, Toy, patient, pictures, wavy_net

KINDS: list[type[Attack]] = [FGSM, BIM, PGD, MIFGSM, PGN, CW, APGD, Noise]
NAMED = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)

positive = st.floats(1e-6, 255)
eps_lists = st.lists(st.floats(0, 255), min_size=1, max_size=4, unique_by="{:g}".format)
alphas = st.one_of(positive, st.integers(1, 99).map("eps/{}".format), st.just("eps/T"))
fields = {
    "eps": eps_lists,
    "target": st.sampled_from(["gt", "pred"]),
    "loss": st.sampled_from(sorted(LOSSES)),
    "region": st.sampled_from(["whole", "forged", "authentic", "seam"]),
    "restarts": st.integers(1, 9),
    "iterations": st.integers(1, 10_000),
    "alpha": alphas,
    "decay": st.floats(0, 9),
    "neighbours": st.integers(1, 99),
    "zeta": st.floats(0, 99),
    "delta": st.floats(0, 1),
    "random_start": st.sampled_from(["uniform", "grid", "none"]),
    "steps": st.lists(st.integers(1, 100_000), min_size=1, max_size=4, unique=True),
    "variant": st.sampled_from(["paper", "hinge"]),
    "optimizer": st.sampled_from(["adam", "gd"]),
    "lr": st.floats(1e-9, 1),
    "c": st.floats(0, 1e9),
    "kappa": st.floats(0, 99),
    "project": st.sampled_from(["each", "final"]),
    "early_stop": st.booleans(),
}


@st.composite
def specifications(draw: st.DrawFn) -> Attack:
    kind = draw(st.sampled_from(KINDS))
    assert set(kind.model_fields) <= set(fields)
    chosen = draw(st.sets(st.sampled_from(sorted(kind.model_fields))))
    settings = {field: draw(fields[field]) for field in sorted(chosen)}
    if settings.get("variant") == "hinge":
        settings.pop("project", None)  # the hinge projects at each step
    else:
        settings.pop("early_stop", None)  # f of the other variant is never 0
    return kind(**settings)


@patient
@given(specifications())
def test_json_both_ways(attack: Attack) -> None:
    """What is written is read back equal, and written the same again."""
    text = attack.model_dump_json()
    again = type(attack).model_validate_json(text)
    assert again == attack
    assert again.model_dump_json() == text
    assert type(attack).model_validate(json.loads(text)) == attack


@patient
@given(specifications())
def test_a_variant_is_said_without_the_others(attack: Attack) -> None:
    """``variant_spec`` is plain JSON, hangs on its intensity alone, and makes the attack again."""
    for intensity in attack.intensities:
        said = attack.variant_spec(intensity)
        alone = attack.only([intensity])
        assert alone.intensities == (intensity,)
        assert json.dumps(alone.variant_spec(intensity)) == json.dumps(said)
        assert json.loads(json.dumps(said)) == said
        assert said.pop("attack") == attack.label
        assert type(attack)(**said) == alone


@patient
@given(specifications())
def test_variants_of_an_attack_have_different_names(attack: Attack) -> None:
    """No two intensities of one specification share a name, which is the key of the results."""
    names = [attack.variant_name(intensity) for intensity in attack.intensities]
    assert len(set(names)) == len(names)


def test_names() -> None:
    """As DESIGN writes them."""
    assert PGD(eps=3).variant_name(3.0) == "pgd-3"
    assert FGSM(eps=2.5).variant_name(2.5) == "fgsm-2.5"
    assert CW(steps=250).variant_name(250) == "cw-250"
    assert CW(steps=100_000).variant_name(100_000) == "cw-100000"
    assert PGD(eps=3, loss="dice").variant_name(3) == "pgd_dice-3"
    assert CW(steps=50, region="seam").variant_name(50) == "cw-50-seam"


def test_settings_that_change_nothing_leave_the_key_of_older_shards() -> None:
    """Region, loss and restarts came later: at what they were before they are not said."""
    said = {"attack": "pgd", "eps": 3.0, "target": "gt", "iterations": 10, "alpha": 1.0}
    said["random_start"] = "uniform"
    assert PGD.create("paper", eps=3).variant_spec(3.0) == said
    told = PGD.create("paper", eps=3, loss="dice", region="seam", restarts=2).variant_spec(3.0)
    added = {"attack": "pgd_dice", "loss": "dice", "region": "seam", "restarts": 2}
    assert told == said | added


@NAMED
def test_defaults(kind: type[Attack]) -> None:
    """φ of 1, 2, 3 with twenty steps of φ/4, C&W at 50 … 250, and the rest as decided."""
    expected: dict[str, Any] = {"region": "whole"}
    if kind is not CW:
        expected |= {"eps": (1, 2, 3), "target": "gt", "loss": "bce"}
    if kind in (BIM, PGD, MIFGSM, PGN):
        expected |= {"iterations": 20, "alpha": "eps/4"}
    if kind is PGD:
        expected |= {"random_start": "uniform", "restarts": 1}
    if kind is APGD:
        expected |= {"iterations": 20, "restarts": 1}
    if kind is MIFGSM:
        expected |= {"decay": 1}
    if kind is PGN:
        expected |= {
            "iterations": 10,
            "alpha": "eps/10",
            "neighbours": 20,
            "zeta": 3,
            "delta": 0.5,
            "decay": 1,
        }
    if kind is CW:
        expected |= {"steps": (50, 100, 150, 200, 250), "variant": "paper", "optimizer": "adam"}
        expected |= {"lr": 1e-4, "c": 1, "kappa": 2, "project": "each", "early_stop": False}
    assert kind().model_dump() == expected


def test_hinge_has_a_step_size_of_its_own() -> None:
    """3e-4 unless told, and what is told stays, also through JSON."""
    assert CW(variant="hinge").lr == 3e-4
    told = CW(variant="hinge", lr=1e-4)
    assert told.lr == 1e-4
    assert CW.model_validate_json(told.model_dump_json()).lr == 1e-4
    assert CW(variant="hinge", steps=(5, 9)).only([5]).lr == 3e-4


@NAMED
@pytest.mark.parametrize("profile", ["default", "paper", "torchattacks", "original", "quick"])
def test_profiles(kind: type[Attack], profile: str) -> None:
    """Each profile sets what the specification says and nothing else; settings go on top."""
    changes: dict[str, dict[str, Any]] = {
        "paper": {"iterations": 10, "alpha": 1},
        "torchattacks": {"iterations": 10, "alpha": 2},
        "original": {"iterations": 10, "alpha": "eps/T"},
        "quick": {"iterations": 5},
    }
    expected = changes.get(profile, {})
    if kind is PGN:
        quick = {"iterations": 5, "neighbours": 5, "alpha": "eps/5"}
        expected = {"quick": quick, "original": {"alpha": "eps/T"}}.get(profile, {})
    if kind is APGD:
        expected = {"quick": {"iterations": 5}}.get(profile, {})
    if kind in (FGSM, CW, Noise):
        expected = {}
    assert kind.create(profile).model_dump() == kind().model_dump() | expected
    intensity = {kind.intensity_field: (70,)}
    over = {"iterations": 3} if "iterations" in kind.model_fields else {}
    found = kind.create(profile, **intensity, **over).model_dump()
    assert found == kind().model_dump() | expected | intensity | over


@NAMED
def test_only_changes_the_intensities(kind: type[Attack]) -> None:
    """The rest of the specification, the original and the order asked for stay."""
    attack = kind.create("quick", **{kind.intensity_field: [30, 50, 70]})
    some = attack.only([5, 1])
    assert some.intensities == (5, 1)
    assert some.model_dump() == attack.model_dump() | {kind.intensity_field: (5, 1)}
    assert attack.intensities == (30, 50, 70)
    with pytest.raises(ValidationError):
        attack.only([])


@NAMED
def test_frozen(kind: type[Attack]) -> None:
    """A specification cannot be changed, equals its like, and serves as a key."""
    attack = kind()
    with pytest.raises(ValidationError):
        setattr(attack, kind.intensity_field, (9,))
    assert {attack: 1}[kind()] == 1


@pytest.mark.parametrize(
    ("kind", "settings", "same"),
    [
        (BIM, {"eps": 3}, {"eps": (3.0,)}),
        (BIM, {"eps": ["1", "2.5"]}, {"eps": (1, 2.5)}),
        (BIM, {"alpha": "2"}, {"alpha": 2.0}),
        (BIM, {"alpha": 2}, {"alpha": 2.0}),
        (BIM, {"iterations": "7"}, {"iterations": 7}),
        (CW, {"steps": "50"}, {"steps": (50,)}),
        (CW, {"steps": 50}, {"steps": [50]}),
    ],
    ids=str,
)
def test_settings_from_a_command_line(
    kind: type[Attack], settings: dict[str, Any], same: dict[str, Any]
) -> None:
    """Numbers as text and single intensities mean what they say."""
    assert kind.create(**settings).model_dump_json() == kind(**same).model_dump_json()


def test_cost_of_the_grid_of_the_paper() -> None:
    """A gradient a step and φ, PGN 40 of them, one trajectory of C&W for all m; APGD has one more
    at its start, and random noise asks nothing."""
    found = {kind.name: kind.create("paper").passes() for kind in KINDS}
    expected = {"fgsm": 1, "bim": 30, "pgd": 30, "mifgsm": 30, "pgn": 1200, "cw": 250}
    expected |= {"apgd": 63, "noise": 0}
    assert found == expected


@pytest.mark.parametrize("name", ALL)
def test_cost_is_what_the_victim_sees(name: str) -> None:
    """``passes`` counts the rows that meet the victim, per image, for all intensities; what chooses
    among restarts is left out."""
    rows: list[int] = []

    def watch(images: Tensor) -> None:
        if images.requires_grad or name in OPTIMISED:
            rows.append(len(images))

    pictures(2).attacked(ALL[name], Toy(wavy_net(), watch))
    assert sum(rows) / 2 == ALL[name].passes()
