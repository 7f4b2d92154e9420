"""Gates on records with one fault planted, and on sound ones."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from advbench.scores.gates import GATES, Gate, Verdict, gates, gates_of, worst

from .made import frame, record

IMAGES = [str(n) for n in range(12)]
DOCS = Path(__file__).parents[2] / "docs" / "gates.md"
# Mean MCC that each variant leaves where all is sound.
SOUND = {
    "noise-3": 0.7, "pgd-3": 0.6, "fgsm-3": 0.65, "cw-250": 0.6, "pgd-3~code": 0.6,
    "square-3": 0.55, "fgsm-1@jpeg-90": 0.5, "fgsm-3@jpeg-90": 0.45, "pgd-1@jpeg-90": 0.45,
    "pgd-3@jpeg-90": 0.3, "pgd-32@jpeg-90": -0.2, "cw-50@jpeg-90": 0.5, "cw-250@jpeg-90": 0.4,
}  # fmt: skip


def cell(variant: str, mcc: float, images: list[str] = IMAGES, **changes: Any) -> list[Any]:
    """Records of one variant; images differ by what no gate may mistake for an effect."""
    name, _, rest = variant.partition("-")
    intensity = float(re.split("[@~]", rest)[0]) if rest else math.nan
    fields: dict[str, Any] = {
        "attack": name,
        "variant": variant,
        "intensity": intensity,
        "budget": math.nan if name in ("cw", "original") else intensity,
        "linf": 0.0 if name == "original" else min(intensity, 3.0),
        "threat": "static",
    }
    if "@" in variant:
        fields |= {"threat": "adaptive", "through": '{"defense": "jpeg", "quality": 90}'}
    if "~" in variant:
        fields |= {"threat": "transfer", "surrogate": "code"}
    if name == "square":
        fields |= {"threat": "query"}
    spread = np.random.default_rng(0).normal(0, 0.1, len(images))
    return [
        record(image, mcc=mcc + extra, source_group=f"photo{int(image) % 6}", **(fields | changes))
        for image, extra in zip(images, spread, strict=True)
    ]


def records(changed: dict[str, float] | None = None, **planted: dict[str, Any]) -> pd.DataFrame:
    jpeg = {"defense": "jpeg", "strength": 90.0}
    return frame(
        cell("original", 0.8, **jpeg),
        *(
            cell(variant, mcc, **jpeg | planted.get(variant.partition("-")[0], {}))
            for variant, mcc in (SOUND | (changed or {})).items()
        ),
    )


def by_name(found: list[Gate]) -> dict[str, Gate]:
    return {gate.name: gate for gate in found}


def test_sound_records_pass_every_gate():
    found = gates_of(records())
    assert [gate.name for gate in found] == list(GATES)
    assert {gate.verdict for gate in found} == {Verdict.PASS}
    assert worst(found) == Verdict.PASS


@pytest.mark.parametrize(
    ("changed", "gate"),
    [
        ({"pgd-1@jpeg-90": 0.1}, "grows-with-intensity"),
        ({"cw-250@jpeg-90": 0.55}, "grows-with-intensity"),
        ({"fgsm-3@jpeg-90": 0.2}, "iterated-beats-one-step"),
        ({"noise-3": 0.2}, "beats-random-noise"),
        ({"pgd-32@jpeg-90": 0.3}, "nothing-survives-32"),
        ({"pgd-3~code": 0.1}, "white-box-beats-black-box"),
        ({"square-3": -0.3}, "white-box-beats-black-box"),
        ({"pgd-3": 0.2}, "adaptive-beats-static"),
    ],
)
def test_a_planted_fault_fails_its_gate(changed, gate):
    found = by_name(gates_of(records(changed)))
    assert found[gate].verdict == Verdict.FAIL
    assert any(name in found[gate].told for name in changed)
    assert worst(found.values()) == Verdict.FAIL


@pytest.mark.parametrize(
    ("planted", "gate", "verdict"),
    [
        ({"linf": 4.0}, "budget", Verdict.FAIL),
        ({"linf": 0.0}, "images-changed", Verdict.FAIL),
        ({"zero_gradients": 2.0}, "zero-gradients", Verdict.FAIL),
    ],
)
def test_a_planted_fault_of_images_fails_its_gate(planted, gate, verdict):
    found = by_name(gates_of(records(pgd=planted)))
    assert found[gate].verdict == verdict
    one = records()
    where = (one.variant == "pgd-3") & (one.sample_id == "mine/3")
    for column, value in planted.items():
        one.loc[where, column] = value
    expected = Verdict.FAIL if gate == "budget" else Verdict.WARN
    assert by_name(gates_of(one))[gate].verdict == expected


def test_authentic_images_count_where_bytes_do():
    """They have no MCC, yet a budget."""
    authentic = frame(cell("pgd-3", math.nan, linf=5.0, defense="jpeg", strength=90.0))
    authentic["sample_id"] = authentic.sample_id + "-authentic"
    found = by_name(gates_of(pd.concat([records(), authentic], ignore_index=True)))
    assert found["budget"].figures == {"images": 12 * 10 + 12, "over": 12}  # C&W has none
    assert [g.name for g in gates_of(authentic)] == ["budget", "images-changed", "zero-gradients"]


def test_what_a_few_images_do_not_prove_is_a_warning():
    """A mean above, an interval that reaches below: WARN; one photograph proves nothing."""
    base = records()
    noisy = base.copy()
    where = noisy.variant == "pgd-3@jpeg-90"
    noisy.loc[where, "mcc"] = 0.64 + np.tile([0.3, -0.3, 0.2, -0.2, 0.1, -0.1], 2)
    assert by_name(gates_of(noisy))["adaptive-beats-static"].verdict == Verdict.WARN
    single = records({"pgd-3": 0.2}).assign(source_group="one")
    assert by_name(gates_of(single))["adaptive-beats-static"].verdict == Verdict.WARN


def test_an_inverted_map_is_as_lost_as_one_that_knows_nothing():
    found = gates_of(records({"pgd-1@jpeg-90": -0.9, "pgd-3@jpeg-90": -0.5}))
    assert worst(found) == Verdict.PASS


def test_static_attacks_owe_a_defense_nothing():
    """One that never saw the defense may do less behind it with more noise, or than noise."""
    changed = {"fgsm-1": 0.52, "bim-1": 0.5, "bim-3": 0.75}
    assert worst(gates_of(records(changed))) == Verdict.PASS
    undefended = records(changed).query("threat != 'adaptive'").assign(defense="none")
    assert worst(gates_of(undefended)) == Verdict.FAIL


def test_a_gate_without_what_it_needs_is_left_out():
    few = records()
    few = few[few.variant.isin(["original", "fgsm-3", "pgd-3"])].assign(zero_gradients=math.nan)
    assert [gate.name for gate in gates_of(few)] == ["budget", "images-changed"]
    assert gates_of(few[few.attack == "original"]) == []
    undefended = by_name(gates_of(few.assign(defense="none", strength=math.nan)))
    assert list(undefended) == ["budget", "images-changed", "iterated-beats-one-step"]


def test_parts_of_an_image_are_compared_with_their_like():
    """Changing the seam alone is weaker than the whole image, and no fault."""
    seam = frame(cell("pgd-3", 0.6, defense="jpeg", strength=90.0, region="seam"))
    seam["variant"] = "pgd-3+seam"
    found = gates_of(pd.concat([records(), seam], ignore_index=True))
    assert worst(found) == Verdict.PASS


def test_one_row_a_victim_and_defense():
    other = records({"noise-3": 0.0}).assign(victim="code")
    table = gates(pd.concat([records(), other], ignore_index=True))
    assert len(table) == 2 * len(GATES)
    failed = table[table.verdict == "FAIL"]
    assert set(failed.victim) == {"code"}
    assert set(failed.gate) == {"beats-random-noise"}
    assert set(failed.page) == {"docs/gates.md#beats-random-noise"}
    assert list(gates(frame(cell("original", 0.5))).columns) == list(table.columns)


def test_every_gate_has_its_page():
    headings = re.findall(r"^## (\S+)$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(GATES) <= set(headings)
