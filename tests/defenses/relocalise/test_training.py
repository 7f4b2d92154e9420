"""Training of the writer: a frozen victim comes to say the map that is drawn."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import f1_score

from advbench.defenses.relocalise.network import Writer
from advbench.defenses.relocalise.training import RelocaliseRecipe, RelocaliseTask, marked_by
from advbench.training.data import Examples, changed
from advbench.training.loop import TrainingRun, fit

from ..ansm.toys import layered, pairs

RECIPE = RelocaliseRecipe(crop=32, batch=2, epochs=4, crops_per_image=8, tile=8, ema=0.9)
SOURCE = {"id": "made", "content_sha256": "0" * 64}


def localised(count: int, start: int = 0) -> Examples:
    """Pictures with a map that has nothing to do with what the victim sees in them."""
    marks = np.zeros((40, 44), np.bool_)
    marks[:, ::2] = True
    marks[20:] = False
    return changed(pairs(count, start), lambda image, mask: (image[..., :3].copy(), marks))


@pytest.mark.parametrize("eps", [0, 3])
def test_the_victim_comes_to_say_the_map(eps, tmp_path):
    victim, localizer = layered(3), layered(4)
    before = {k: v.clone() for k, v in victim.network.state_dict().items()}
    task = RelocaliseTask(victim, localizer, RECIPE.model_copy(update={"eps": eps}), SOURCE)
    path = fit(task, localised(4), localised(2, 100), TrainingRun(tmp_path))
    writer = Writer(8)
    writer.load_state_dict(load_file(path))
    unseen = localised(3, 200)
    agreed: list[list[float]] = [[], []]
    for number in range(3):
        image, marks = unseen.load(number)
        x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255
        m = torch.from_numpy(marks.copy())[None, None].float()
        with torch.no_grad():
            for place, seen in enumerate((x, writer(x, m))):
                said = (victim(seen)[0, 0] > victim.threshold).numpy()
                agreed[place].append(f1_score(marks.ravel(), said.ravel(), zero_division=0))
    assert np.mean(agreed[0]) < 0.4
    assert np.mean(agreed[1]) > 0.9
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["victim_sha256"] == victim.weights.sha256
    assert card["localizer"]["weights_sha256"] == localizer.weights.sha256
    assert card["val_agreement"] > 0.9
    assert card["parameters"] == 2 * 3 * 8 * 8
    assert all(torch.equal(v, before[k]) for k, v in victim.network.state_dict().items())


def test_a_mask_becomes_what_the_localizer_marks():
    localizer = layered()
    image, mask = pairs(1).load(0)
    same, marks = marked_by(localizer)(image[..., :3], mask)
    with torch.no_grad():
        found = localizer(torch.from_numpy(image[..., :3].copy()).permute(2, 0, 1)[None])
    assert np.array_equal(same, image[..., :3])
    assert np.array_equal(marks, found[0, 0].numpy() > localizer.threshold)
    assert marks.dtype == np.bool_
