"""The scripts of benchmarks/ run, at tiny settings, and measure what they say."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from sklearn.metrics import f1_score
from torch import nn

import advbench
from advbench.victims.code.victim import CoDE
from advbench.victims.weights import Weights

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    """Import a script by name."""

    def load(name: str) -> ModuleType:
        specification = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(specification)
        monkeypatch.setitem(sys.modules, name, module)
        specification.loader.exec_module(module)
        return module

    return load


def run(module: ModuleType, *arguments: object):
    """What ``--json`` prints."""
    ran = CliRunner().invoke(module.main, [*map(str, arguments), "--json"])
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)


def test_victim_speed(script, tmp_path):
    table = tmp_path / "speed.csv"
    arguments = ["--size", "small", "--repeats", 1, "--threads", 1, "--csv", table]
    arguments += ["--victim", "ifosn", "--side", 96, "--side", 480, "--batch", 1, "--batch", 3]
    every = run(script("victim_speed"), *arguments)
    assert [(row["victim"], row["side"], row["batch"], row["threads"]) for row in every] == [
        ("ifosn", side, batch, 1) for side in (96, 480) for batch in (1, 3)
    ]
    assert every[3]["both_peak_mib"] > 2 * every[2]["both_peak_mib"]
    rows = every[::2]
    network = advbench.load_victim("ifosn", size="small", weights=None).network
    assert rows[0]["parameters"] == sum(p.numel() for p in network.parameters())
    assert 1 < rows[0]["network_mib"] < 100
    # 25 times the pixels; what this process holds is no part of it.
    assert rows[1]["both_peak_mib"] > 4 * rows[0]["both_peak_mib"]
    for row in rows:
        assert 0 < row["forward_ms"] < row["both_ms"]
        assert 0 < row["forward_peak_mib"] < row["both_peak_mib"] < 1000
    assert len(table.read_text().splitlines()) == 5


def test_victim_robustness(script, small_dataset, tmp_path):
    """F1 against scikit-learn; an oracle that removes noise gives back what attacks took."""
    rows = small_dataset.select("test", label=1)[:2]
    arguments = ("--victim", "ifosn", "--dataset", tmp_path / "imported", "--limit", 2)
    options = ("--attacked", 1, "--oracle", "--csv", tmp_path / "table.csv")
    found = {row["what"]: row for row in run(script("victim_robustness"), *arguments, *options)}
    victim = advbench.load_victim("ifosn")
    expected = []
    for row in rows:
        x = torch.from_numpy(small_dataset.image(row).copy()).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            forged = victim.probabilities(x)[0, 0].numpy() > victim.threshold
        expected.append(f1_score(small_dataset.mask(row).ravel(), forged.ravel()))
    assert found["F1"]["percent"] == pytest.approx(100 * np.mean(expected), abs=0.06)
    assert found["RP, noise 5"]["n"] == 2
    assert found["RP, pgd-3, 0.1 of its noise"]["n"] == 1
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 1 + len(found)


TINY = ("--limit", 1, "--directions", 1)


def test_masked_gradients(script, small_dataset, tmp_path):
    """A victim that masks nothing: exact derivatives, and a loss that rises with steps and φ."""
    module = script("masked_gradients")
    data = tmp_path / "imported"
    sweeps = ("--phi", 1, "--phi", 3, "--steps", 1, "--steps", 10)
    found = run(module, "--victim", "ifosn", "--dataset", data, *TINY, *sweeps)
    row = small_dataset.rows[0]
    assert found["sample_ids"] == [row.sample_id]

    victim = advbench.load_victim("ifosn")
    x = torch.from_numpy(np.array(small_dataset.image(row))).permute(2, 0, 1)[None] / 255
    truth = small_dataset.mask(row)
    with torch.no_grad():
        forged = (torch.sigmoid(victim.logits(x)) > 0.5)[0, 0].numpy()
    assert found["clean"]["f1"] == pytest.approx(f1_score(truth.ravel(), forged.ravel()))

    errors = {(r["span"], r["along"]): r["worst"] for r in found["finite_differences"]}
    assert max(errors["1e-8", "sign"], errors["1e-8", "random"]) < 1e-3
    assert errors["1/255", "sign"] > 1e-3  # the loss is not linear
    weak, strong = found["phi"]
    assert found["clean"]["loss"] < weak["loss"] < strong["loss"]
    few, many = found["steps"]
    assert few["loss"] < many["loss"]
    assert {k: many[k] for k in ("f1", "loss")} == {k: strong[k] for k in ("f1", "loss")}
    assert found["transfer"][0] == {
        "source": "ifosn",
        "f1_resized": found["clean"]["f1"],
        "f1": strong["f1"],
        "f1_source": strong["f1"],
        "loss": found["transfer"][0]["loss"],
    }
    (gradients,) = found["gradients"]
    assert gradients["zero_share"] < 0.5
    assert found["signs"] == []


def test_masked_gradients_of_code(script, small_dataset, tmp_path, monkeypatch):
    """A map clipped at zero everywhere: flat, and only autograd says so."""
    monkeypatch.setitem(CoDE.working_sides, "small", 64)
    victim = advbench.load_victim("code", size="small", weights=None)
    victim.network.mu[7].bias.fill_(-5)
    torch.save(victim.network.state_dict(), tmp_path / "flat.pt")
    module = script("masked_gradients")
    weights = ("--weights", tmp_path / "flat.pt", "--size", "small")
    found = run(
        module, "--victim", "code", *weights, "--dataset", tmp_path / "imported", *TINY,
        *("--phi", 3, "--iterations", 2, "--steps", 1),
    )  # fmt: skip
    seen = {
        (r["clip"], r["margin"]): (r["zero_share"], r["zero_steps"]) for r in found["gradients"]
    }
    assert list(seen) == [(c, m) for c in ("straight-through", "autograd") for m in (0.02, 1e-6)]
    assert seen["straight-through", 0.02][0] < 0.5
    assert seen["straight-through", 0.02][1] == 0
    assert seen["autograd", 0.02] == seen["autograd", 1e-6] == (1, 1)
    errors = {
        r["clip"]: r["worst"]
        for r in found["finite_differences"]
        if r["span"] == "1e-8" and r["along"] == "sign"
    }
    assert errors == {"straight-through": 1, "autograd": 0}
    assert "ifosn" in [row["source"] for row in found["transfer"]]

    found["gradients"][0]["zero_share"] = 1
    found["gradients"][3]["loss"] *= 2
    assert module.signs(found) == [
        "100% of the gradient is exactly zero",
        "the attack is stronger with autograd, margin 1e-06",
    ]


def test_import_speed(script):
    """Every pair is imported; beside a copy of itself, every one is found to be shared."""
    row = run(script("import_speed"), "--pairs", 7, "--side", 48)
    assert (row["files"], row["imported"], row["imported_with_others"]) == (14, 7, 7)
    assert row["shared"] == 0
    assert row["shared_with_others"] >= 7
    assert row["loaded_mib"] <= row["peak_mib"] < row["loaded_mib"] + 50
    assert row["seconds"] > 0


@pytest.fixture
def _beside(monkeypatch):
    """Scripts import ``timing`` from their folder, as they do when they are run."""
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.mark.usefixtures("_beside")
def test_attack_speed(script, tmp_path):
    """Ratios are of the seconds beside them, and the grid weighs the attacks by their passes."""
    pytest.importorskip("torchattacks")
    table = tmp_path / "speed.csv"
    few = ["--iterations", 1, "--pgn-iterations", 1, "--cw-steps", 1]
    arguments = ["--victim", "ifosn", "--images", 1, "--repeats", 1, *few, "--csv", table]
    found = run(script("attack_speed"), *arguments)
    rows = found["attacks"]
    assert [row["grid_part"] for row in rows] == [3, 30, 30, 30, 30, 50]
    for row in rows:
        for name, (above, below) in script("attack_speed").RATIOS.items():
            assert row[name] == pytest.approx(row[f"{above}_s"] / row[f"{below}_s"], rel=0.05)
            assert row[f"{name}_min"] <= row[name] <= row[f"{name}_max"]
    seconds = {
        key: sum(row[f"{key}_s"] * row["grid_part"] for row in rows) for key in ("user", "exact")
    }
    whole = found["grid"]["ifosn"]["user"]
    assert whole == pytest.approx(seconds["user"] / seconds["exact"], rel=0.05)
    assert len(table.read_text().splitlines()) == 1 + len(rows)


@pytest.mark.usefixtures("_beside")
def test_plain_loops_are_the_attacks(script):
    """What the speed is compared with does the same: C&W to float order, PGN within its budget."""
    pairs = script("attack_speed").Pairs(advbench.load_victim("ifosn"), 1)
    cw = advbench.load_attack("cw").only([4])
    (result,) = cw.run(pairs.victim, pairs.images, pairs.masks, pairs.ids).values()
    ours = result.details[0].float_image
    assert (pairs.plain_cw(4, pairs.peers["user"])[0] - ours).abs().max() < 1e-5
    assert (ours - pairs.x[0]).abs().max() > 1e-4
    moved = (pairs.plain_pgn(3 / 255, 1, pairs.peers["user"]) - pairs.x).abs().max()
    assert 0 < moved <= 3 / 255 / 10 + 1e-6


@pytest.mark.usefixtures("_beside")
def test_end_to_end(script):
    rows = run(script("end_to_end"), "--images", 2, "--attack", "fgsm", "--repeats", 1)
    names = [row["what"] for row in rows]
    assert names[:3] == ["generate fgsm", "generate fgsm", "evaluate none"]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["whole_s"] / row["alone_s"], rel=0.05)


@pytest.mark.usefixtures("_beside")
def test_storage(script):
    """Reading back what was written is asserted by the script itself."""
    rows = {row["way"]: row for row in run(script("storage"), "--images", 4, "--repeats", 1)}
    assert rows["shards"]["megabytes"] < rows["PNG"]["megabytes"]
    assert rows["shards"]["megabytes"] < rows["float32 HDF5"]["megabytes"]


@pytest.mark.usefixtures("_beside")
def test_growth(script):
    rows = run(script("growth"), "--side", 64, "--repeats", 1)
    assert [row["amount"] for row in rows] == [2, 4, 8, 16, 4, 8, 16, 32, 64, 128]
    assert all(row["seconds"] > 0 for row in rows)


@pytest.mark.slow
@pytest.mark.usefixtures("_beside")
def test_engines_speed(script):
    """Equal content is asserted by the script itself."""
    rows = run(script("engines_speed"), "--images", 2, "--attack", "fgsm")
    assert len(rows) == 6


@pytest.mark.usefixtures("_beside")
def test_defense_speed(script):
    rows = {
        row["defense"]: row for row in run(script("defense_speed"), "--side", 96, "--repeats", 1)
    }
    assert {"jpeg-90", "ansm (small)", "ansm (full)"} < set(rows)
    assert rows["ansm (full)"]["parameters"] > 10 * rows["ansm (small)"]["parameters"]
    assert rows["ansm (full)"]["ms"] > rows["ansm (small)"]["ms"] > 0


@pytest.mark.usefixtures("_beside")
def test_table3_cost(script):
    """Operations of a convolution in closed form; 20 variants of 3,317 images, mostly PGN."""
    module = script("table3_cost")
    network = nn.Conv2d(3, 4, 3, padding=1, bias=False).requires_grad_(False)

    class One(CoDE):
        def logits(self, images):
            return self.network(images)[:, :1]

    found = module.counted(One(network, Weights("0" * 64, "none"), "full"), 32)
    once = 2 * 3 * 4 * 9 * 32 * 32 / 1e9
    assert (found.forward, found.both) == (once, 2 * once)
    speeds = ("--peak", 100, "--share", 1, "--fast-peak", 400, "--fast-share", 0.5)
    rows = {row["victim"]: row for row in run(module, *speeds)}
    assert rows["all"]["passes"] == 4 * 3317 * (1 + 3 * 30 + 3 * 10 * 2 * 20 + 250)
    for mode, attacks_per_second in (("exact", 0.1), ("fast", 0.2)):  # in PFLOP
        attacks = rows["code"]["pflop_attacks"] / attacks_per_second / 3600
        scores = rows["code"]["pflop_scores"] / 0.1 / 3600
        assert rows["code"][f"{mode}_hours"] == pytest.approx(attacks + scores, abs=0.06)
        one, eight = (rows["all"][f"{mode}_hours{gpus}"] for gpus in ("", "_8_gpus"))
        assert eight == pytest.approx(one / 8, abs=0.2)


@pytest.mark.usefixtures("_beside")
def test_performance_pages_are_of_the_tables(script, tmp_path, monkeypatch):
    """The committed pages are what the script makes of the committed tables."""
    module = script("performance_page")
    for page in ("PAGE", "NOTES"):
        committed = getattr(module, page).read_text(encoding="utf-8")
        monkeypatch.setattr(module, page, tmp_path / f"{page}.md")
        module.main()
        assert (tmp_path / f"{page}.md").read_text(encoding="utf-8") == committed


@pytest.mark.parametrize("name", ["adaptive_page", "table3_page"])
def test_a_page_of_records_is_of_the_committed_ones(script, name):
    ran = CliRunner().invoke(script(name).main, ["--check"])
    assert ran.exit_code == 0, ran.output


@pytest.mark.usefixtures("_beside")
def test_gpu_check(script):
    """Milliseconds become hours by the passes of the suite; what has no time is told."""
    module = script("gpu_check")
    few = ["--device", "cpu", "--size", "small", "--victim", "hdfnet", "--batch", 1, "--repeats", 1]
    (row,) = run(module, *few, "--numerics", "fast")
    # FGSM once, three attacks of 10 steps at three φ, PGN likewise by 2 × 20, C&W.
    passes = 3317 * (1 + 3 * 30 + 3 * 10 * 2 * 20 + 250)
    assert row["hours"] == pytest.approx(row["ms"] / 1000 * passes / 3600, rel=0.01)
    assert row["hours_8"] == pytest.approx(row["hours"] / 8, rel=0.01)
    assert row["repeatable"] is True
    (late,) = run(module, *few, "--numerics", "exact", "--seconds", 0)
    assert (late["note"], late["ms"]) == ("no time", "")


@pytest.mark.usefixtures("_beside")
def test_adapter_overhead(script, tmp_path):
    """A clock of convolutions, in place of seconds, sees no pass too many; gradients are equal."""
    module, table = script("adapter_overhead"), tmp_path / "overhead.csv"
    arguments = ["--side", 64, "--pairs", 2, "--memory", 1, "--csv", table]
    (row,) = run(module, *arguments)
    assert (row["victim"], row["side"], row["gradient"]) == ("wrap", 64, True)
    assert row["ratio_quarter"] <= row["ratio"] <= row["ratio_three_quarters"]
    assert len(table.read_text().splitlines()) == 2
    victim = module.wrapped()
    work = module.passes(victim, 64)
    assert torch.allclose(work["bare"](), work["victim"](), rtol=1e-5)
    done = [0]
    handles = [
        part.register_forward_hook(lambda *_: done.__setitem__(0, done[0] + 1))
        for part in victim.network.modules()
        if isinstance(part, nn.Conv2d)
    ]
    assert len(handles) > 50
    taken = sys.modules["timing"].turns(work, 3, lambda: float(done[0]))
    assert taken == {part: 3 * [len(handles)] for part in module.PARTS}


@pytest.mark.usefixtures("_beside")
def test_attack_strength(script):
    rows = run(
        script("attack_strength"),
        *("--images", 1, "--eps", 2, "--attack", "noise", "--attack", "fgsm", "--attack", "bim"),
    )
    assert [(row["attack"], row["passes"]) for row in rows] == [
        ("original", 0),
        ("noise", 0),
        ("fgsm", 1),
        ("bim iterations=20", 20),
        ("bim iterations=100", 100),
        ("the strongest, image by image", ""),
    ]
    # Of one image the strongest is the row of the lowest sum.
    sums = [row["f1_2"] + row["mcc_2"] for row in rows]
    assert sums[-1] == min(sums[1:-1]) < sums[0]
