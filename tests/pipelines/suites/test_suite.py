"""Suites: what a TOML file may say, and what is answered where it says something else."""

from __future__ import annotations

import pytest

from advbench.errors import AdvbenchError
from advbench.pipelines.suites.suite import Suite, read_suite, shipped_suites

TEXT = """
schema = "advbench.suite/1"
title = "a test"
datasets = ["builtin", "mine"]
limit = 3
profile = "original"

[victims.ifosn]
weights = "checkpoints/ifosn.pth"
[victims.code]

[attacks.bim]
eps = [2]
[attacks.cw]
steps = [7, 9]
variant = "hinge"

[defenses.jpeg]
quality = 60
[defenses.ansm]
weights = ["ansm.safetensors"]
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> str:
        (tmp_path / "mine.toml").write_text(text)
        return str(tmp_path / "mine.toml")

    return write


def test_every_setting_arrives(write, tmp_path):
    suite = read_suite(write(TEXT))
    bim, cw, noise = suite.build_attacks()
    assert (bim.eps, bim.alpha, cw.steps, cw.variant) == ((2,), "eps/T", (7, 9), "hinge")
    assert (noise.name, noise.eps) == ("noise", (2,))
    jpeg, ansm = suite.build_defenses()
    assert jpeg.quality == (60,)
    # What is named in a file lies beside it; what is not named is built in.
    assert suite.victims["ifosn"].weights == str(tmp_path / "checkpoints" / "ifosn.pth")
    assert suite.victims["code"].weights == "builtin"
    assert ansm.weights == (str(tmp_path / "ansm.safetensors"),)


def test_a_part_of_a_suite(write):
    suite = read_suite(write(TEXT))
    part = suite.narrowed(
        ["mine"], ["code"], 1, {"code": "own.pt"}, ansm_weights=["net.safetensors"]
    )
    assert (part.datasets, list(part.victims), part.limit) == (("mine",), ["code"], 1)
    assert part.victims["code"].weights == "own.pt"
    assert part.defenses["ansm"]["weights"] == ("net.safetensors",)
    assert part.defenses["jpeg"] == {"quality": 60}
    assert suite.narrowed() == suite
    assert suite.narrowed().sha256 == suite.sha256 != part.sha256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("advbench.suite/1", "advbench.suite/2"), "mine.toml: schema: "),
        (("limit = 3", "limit = 0"), "mine.toml: limit: "),
        (("limit = 3", "limits = 3"), "mine.toml: limits: "),
        (("limit = 3", "limit ="), "no TOML file"),
        (("attacks.bim", "attacks.bmi"), "unknown attack 'bmi'; did you mean bim"),
        (("victims.code", "victims.coda"), "unknown victim 'coda'; did you mean code"),
        (("defenses.jpeg", "defenses.jpg"), "unknown defense 'jpg'; did you mean jpeg"),
        (('["builtin", "mine"]', "[]"), "mine.toml: datasets: "),
    ],
)
def test_what_is_not_valid_is_named(write, change, message):
    with pytest.raises(AdvbenchError, match=r"mine\.toml") as caught:
        read_suite(write(TEXT.replace(*change)))
    assert message in str(caught.value)


def test_an_unknown_suite_answers_with_the_nearest():
    with pytest.raises(AdvbenchError, match="did you mean paper"):
        read_suite("papers")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"datasets": ["casiav1"]}, "--dataset casiav1: not in this suite; it has builtin, mine"),
        ({"victims": ["hdfnet"]}, "--victim hdfnet"),
    ],
)
def test_a_part_that_is_none(write, names, message):
    with pytest.raises(AdvbenchError, match=message):
        read_suite(write(TEXT)).narrowed(**names)


def test_no_network_for_a_suite_without_ansm(write):
    text = TEXT[: TEXT.index("[defenses.ansm]")]
    with pytest.raises(AdvbenchError, match="no defense ansm"):
        read_suite(write(text)).narrowed(ansm_weights=["x"])


def test_shipped_suites_are_valid():
    folder = shipped_suites()["paper"].parent
    assert {path.stem for path in folder.iterdir()} == shipped_suites().keys()
    suites = {name: read_suite(name) for name in shipped_suites()}
    for suite in suites.values():
        assert suite.build_attacks()
        suite.build_defenses()
    paper: Suite = suites["paper"]
    # The paper's grid: 20 variants, four victims, four datasets.
    assert sum(len(attack.intensities) for attack in paper.build_attacks()) == 20 + 3
    assert (len(paper.victims), len(paper.datasets)) == (4, 4)
    assert [defense.name for defense in paper.build_defenses()] == ["ansm"]
