"""Plan and run: what is counted before is what is done, whatever is there already."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from advbench.errors import AdvbenchError
from advbench.pipelines.evaluate import evaluate
from advbench.pipelines.generate import generate
from advbench.pipelines.suites import probe
from advbench.pipelines.suites.plan import make_plan, requests
from advbench.pipelines.suites.run import run
from advbench.pipelines.suites.suite import Suite
from advbench.registry import VICTIMS, Entry
from advbench.scores.records import read_records
from advbench.shards.store import ShardStore

TOY = Entry("tests.pipelines.conftest:ToyVictim", "a toy", "tests")


@pytest.fixture(autouse=True)
def _toy_is_registered(monkeypatch):
    monkeypatch.setitem(VICTIMS.entries, "toy", TOY)


with pytest.MonkeyPatch.context() as patch:
    patch.setitem(VICTIMS.entries, "toy", TOY)
    SUITE = Suite(
        schema="advbench.suite/1",
        title="a test",
        datasets=["tiny"],
        victims={"toy": {}},
        attacks={
            "fgsm": {"eps": [1, 3]},
            "pgn": {"eps": [2], "iterations": 3, "neighbours": 2},
            "cw": {"steps": [2, 5], "lr": 1e-3},
        },
        defenses={"median": {"kernel": [3, 5]}, "jpeg": {"quality": [80]}},
        shard_size=2,
    )


class Counting:
    """A victim's passes, by whether they are for a gradient."""

    def __init__(self, victim) -> None:
        self.passes = Counter()
        logits = victim.logits

        def counted(images):
            self.passes["gradient" if torch.is_grad_enabled() else "forward"] += len(images)
            return logits(images)

        victim.logits = counted


@pytest.fixture
def planned(small_dataset, toy, tmp_path):
    def plan(suite=SUITE, out=tmp_path / "out", victim=toy, **options):
        return make_plan(suite, out, lambda name: small_dataset, lambda name: victim, **options)

    return plan


@pytest.fixture
def ran(planned, small_dataset, toy, tmp_path):
    def go(suite=SUITE, out=tmp_path / "out", plan=None):
        return run(
            suite,
            "test",
            plan or planned(suite, out),
            out,
            load_dataset=lambda name: small_dataset,
            load_victim=lambda name: toy,
        )

    return go


def test_adaptive_attacks_are_planned_and_made(planned, ran, toy, tmp_path):
    """FGSM through two defenses, one of them at a strength that is not scored otherwise, and on
    authentic images too; each adaptive variant meets its own defense alone."""
    suite = SUITE.model_copy(
        update={
            "through": ("median-5", "jpeg-60"),
            "adaptive": ("fgsm",),
            "images": "all",
            "attacks": {"fgsm": {"eps": [1, 3]}},
            "limit": 1,
        }
    )
    plan, out = planned(suite), tmp_path / "out"
    counting = Counting(toy)
    took = ran(suite, out, plan)
    images = plan.stages[0].images
    # FGSM's gradient, and through each defense those of the identity and the surrogate.
    assert plan.total("gradients") == took["gradients"] == counting.passes["gradient"] == images * 5
    # Originals before none, three defenses and jpeg-60; four static variants; four adaptive ones.
    assert plan.total("forwards") == took["forwards"] == images * (5 + 4 * 4 + 4)
    records = read_records(out / "records")
    assert set(records.threat) == {"static", "adaptive"}
    assert {"fgsm-3", "noise-3", "fgsm-3@median-5", "fgsm-3@jpeg-60"} < set(records.variant)


def test_planned_passes_are_those_that_are_made(planned, small_dataset, toy, tmp_path):
    plan = planned()
    counting = Counting(toy)
    out = tmp_path / "out"
    took = run(
        SUITE,
        "test",
        plan,
        out,
        load_dataset=lambda name: small_dataset,
        load_victim=lambda name: toy,
    )
    assert plan.total("gradients") == counting.passes["gradient"] == took["gradients"]
    # Before the first pass a victim that is a plug-in is asked twice for one map.
    assert plan.total("forwards") == counting.passes["forward"] - 2 == took["forwards"]
    # Five images: one FGSM gradient each, 3 steps × 2 neighbours × 2 gradients, 5 steps of C&W.
    assert counting.passes["gradient"] == 5 * (1 + 12 + 5)
    # The originals, five variants and noise of three budgets, undefended and at three strengths.
    assert counting.passes["forward"] - 2 == 5 * 9 * 4
    shards = [
        entry
        for entry in ShardStore(out / "shards").entries()
        if entry.settings.kind != "originals"
    ]
    assert plan.total("units") == 4 * 3 + 9
    assert len(shards) == 8 * 3
    assert len(read_records(out / "records")) == took["scored"] == took["forwards"]


def test_planning_writes_nothing(planned, tmp_path):
    out = tmp_path / "out"
    assert planned(out=out).faults == []
    assert not out.exists()


def test_what_is_there_is_not_planned_again(planned, ran, small_dataset, toy, *, tmp_path):
    out = tmp_path / "out"
    making, scoring = requests(SUITE, small_dataset, toy, out)
    generate(replace(making, attacks=making.attacks[:1], rows=making.rows[:2]))
    part = planned()
    assert part.total("gradients") == 5 * (12 + 5) + 3 * 1
    ran()
    assert {name: planned().total(name) for name in ("units", "gradients", "forwards")} == {
        "units": 0,
        "gradients": 0,
        "forwards": 0,
    }
    more = SUITE.model_copy(update={"defenses": SUITE.defenses | {"gaussian": {"sigma": [2]}}})
    added = planned(more)
    assert (added.total("gradients"), added.total("units")) == (0, 9)
    took = ran(more)
    assert (took["made"], took["scored"]) == (0, 5 * 9)
    assert evaluate(scoring, lambda identity: toy).scored == 0


def test_expected_bytes_are_near_those_written(planned, ran):
    plan = planned()
    took = ran()
    # Images of 40×48 pixels: HDF5's own structures weigh as much as they do.
    assert 0.8 * took["bytes"] < plan.total("bytes") < 1.2 * took["bytes"]


def test_all_faults_are_told_at_once(planned, small_dataset, toy, tmp_path):
    (small_dataset.root / small_dataset.rows[0].image).unlink()
    (small_dataset.root / small_dataset.rows[3].mask).write_bytes(b"no image")
    (tmp_path / "file").write_text("")
    wrong = {"attacks": {"fgsm": {"epsilon": 3}}, "defenses": {"ansm": {}}, "protocol": "f2"}
    plan = planned(SUITE.model_copy(update=wrong), tmp_path / "file" / "out")
    told = {fault.where: fault.problem for fault in plan.faults}
    assert told.keys() == {"attacks", "protocol f2", "dataset tiny", f"--out {tmp_path}/file/out"}
    assert len(plan.faults) == 5
    assert "epsilon" in told["attacks"]


def test_a_defense_without_a_network_is_a_fault(planned):
    plan = planned(SUITE.model_copy(update={"defenses": {"ansm": {}}}))
    assert [fault.where for fault in plan.faults] == ["toy on tiny"]
    assert "advbench train ansm" in plan.faults[0].problem


def test_weights_that_cannot_be_loaded_are_a_fault(small_dataset, tmp_path):
    def fail(name):
        raise AdvbenchError("weights.pt: no such file")

    plan = make_plan(SUITE, tmp_path / "out", lambda name: small_dataset, fail)
    assert [(f.where, f.problem) for f in plan.faults] == [
        ("victim toy", "weights.pt: no such file")
    ]


def test_a_full_disk_is_foreseen(planned, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("", (), {"free": 1000})())
    assert [fault.where for fault in planned().faults] == ["disk"]


def test_too_little_memory_is_foreseen(planned, monkeypatch):
    monkeypatch.setattr("advbench.pipelines.suites.plan.main_memory", lambda: 1 << 20)
    assert [fault.where for fault in planned().faults] == ["memory"]


def test_a_run_fits_the_memory_it_is_given_or_says_by_how_much_it_does_not(planned):
    peak = planned().peak_bytes
    assert not planned(memory=2 * peak).faults
    (fault,) = planned(memory=10**8).faults
    assert fault.problem.startswith(f"needs {peak / 1e9:.1f} GB, there are 0.1 GB; take fewer")
    (fault,) = planned(memory=2 * peak, processes=3).faults
    assert fault.where == "memory"


def test_an_image_that_does_not_fit_is_foreseen(planned, toy, monkeypatch):
    """The largest image is tried at native size, whatever the mean is."""
    logits = toy.logits

    def small_memory(images):
        if images.shape[2] * images.shape[3] > 33 * 40:
            raise torch.OutOfMemoryError("no room")
        return logits(images)

    toy.logits = small_memory
    plan = planned()
    assert [fault.where for fault in plan.faults] == ["toy on tiny"]
    assert "memory" in plan.faults[0].problem


def test_originals_of_another_dataset_are_foreseen(planned, monkeypatch):
    def other(job, counts):
        raise AdvbenchError("made from another dataset named tiny")

    monkeypatch.setattr("advbench.pipelines.generate.missing_originals", other)
    (fault,) = planned().faults
    assert (fault.where, fault.problem) == ("toy on tiny", "made from another dataset named tiny")


def test_the_largest_image_is_tried_as_often_as_it_is_held(planned, small_dataset, monkeypatch):
    """Side by side, as the run has them."""
    tried, real = [], probe._attack

    def attack(attack, job, image, truth, *, copies=1):
        tried.append((image.shape[0] * image.shape[1], copies))
        return real(attack, job, image, truth, copies=copies)

    monkeypatch.setattr(probe, "_attack", attack)
    monkeypatch.setattr(probe, "BatchRunner", lambda device: SimpleNamespace(images_at_once=3))
    planned()
    most = max(row.height * row.width for row in small_dataset.rows)
    assert tried[0] == (most, 3)


def test_runs_of_a_changed_suite_are_noted_too(ran, tmp_path):
    ran()
    changed = SUITE.model_copy(update={"title": "another"})
    ran(changed)
    runs = json.loads((tmp_path / "out" / "suites" / "test.json").read_text())["runs"]
    assert [each["suite"]["title"] for each in runs] == ["a test", "another"]
    assert runs[1]["suite_sha256"] == changed.sha256


def test_progress_is_of_the_whole_run(planned, small_dataset, toy, tmp_path):
    plan = planned()
    plan.stages = [replace(plan.stages[0], attack_seconds=60.0, score_seconds=40.0)]
    seen = []
    out = tmp_path / "out"
    run(
        *(SUITE, "test", plan, out),
        load_dataset=lambda name: small_dataset,
        load_victim=lambda name: toy,
        progress=lambda what, done, total: seen.append((done, total)),
    )
    assert {total for _, total in seen} == {100}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == 100
    assert any(done == 60 for done, _ in seen)
