"""Training: repeatable, resumable, and it learns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from safetensors.torch import load_file

from advbench.datasets.dataset import Dataset, open_folder
from advbench.datasets.importing.layouts.folder import import_folder
from advbench.datasets.manifest import write_manifest
from advbench.errors import AdvbenchError
from advbench.pipelines.train import examples, train_victim
from advbench.training.data import Crops
from advbench.training.guidance import noise_energy
from advbench.training.loop import TrainingRun
from advbench.training.recipe import Recipe
from advbench.training.task import Epoch
from advbench.victims.ifosn.victim import IFOSN
from advbench.victims.objective import localization_loss

RECIPE = Recipe(epochs=2, crop=32, batch=2, seed=1)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Six pictures whose forged part is noisy: four to train with, two to validate."""
    rng = np.random.default_rng(0)
    for name in ("Tp", "Gt"):
        (tmp_path / name).mkdir()
    for i in range(6):
        mask = np.zeros((40, 40), np.uint8)
        mask[5:25, 8:30] = 255
        noise = rng.normal(0, 12, (40, 40, 3)) * (mask[..., None] > 0)
        image = np.clip(rng.integers(60, 190, 3) + noise, 0, 255).astype(np.uint8)
        PillowImage.fromarray(image).save(tmp_path / "Tp" / f"{i}.png")
        PillowImage.fromarray(mask).save(tmp_path / "Gt" / f"{i}.png")
    import_folder(tmp_path, tmp_path / "data", "noisy")
    opened = open_folder(tmp_path / "data")
    rows = [
        row.model_copy(update={"split": "train" if i < 4 else "val"})
        for i, row in enumerate(opened.rows)
    ]
    info = opened.info.model_dump(exclude={"counts", "content_sha256", "manifest_sha256"})
    write_manifest(tmp_path / "data", rows, **info)
    return open_folder(tmp_path / "data")


def test_same_recipe_gives_the_same_weights(dataset, tmp_path):
    paths = [
        train_victim(IFOSN, "small", dataset, RECIPE, run=TrainingRun(tmp_path / name))
        for name in "ab"
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    card = json.loads(paths[0].with_suffix(".json").read_text())
    assert card["label"] == "noisy"
    assert card["recipe"] == RECIPE.model_dump()


def test_interrupted_training_ends_with_the_same_weights(dataset, tmp_path):
    whole = train_victim(IFOSN, "small", dataset, RECIPE, run=TrainingRun(tmp_path / "whole"))

    class KilledError(Exception):
        pass

    def kill(epoch: Epoch) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        train_victim(
            IFOSN, "small", dataset, RECIPE, run=TrainingRun(tmp_path / "resumed", report=kill)
        )
    resumed = train_victim(IFOSN, "small", dataset, RECIPE, run=TrainingRun(tmp_path / "resumed"))
    assert whole.read_bytes() == resumed.read_bytes()


def test_training_starts_from_given_weights(dataset, tmp_path):
    """At a vanishing rate they stay, up to the statistics of the normalisation layers."""
    given = IFOSN.load("small", None, seed=5)
    still = RECIPE.model_copy(update={"learning_rate": 1e-12, "weight_decay": 0})
    path = train_victim(
        IFOSN, "small", dataset, still, run=TrainingRun(tmp_path / "run"), start=given
    )
    learnt = IFOSN.load("small", str(path)).network
    for name, value in given.network.named_parameters():
        assert torch.allclose(learnt.get_parameter(name), value, atol=1e-6), name
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["start"] == {"sha256": given.weights.sha256, "label": "random:5"}
    with pytest.raises(AdvbenchError, match="belongs to another recipe, dataset"):
        train_victim(IFOSN, "small", dataset, still, run=TrainingRun(tmp_path / "run"))


def test_another_recipe_in_the_same_folder_is_refused(dataset, tmp_path):
    train_victim(IFOSN, "small", dataset, RECIPE, run=TrainingRun(tmp_path / "run"))
    longer = RECIPE.model_copy(update={"epochs": 3})
    with pytest.raises(AdvbenchError, match="belongs to another recipe, dataset"):
        train_victim(IFOSN, "small", dataset, longer, run=TrainingRun(tmp_path / "run"))


def test_damaged_checkpoint_is_named(dataset, tmp_path):
    train_victim(IFOSN, "small", dataset, RECIPE, run=TrainingRun(tmp_path / "run"))
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"?")
    with pytest.raises(AdvbenchError, match=r"checkpoint\.pt: damaged"):
        train_victim(IFOSN, "small", dataset, RECIPE, run=TrainingRun(tmp_path / "run"))


def test_saved_weights_have_the_layout_of_the_victim(dataset, tmp_path):
    path = train_victim(IFOSN, "small", dataset, RECIPE, run=TrainingRun(tmp_path / "run"))
    victim = IFOSN.load("small", str(path))
    assert victim.weights.label == "noisy"


def test_loss_falls(dataset, tmp_path):
    recipe = Recipe(epochs=12, crop=32, batch=4, crops_per_image=8, ema=0.5)
    epochs: list[Epoch] = []
    train_victim(
        IFOSN, "small", dataset, recipe, run=TrainingRun(tmp_path / "run", report=epochs.append)
    )
    assert epochs[-1].loss < 0.7 * epochs[0].loss


def test_crops_fit_images_and_masks(dataset):
    """A crop is part of its picture up to turns and flips: forged pixels stay under the mask."""
    for images, masks in Crops(examples(dataset, dataset.select("train")), RECIPE).epoch(0):
        assert images.shape == (2, 3, 32, 32)
        assert masks.shape == (2, 1, 32, 32)
        spread = (images - images.flatten(2).median(2).values[..., None, None]).abs().amax(1)
        assert spread[masks[:, 0] == 0].max() < spread[masks[:, 0] == 1].max()


def test_loss_against_a_plain_loop():
    logits, masks = torch.randn(2, 1, 4, 4), (torch.rand(2, 1, 4, 4) > 0.5).float()
    entropy = overlap = squares = 0.0
    for z, m in zip(logits.flatten().tolist(), masks.flatten().tolist(), strict=True):
        p = 1 / (1 + np.exp(-z))
        entropy -= m * np.log(p) + (1 - m) * np.log(1 - p)
        overlap += p * m
        squares += p * p + m * m
    expected = entropy / 32 + 0.3 * (1 - (2 * overlap + 1) / (squares + 1))
    assert float(localization_loss(logits, masks, 0.3)) == pytest.approx(expected, rel=1e-5)


def test_noise_energy_rises_with_noise_alone():
    """Nothing on flat and sloping content; log of the deviation on white noise."""
    slope = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    inner = (slice(None), slice(None), slice(8, 56), slice(8, 56))
    assert noise_energy(slope)[inner].max() < np.log(0.35)
    torch.manual_seed(0)
    noise = torch.randn(1, 3, 64, 64)
    # Euclidean norm of the kernel × mean of |N(0, 1)|.
    gain = (0.25**2 * 4 + 0.5**2 * 4 + 1) ** 0.5 * (2 / np.pi) ** 0.5
    for sigma in (2.0, 4.0, 8.0):
        found = noise_energy(0.5 + noise * sigma / 255)[inner].exp().mean() - 0.3
        assert float(found) == pytest.approx(sigma * gain, rel=0.05)


def test_a_part_of_the_start_is_kept_and_the_rest_drawn_anew(dataset, tmp_path):
    given = IFOSN.load("small", None, seed=5)
    still = RECIPE.model_copy(
        update={
            "learning_rate": 1e-12,
            "weight_decay": 0,
            "start_keeps": "encoder_stages.",
            "full_scale_start": True,
        }
    )
    path = train_victim(
        IFOSN, "small", dataset, still, run=TrainingRun(tmp_path / "run"), start=given
    )
    learnt = IFOSN.load("small", str(path)).network
    for name, value in given.network.named_parameters():
        same = torch.allclose(learnt.get_parameter(name), value, atol=1e-6)
        assert same == name.startswith("encoder_stages.") or value.std() < 1e-6, name
    gate = learnt.get_parameter("bottlenecks.2.seq.2.fc2.bias")
    assert torch.allclose(gate, torch.full_like(gate, 2.0), atol=1e-4)
    for start, prefix, told in (
        (None, "encoder", "--start"),
        (given, "none", "no weights of that"),
    ):
        recipe = still.model_copy(update={"start_keeps": prefix})
        with pytest.raises(AdvbenchError, match=told):
            train_victim(
                IFOSN, "small", dataset, recipe, run=TrainingRun(tmp_path / "no"), start=start
            )


def test_frozen_norms_keep_their_statistics_and_learn(dataset, tmp_path):
    given = IFOSN.load("small", None, seed=5)
    for frozen in (False, True):
        recipe = RECIPE.model_copy(update={"frozen_norms": frozen})
        run = TrainingRun(tmp_path / str(frozen))
        path = train_victim(IFOSN, "small", dataset, recipe, run=run, start=given)
        learnt, before = (victim.network for victim in (IFOSN.load("small", str(path)), given))
        for name, value in before.named_buffers():
            if name.endswith("running_var"):
                assert torch.equal(learnt.get_buffer(name), value) == frozen, name
        moved = [
            not torch.equal(learnt.get_parameter(name), value)
            for name, value in before.named_parameters()
        ]
        assert sum(moved) > len(moved) / 2


def test_deep_supervision_reaches_a_decoder_whose_last_layer_is_dead(dataset, tmp_path):
    """With a last layer of nothing, no gradient of the victim's own loss reaches what is before."""
    given = IFOSN.load("small", None, seed=5)
    given.network.final[0].weight.data.zero_()
    changed = {}
    for weight in (0.0, 1.0):
        recipe = RECIPE.model_copy(
            update={"deep_supervision": weight, "guidance": 0, "epochs": 1, "weight_decay": 0}
        )
        run = TrainingRun(tmp_path / str(weight))
        path = train_victim(IFOSN, "small", dataset, recipe, run=run, start=given)
        assert load_file(path).keys() == given.network.state_dict().keys()
        learnt = IFOSN.load("small", str(path)).network
        name = "bottlenecks.0.seq.0.weight"
        before = given.network.get_parameter(name)
        changed[weight] = float((learnt.get_parameter(name) - before).abs().max())
    assert changed[1.0] > 10 * changed[0.0]
