"""Loggers of the training curve: the right numbers at the right epochs, resumed, and refused."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from advbench.errors import AdvbenchError
from advbench.pipelines import train_verbs
from advbench.pipelines.config import TrainVictimConfig
from advbench.training.loggers import loggers
from advbench.training.task import Epoch

EPOCHS = [Epoch(n, 1.0 / (n + 1), {"val_f1": 0.1 * n}, 1e-3, 2.0) for n in range(3)]
LINES = [
    (n + 1, {"loss": 1.0 / (n + 1), "val_f1": 0.1 * n, "learning_rate": 1e-3}) for n in range(3)
]


class Run:
    def __init__(self, **settings: Any) -> None:
        self.settings, self.lines, self.closed = settings, [], None

    def log(self, values: dict[str, float], step: int) -> None:
        self.lines.append((step, values))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.closed = kind


@pytest.fixture
def wandb(monkeypatch) -> list[Run]:
    """The package, replaced; its runs."""
    runs: list[Run] = []
    module = ModuleType("wandb")
    module.__spec__ = ModuleSpec("wandb", None)
    module.init = lambda **settings: runs.append(Run(**settings)) or runs[-1]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return runs


def test_wandb_goes_on_with_its_run(wandb, tmp_path):
    folder = tmp_path / "run"
    for part in (EPOCHS[:2], EPOCHS[2:]):
        with loggers(["wandb"], folder, {"seed": 4}) as log:
            for epoch in part:
                log(epoch)
    assert [line for run in wandb for line in run.lines] == LINES
    first, second = (run.settings for run in wandb)
    assert first == second
    assert (first["name"], first["resume"], first["config"]) == ("run", "allow", {"seed": 4})
    with loggers(["wandb"], tmp_path / "other", {}):
        pass
    assert wandb[2].settings["id"] != first["id"]


def test_a_failed_training_is_told(wandb, tmp_path):
    with pytest.raises(RuntimeError), loggers(["wandb"], tmp_path / "run", {}):
        raise RuntimeError
    assert wandb[0].closed is RuntimeError


def test_tensorboard_reads_what_was_written(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for part in (EPOCHS[:2], EPOCHS[2:]):
        with loggers(["tensorboard"], tmp_path, {}) as log:
            for epoch in part:
                log(epoch)
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert set(found.Tags()["scalars"]) == {"loss", "val_f1", "learning_rate"}
    for name in ("loss", "val_f1"):
        values = [(event.step, event.value) for event in found.Scalars(name)]
        assert values == [(step, pytest.approx(line[name])) for step, line in LINES]


def test_the_verb_logs_and_the_other_processes_do_not(wandb, monkeypatch, tmp_path, small_dataset):
    def trained(*arguments: Any, run: Any, **named: Any) -> Path:
        for epoch in EPOCHS:
            run.report(epoch)
        return tmp_path / "weights"

    monkeypatch.setattr(train_verbs.train, "train_victim", trained)
    monkeypatch.setattr(train_verbs, "load_dataset", lambda *arguments: small_dataset)
    settings = {"victim": "ifosn", "to": tmp_path / "run", "log": ["wandb"]}
    config = TrainVictimConfig.parse("train victim", settings)
    train_verbs.train_victim(config)
    assert wandb[0].lines == LINES
    assert wandb[0].settings["config"]["epochs"]

    class Second:
        rank, device = 1, "cpu"

    train_verbs.train_victim(config, processes=Second())
    assert len(wandb) == 1


@pytest.mark.parametrize("verb", ["train victim ifosn", "train ansm --victim ifosn"])
@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_package_that_is_missing(verb, name, *, advbench_command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda given: None)
    ran = advbench_command(*verb.split(), "--log", name)
    assert ran.code == 2
    assert f"--log {name} needs the package {name}: pip install {name}" in ran.err
    assert not list(tmp_path.iterdir())


def test_an_unknown_logger(advbench_command):
    ran = advbench_command("train", "victim", "ifosn", "--log", "mlflow")
    assert ran.code == 2
    assert "log" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_loggers_are_not_asked_for(tmp_path):
    with loggers([], tmp_path / "run", {}) as log:
        log(EPOCHS[0])
    assert not (tmp_path / "run").exists()
    with pytest.raises(AdvbenchError, match="--log"), loggers(["nothing"], tmp_path, {}):
        pass
