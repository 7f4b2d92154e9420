"""Training of ANSM on a dataset: pairs from shards or made on the fly, one network a victim."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

import advbench
from advbench.attacks.fgsm import FGSM
from advbench.datasets.dataset import Dataset, open_folder
from advbench.datasets.importing.layouts.folder import import_folder
from advbench.datasets.manifest import write_manifest
from advbench.defenses.ansm.network import AnsmNetwork
from advbench.defenses.ansm.recipe import AnsmRecipe
from advbench.errors import AdvbenchError, DamagedShardError
from advbench.pipelines import train_ansm as pipeline
from advbench.pipelines.evaluate import EvaluationJob, evaluate
from advbench.pipelines.generate import GenerationJob, generate
from advbench.pipelines.train_ansm import train_ansm
from advbench.scores.protocols import protocol
from advbench.scores.records import read_records
from advbench.training.loop import TrainingRun
from advbench.victims.weights import Weights

RECIPE = AnsmRecipe(crop=32, batch=2, epochs_first=1, epochs_mgr=1)
LEARNT = [f"tiny/photo{number}" for number in range(4)]
SPLITS = ("train", "train", "train", "val", "test")


def divided(dataset: Dataset, folder: Path, splits: tuple[str, ...]) -> Dataset:
    """The dataset in ``folder`` with these splits."""
    info = dataset.info.model_dump(exclude={"counts", "content_sha256", "manifest_sha256"})
    rows = [
        row.model_copy(update={"split": split})
        for row, split in zip(dataset.rows, splits, strict=True)
    ]
    write_manifest(folder, rows, **info)
    return open_folder(folder)


@pytest.fixture
def dataset(small_dataset, tmp_path) -> Dataset:
    """Three images to train with, one to validate, one to test."""
    return divided(small_dataset, tmp_path / "imported", SPLITS)


@pytest.fixture
def attacked(monkeypatch) -> list[str]:
    """Fills with the ids of images that are attacked on the fly."""
    seen: list[str] = []
    real = FGSM.run

    def run(self: FGSM, victim: Any, *arguments: Any, **named: Any):
        seen.extend(arguments[2])
        return real(self, victim, *arguments, **named)

    monkeypatch.setattr(FGSM, "run", run)
    return seen


Pairs = Callable[..., dict[str, np.ndarray]]


@pytest.fixture
def pairs(monkeypatch, dataset, tmp_path, attacked) -> Pairs:
    """The pairs that training is given, by name; empties ``attacked`` first."""

    def collect(victim: Any, out: Path, **options: Any) -> dict[str, np.ndarray]:
        given: list[Any] = []
        attacked.clear()
        with monkeypatch.context() as patch:
            patch.setattr(
                pipeline.training, "train", lambda *arguments, **_: given.extend(arguments)
            )
            train_ansm(
                victim,
                "small",
                dataset,
                RECIPE,
                run=TrainingRun(tmp_path),
                shards=out / "shards",
                **options,
            )
        return {
            name: examples.load(number)[0]
            for examples in given[2:4]
            for number, name in enumerate(examples.names)
        }

    return collect


def stored(dataset, victim, out: Path, ids: list[str], **settings: Any) -> None:
    """Shards of FGSM for some images."""
    attacks = [advbench.load_attack("fgsm", **({"eps": [1, 3]} | settings))]
    for split in sorted(set(SPLITS)):
        rows = [row for row in dataset.rows if row.sample_id in ids and row.split == split]
        if rows:
            generate(GenerationJob(dataset, rows, victim, attacks, out, shard_size=2))


def equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


def test_pairs_are_originals_and_what_the_attack_gives(pairs, dataset, toy, tmp_path):
    found = pairs(toy, tmp_path / "out")
    assert list(found) == LEARNT
    attack = advbench.load_attack("fgsm", eps=3)
    for row in dataset.rows[:4]:
        image = dataset.image(row)
        x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
        mask = torch.from_numpy(dataset.mask(row).copy())[None]
        expected = attack(toy, x, mask, ["any"])["fgsm-3"][0].permute(1, 2, 0).numpy()
        assert np.array_equal(found[row.sample_id], np.concatenate([image, expected], 2))
        assert np.abs(expected.astype(int) - image).max() == 3


@pytest.mark.parametrize("name", ["toy", "square_toy"])
def test_pairs_from_shards_are_those_made_on_the_fly(
    name, pairs, dataset, attacked, *, tmp_path, request
):
    victim = request.getfixturevalue(name)
    made = pairs(victim, tmp_path / "nothing")
    assert attacked == LEARNT
    if name == "square_toy":
        assert {pair.shape for pair in made.values()} == {(32, 32, 6)}
    stored(dataset, victim, tmp_path / "out", [row.sample_id for row in dataset.rows])
    assert equal(pairs(victim, tmp_path / "out"), made)
    assert attacked == []


def test_what_is_missing_is_made(pairs, dataset, toy, attacked, *, tmp_path):
    made = pairs(toy, tmp_path / "nothing")
    stored(dataset, toy, tmp_path / "out", [LEARNT[2], LEARNT[0], "tiny/photo4"])
    assert equal(pairs(toy, tmp_path / "out"), made)
    assert attacked == [LEARNT[1], LEARNT[3]]


def test_shards_of_something_else_are_not_used(
    pairs, dataset, toy, other_toy, *, attacked, tmp_path, pictures
):
    """Another intensity, victim or specification, another dataset of the same name."""
    stored(dataset, toy, tmp_path / "eps", LEARNT, eps=[2])
    stored(dataset, other_toy, tmp_path / "victim", LEARNT)
    stored(dataset, toy, tmp_path / "target", LEARNT, target="pred")
    shutil.copytree(pictures, tmp_path / "copies")
    image = tmp_path / "copies" / "images" / "photo1.png"
    image.write_bytes((tmp_path / "copies" / "images" / "photo0.png").read_bytes())
    import_folder(tmp_path / "copies", tmp_path / "again", "tiny")
    again = divided(open_folder(tmp_path / "again"), tmp_path / "again", SPLITS)
    stored(again, toy, tmp_path / "image", LEARNT)
    made = pairs(toy, tmp_path / "nothing")
    for folder in ("eps", "victim", "target", "image"):
        assert equal(pairs(toy, tmp_path / folder), made)
        assert attacked == ([LEARNT[1]] if folder == "image" else LEARNT)


def test_only_damage_to_its_own_shards_counts(pairs, dataset, toy, attacked, *, tmp_path):
    stored(dataset, toy, tmp_path / "out", LEARNT)
    beside = tmp_path / "out" / "shards" / "tiny-train" / "toy"
    (beside / "fgsm-1" / "shard-000000.h5").write_bytes(b"?")
    pairs(toy, tmp_path / "out")
    assert attacked == []
    path = beside / "fgsm-3" / "shard-000000.h5"
    path.write_bytes(b"?")
    with pytest.raises(DamagedShardError, match=r"fgsm-3/shard-000000\.h5: damaged"):
        pairs(toy, tmp_path / "out")


def test_limit_is_of_training_images(pairs, toy, tmp_path):
    assert list(pairs(toy, tmp_path / "out", limit=2)) == [*LEARNT[:2], LEARNT[3]]


@pytest.mark.parametrize("missing", ["train", "val"])
def test_both_splits_are_needed(missing, small_dataset, toy, tmp_path):
    splits = tuple({"train": "val", "val": "train"}[missing] for _ in range(5))
    dataset = divided(small_dataset, tmp_path / "imported", splits)
    with pytest.raises(AdvbenchError, match=f"has no {missing} split to train with"):
        train_ansm(
            toy, "small", dataset, RECIPE, run=TrainingRun(tmp_path / "run"), shards=tmp_path
        )


def test_a_crop_that_the_victim_refuses_is_told_before_pairs_are_made(dataset, tmp_path, attacked):
    victim = advbench.load_victim("hdfnet", size="small", weights=None)
    with pytest.raises(AdvbenchError, match=r"--set crop=32: hdfnet takes .*; give --set crop=256"):
        train_ansm(
            victim, "small", dataset, RECIPE, run=TrainingRun(tmp_path / "run"), shards=tmp_path
        )
    assert attacked == []


def test_progress_ends_at_the_last_pair(dataset, toy, tmp_path, pairs):
    seen: list[tuple[int, int]] = []
    pairs(toy, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 4) for number in (1, 2, 3, 4)]


def test_the_same_command_gives_the_same_network(dataset, toy, tmp_path):
    """With the pairs from shards or not."""
    stored(dataset, toy, tmp_path / "out", LEARNT[:3])
    assert not (tmp_path / "out" / "shards" / "tiny").exists()  # where test images would lie
    weights = [
        train_ansm(
            toy,
            "small",
            dataset,
            RECIPE,
            run=TrainingRun(tmp_path / name),
            shards=tmp_path / out / "shards",
        )
        for name, out in (("a", "nothing"), ("b", "out"))
    ]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def network_of(path: Path) -> AnsmNetwork:
    network = AnsmNetwork("small").eval()
    network.load_state_dict(load_file(path))
    return network


@torch.no_grad()
def test_evaluation_gives_each_victim_its_network(dataset, toy, tmp_path):
    """Scores by an independent path; the other victim's network would score otherwise."""
    second_class = type("Second", (type(toy),), {"name": "second"})
    second = second_class(toy.network, Weights("9" * 64, "made"), "small")
    victims, out = {"toy": toy, "second": second}, tmp_path / "out"
    paths = {}
    with torch.enable_grad():
        for seed, (name, victim) in enumerate(victims.items()):
            generate(GenerationJob(dataset, dataset.rows, victim, [FGSM.create(eps=(2,))], out))
            recipe = RECIPE.model_copy(update={"seed": seed})
            run = tmp_path / name
            paths[name] = train_ansm(
                victim, "small", dataset, recipe, run=TrainingRun(run), shards=out / "shards"
            )
    given = tuple(str(path) for path in reversed(paths.values()))
    job = EvaluationJob(
        out, [advbench.load_defense("ansm", weights=given)], protocol("f1/v1"), victims=list(paths)
    )
    counts = evaluate(job, lambda identity: victims[identity["name"]])
    assert counts.scored == 2 * 2 * 2 * 5
    records = read_records(out / "records")
    records = records[records.defense == "ansm"].set_index(["victim", "sample_id", "variant"])
    networks = {name: network_of(path) for name, path in paths.items()}
    seen = 0
    for item in advbench.open_dataset(out):
        image = torch.from_numpy(item["image"]).permute(2, 0, 1)[None].float() / 255
        other = next(name for name in victims if name != item["victim"])
        own, others = (
            roc_auc_score(
                item["mask"].ravel(), toy.probabilities(networks[name](image)).numpy().ravel()
            )
            for name in (item["victim"], other)
        )
        found = records.loc[(item["victim"], item["sample_id"], "fgsm-2")].auc
        assert found == pytest.approx(own, abs=1e-9)
        assert found != pytest.approx(others, abs=1e-6)
        seen += 1
    assert seen == 10

    alone = replace(job, defenses=[advbench.load_defense("ansm", weights=given[1:])])
    with pytest.raises(AdvbenchError, match=r"none is for second .*train ansm --victim second"):
        evaluate(alone, lambda identity: victims[identity["name"]])


def test_another_network_is_scored_anew(dataset, toy, tmp_path):
    out = tmp_path / "out"
    generate(GenerationJob(dataset, dataset.rows[4:], toy, [FGSM.create(eps=(2,))], out))
    for seed in (0, 1):
        recipe = RECIPE.model_copy(update={"seed": seed, "epochs_mgr": 0})
        path = train_ansm(
            toy,
            "small",
            dataset,
            recipe,
            run=TrainingRun(tmp_path / str(seed)),
            shards=out / "shards",
        )
        defense = advbench.load_defense("ansm", weights=(str(path),))
        job = EvaluationJob(out, [defense], protocol("f1/v1"))
        first = evaluate(job, lambda identity: toy)
        again = evaluate(job, lambda identity: toy)
        assert (first.scored, first.reused) == ((4, 0), (2, 2))[seed]
        assert (again.scored, again.reused) == (0, 4)
