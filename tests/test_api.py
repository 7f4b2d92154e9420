"""The public functions: the same work, options and messages as on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import advbench
from advbench.attacks import FGSM, PGD
from advbench.cli.tables import write_tables
from advbench.defenses.jpeg import JPEG
from advbench.pipelines.suites.suite import shipped_suites
from advbench.scores.records import read_records

from .attacks.toys import pictures as toy_pictures
from .pipelines.conftest import ToyVictim, _make


@pytest.fixture
def toy() -> ToyVictim:
    return _make(ToyVictim, 3)


@pytest.fixture
def manifest(small_dataset, tmp_path: Path) -> str:
    return str(tmp_path / "imported")


def evaluated(toy: ToyVictim, manifest: str, out: Path, **options) -> advbench.Evaluation:
    return advbench.evaluate(
        toy,
        dataset=manifest,
        attacks=["fgsm", PGD(eps=(2,), iterations=2)],
        defenses=["jpeg"],
        settings={"eps": [1, 3], "quality": [70, 90]},
        out=out,
        quiet=True,
        **options,
    )


def test_everything_public_is_there() -> None:
    for name in advbench.__all__:
        assert getattr(advbench, name) is not None
    assert issubclass(PGD, advbench.Attack)
    assert {"pgd", "cw"} <= set(advbench.list_attacks())
    assert {"ifosn", "code"} <= set(advbench.list_victims())
    assert {"none", "ansm"} <= set(advbench.list_defenses())
    assert set(advbench.list_suites()) == set(shipped_suites())


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, advbench, advbench.attacks; print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "False"


def test_generate_then_evaluate_of_a_victim_at_hand(toy, manifest, tmp_path) -> None:
    found = evaluated(toy, manifest, tmp_path / "out", limit=3)
    records = found.records
    variants = {"original", "fgsm-1", "fgsm-3", "pgd-2"}
    assert set(records.variant) == variants
    assert set(zip(records.defense, records.strength.fillna(0), strict=True)) == {
        ("none", 0),
        ("jpeg", 70),
        ("jpeg", 90),
    }
    assert len(records) == 3 * len(variants) * 3
    table = found.table()
    assert {"fgsm_f1", "pgd_rp", "original_f1"} <= set(table.columns)
    undefended = records[(records.variant == "pgd-2") & (records.defense == "none")]
    row = table[table.defense == "none"].iloc[0]
    assert row["pgd_f1"] == pytest.approx(undefended.f1.mean())
    again = evaluated(toy, manifest, tmp_path / "out", limit=3)
    assert again.counts.scored == 0
    pd.testing.assert_frame_equal(again.records, records)


def test_records_of_other_work_in_the_same_folder_are_left_out(toy, manifest, tmp_path) -> None:
    first = evaluated(toy, manifest, tmp_path / "out", limit=2)
    more = evaluated(toy, manifest, tmp_path / "out")
    assert set(first.records.sample_id) < set(more.records.sample_id)
    everything = read_records(tmp_path / "out" / "records")
    assert len(everything) == len(more.records)


def test_pictures_of_a_result(toy, manifest, tmp_path) -> None:
    found = evaluated(toy, manifest, tmp_path / "out", limit=2)
    shown = found.show(1)
    titles = {axis.get_title() for axis in shown.axes}
    assert {"mask", "image", "undefended", "behind jpeg-70", "behind jpeg-90"} <= titles
    drawn = found.figure()
    (axes,) = drawn.axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["fgsm", "pgd"]
    with pytest.raises(IndexError):
        found.show(2)


def test_a_result_prints_as_evaluate_does(toy, manifest, tmp_path, capsys) -> None:
    found = evaluated(toy, manifest, tmp_path / "out", limit=2)
    write_tables(tmp_path / "out").show()
    assert capsys.readouterr().out == str(found)
    undefended = found.records.query("defense == 'none' and attack == 'pgd'")
    assert f"{undefended.f1.mean():.3f}" in str(found)


def test_the_same_bytes_as_on_the_command_line(
    toy, manifest, tmp_path, advbench_command, *, monkeypatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "cli"))
    ran = advbench_command(
        *("generate", "--plugin", "toy_victim:ToyVictim", "--victim", "toy"),
        *("--weights", "random", "--attack", "fgsm", "--eps", "2", "--dataset", manifest),
        *("--out", tmp_path / "line"),
    )
    assert ran.code == 0, ran.err
    advbench.generate(
        "toy",
        "fgsm",
        settings={"eps": 2},
        weights="random",
        dataset=manifest,
        out=tmp_path / "python",
        quiet=True,
    )
    ids = {}
    for where in ("line", "python"):
        ran = advbench_command("verify", "--out", tmp_path / where, "--json")
        assert ran.code == 0, ran.err
        ids[where] = json.loads(ran.out)["content_sha256"]
    assert ids["line"] == ids["python"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: advbench.generate("ifosm", "pgd"), "did you mean ifosn"),
        (lambda: advbench.generate("ifosn", "pdg"), "did you mean pgn, pgd"),
        (
            lambda: advbench.generate("ifosn", "pgd", settings={"esp": 3}),
            "esp: no setting of pgd; there are alpha, eps",
        ),
        (lambda: advbench.generate("ifosn", "pgd", limits=3), "limits: unknown; there are victims"),
        (lambda: advbench.generate("ifosn", "pgd", limit=0), "generate: limit: input should be"),
        (
            lambda: advbench.generate(["ifosn", "code"], "pgd", weights="x.pth"),
            "weights belong to one victim",
        ),
        (lambda: advbench.generate((), "pgd"), "give at least one victim and one attack"),
        (lambda: advbench.evaluate(defenses="jpg"), "did you mean jpeg"),
        (lambda: advbench.evaluate(protocols="f1/v1"), "protocols: unknown; there are defenses"),
        (lambda: advbench.train_victim("ifosn", epochs=3), "epochs: unknown; there are victim"),
        (lambda: advbench.train_ansm("ifosn", limit=0), "train_ansm: limit: input should be"),
    ],
)
def test_bad_input_is_one_line(call, message) -> None:
    with pytest.raises(advbench.AdvbenchError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_attack_without_ids_takes_the_pixels(toy) -> None:
    """A random start depends on the pixels alone, wherever the image stands."""
    batch = toy_pictures(3)
    attack = PGD(eps=(2,), iterations=1)
    together = attack(toy, batch.images, batch.masks)["pgd-2"]
    alone = attack(toy, batch.images[2:], batch.masks[2:])["pgd-2"]
    assert torch.equal(together[2:], alone)
    twice = attack(toy, batch.images[[0, 0]], batch.masks[[0, 0]])["pgd-2"]
    assert torch.equal(twice[0], twice[1])


def test_float_images_are_rounded_first(toy) -> None:
    batch = toy_pictures(2)
    floats = (batch.images.float() + 0.3) / 255
    expected = FGSM()(toy, batch.images, batch.masks)
    found = FGSM()(toy, floats.clamp(0, 1), batch.masks)
    assert all(torch.equal(found[name], images) for name, images in expected.items())
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        FGSM()(toy, batch.images.float(), batch.masks)


def test_a_victim_is_called_for_probabilities(toy) -> None:
    images = toy_pictures(2).images
    found = toy(images)
    assert torch.equal(found, torch.sigmoid(toy.logits(images.float() / 255)))
    assert torch.equal(found, toy(images.float() / 255))


def test_a_wrapped_module_goes_through_all_of_it(manifest, tmp_path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 1, 1))
    victim = advbench.wrap(module, side=32)
    found = advbench.evaluate(
        victim, dataset=manifest, attacks=FGSM(), out=tmp_path / "out", quiet=True
    )
    assert set(found.records.variant) == {"original", "fgsm-1", "fgsm-2", "fgsm-3"}
    with pytest.raises(advbench.AdvbenchError):
        advbench.load_defense("ansm", victim=victim)


def test_the_default_collate_stacks_what_was_generated(toy, manifest, tmp_path) -> None:
    out = tmp_path / "out"
    advbench.generate(toy, FGSM(eps=(1,)), dataset=manifest, limit=2, out=out, quiet=True)
    dataset = advbench.open_dataset(out)
    (batch,) = DataLoader(dataset, batch_size=2)
    assert batch["image"].shape == batch["original"].shape == (2, 40, 48, 3)
    assert batch["mask"].shape == (2, 40, 48)
    assert batch["variant"] == ["fgsm-1", "fgsm-1"]
    change = batch["image"].int() - batch["original"].int()
    assert change.abs().max() == 1


def test_masks_at_the_size_of_the_image_or_their_own(manifest, tmp_path) -> None:
    from .pipelines.conftest import SquareVictim

    out = tmp_path / "out"
    advbench.generate(
        _make(SquareVictim, 3), FGSM(eps=(1,)), dataset=manifest, limit=1, out=out, quiet=True
    )
    (item,) = advbench.open_dataset(out)
    (native,) = advbench.open_dataset(out, native_masks=True)
    assert item["mask"].shape == (32, 32)
    assert native["mask"].shape == (40, 48)
    assert item["mask"].dtype == np.bool_


def test_a_leaderboard_of_the_records(toy, manifest, tmp_path) -> None:
    evaluated(toy, manifest, tmp_path / "out", limit=2)
    (board,) = advbench.leaderboard(tmp_path / "out").values()
    assert {"none", "jpeg"} <= set(board.defense)


class Tiny(nn.Module):
    pass


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"attacks": PGD}, "attacks: give PGD(), not the class"),
        ({"attacks": ["fgsm", PGD]}, "attacks: give PGD(), not the class"),
        ({"attacks": {PGD: {}}}, "attacks: give settings by name"),
        ({"attacks": {"pgd": 3}}, "attacks: give settings by name"),
        ({"attacks": None}, "attacks: give a name or an Attack, not type NoneType"),
        ({"attacks": JPEG()}, "attacks: give a name or an Attack, not type JPEG"),
        ({"defenses": JPEG}, "defenses: give JPEG(), not the class"),
        ({"defenses": [75]}, "defenses: give a name or a Defense, not type int"),
        ({"victims": ToyVictim}, "victims: give ToyVictim.load(), not the class"),
        ({"victims": Tiny}, "victims: wrap the module: advbench.wrap(Tiny()), not the class Tiny"),
        ({"victims": Tiny()}, "victims: wrap the module: advbench.wrap(module), here"),
        ({"victims": nn.Sequential(Tiny())}, "victims: wrap the module: advbench.wrap(module)"),
    ],
    ids=str,
)
def test_classes_and_modules_in_place_of_objects(given, said: str, tmp_path) -> None:
    with pytest.raises(advbench.AdvbenchError) as caught:
        advbench.evaluate(**({"victims": "code", "out": tmp_path} | given))
    assert str(caught.value).startswith(said)
    if "defenses" not in given:
        with pytest.raises(advbench.AdvbenchError) as caught:
            advbench.generate(**({"victims": "code", "attacks": "fgsm", "out": tmp_path} | given))
        assert str(caught.value).startswith(said)
    assert not list(tmp_path.iterdir())


def test_wrapping_and_loading_a_class() -> None:
    with pytest.raises(advbench.AdvbenchError, match=r"^wrap: give a torch module, .*class Tiny$"):
        advbench.wrap(Tiny)  # type: ignore[arg-type]
    with pytest.raises(advbench.AdvbenchError, match=r"^attack: give a name, not <class"):
        advbench.load_attack(PGD)  # type: ignore[arg-type]
