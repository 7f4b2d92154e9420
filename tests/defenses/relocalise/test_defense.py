"""Another localizer's map, drawn: by hand the same, no further than said, with a way through."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import advbench
from advbench.defenses.relocalise.defense import Relocalise
from advbench.defenses.relocalise.localizer import localised
from advbench.errors import AdvbenchError, NoNetworkError
from advbench.images import to_unit
from advbench.victims.base import Victim

ONE, OTHER = ({"name": "toy", "size": "small", "weights_sha256": c * 64} for c in "1a")
SIDE = 5
Write = dict[str, Tensor]


@pytest.fixture(scope="module")
def localizer() -> Victim:
    return advbench.load_victim("mvssnet")


@pytest.fixture(scope="module")
def tiles() -> Write:
    draws = torch.Generator().manual_seed(0)
    return {
        name: 2 * torch.randn(3, SIDE, SIDE, generator=draws) for name in ("forged", "authentic")
    }


@pytest.fixture
def written(tmp_path: Path, localizer: Victim, tiles: Write):
    """Writes a file with its card, changed as told, and returns its path."""

    def write(state: Write = tiles, **changes: object) -> str:
        path = tmp_path / "w.safetensors"
        save_file(state, path)
        card = {
            "defense": "relocalise",
            "victim_sha256": ONE["weights_sha256"],
            "sha256": sha256(path.read_bytes()).hexdigest(),
            "localizer": {
                "name": "mvssnet",
                "size": "small",
                "weights_sha256": localizer.weights.sha256,
            },
        }
        path.with_suffix(".json").write_text(json.dumps(card | changes))
        return str(path)

    return write


@pytest.fixture
def images() -> Tensor:
    """Noise beside a smooth part, on which the localizer marks one and not the other."""
    rng = np.random.default_rng(3)
    image = np.full((256, 256, 3), 128.0) + np.linspace(-90, 90, 256)[:, None, None]
    image[40:150, 60:200] = rng.integers(0, 256, (110, 140, 3))
    return to_unit(torch.from_numpy(image.clip(0, 255).astype(np.uint8)).permute(2, 0, 1)[None])


def by_hand(image: np.ndarray, marks: np.ndarray, tiles: Write) -> np.ndarray:
    """x + 120/255 · (m tanh A + (1 - m) tanh B) pixel by pixel, for H×W×3 and H×W."""
    a, b = (np.tanh(tiles[name].double().numpy()) for name in ("forged", "authentic"))
    y, x = np.indices(marks.shape)
    forged, authentic = (np.moveaxis(t[:, y % SIDE, x % SIDE], 0, 2) for t in (a, b))
    m = marks[..., None]
    return np.clip(image + 120 / 255 * (m * forged + (1 - m) * authentic), 0, 1)


def test_draws_what_the_localizer_says(written, images, localizer, tiles):
    defended = Relocalise(writers=(written(),)).for_victim(ONE)(images, ["d/a"])["relocalise"]
    with torch.no_grad():
        marks = (localizer(images)[0, 0] > 0.5).double().numpy()
    assert 0.01 < marks.mean() < 0.99
    expected = by_hand(images[0].permute(1, 2, 0).double().numpy(), marks, tiles)
    assert np.abs(defended[0].permute(1, 2, 0).numpy() - expected).max() < 1e-6
    assert 100 < 255 * (defended - images).abs().max() <= 120 + 1e-3


def test_attacks_pass_through_its_probabilities(written, images, tiles):
    """The values are those of the binary map, the gradient that of the soft one."""
    bound = Relocalise(writers=(written(),)).for_victim(ONE)
    assert bound.surrogates == ("identity", "smooth")
    crop = images[..., 20:84, 40:104]
    weights = torch.linspace(-1, 1, crop.numel()).view_as(crop)
    found = []
    for way in (lambda x: bound.through(x, None, [()], "smooth"), lambda x: bound.smooth(x, None)):
        x = crop.clone().requires_grad_()
        drawn = way(x)
        (drawn * weights).sum().backward()
        found.append((drawn.detach(), x.grad))
    assert torch.allclose(found[0][0], bound.defend(crop, None, [()]), atol=1e-6)
    assert torch.equal(found[0][1], found[1][1])
    unclipped = weights * ((found[1][0] > 0) & (found[1][0] < 1))
    assert not torch.allclose(found[0][1], unclipped)  # more than what passes beside the map


@pytest.mark.parametrize("shape", [(256, 256), (40, 64)])
def test_a_localizer_sees_its_own_size(shape, localizer, images):
    some = images[..., : shape[0], : shape[1]]
    with torch.no_grad():
        found = localised(localizer, some)
        image = (some[0] * 255).round().byte().permute(1, 2, 0).numpy()
        fitted = torch.from_numpy(localizer.fit(image)).permute(2, 0, 1)[None]
        expected = torch.nn.functional.interpolate(localizer(fitted), shape, mode="bilinear")
    assert found.shape[2:] == shape
    assert (found - expected).abs().mean() < 0.02  # but for the rounding to levels


def test_the_specification_names_both(written, localizer):
    path = written()
    spec = Relocalise(writers=(path,)).for_victim(ONE).variant_spec(None)
    assert spec["weights_sha256"] == sha256(Path(path).read_bytes()).hexdigest()
    assert spec["localizer"]["weights_sha256"] == localizer.weights.sha256


@pytest.mark.parametrize(
    ("changes", "victim", "expected"),
    [
        ({}, OTHER, "none is for toy (small) with weights aaaaaaaaaaaa; train it with: advbench "),
        ({"defense": "ansm"}, ONE, "w.safetensors: not of relocalise, as its card says"),
        ({"localizer": None}, ONE, "its card, the JSON file beside it, names no localizer"),
        (
            {"localizer": {"name": "mvssnet", "size": "small", "weights_sha256": "b" * 64}},
            ONE,
            "mvssnet (small): advbench ships no weights bbbbbbbbbbbb",
        ),
    ],
)
def test_files_that_do_not_serve(changes, victim, expected, *, written):
    with pytest.raises(AdvbenchError) as caught:
        Relocalise(writers=(written(**changes),)).for_victim(victim)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "state",
    [
        {"forged": torch.zeros(3, 4, 4)},
        {"forged": torch.zeros(3, 4, 4), "authentic": torch.zeros(3, 5, 5)},
        {"forged": torch.tensor(1.0), "authentic": torch.tensor(1.0)},
    ],
)
def test_other_weights_are_refused(state, written):
    with pytest.raises(AdvbenchError, match="no weights of relocalise; give a file that"):
        Relocalise(writers=(written(state),)).for_victim(ONE)


def test_without_a_shipped_file_it_has_no_network():
    with pytest.raises(NoNetworkError, match="train it with: advbench train relocalise --victim"):
        Relocalise().for_victim(ONE)
    with pytest.raises(AdvbenchError, match="belongs to a victim"):
        Relocalise()(torch.zeros(1, 3, 8, 8), ["d/a"])
