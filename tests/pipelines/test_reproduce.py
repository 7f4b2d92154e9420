"""The paper's tables end to end on a toy: rows, figures recomputed by hand, resume, the control."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import advbench
from advbench.datasets.dataset import Dataset, open_folder
from advbench.datasets.importing.layouts.folder import import_folder
from advbench.defenses.ansm import training
from advbench.defenses.ansm.network import AnsmNetwork
from advbench.errors import AdvbenchError
from advbench.pipelines import reproduce as pipeline
from advbench.pipelines.generate import GenerationJob, generate
from advbench.pipelines.reproduce import ABLATIONS, ReproductionJob, reproduce
from advbench.shards.store import ShardStore
from tests.scores.made import row

from .test_train_ansm import SPLITS, divided

RECIPE = {"crop": 32, "batch": 2, "epochs_first": 1, "epochs_mgr": 1, "lr_first": 0.02}


@pytest.fixture
def job(small_dataset, toy, tmp_path) -> ReproductionJob:
    splits = ("train", "train", "val", "test", "test")
    assert len(splits) == len(SPLITS)
    dataset = divided(small_dataset, tmp_path / "imported", splits)
    return ReproductionJob(tmp_path / "out", [dataset], [toy], recipe=RECIPE)


def mean_f1(out: Path, victim, variant: str, weights: Path) -> float:
    """Pixel F1 behind a network, mean over images, by a path of its own."""
    network = AnsmNetwork("small").eval()
    network.load_state_dict(load_file(weights))
    scores = []
    for item in advbench.open_dataset(out):
        if item["variant"] != variant:
            continue
        x = torch.from_numpy(np.ascontiguousarray(item["image"])).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            marked = victim.probabilities(network(x))[0, 0].numpy() > victim.threshold
        both = (marked & item["mask"]).sum()
        scores.append(2 * both / (marked.sum() + item["mask"].sum()))
    assert len(scores) == 2
    return float(np.mean(scores))


def test_table5(job, toy, monkeypatch):
    found = reproduce("table5", job)
    assert list(found.strategy) == ["none"] * 2 + ["pwr"] * 2 + ["ffa"] * 2
    assert list(found.attack) == ["original", "fgsm"] * 3
    assert (found.n == 2).all()
    clean = row(found, strategy="none", attack="original")
    # A toy that knows no more than a map that marks everything has no RP.
    masks = [job.datasets[0].mask(r) for r in job.datasets[0].select("test", label=1)[:2]]
    floor = np.mean([2 * mask.mean() / (1 + mask.mean()) for mask in masks])
    assert clean.f1 <= floor
    assert math.isnan(clean.rp)
    (path,) = (job.out / "reproduce").glob("ansm-*-ffa-*/*.safetensors")
    by_hand = [mean_f1(job.out, toy, f"fgsm-{eps}", path) for eps in (1, 2, 3)]
    ffa = row(found, strategy="ffa", attack="fgsm")
    assert ffa.f1 == pytest.approx(np.mean(by_hand), abs=1e-6)
    assert math.isnan(ffa.rp)
    assert ffa.f1 != row(found, strategy="pwr", attack="fgsm").f1

    # Again: nothing is attacked, trained or scored.
    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr(training.AnsmTask, "_align", refuse, raising=True)
    monkeypatch.setattr("advbench.attacks.fgsm.FGSM.run", refuse)
    monkeypatch.setattr(toy, "probabilities", refuse)
    assert reproduce("table5", job).equals(found)


def test_a_limit_leaves_what_was_scored(job, toy):
    reproduce("table5", job)
    records = sorted((job.out / "reproduce").rglob("*.parquet"))
    before = {path: path.read_bytes() for path in records}
    few = reproduce("table5", replace(job, limit=1))
    assert (few.n == 1).all()
    assert {path: path.read_bytes() for path in records} == before


def test_another_split_is_trained_on_anew(job, small_dataset, tmp_path):
    first = reproduce("table5", job)
    moved = divided(small_dataset, tmp_path / "imported", ("train", "val", "train", "test", "test"))
    assert len(reproduce("table5", replace(job, datasets=[moved]))) == len(first)
    assert len(list((job.out / "reproduce").glob("ansm-*-ffa-*"))) == 2


def test_strategies_of_the_tables(job, toy):
    """What each trains: the recipe of every strategy of Tables IV and VI."""
    run = pipeline._Reproduction(job, lambda what, done, total: None)
    recipes = {}
    for table in ("table4", "table6"):
        for name, changes in ABLATIONS[table].strategies.items():
            recipe = run.recipe(toy, changes)
            recipes[table, name] = (
                recipe.depth,
                recipe.epochs_first,
                recipe.epochs_mgr,
                recipe.target if recipe.epochs_mgr else None,
            )
    assert recipes == {
        ("table4", "shallow"): ("shallow", 1, 0, None),
        ("table4", "middle"): ("middle", 1, 0, None),
        ("table4", "topmost"): ("topmost", 1, 0, None),
        ("table6", "ffa"): ("middle", 1, 0, None),
        ("table6", "mgr_gt"): ("middle", 0, 1, "truth"),
        ("table6", "mgr_pred"): ("middle", 0, 1, "prediction"),
        ("table6", "ffa+mgr_gt"): ("middle", 1, 1, "truth"),
        ("table6", "ffa+mgr_pred"): ("middle", 1, 1, "prediction"),
    }


def test_first_stage_is_trained_once(job, toy):
    """The curves begin with the same lines, seconds and all."""
    run = pipeline._Reproduction(job, lambda what, done, total: None)
    curves = {}
    for name in ("ffa+mgr_gt", "ffa+mgr_pred", "ffa"):
        recipe = run.recipe(toy, ABLATIONS["table6"].strategies[name])
        folder = run.train(toy, job.datasets[0], recipe).parent
        curves[name] = (folder / "curve.csv").read_text().splitlines()
    assert [len(lines) for lines in curves.values()] == [3, 3, 2]
    assert curves["ffa+mgr_gt"][:2] == curves["ffa+mgr_pred"][:2] == curves["ffa"]


def test_a_start_is_that_of_every_network(job):
    """Its hash is in their cards, and they lie beside those from random weights."""
    reproduce("table5", job)
    folder = job.out / "reproduce"
    before = set(folder.glob("ansm-*"))
    (start,) = folder.glob("ansm-*-pwr-*/*.safetensors")
    reproduce("table6", replace(job, start=start))
    after = set(folder.glob("ansm-*")) - before
    assert len(after) == 5
    known = hashlib.sha256(start.read_bytes()).hexdigest()
    for run in after:
        (card,) = run.glob("*.json")
        assert json.loads(card.read_text())["start_sha256"] == known


def test_a_start_is_looked_for_before_anything_is_done(job, monkeypatch):
    monkeypatch.setattr(pipeline.generate, "generate", None)
    with pytest.raises(AdvbenchError, match="--start nowhere: no such file"):
        reproduce("table4", replace(job, start="nowhere"))


def test_table3_and_its_control(job, toy, monkeypatch, tmp_path):
    """RP above 100 % under attacks that see the truth: noted, and met again with target=pred."""
    monkeypatch.setattr(pipeline, "SIX", ("fgsm", "cw", "bim"))
    run = pipeline._Reproduction(job, lambda what, done, total: None)
    weights = run.train(toy, job.datasets[0], run.recipe(toy, {}))
    wanted = replace(job, weights=[str(weights)], attack_settings={"steps": (2,), "lr": 1e-3})
    real = pipeline.beside_published

    def leaking(records, table):
        found = real(records, table)
        return found.assign(rp=found.rp.clip(upper=99).where(found.attack != "fgsm", 120.0))

    monkeypatch.setattr(pipeline, "beside_published", leaking)
    found = reproduce("table3", wanted)
    assert list(found.attack.unique()) == ["original", "fgsm", "cw", "bim", "fgsm (target=pred)"]
    assert list(found.defense[:8]) == ["none"] * 4 + ["ansm"] * 4
    assert set(found.attack[found.note != ""]) == {"fgsm", "fgsm (target=pred)"}
    control = wanted.out / "reproduce" / "target-pred" / "shards"
    made = {path.name for path in (control / "tiny" / "toy").iterdir()}
    assert made == {"fgsm-1", "fgsm-2", "fgsm-3"}
    targets = [entry.settings.attack["target"] for entry in ShardStore(control).entries("tiny/toy")]
    assert set(targets) == {"pred"}


def test_other_images_and_intensities_that_lie_there_stay_out(job, small_dataset, toy):
    """``small_dataset`` is the same before it was divided, all of it test images."""
    fresh = reproduce("table5", job)
    crowded = replace(job, out=job.out.parent / "crowded")
    attack = advbench.load_attack("fgsm", eps=[1, 60])
    generate(GenerationJob(small_dataset, small_dataset.rows, toy, [attack], crowded.out))
    assert reproduce("table5", crowded).equals(fresh)


def test_several_datasets(job, pictures, tmp_path):
    import_folder(pictures, tmp_path / "again", "again")
    splits = ("train", "train", "val", "test", "test")
    again = divided(open_folder(tmp_path / "again"), tmp_path / "again", splits)
    both = replace(job, datasets=[*job.datasets, again])
    found = reproduce("table5", both)
    assert list(found.dataset) == ["again"] * 6 + ["tiny"] * 6
    elsewhere = replace(both, out=tmp_path / "elsewhere", training=again)
    trained = reproduce("table5", elsewhere)
    ours = [row(f, dataset="again", strategy="ffa", attack="fgsm").f1 for f in (found, trained)]
    assert ours[0] == ours[1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"typo": 1}, "recipe: typo: "),
        ({"noise": "several"}, "--set noise=several: makes ansm-multi; table6 is of ansm"),
        ({"first": "pwr"}, "--set first: the strategies of table6 decide that"),
        ({"epochs_mgr": 0}, "recipe: epochs_mgr: one of the two stages needs an epoch"),
    ],
)
def test_recipes_are_checked_before_anything_is_done(changes, told, job, monkeypatch):
    monkeypatch.setattr(pipeline.generate, "generate", None)
    with pytest.raises(AdvbenchError, match=told):
        reproduce("table6", replace(job, recipe=changes))


def test_networks_are_looked_for_before_anything_is_done(job, monkeypatch):
    monkeypatch.setattr(pipeline.generate, "generate", None)
    with pytest.raises(AdvbenchError, match="no shipped network for toy"):
        reproduce("table3", replace(job, recipe=None))


def test_no_test_images(job, small_dataset, tmp_path):
    dataset: Dataset = divided(small_dataset, tmp_path / "other", ("train",) * 4 + ("val",))
    with pytest.raises(AdvbenchError, match=r"no forged images in its test split; .*dataset split"):
        reproduce("table3", replace(job, datasets=[dataset]))
