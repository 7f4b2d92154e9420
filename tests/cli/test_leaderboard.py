"""``leaderboard build`` and ``reproduce`` as commands."""

from __future__ import annotations

import io
import json

import pandas as pd
import pytest

TINY = [f"--set={pair}" for pair in ("crop=32", "batch=2", "epochs_first=1", "epochs_mgr=1")]


@pytest.fixture
def scored(toy, imported, advbench_command):
    data = ("--dataset", "mine", "--out", imported)
    assert advbench_command("generate", "--attack", "fgsm", "--eps", "1,3", *data, *toy).code == 0
    command = ("evaluate", "--defense", "median,jpeg", "--kernel", 3, "--quality", 80, *toy[:2])
    assert advbench_command(*command, "--out", imported).code == 0
    return imported


def test_build_and_rebuild(scored, tmp_path, advbench_command):
    """The CSV follows from the tables of evaluate, and from the records written with it."""
    ran = advbench_command("leaderboard", "build", "--out", scored, "--with-records")
    assert ran.code == 0, ran.err
    folder = scored / "leaderboard"
    assert ran.out.endswith(f"leaderboards in {folder}\n")
    board = pd.read_csv(folder / "mine-static.csv").set_index("defense")
    long = pd.read_csv(scored / "tables" / "long.csv")
    for defense in ("none", "jpeg", "median"):
        rp = long[(long.attack == "fgsm") & (long.defense == defense)].rp
        assert len(rp) == 2
        assert board.fgsm_rp[defense] == pytest.approx(rp.mean(), abs=0.011)
    comparable = board[board.complete]
    assert set(comparable.index) == {"none", "jpeg", "median"}
    shown = (comparable["rank"].isna(), -comparable.worst_mcc)
    assert list(zip(*shown, strict=True)) == sorted(zip(*shown, strict=True))
    assert max(map(len, ran.out.splitlines()[:-1])) <= 80

    again = tmp_path / "again"
    records = ("--records", folder / "mine-static.parquet", "--to", again)
    ran = advbench_command("leaderboard", "build", *records, "--json")
    assert (again / "mine-static.csv").read_bytes() == (folder / "mine-static.csv").read_bytes()
    assert not (again / "mine-static.parquet").exists()
    told = json.loads(ran.out)["mine-static"]
    assert [row["defense"] for row in told] == list(board.index)


def test_tuned_on_another_dataset(scored, tmp_path, advbench_command):
    from advbench.scores.records import read_records, write_merged

    every = read_records(scored / "records")
    other = every.assign(dataset="others")
    write_merged(tmp_path / "both.parquet", pd.concat([every, other], ignore_index=True))
    told = ("--records", tmp_path / "both.parquet", "--to", tmp_path / "tuned")
    ran = advbench_command("leaderboard", "build", *told, "--tuned-on", "others")
    assert ran.code == 0, ran.err
    assert [path.name for path in (tmp_path / "tuned").iterdir()] == ["mine-static.csv"]
    ran = advbench_command("leaderboard", "build", *told, "--tuned-on", "mien")
    assert ran.code == 2
    assert "--tuned-on mien: no records of it; there are mine, others" in ran.err
    ran = advbench_command("leaderboard", "build", "--out", scored, "--tuned-on", "mine")
    assert ran.code == 2
    assert "--tuned-on mine: there are no records of another dataset" in ran.err


def test_what_is_missing_is_named_with_the_command_that_fills_it(scored, toy, advbench_command):
    """An attack that one defense alone has met takes the ranks of the others, and says so."""
    data = ("--dataset", "mine", "--out", scored)
    assert advbench_command("generate", "--attack", "bim", "--eps", 2, *data, *toy).code == 0
    command = ("evaluate", "--defense", "median", "--kernel", 3, *toy[:2], "--out", scored)
    assert advbench_command(*command).code == 0
    ran = advbench_command("leaderboard", "build", "--out", scored)
    assert "jpeg 80 before toy has not met bim-2 (5 images); fill it with:" in ran.out
    fill = "advbench evaluate --victim toy --dataset mine --defense jpeg --set quality=80"
    assert f"  {fill}\n" in ran.out
    assert advbench_command(*fill.split()[1:], *toy[:2], "--out", scored).code == 0
    ran = advbench_command("leaderboard", "build", "--out", scored)
    assert "has not met" not in ran.out


def test_attacks_through_a_defense_are_asked_of_all_and_the_commands_make_them(
    scored, toy, advbench_command
):
    """With one adaptive attack the name loses its ``static``, and no other row its remedy."""
    data = ("--dataset", "mine", "--out", scored)
    attack = ("generate", "--attack", "fgsm", "--eps", "1,3", *data, *toy)
    assert advbench_command(*attack, "--through", "median-3").code == 0
    command = ("evaluate", "--defense", "median", "--kernel", 3, *toy[:2], "--out", scored)
    assert advbench_command(*command).code == 0
    ran = advbench_command("leaderboard", "build", "--out", scored)
    told = "jpeg 80 before toy has not met fgsm-1 through it (5 images), fgsm-3 through it"
    assert told in ran.out
    printed = [line.strip() for line in ran.out.splitlines() if line.startswith("  advbench ")]
    assert [line.split()[1] for line in printed] == ["generate", "evaluate"]
    for line in printed:
        weights = toy[4:] if line.startswith("advbench generate") else ()
        ran = advbench_command(*line.split()[1:], *toy[:2], *weights, "--out", scored)
        assert ran.code == 0, ran.err
    ran = advbench_command("leaderboard", "build", "--out", scored)
    assert "has not met" not in ran.out
    board = pd.read_csv(scored / "leaderboard" / "mine.csv").set_index("defense")
    assert board.complete[["none", "jpeg", "median"]].all()
    assert board.fgsm_adaptive_rp[["jpeg", "median"]].notna().all()
    assert pd.isna(board.fgsm_adaptive_rp["none"])
    wide = pd.read_csv(scored / "tables" / "mine.csv")
    assert set(wide.defense[wide.threat == "adaptive"]) == {"jpeg", "median"}


def test_no_records(tmp_path, advbench_command):
    ran = advbench_command("leaderboard", "build", "--out", tmp_path)
    assert ran.code == 2
    assert "no records there; make some with advbench evaluate" in ran.err


def test_reproduce(toy, imported, advbench_command):
    split = ("--train", 0.6, "--val", 0.2, "--out", imported)
    assert advbench_command("dataset", "split", "mine", *split).out == "3 train, 1 val, 1 test\n"
    plugin, victim = toy[:2], toy[2:4]
    victim = (*victim, "--weights", "toy=random", "--size", "small")
    data = ("--out", imported, "--dataset", "mine")
    command = ("reproduce", "table5", *plugin, *victim, *data, *TINY)
    ran = advbench_command(*command)
    assert ran.code == 0, ran.err
    path = imported / "reproduce" / "table5-toy.csv"
    assert ran.out.endswith(f"table: {path}\n")
    assert max(map(len, ran.out.splitlines()[:-1])) <= 80
    table = pd.read_csv(path)
    assert list(table.strategy.unique()) == ["none", "pwr", "ffa"]
    assert not (imported / "shards" / "mine-train").exists()
    ran = advbench_command(*command, "--json")
    told = pd.read_json(io.StringIO(ran.out))
    assert list(told.f1.round(4)) == list(table.f1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("table7", "no such command 'table7'; "),
        ("table4 --weights ifosn", "--weights ifosn: give VICTIM=PATH, VICTIM of"),
        (
            "table4 --weights hdfnet=x",
            "--weights hdfnet=x: give VICTIM=PATH, VICTIM of",
        ),
        ("table4 --ansm-weights x", "table4 trains its own networks: --ansm-weights is"),
        ("table3 --set crop=32", "table3 trains nothing: --set, --start and --train-dataset are"),
        ("table5 --dataset nothing", "unknown dataset 'nothing'"),
        ("table5 --victim coed", "unknown victim 'coed'"),
        ("fig3 --defense jpeg", "fig3 has no defenses; --defense is for fig4, fig7 and fig8"),
        ("fig4 --defense ansm", "fig4 is of filters: --defense takes jpeg, resize"),
        ("fig7 --attack nothing", "nothing"),
        ("fig9", "no such command 'fig9'; "),
    ],
)
def test_bad_input(arguments, told, tmp_path, advbench_command):
    ran = advbench_command("reproduce", *arguments.split(), "--out", tmp_path)
    assert ran.code == 2
    assert told in ran.err
    assert ran.err.count("\n") == 1


def test_figures(toy, imported, advbench_command):
    """Files beside each other, resumed without a pass; and numbers as JSON."""
    plugin, victim = toy[:2], ("--victim", "toy", "--weights", "toy=random")
    data = ("--dataset", imported / "datasets" / "mine", "--out", imported)
    command = ("reproduce", "fig7", *plugin, *victim, *data, "--limit", 1)
    ran = advbench_command(*command, "--attack", "fgsm", "--defense", "jpeg-70")
    assert ran.code == 0, ran.err
    for ending in ("png", "pdf", "csv"):
        assert (imported / "reproduce" / f"fig7-toy.{ending}").is_file()
    variants = (imported / "shards" / "mine" / "toy").iterdir()
    assert {path.name for path in variants} == {"fgsm-3"}
    ran = advbench_command(*command, "--attack", "fgsm", "--defense", "jpeg-70", "--json")
    assert [one["defense"] for one in json.loads(ran.out)] == ["none", "none", "jpeg-70", "jpeg-70"]
