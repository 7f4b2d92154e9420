"""``advbench plan`` and ``advbench run`` as a user has them."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from advbench.cli.suite import _processes
from advbench.engines.local import Local
from advbench.engines.ray import Ray

from .conftest import columns

SUITE = """
schema = "advbench.suite/1"
title = "a test"
datasets = ["mine"]
[victims.toy]
weights = "random"
[attacks.bim]
iterations = 3
[attacks.fgsm]
[defenses.median]
kernel = [3]
"""

PLUGIN = ("--plugin", "toy_victim:ToyVictim")


@pytest.fixture
def suite(tmp_path, toy):
    path = tmp_path / "mine.toml"
    path.write_text(SUITE)
    return path


def test_plan_then_run_then_nothing_is_left(advbench_command, suite, imported):
    planned = advbench_command("plan", suite, *PLUGIN, "--out", imported, "--json")
    assert planned.code == 0, planned.err
    plan = json.loads(planned.out)
    assert (plan["gradients"], plan["forwards"]) == (5 * (9 + 1), 5 * 10 * 2)
    ran = advbench_command("run", suite, *PLUGIN, "--out", imported)
    assert ran.code == 0, ran.err
    assert "45 adversarial images made, 100 scored" in ran.out
    assert (imported / "tables" / "mine.csv").is_file()
    report = json.loads((imported / "suites" / "mine.json").read_text())
    (first,) = report["runs"]
    assert first["took"]["gradients"] == first["planned"]["gradients"] == 50
    again = advbench_command("run", suite, *PLUGIN, "--out", imported, "--json")
    took = json.loads(again.out)["took"]
    assert (took["made"], took["scored"], took["bytes"]) == (0, 0, 0)
    report = json.loads((imported / "suites" / "mine.json").read_text())
    assert report["runs"] == [first, report["runs"][1]]
    assert report["runs"][1]["took"] == took
    shown = advbench_command("plan", suite, *PLUGIN, "--out", imported)
    assert "can finish: 0 units" in shown.out
    path = imported / "suites" / "mine.json"
    path.write_text(path.read_text().replace('"gradients": 50', '"gradients": 51'))
    ran = advbench_command("run", suite, *PLUGIN, "--out", imported)
    assert ran.code == 2
    assert "mine.json: damaged; move it away" in ran.err


def test_a_plan_that_cannot_finish_ends_with_one(advbench_command, suite, imported, pictures):
    (pictures / "images" / "photo1.png").unlink()
    planned = advbench_command("plan", suite, *PLUGIN, "--out", imported)
    assert planned.code == 1
    assert "images/photo1.png" in columns(planned.out)[-1]
    assert "cannot finish (1 fault)" in planned.out
    ran = advbench_command("run", suite, *PLUGIN, "--out", imported)
    assert ran.code == 2
    assert "photo1.png" in ran.err.splitlines()[-1]
    assert not (imported / "shards").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--victim", "code"), "--victim code: not in this suite; it has toy"),
        (("--weights", "code=x.pt"), "--weights code=x.pt: give VICTIM=PATH, VICTIM of toy"),
        (("--weights", "toy=none.pt"), "none.pt: no such weights file"),
        (("--ansm-weights", "x"), "no defense ansm"),
    ],
)
def test_options_that_do_not_fit(advbench_command, suite, imported, options, *, message):
    ran = advbench_command("run", suite, *PLUGIN, "--out", imported, *options)
    assert ran.code == 2
    assert message in ran.err.splitlines()[-1]


@pytest.fixture
def _ray_ends():
    """The cluster that a command starts lasts as long as its process."""
    yield
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


@pytest.mark.usefixtures("_ray_ends")
@pytest.mark.parametrize("engine", [("--workers", "2"), ("--engine", "ray", "--workers", "2")])
def test_engines_give_the_same(advbench_command, suite, imported, tmp_path, *, monkeypatch, engine):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
    found = {}
    for name, options in (("here", ()), ("there", engine)):
        out = tmp_path / name
        shutil.copytree(imported / "datasets", out / "datasets")
        ran = advbench_command("run", suite, *PLUGIN, "--out", out, "--json", *options)
        assert ran.code == 0, ran.err
        verified = advbench_command("verify", "--out", out, "--json")
        took = json.loads(ran.out)["took"]
        found[name] = (
            json.loads(verified.out)["content_sha256"],
            json.loads(ran.out)["table"],
            (took["made"], took["gradients"], took["scored"]),
        )
    assert found["here"] == found["there"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--engine", "ray", "--workers", "2", "--address", "auto"), "--workers: the cluster at"),
        (("--address", "auto"), "--address is for --engine ray"),
        (("--engine", "ray", "--address", "127.0.0.1:1"), "--address 127.0.0.1:1: no Ray cluster"),
    ],
)
def test_options_of_the_other_engine(advbench_command, suite, imported, options, *, message):
    ran = advbench_command("run", suite, *PLUGIN, "--out", imported, *options)
    assert ran.code == 2
    assert message in ran.err.splitlines()[-1]


def test_workers_that_share_this_machine():
    engines = [Local(), Local(3), Ray(workers=4), Ray(), Ray(address="auto")]
    assert [_processes(engine) for engine in engines] == [1, 3, 4, os.cpu_count(), 1]
