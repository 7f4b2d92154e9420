"""The shipped files: whole, for the shipped victims, and what they draw is the localizer's map."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import advbench
from advbench.images import to_tensor, to_unit
from advbench.pipelines.load import load_dataset
from advbench.pipelines.provenance import victim_identity

FOLDER = Path(__file__).parents[3] / "defenses" / "relocalise" / "pretrained"
LOCALIZERS = {"mvssnet": "ifosn", "ifosn": "mvssnet", "hdfnet": "mvssnet", "code": "mvssnet"}


def test_each_victim_has_one_and_there_is_no_other():
    assert {path.stem for path in FOLDER.glob("*.safetensors")} == {
        f"{v}-small" for v in LOCALIZERS
    }


@pytest.mark.parametrize("name", LOCALIZERS)
def test_card_tells_the_file_the_victim_and_the_localizer(name):
    card = json.loads((FOLDER / f"{name}-small.json").read_text())
    data = (FOLDER / f"{name}-small.safetensors").read_bytes()
    assert card["sha256"] == hashlib.sha256(data).hexdigest()
    assert card["victim_sha256"] == advbench.load_victim(name).weights.sha256
    localizer = advbench.load_victim(LOCALIZERS[name])
    assert card["localizer"] == {
        "name": localizer.name,
        "size": "small",
        "weights_sha256": localizer.weights.sha256,
    }


@pytest.mark.parametrize("name", LOCALIZERS)
def test_the_victim_says_what_the_localizer_does(name, tmp_path):
    """On test images of which the localizer marks something: the mean IoU of the two networks'
    maps, beside that of the victim's own."""
    victim, localizer = (advbench.load_victim(one) for one in (name, LOCALIZERS[name]))
    defense = advbench.load_defense("relocalise").for_victim(victim_identity(victim))
    dataset = load_dataset("builtin", tmp_path)
    before, behind = [], []
    for row in dataset.select("test", label=1)[::16]:
        x = to_unit(to_tensor(victim.fit(dataset.image(row))))
        with torch.inference_mode():
            wanted = localizer.probabilities(x) > localizer.threshold
            if wanted.float().mean() < 0.01:
                continue
            for found, image in ((before, x), (behind, defense.defend(x, None, [()]))):
                marks = victim.probabilities(image) > victim.threshold
                found.append(((marks & wanted).sum() / (marks | wanted).sum()).item())
    assert len(behind) > 5
    assert np.mean(behind) > np.mean(before) + 0.05
