"""The loop around the objectives: resumption, precision, patience, working size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import f1_score
from torch import Tensor

from advbench.engines.processes import Processes
from advbench.errors import AdvbenchError
from advbench.images import Image, Mask
from advbench.training import loop
from advbench.training.checkpoint import read_state
from advbench.training.data import Examples, at_working_size
from advbench.training.recipe import Recipe
from advbench.training.task import Epoch
from advbench.training.victim import VictimTask
from advbench.training.victim import train as train_on
from advbench.victims.base import Size, Victim
from advbench.victims.code.victim import CoDE
from advbench.victims.ifosn.victim import IFOSN
from advbench.victims.mvssnet.victim import MVSSNet

SOURCE = {"id": "noisy", "content_sha256": "0"}


class TinyCoDE(CoDE):
    """CoDE at 32²."""

    working_sides: ClassVar[dict[Size, int]] = {"small": 32}


class TinyMVSS(MVSSNet):
    """MVSS-Net at 64²: larger than the pictures."""

    working_sides: ClassVar[dict[Size, int]] = {"small": 64}


def pictures(count: int, side: int = 40) -> Examples:
    """Flat pictures with a noisy part, which is the mask."""

    def load(number: int) -> tuple[Image, Mask]:
        rng = np.random.default_rng(number)
        mask = np.zeros((side, side), np.bool_)
        mask[5 : 20 + number, 8:30] = True
        noise = rng.normal(0, 12, (side, side, 3)) * mask[..., None]
        return np.clip(rng.integers(60, 190, 3) + noise, 0, 255).astype(np.uint8), mask

    return Examples([str(number) for number in range(count)], load)


def train(victim: type[Victim], recipe: Recipe, folder: Path, **more: Any) -> Path:
    run = loop.TrainingRun(folder, **more)
    return train_on(
        victim, "small", pictures(4), pictures(2), source=SOURCE, recipe=recipe, run=run
    )


def state(folder: Path) -> Iterator[tuple[str, Any]]:
    """Everything that a checkpoint holds but the seconds, flattened."""
    saved = read_state(folder / "checkpoint.pt")
    for epoch in saved["curve"]:
        del epoch["seconds"]

    def walk(name: str, value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict | list | tuple):
            parts = value.items() if isinstance(value, dict) else enumerate(value)
            for key, part in parts:
                yield from walk(f"{name}.{key}", part)
        else:
            yield name, value.numpy().tobytes() if isinstance(value, Tensor) else value

    return walk("", saved)


@pytest.mark.parametrize(
    ("victim", "fields"),
    [
        (TinyCoDE, {"objective": "a3c", "warm_share": 0.3}),
        (TinyMVSS, {"objective": "edges"}),
        (IFOSN, {"objective": "osn"}),
    ],
)
def test_random_objectives_resume_to_the_bit(victim, fields, tmp_path):
    """Stopped after every epoch, a run draws the noise, dropout and ξ of one that went through."""
    recipe = Recipe(epochs=3, crop=32, batch=2, ema=0.5, learning_rate=1e-3, **fields)
    whole = train(victim, recipe, tmp_path / "whole")

    class KilledError(Exception):
        pass

    def kill(epoch: Epoch) -> None:
        torch.manual_seed(99)
        raise KilledError

    for _ in range(3):
        with pytest.raises(KilledError):
            train(victim, recipe, tmp_path / "resumed", report=kill)
    resumed = train(victim, recipe, tmp_path / "resumed")
    assert dict(state(tmp_path / "whole")) == dict(state(tmp_path / "resumed"))
    assert whole.read_bytes() == resumed.read_bytes()


def test_objective_is_that_of_the_recipe(tmp_path):
    curve: list[Epoch] = []
    for name in ("osn", "", "plain"):
        recipe = Recipe(epochs=1, crop=32, batch=2, objective=name)
        train(IFOSN, recipe, tmp_path / name / "run", report=curve.append)
    named, own, plain = (epoch.loss for epoch in curve)
    assert named == own != plain
    with pytest.raises(AdvbenchError, match="ifosn has no 'a3c'; it has osn, plain"):
        train(IFOSN, recipe.model_copy(update={"objective": "a3c"}), tmp_path / "run")


def test_precision(tmp_path):
    """float32 by default on a CPU; mixed float16 is near it and not the same."""
    curves: dict[str, list[Epoch]] = {"auto": [], "fp32": [], "fp16": []}
    files = {}
    for precision, curve in curves.items():
        recipe = Recipe(epochs=1, crop=32, batch=2, objective="plain", precision=precision)
        folder = tmp_path / precision
        files[precision] = train(IFOSN, recipe, folder, report=curve.append).read_bytes()
    assert files["auto"] == files["fp32"] != files["fp16"]
    (full,), (mixed,) = curves["fp32"], curves["fp16"]
    assert mixed.loss == pytest.approx(full.loss, rel=0.02)
    assert mixed.loss != full.loss


@pytest.fixture
def scripted(monkeypatch):
    """A run whose validation scores are given; its weights tell the epoch."""

    def run(scores: list[float], folder: Path, **fields: Any) -> tuple[Path, int]:
        trained = 0

        def train_epoch(run: Any, number: int, *_: object) -> float:
            nonlocal trained
            trained += 1
            bias = dict(run.average.module.named_parameters())["final.0.bias"]
            torch.nn.init.constant_(bias, number)
            return 0.0

        def validate(task: VictimTask, network: Any, *_: object) -> dict[str, float]:
            return {"val_f1": scores[int(network.get_parameter("final.0.bias"))]}

        monkeypatch.setattr(loop._Trainer, "_train", train_epoch)
        monkeypatch.setattr(VictimTask, "validate", validate)
        recipe = Recipe(epochs=len(scores), crop=32, batch=2, objective="plain", **fields)
        return train(IFOSN, recipe, folder), trained

    return run


@pytest.mark.parametrize(
    ("scores", "patience", "epochs", "best"),
    [
        ([0.1, 0.5, 0.4, 0.3, 0.9, 0.1], 2, 4, 1),
        ([0.1, 0.5, 0.4, 0.6, 0.5, 0.4], 2, 6, 3),
        ([0.3, 0.2, 0.4, 0.1, 0.0], 1, 2, 0),
        ([0.5, 0.4, 0.3, 0.2, 0.1, 0.6], 0, 6, 5),
        ([0.0, 0.0, 0.0, 0.0], 2, 3, 2),
    ],
)
def test_patience_ends_a_run_and_the_best_is_kept(
    scores, patience, epochs, best, *, scripted, tmp_path
):
    path, trained = scripted(scores, tmp_path / "run", patience=patience)
    assert trained == epochs
    card = json.loads(path.with_suffix(".json").read_text())
    assert (card["best_epoch"], card["val_f1"]) == (best, scores[best])
    assert load_file(path)["final.0.bias"].item() == best
    assert len(path.with_suffix(".curve.csv").read_text().splitlines()) == 1 + epochs
    again, more = scripted(scores, tmp_path / "run", patience=patience)
    assert more == 0
    assert load_file(again)["final.0.bias"].item() == best


def test_too_few_images_for_a_batch_are_refused(tmp_path):
    with pytest.raises(AdvbenchError, match="4 training images do not fill a batch of 5"):
        train(IFOSN, Recipe(epochs=1, crop=32, batch=5), tmp_path / "run")


def test_examples_come_at_the_working_size():
    """The image as the victim fits it, the mask's pixels by nearest neighbour."""
    victim = TinyCoDE.load("small", weights=None)
    image, mask = pictures(3).load(2)
    fitted, resized = at_working_size(pictures(3), victim).load(2)
    assert np.array_equal(fitted, cv2.resize(image, (32, 32), interpolation=cv2.INTER_LINEAR))
    assert fitted.shape == (32, 32, 3)
    nearest = np.arange(32) * 40 // 32
    assert resized.dtype == np.bool_
    assert np.array_equal(resized, mask[nearest][:, nearest])
    native = at_working_size(pictures(3), IFOSN.load("small", weights=None)).load(2)
    assert np.array_equal(native[0], image)
    assert np.array_equal(native[1], mask)


def test_validation_is_at_the_victims_threshold(monkeypatch):
    """Mean F1 over pictures of what lies above 0.2, here of the red channel."""
    recipe = Recipe(crop=32, batch=2, epochs=1)
    task = VictimTask(TinyCoDE, "small", recipe, SOURCE)
    monkeypatch.setattr(TinyCoDE, "probabilities", lambda victim, images: images[:, :1])
    rng = np.random.default_rng(0)
    pairs = [
        (rng.integers(0, 110, (32, 32, 3)).astype(np.uint8), rng.random((32, 32)) < 0.4)
        for _ in range(3)
    ]
    examples = Examples(["a", "b", "c"], lambda number: pairs[number])
    found = task.validate(task.network, examples, Processes())["val_f1"]
    expected = [f1_score(m.ravel(), image[..., 0].ravel() / 255 > 0.2) for image, m in pairs]
    assert found == pytest.approx(np.mean(expected), rel=1e-12)


def test_checkpoint_of_another_victim_is_refused(tmp_path):
    recipe = Recipe(epochs=1, crop=32, batch=2)
    train(IFOSN, recipe, tmp_path)
    with pytest.raises(AdvbenchError, match="victim or size"):
        train(TinyCoDE, recipe, tmp_path)
