"""The command line: what it prints, for people and for programs."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pandas as pd
import pytest

from advbench.cli.main import VERBS
from advbench.scores.records import read_records, write_merged

SIX = ["fgsm", "bim", "pgd", "mifgsm", "pgn", "cw"]


def test_help_names_every_verb(advbench_command):
    ran = advbench_command("--help")
    assert ran.code == 0
    assert all(verb in ran.out for verb in VERBS)


@pytest.mark.parametrize(
    "verb",
    [[v] for v in VERBS]
    + [["train", name] for name in ("victim", "ansm", "relocalise")]
    + [["dataset", "import"]],
)
def test_every_verb_has_help(verb, advbench_command):
    assert advbench_command(*verb, "--help").code == 0


def test_help_and_list_import_nothing_heavy():
    """What makes them quick: no torch, NumPy, pandas or pydantic."""
    code = (
        "import sys; from advbench.cli.main import main\n"
        "sys.argv = ['advbench', sys.argv[1]]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'pandas', 'pydantic') if m in sys.modules])"
    )
    for argument in ("--help", "list"):
        ran = subprocess.run(
            [sys.executable, "-c", code, argument], capture_output=True, text=True, check=True
        )
        assert ran.stdout.splitlines()[-1] == "[]"


def test_list_is_readable_by_a_program(advbench_command):
    found = json.loads(advbench_command("list", "--json").out)
    assert list(found["attacks"])[:6] == SIX
    assert {"apgd", "ensemble", "square", "noise"} <= set(found["attacks"])
    every = ["none", "jpeg", "resize", "median", "gaussian", "ansm", "ansm-multi", "relocalise"]
    assert list(found["defenses"]) == every
    assert "ifosn" in found["victims"]
    assert json.loads(advbench_command("list", "victims", "--json").out).keys() == {"victims"}


def test_generate_evaluate_verify(imported, toy, advbench_command):
    """Import, attack, defend, score, verify: by the command line alone, in JSON."""
    arguments = ("--attack", "fgsm,bim", "--eps", "1,3", "--dataset", "mine", "--out", imported)
    made = json.loads(advbench_command("generate", *arguments, *toy, "--json").out)
    assert made[0]["made"] == 5 * 4
    plugin = toy[:2]
    ran = advbench_command(
        "evaluate",
        "--defense",
        "jpeg,median",
        "--quality",
        75,
        "--out",
        imported,
        *plugin,
        "--json",
    )
    scored = json.loads(ran.out)
    assert scored["scored"] == 5 * 5 * (1 + 1 + 3)
    rows = pd.DataFrame(scored["table"])
    assert set(rows.attack) == {"original", "fgsm", "bim"}
    assert (rows[(rows.attack == "original") & (rows.defense == "none")].rp == 100).all()
    assert scored["floors"][0]["all_zeros"] == 0
    long = pd.read_csv(imported / "tables" / "long.csv")
    assert len(long) == 5 * 5 + 2 * 5
    assert len(rows) == len(long)
    sound = json.loads(advbench_command("verify", "--out", imported, "--json").out)
    assert (sound["problems"], sound["images"]) == ([], 5 + 20)


def test_printed_table_names_the_weights_and_floors(imported, toy, advbench_command):
    arguments = ("--attack", "fgsm", "--eps", "2", "--dataset", "mine", "--out", imported)
    advbench_command("generate", *arguments, *toy)
    ran = advbench_command("evaluate", "--out", imported, *toy[:2])
    assert "random:0" in ran.out
    assert re.search(r"all authentic +0\.000 +0\.000", ran.out)
    assert re.search(r"all forged +0\.\d{3} +0\.\d{3}", ran.out)
    assert max(map(len, ran.out.splitlines()[:-1])) <= 80
    assert "f1/v1" in ran.out
    assert "gates: 3 PASS, 0 WARN, 0 FAIL" in ran.out
    records = read_records(imported / "records")
    write_merged(
        imported / "records" / "all.parquet",
        records.assign(dataset="other", budget=1.0, source_group=records.sample_id),
    )
    ran = advbench_command("evaluate", "--out", imported, *toy[:2])
    assert "gate budget FAIL: none before toy: 5 of 5 stored images" in " ".join(ran.out.split())


def test_unlike_options_are_given_to_those_that_take_them(imported, toy, advbench_command):
    arguments = ("--attack", "bim,cw", "--eps", 2, "--steps", 20, "--dataset", "mine")
    ran = advbench_command("generate", *arguments, "--out", imported, *toy, "--json")
    assert json.loads(ran.out)[0]["made"] == 10


def test_dataset_check_decodes_everything(imported, pictures, advbench_command):
    assert "5 images" in advbench_command("dataset", "check", "mine", "--out", imported).out
    mask = pictures / "masks" / "photo2.png"
    mask.write_bytes((pictures / "masks" / "photo1.png").read_bytes())
    assert advbench_command("dataset", "check", "mine", "--out", imported).code == 2


def test_doctor_reports_on_everything(tmp_path, advbench_command):
    ran = advbench_command("doctor", "--out", tmp_path / "new", "--json")
    found = {item["what"]: item for item in json.loads(ran.out)}
    assert {"python", "torch", "devices", "victim ifosn", "photographs", "cache"} <= found.keys()
    assert ran.code == int(not all(item["ok"] for item in found.values()))
