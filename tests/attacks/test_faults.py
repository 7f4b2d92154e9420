"""Bad settings in one line, and arguments that do not fit together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from advbench.attacks.base import Attack
from advbench.attacks.bim import BIM
from advbench.attacks.cw import CW
from advbench.attacks.fgsm import FGSM
from advbench.attacks.mifgsm import MIFGSM
from advbench.attacks.pgd import PGD
from advbench.attacks.pgn import PGN
from advbench.errors import AdvbenchError

from .toys import Toy, linear, pictures, wavy_net


def label(value: object) -> str:
    return value.name if isinstance(value, type) and issubclass(value, Attack) else str(value)


BAD: list[tuple[type[Attack], dict[str, Any], str]] = [
    *((FGSM, {"eps": eps}, "eps") for eps in (-1, 256, "x", [1, 1], [], [1, -2], float("nan"))),
    *((FGSM, {"eps": eps}, "eps") for eps in (None, float("inf"))),
    *((BIM, {"alpha": a}, "alpha") for a in (0, -1, 256, "eps/0", "eps/", "fast", "nan", None)),
    *((BIM, {"iterations": n}, "iterations") for n in (0, 10_001, 2.5, "many")),
    *((PGN, {"delta": d}, "delta") for d in (-0.1, 1.1)),
    *((CW, {"steps": m}, "steps") for m in (0, 2.5, "x", [], [5, 5], 100_001)),
    (FGSM, {"target": "truth"}, "target"),
    (FGSM, {"iterations": 3}, "iterations"),
    (BIM, {"decay": 1}, "decay"),
    (PGD, {"random_start": True}, "random_start"),
    (MIFGSM, {"decay": -1}, "decay"),
    (PGN, {"neighbours": 0}, "neighbours"),
    (PGN, {"zeta": -1}, "zeta"),
    (CW, {"eps": 3}, "eps"),
    (CW, {"variant": "soft"}, "variant"),
    (CW, {"optimizer": "sgd"}, "optimizer"),
    (CW, {"lr": 0}, "lr"),
    (CW, {"c": -1}, "c"),
    (CW, {"kappa": -1}, "kappa"),
    (CW, {"project": "never"}, "project"),
]


# As somebody gives them who thinks of [0, 1], or of fewer steps than it takes.
WITHOUT_EFFECT: list[tuple[type[Attack], dict[str, Any], str]] = [
    *((FGSM, {"eps": eps}, "eps") for eps in (0, 0.0314, 0.5, 8 / 255, 0.999, [3, 0.0314])),
    *((kind, {"eps": 8 / 255}, "eps") for kind in (BIM, PGD, MIFGSM, PGN)),
    *((kind, {"alpha": 2 / 255}, "alpha") for kind in (BIM, PGD, MIFGSM, PGN)),
    (BIM, {"alpha": "0.0078"}, "alpha"),
    (BIM, {"alpha": "eps/200", "eps": 3}, "alpha"),
    (CW, {"steps": [250, 5]}, "steps"),
    (CW, {"steps": 50, "lr": 1e-5}, "steps"),
]
JUST_ENOUGH: list[tuple[type[Attack], dict[str, Any]]] = [
    (FGSM, {"eps": 1}),
    (FGSM, {"eps": 1.5}),
    (BIM, {"alpha": 0.06}),
    (CW, {"steps": 20}),
    (CW, {"steps": 1, "lr": 2e-3}),
]


@pytest.mark.parametrize(("kind", "settings", "field"), WITHOUT_EFFECT, ids=label)
def test_what_changes_no_pixel_is_refused(
    kind: type[Attack], settings: dict[str, Any], field: str
) -> None:
    """With the unit or the remedy; and rightly, since such an attack leaves images as they are."""
    with pytest.raises(AdvbenchError, match=f"^attack {kind.name}: {field}: .*no pixel") as caught:
        kind.create(**settings)
    assert ("3 means 3/255" in str(caught.value)) == (field != "steps")
    lowest = {
        name: min(value) if isinstance(value, list) else value for name, value in settings.items()
    }
    if kind is PGD and field == "alpha":
        lowest["random_start"] = "none"
    batch = pictures(2)
    (result,) = batch.attacked(
        kind(**({"eps": 3} if kind is not CW else {}) | lowest), Toy(wavy_net())
    ).values()
    assert result.images.equal(batch.images)


@pytest.mark.parametrize(("kind", "settings"), JUST_ENOUGH, ids=label)
def test_what_changes_a_pixel_is_made(kind: type[Attack], settings: dict[str, Any]) -> None:
    batch = pictures(2)
    for result in batch.attacked(kind.create(**settings), Toy(wavy_net())).values():
        assert not result.images.equal(batch.images)


@pytest.mark.parametrize(("kind", "settings", "field"), BAD, ids=label)
def test_a_bad_setting_is_one_line(
    kind: type[Attack], settings: dict[str, Any], field: str
) -> None:
    """The attack, the setting and the reason, in a line."""
    with pytest.raises(AdvbenchError) as caught:
        kind.create(**settings)
    message = str(caught.value)
    assert message.startswith(f"attack {kind.name}: {field}: ")
    assert len(message.splitlines()) == 1
    assert len(message) < 200
    if field not in kind.model_fields:
        assert message.endswith(f"there are {', '.join(kind.model_fields)}")


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize(
    ("kind", "field"),
    [(MIFGSM, "decay"), (PGN, "decay"), (PGN, "zeta"), (CW, "lr"), (CW, "c"), (CW, "kappa")],
    ids=label,
)
def test_numbers_without_end_are_refused(kind: type[Attack], field: str, value: float) -> None:
    """JSON has no infinity: it would be read back as another specification, or not at all."""
    with pytest.raises(AdvbenchError, match=field):
        kind.create(**{field: value})


def test_an_unknown_profile_is_one_line() -> None:
    """It names those there are."""
    with pytest.raises(AdvbenchError) as caught:
        PGD.create("fast")
    assert str(caught.value) == (
        "unknown profile 'fast'; there are default, paper, torchattacks, original, quick"
    )


def test_intensities_too_close_to_be_told_apart() -> None:
    """Two that would share a name are refused, or named apart: neither is lost in silence."""
    try:
        attack = FGSM.create(eps=[1, 1.0000001])
    except AdvbenchError:
        return
    batch = pictures(1)
    assert len(batch.attacked(attack, Toy(wavy_net()))) == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda i, m, n: (i.float(), m, n),
        lambda i, m, n: (i[:, :1], m, n),
        lambda i, m, n: (i[0], m, n),
        lambda i, m, n: (i, m.byte(), n),
        lambda i, m, n: (i, m[:, 1:], n),
        lambda i, m, n: (i, m[1:], n),
        lambda i, m, n: (i, m.transpose(1, 2), n),
        lambda i, m, n: (i, m, n[1:]),
        lambda i, m, n: (i, m, [n[0]] * 3),
    ],
    ids=[
        "float images",
        "grey images",
        "one image",
        "byte masks",
        "low masks",
        "missing mask",
        "transposed masks",
        "missing id",
        "repeated id",
    ],
)
def test_what_does_not_fit_together_is_refused(spoil: Callable[..., tuple[Any, Any, Any]]) -> None:
    """Dtypes and shapes that do not fit raise ValueError before the victim is met."""
    batch, met = pictures(), []
    attack: Attack = FGSM(eps=1)
    with pytest.raises(ValueError, match="must be"):
        attack(Toy(linear(), met.append), *spoil(batch.images, batch.masks, batch.ids))
    assert not met
