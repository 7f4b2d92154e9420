"""Calibration: the bias of the output is shifted to where F1 less false alarms is highest."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from advbench.engines.processes import Processes
from advbench.errors import AdvbenchError
from advbench.registry import VICTIMS
from advbench.training.calibration import calibrate
from advbench.training.data import Examples
from advbench.training.loop import TrainingRun
from advbench.training.recipe import Recipe
from advbench.training.victim import train
from advbench.victims.base import Victim
from advbench.victims.weights import Weights


class Brightness(Victim):
    """Forged where the red channel, in tenths of logits a grey level, is above the bias."""

    name = "brightness"
    output_bias = "bias"

    @classmethod
    def build_network(cls, size):
        return nn.Conv2d(3, 1, 1)

    def logits(self, images):
        return self.network(images)

    def taps(self, depth):
        return {}


class Fixed(Brightness):
    name = "fixed"
    output_bias = ""


def brightness(bias: float) -> Brightness:
    network = Brightness.build_network("small")
    with torch.no_grad():
        network.weight.copy_(torch.tensor([25.5, 0, 0])[None, :, None, None])
        network.bias.fill_(bias)
    return Brightness(network, Weights("", "test"), "small")


def pictures(forged: int, elsewhere: int, authentic: int | None = None) -> Examples:
    """A forged square of one level on another, and, if asked, an authentic image of one level."""
    image = np.full((32, 32, 3), elsewhere, np.uint8)
    mask = np.zeros((32, 32), bool)
    mask[8:24, 8:24] = True
    image[mask] = forged
    every = [(image, mask)]
    if authentic is not None:
        every.append((np.full_like(image, authentic), np.zeros_like(mask)))
    return Examples([str(i) for i in range(len(every))], lambda number: every[number])


@pytest.mark.parametrize("bias", [-2.5, -5.0, -7.5])
def test_a_bias_too_high_or_too_low_is_put_between_forged_and_authentic_levels(bias):
    """Logits are a tenth of the level plus the bias: 52 is to be marked and 48 not, so any bias
    between -5.2 and -4.8 is right."""
    victim = brightness(bias)
    point = calibrate(victim, pictures(52, 48), Processes())
    assert float(victim.network.bias) == bias + point.shift == -5
    assert (point.val_f1, point.val_marked) == (1, 0)


def test_it_looks_further_than_three_logits_while_that_is_better():
    """Beside the square of level 62 lie columns of levels 20 to 51, fewer of which are marked the
    lower the bias; from -5.1 on none is, and the square still is at -6."""
    image = np.repeat(np.arange(20, 52, dtype=np.uint8)[None, :, None], 32, 0).repeat(3, 2)
    mask = np.zeros((32, 32), bool)
    mask[8:24, 8:24] = True
    image[mask] = 62
    point = calibrate(
        brightness(-1.0), Examples(["ramp"], lambda number: (image, mask)), Processes()
    )
    assert (point.shift, point.val_f1) == (-4.5, 1)


def test_false_alarms_on_authentic_images_count_against_f1():
    """At -4.75 the square of level 50 alone is marked of the forged image, but an authentic image
    of level 60 whole; at -6.25 neither is."""
    point = calibrate(brightness(-4.75), pictures(50, 46), Processes())
    assert (point.shift, point.worth) == (0, 1)
    point = calibrate(brightness(-4.75), pictures(50, 46, authentic=60), Processes())
    assert (point.val_f1, point.val_marked, point.worth) == (1, 1, 0)
    point = calibrate(brightness(-4.75), pictures(64, 46, authentic=60), Processes())
    assert (point.val_f1, point.val_marked, point.shift) == (1, 0, -1.5)


def test_trained_weights_are_saved_calibrated_and_the_card_says_so(tmp_path):
    recipe = Recipe(epochs=1, crop=32, batch=1, learning_rate=1e-12, guidance=0, weight_decay=0)
    # Calibrated on forged images alone, the shift would be -1.
    level = np.full((32, 32, 3), 52, np.uint8)
    authentic = Examples(["authentic"], lambda number: (level, np.zeros((32, 32), bool)))
    paths = [
        train(
            Brightness,
            "small",
            pictures(64, 46),
            pictures(64, 46),
            source={"id": "toy", "content_sha256": "0"},
            recipe=recipe.model_copy(update={"calibrate": calibrated}),
            run=TrainingRun(tmp_path / str(calibrated)),
            start=brightness(-4.0),
            authentic=authentic,
        )
        for calibrated in (False, True)
    ]
    plain, calibrated = (load_file(path) for path in paths)
    assert float(calibrated["bias"] - plain["bias"]) == pytest.approx(-1.5)
    assert torch.equal(calibrated["weight"], plain["weight"])
    cards = [json.loads(path.with_suffix(".json").read_text()) for path in paths]
    assert "calibration" not in cards[0]
    assert cards[1]["calibration"] == {"shift": -1.5, "val_f1": 1, "val_marked": 0}


def test_a_victim_that_names_no_bias_is_refused_before_training(tmp_path):
    with pytest.raises(AdvbenchError, match="fixed names no output_bias; set that attribute"):
        train(
            Fixed,
            "small",
            pictures(64, 46),
            pictures(64, 46),
            source={"id": "toy", "content_sha256": "0"},
            recipe=Recipe(calibrate=True),
            run=TrainingRun(tmp_path / "run"),
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["mvssnet", "ifosn", "hdfnet", "code"])
def test_the_bias_that_each_victim_names_moves_its_logits(name):
    victim = VICTIMS.get(name).load("small", None)
    images = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = victim.logits(images)
        victim.network.get_parameter(victim.output_bias).add_(0.5)
        moved = victim.logits(images) - before
    assert (moved >= 0).all()
    assert moved.mean() > 0.1
