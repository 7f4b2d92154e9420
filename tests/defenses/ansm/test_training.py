"""Training of ANSM: stages, losses, rates; the same after a kill; the victim left as it was."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import f1_score
from torch import Tensor

from advbench.defenses.ansm import training
from advbench.defenses.ansm.losses import mgr_loss
from advbench.defenses.ansm.network import AnsmNetwork
from advbench.defenses.ansm.recipe import AnsmRecipe
from advbench.defenses.ansm.training import FIRST_STAGE, AnsmTask, Start, train
from advbench.errors import AdvbenchError
from advbench.images import Image, Mask
from advbench.training import loop
from advbench.training.checkpoint import Checkpoint, read_state
from advbench.training.data import Crops, Examples
from advbench.training.task import Epoch

from . import loops
from .toys import LAYERS, Layered, disturbed, layered, pairs

RECIPE = AnsmRecipe(crop=32, batch=2, epochs_first=2, epochs_mgr=2, seed=1)
ONE_STEP = {"crop": 32, "batch": 4, "epochs_mgr": 0, "epochs_first": 1}
SOURCE = {"id": "made", "content_sha256": "0" * 64}


def run(folder: Path, recipe: AnsmRecipe = RECIPE, **changes: Any) -> Path:
    """Train on four pairs, with two to validate."""
    given = {
        "victim": layered(),
        "size": "small",
        "training": pairs(4),
        "validation": pairs(2, 100),
        "source": SOURCE,
    }
    own = {key: changes.pop(key) for key in ("report", "steps", "processes") if key in changes}
    return train(**(given | changes), recipe=recipe, run=loop.TrainingRun(folder, **own))


def curve(folder: Path) -> list[dict[str, str]]:
    """The lines of the curve, without the time they took."""
    lines = list(csv.DictReader(io.StringIO((folder / "curve.csv").read_text())))
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def checkpoint(folder: Path) -> dict[str, Any]:
    return read_state(folder / "checkpoint.pt")


class KilledError(Exception):
    pass


class Mortal(Layered):
    """Dies at one of its calls."""

    calls = 0
    last = 0

    def logits(self, images: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.last:
            raise KilledError
        return super().logits(images)


@dataclass(frozen=True)
class Whole:
    """A run that was not interrupted."""

    folder: Path
    weights: bytes
    calls: int


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder, victim = tmp_path_factory.mktemp("whole"), layered(cls=Mortal)
    path = run(folder, victim=victim)
    return Whole(folder, path.read_bytes(), victim.calls)


@pytest.mark.parametrize("seed", [0, 1, 3, 11])  # epochs 2, 0, 1 and 3
def test_a_run_killed_at_a_random_step_ends_as_if_it_was_not(seed, whole, tmp_path):
    victim = layered(cls=Mortal)
    victim.last = random.Random(seed).randrange(1, whole.calls + 1)
    with pytest.raises(KilledError):
        run(tmp_path, victim=victim)
    path = run(tmp_path)
    assert path.read_bytes() == whole.weights
    assert curve(tmp_path) == curve(whole.folder)
    assert [int(line["epoch"]) for line in curve(tmp_path)] == [0, 1, 2, 3]


@pytest.mark.parametrize("epoch", range(3))
def test_a_run_killed_between_epochs_ends_as_if_it_was_not(epoch, whole, tmp_path):
    """Between the stages, too."""

    def kill(line: Epoch) -> None:
        if line.epoch == epoch:
            raise KilledError

    with pytest.raises(KilledError):
        run(tmp_path, report=kill)
    assert len(curve(tmp_path)) == epoch + 1
    assert run(tmp_path).read_bytes() == whole.weights
    assert curve(tmp_path) == curve(whole.folder)


def test_the_curve_is_whole_after_a_kill_before_it_was_written(whole, tmp_path, monkeypatch):
    def kill(self: Checkpoint, curve: Any) -> None:
        if len(curve) == 4:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "write_curve", kill)
        with pytest.raises(KilledError):
            run(tmp_path)
    assert run(tmp_path).read_bytes() == whole.weights
    assert curve(tmp_path) == curve(whole.folder)


def test_a_finished_run_trains_no_more(whole, tmp_path):
    path = run(whole.folder, report=lambda line: pytest.fail("another epoch"))
    assert path.read_bytes() == whole.weights


@pytest.mark.parametrize("target", ["prediction", "truth"])
def test_goes_on_after_a_first_stage(target, tmp_path):
    """As if it had been one run; the first stage takes no second time."""
    recipe = RECIPE.model_copy(update={"target": target})
    whole = run(tmp_path / "whole", recipe)
    run(tmp_path / "first", recipe.model_copy(update=FIRST_STAGE))
    path = run(tmp_path / "second", recipe, after=tmp_path / "first")
    assert path.read_bytes() == whole.read_bytes()
    lines = (tmp_path / "first/curve.csv").read_bytes()
    assert (tmp_path / "second/curve.csv").read_bytes().startswith(lines)


@pytest.mark.parametrize("change", [{"seed": 2}, {"depth": "topmost"}, {"epochs_first": 1}])
def test_another_first_stage_is_refused(change, tmp_path):
    run(tmp_path / "first", RECIPE.model_copy(update=FIRST_STAGE | change))
    with pytest.raises(AdvbenchError, match="belongs to another recipe"):
        run(tmp_path / "second", after=tmp_path / "first")


def test_another_seed_gives_other_weights(whole, tmp_path):
    assert run(tmp_path, RECIPE.model_copy(update={"seed": 2})).read_bytes() != whole.weights


def test_victim_is_left_as_it_was(tmp_path):
    victim = layered()
    before = {key: value.clone() for key, value in victim.network.state_dict().items()}
    assert "1.running_mean" in before
    run(tmp_path, victim=victim)
    after = victim.network.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    for module in victim.network.modules():
        assert not module.training
        assert not module._forward_hooks
    assert all(p.grad is None and not p.requires_grad for p in victim.network.parameters())


def test_weights_card_and_curve(whole):
    path = whole.folder / "layered-small.safetensors"
    card = json.loads(path.with_suffix(".json").read_text())
    assert (card["defense"], card["size"]) == ("ansm", "small")
    assert card["victim"] == "layered"
    assert card["victim_sha256"] == f"{3:064x}"
    assert AnsmRecipe(**card["recipe"]) == RECIPE
    assert card["pairs"] == SOURCE
    network = AnsmNetwork("small")
    network.load_state_dict(load_file(path))
    assert card["parameters"] == sum(p.numel() for p in network.parameters())
    assert (whole.folder / "layered-small.curve.csv").read_bytes() == (
        whole.folder / "curve.csv"
    ).read_bytes()


@torch.no_grad()
def test_validation_is_residual_performance(whole):
    """Against scikit-learn, with the weights that were saved."""
    path = whole.folder / "layered-small.safetensors"
    card = json.loads(path.with_suffix(".json").read_text())
    network = AnsmNetwork("small").eval()
    network.load_state_dict(load_file(path))
    victim, examples = layered(), pairs(2, 100)
    scores = []
    for number in range(2):
        both, truth = examples.load(number)
        clean, adversarial = torch.from_numpy(both / 255).permute(2, 0, 1).float()[None].chunk(2, 1)
        maps = [victim.logits(x) for x in (clean, network(clean), network(adversarial))]
        forged = [(torch.sigmoid(z) > 0.4).flatten() for z in maps]
        scores.append([f1_score(truth.ravel(), f) for f in forged])
    undefended, original, fgsm = np.mean(scores, 0)
    assert 0.3 < undefended < 1
    assert card["val_rp_original"] == pytest.approx(100 * original / undefended, abs=0.006)
    assert card["val_rp_fgsm"] == pytest.approx(100 * fgsm / undefended, abs=0.006)


def test_last_epoch_of_a_first_stage_alone_is_kept(tmp_path, monkeypatch):
    """It trades originals for noise, so its best mean is where nothing is learnt."""
    found = iter([(0.9, 0.9), (0.9, 0.9), (0.1, 0.5)])
    monkeypatch.setattr(AnsmTask, "validate", lambda *_: dict(zip("ab", next(found), strict=True)))
    path = run(tmp_path, RECIPE.model_copy(update=FIRST_STAGE | {"epochs_first": 2}))
    assert json.loads(path.with_suffix(".json").read_text())["best_epoch"] == 1


def test_best_epoch_of_the_second_stage_is_kept(tmp_path, monkeypatch):
    """By the mean of both RP, the last of equals; the first stage does not count."""
    found = iter([(0.9, 0.9), (0.9, 0.9), (0.5, 0.25), (0.5, 0.75), (0.75, 0.5), (0.9, 0.1)])
    monkeypatch.setattr(AnsmTask, "validate", lambda *_: dict(zip("ab", next(found), strict=True)))
    states: list[dict[str, Tensor]] = []
    path = run(
        tmp_path,
        RECIPE.model_copy(update={"epochs_mgr": 4, "ema": 0.0}),
        report=lambda line: states.append(checkpoint(tmp_path)["network"]),
    )
    assert json.loads(path.with_suffix(".json").read_text())["best_epoch"] == 4
    saved = load_file(path)
    same = [all(torch.equal(saved[k], state[k]) for k in saved) for state in states]
    assert same == [False, False, False, False, True, False]


def test_a_moving_average_of_the_weights_is_kept(tmp_path):
    """One step an epoch: the average begins with the first weights, and half of each is new."""
    states: list[dict[str, Tensor]] = []
    path = run(
        tmp_path,
        AnsmRecipe(**(ONE_STEP | {"epochs_first": 3, "ema": 0.5})),
        report=lambda line: states.append(checkpoint(tmp_path)["network"]),
    )
    best = json.loads(path.with_suffix(".json").read_text())["best_epoch"]
    saved = load_file(path)
    for key in ("encoder.conv_stem.weight", "ups.4.2.running_var"):
        average = states[0][key]
        for state in states[1 : best + 1]:
            average = (average + state[key]) / 2
        torch.testing.assert_close(saved[key], average)
        assert best == 0 or not torch.equal(saved[key], states[best][key])


def first_loss(folder: Path, **fields: Any) -> float:
    """Loss of one step, before which the network changes nothing."""
    lines: list[Epoch] = []
    run(folder, AnsmRecipe(**(ONE_STEP | fields)), report=lines.append)
    return lines[0].loss


def crops() -> tuple[Tensor, Tensor, Tensor]:
    """Originals, adversarial images and masks of that step."""
    ((both, masks),) = Crops(pairs(4), AnsmRecipe(**ONE_STEP)).epoch(0)
    return both[:, :3], both[:, 3:], masks


@torch.no_grad()
def features(images: Tensor) -> dict[str, Tensor]:
    """What each layer of the victim gives."""
    found, x = {}, images - 0.5
    for name, module in layered().network.named_children():
        x = module(x)
        found[name] = x
    return found


@pytest.mark.parametrize("depth", ["shallow", "middle", "topmost"])
def test_first_stage_aligns_features_of_a_third(depth, tmp_path):
    clean, adversarial, _ = crops()
    original, processed = features(clean), features(adversarial)
    expected = loops.ffa(*([maps[k] for k in LAYERS[depth]] for maps in (original, processed)))
    assert first_loss(tmp_path, depth=depth) == pytest.approx(expected, rel=1e-4)


def test_first_stage_by_pixels(tmp_path):
    """Every pixel is three levels off, turned and flipped or not."""
    assert first_loss(tmp_path, first="pwr") == pytest.approx(3 / 255, rel=1e-5)
    assert [line["stage"] for line in curve(tmp_path)] == ["pwr"]


@pytest.mark.parametrize("target", ["prediction", "truth"])
@torch.no_grad()
def test_second_stage_refines_towards_a_mask(target, tmp_path):
    clean, adversarial, truth = crops()
    victim = layered()
    logits = [victim.logits(images) for images in (clean, adversarial)]
    own = (torch.sigmoid(logits[0]) > 0.4).float()
    assert not torch.equal(own, truth)
    masks = own if target == "prediction" else truth
    expected = sum(loops.mask(z, masks, 0.2) for z in logits)
    stages = {"epochs_first": 0, "epochs_mgr": 1, "mask_weight": 0.2}
    with torch.enable_grad():
        found = first_loss(tmp_path, **stages, target=target)
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("first", "mgr"), [(0, 2), (2, 0), (1, 1)])
def test_a_stage_can_be_left_out(first, mgr, tmp_path):
    stages = {"epochs_first": first, "epochs_mgr": mgr, "lr_first": 1e-3, "lr_mgr": 2e-4}
    run(tmp_path, AnsmRecipe(**(ONE_STEP | stages)))
    assert [line["stage"] for line in curve(tmp_path)] == ["ffa"] * first + ["mgr"] * mgr
    found = [float(line["learning_rate"]) for line in curve(tmp_path)]
    assert found == [1e-3] * first + [2e-4] * mgr


def test_second_stage_has_an_optimiser_of_its_own(whole):
    """Its moments are as old as its steps: two epochs of two."""
    state = checkpoint(whole.folder)["optimizer"]
    assert {float(moments["step"]) for moments in state["state"].values()} == {4}
    (group,) = state["param_groups"]
    assert (group["lr"], group["weight_decay"]) == (RECIPE.lr_mgr, RECIPE.weight_decay)


def test_rate_falls_on_a_plateau_and_starts_anew(tmp_path):
    """Nothing to reconstruct: a loss of zero cannot fall, so the eleventh epoch without a gain is
    followed by nine tenths of the rate; a run that was interrupted counts on."""
    fields = {"first": "pwr", "crop": 40, "batch": 1, "epochs_first": 13, "epochs_mgr": 1}
    recipe = AnsmRecipe(**fields)

    def kill(line: Epoch) -> None:
        if line.epoch == 6:
            raise KilledError

    same = {"training": pairs(1, noise=0), "validation": pairs(1, 100)}
    with pytest.raises(KilledError):
        run(tmp_path, recipe, **same, report=kill)
    run(tmp_path, recipe, **same)
    assert [float(line["loss"]) for line in curve(tmp_path)[:13]] == [0] * 13
    rates = [float(line["learning_rate"]) for line in curve(tmp_path)]
    assert rates == [*[1e-3] * 12, pytest.approx(9e-4), 3e-4]


def test_size_of_the_features_loss_does_not_matter(tmp_path, monkeypatch):
    """The larger the images, the smaller the loss of FFA: it must teach as much."""
    recipe = AnsmRecipe(crop=32, batch=2, epochs_first=1, epochs_mgr=0)
    learnt = [load_file(run(tmp_path / "1", recipe))]
    real = training.ffa_loss
    monkeypatch.setattr(training, "ffa_loss", lambda *features: 1e-4 * real(*features))
    learnt.append(load_file(run(tmp_path / "2", recipe)))
    start = AnsmTask(layered(), "small", recipe, SOURCE).network.state_dict()
    names = [name for name in start if name.endswith("weight")]
    moved = sum(float((learnt[0][n] - start[n]).abs().sum()) for n in names)
    apart = sum(float((learnt[0][n] - learnt[1][n]).abs().sum()) for n in names)
    assert apart < 0.5 * moved


@pytest.mark.parametrize("stage", ["ffa", "pwr", "mgr"])
def test_loss_falls(stage, tmp_path):
    first = {"epochs_first": 0, "epochs_mgr": 10} if stage == "mgr" else {"first": stage}
    fields = ONE_STEP | {"epochs_first": 10, "lr_first": 1e-2, "lr_mgr": 1e-2} | first
    run(tmp_path, AnsmRecipe(**fields), training=pairs(4, noise=30, fading=True))
    losses = [float(line["loss"]) for line in curve(tmp_path)]
    assert np.mean(losses[-3:]) < 0.9 * losses[0]


@pytest.mark.parametrize(("first", "field"), [(2, "lr_first"), (1, "lr_mgr")])
def test_a_diverged_run_is_told_and_keeps_what_it_had(first, field, tmp_path, monkeypatch):
    recipe = AnsmRecipe(crop=32, batch=2, epochs_first=first, epochs_mgr=1)
    real = loop._Trainer._train

    def diverge(self, number, *rest):
        loss = real(self, number, *rest)
        if number == 1:
            next(self.task.network.parameters()).data[:] = float("nan")
        return loss

    monkeypatch.setattr(loop._Trainer, "_train", diverge)
    with pytest.raises(AdvbenchError, match=f"diverged in epoch 2: .* lower --set {field}=RATE"):
        run(tmp_path, recipe)
    assert not list(tmp_path.glob("*.safetensors"))
    assert all(value.isfinite().all() for value in checkpoint(tmp_path)["network"].values())


def test_starts_from_weights_of_another_run(tmp_path):
    still = AnsmRecipe(**ONE_STEP, lr_first=1e-12, weight_decay=0, ema=0)
    file = tmp_path / "start.safetensors"
    save_file(disturbed().state_dict(), file)
    start = Start.read(file, "small", "nearest")
    path = run(tmp_path / "run", still, start=start)
    before, after = load_file(file), load_file(path)
    for name, _ in AnsmNetwork("small").named_parameters():
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-9)
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["start_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert run(tmp_path / "run", still, start=start) == path
    with pytest.raises(AdvbenchError, match="belongs to another"):
        run(tmp_path / "run", still, start=Start("1" * 64, start.state))
    with pytest.raises(AdvbenchError, match="belongs to another"):
        run(tmp_path / "run", still)


def test_start_of_another_shape_is_refused(tmp_path):
    file = tmp_path / "start.safetensors"
    save_file(disturbed().state_dict(), file)
    with pytest.raises(AdvbenchError, match=r"start\.safetensors: is of size small; give --size"):
        Start.read(file, "full", "nearest")
    with pytest.raises(AdvbenchError, match="give --set upsampling=nearest, as that network has"):
        Start.read(file, "small", "subpixel")


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": RECIPE.model_copy(update={"epochs_mgr": 3})},
        {"victim": layered(4)},
        {"source": SOURCE | {"content_sha256": "1" * 64}},
    ],
    ids=["recipe", "victim", "pairs"],
)
def test_another_run_in_the_same_folder_is_refused(change, whole):
    with pytest.raises(AdvbenchError, match=r"belongs to another .* give another --to"):
        run(whole.folder, **change)


@pytest.mark.parametrize("content", [b"", b"?", b"hello", b"\x80\x02]q\x00."], ids=repr)
def test_damaged_checkpoint_is_named(content, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(AdvbenchError, match=r"checkpoint\.pt: damaged; remove"):
        run(tmp_path)


def test_less_than_a_batch_is_refused(tmp_path):
    with pytest.raises(AdvbenchError, match=r"4 training images .* batch of 5"):
        run(tmp_path, RECIPE.model_copy(update={"batch": 5}))


def originals(count: int, start: int = 0) -> Examples:
    """The pictures of :func:`pairs` without their adversarial halves."""
    both = pairs(count, start)

    def load(number: int) -> tuple[Image, Mask]:
        image, mask = both.load(number)
        return image[..., :3], mask

    return Examples(both.names, load)


@pytest.mark.parametrize("noise", ["fgsm", "varied", "several"])
def test_noise_on_the_fly_needs_originals_alone(tmp_path: Path, noise: str) -> None:
    recipe = RECIPE.model_copy(update={"noise": noise})
    path = run(tmp_path / "a", recipe, training=originals(4))
    again = run(tmp_path / "b", recipe, training=originals(4))
    other = run(tmp_path / "c", training=pairs(4))
    assert path.read_bytes() == again.read_bytes()
    assert load_file(path).keys() == load_file(other).keys()


def test_a_kill_changes_nothing_of_noise_on_the_fly(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"noise": "several"})
    whole = run(tmp_path / "whole", recipe, training=originals(4))

    def kill(epoch: Epoch) -> None:
        if epoch.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", recipe, training=originals(4), report=kill)
    assert run(tmp_path / "cut", recipe, training=originals(4)).read_bytes() == whole.read_bytes()


def test_each_stage_has_its_own_cosine(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(
        update={"schedule": "cosine", "epochs_first": 3, "epochs_mgr": 3, "batch": 1, "crop": 64}
    )
    run(tmp_path, recipe, training=pairs(8))
    rates = [float(line["learning_rate"]) for line in curve(tmp_path)]
    for start, peak in ((0, recipe.lr_first), (3, recipe.lr_mgr)):
        stage = rates[start : start + 3]
        assert stage == sorted(stage, reverse=True)
        assert stage[0] > 0.6 * peak
        assert 0.01 * peak <= stage[-1] < 0.1 * peak


def refined(**recipe: float) -> float:
    """The second stage's loss of one batch, with the same network each time."""
    settings = AnsmRecipe(crop=32, batch=4, epochs_first=0, **recipe)
    task = AnsmTask(layered(), "small", settings, SOURCE)
    task.network = disturbed()
    images, masks = next(iter(Crops(pairs(4), settings).epoch(0)))
    task.start_epoch(0)
    with torch.no_grad():
        return float(task.loss(images, masks))


def test_fidelity_and_features_are_added_to_mgr() -> None:
    plain = refined()
    kept, kept_more = refined(fidelity=1.0) - plain, refined(fidelity=3.0) - plain
    assert kept > 0
    assert kept_more == pytest.approx(3 * kept, rel=1e-3)
    assert refined(feature_weight=1e6) > plain


def test_a_soft_target_is_the_victims_map() -> None:
    """An unchanged original costs least when its own map is the target."""
    images, _ = next(iter(Crops(pairs(4), AnsmRecipe(crop=32, batch=4)).epoch(0)))
    victim = layered()
    with torch.no_grad():
        soft = victim.probabilities(images[:, :3].contiguous())
        logits = victim.logits(images[:, :3].contiguous())
    assert ((soft > 0.05) & (soft < 0.95)).any()
    hard = (soft > victim.threshold).float()
    expected = mgr_loss(logits, logits, soft) - mgr_loss(logits, logits, hard)
    same = pairs(4, noise=0)
    task = {
        flag: AnsmTask(
            victim,
            "small",
            AnsmRecipe(crop=32, batch=4, epochs_first=0, soft_target=flag),
            SOURCE,
        )
        for flag in (True, False)
    }
    images, masks = next(iter(Crops(same, AnsmRecipe(crop=32, batch=4)).epoch(0)))
    losses = {}
    for flag, one in task.items():
        one.start_epoch(0)
        losses[flag] = one.loss(images, masks).item()
    assert losses[True] - losses[False] == pytest.approx(float(expected), rel=1e-4)


def test_noise_on_the_fly_is_of_whole_levels() -> None:
    with pytest.raises(AdvbenchError, match="whole number of grey levels"):
        AnsmRecipe.parse("recipe", {"noise": "fgsm", "eps": 2.5})
