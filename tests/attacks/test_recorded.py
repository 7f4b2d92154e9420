"""A recorded pass gives what the victim's own gives, to the bit, and is used only where it may."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import advbench
from advbench.attacks import recorded as module
from advbench.attacks.batching import side_by_side
from advbench.attacks.gradient import InputGradient
from advbench.attacks.pgd import PGD
from advbench.attacks.recorded import PAYS_FROM, recorded
from advbench.attacks.reference import reference_mode
from advbench.pipelines.scoring import Cell, Sample, Scorer
from advbench.registry import VICTIMS
from advbench.scores.protocols import protocol
from advbench.victims.base import Victim
from advbench.victims.tiling import SIDE

from .toys import Toy, pictures, wavy_net

CPU = torch.device("cpu")


class Recordable(Toy):
    """Counts how often Python comes by."""

    calls = 0

    def __init__(self) -> None:
        super().__init__(wavy_net())

    def recordable(self, height: int, width: int) -> bool:
        return True

    def logits(self, images: Tensor) -> Tensor:
        type(self).calls += 1
        return super().logits(images)


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    module._graphs.clear()
    yield
    torch.set_num_threads(before)


def in_threads(victim: Victim, sample: Tensor, passes: int = PAYS_FROM) -> Victim:
    with reference_mode(victim.network), side_by_side(CPU):
        return recorded(victim, sample, passes)


@pytest.mark.parametrize("name", VICTIMS.standard())
def test_numbers_are_the_victims_own_on_other_images_and_from_several_threads(name: str) -> None:
    victim = advbench.load_victim(name)
    side = victim.working_side or 136
    sample, *others = torch.rand(4, 1, 3, side, side, generator=torch.manual_seed(0))
    y = torch.zeros(1, 1, side, side)
    y[..., : side // 2] = 1

    def gradient(seen: Victim, x: Tensor) -> Tensor:
        return InputGradient(seen, y)(x)

    with reference_mode(victim.network):
        expected = [gradient(victim, x) for x in others]
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # none of the recorder's reaches the user
            twin = in_threads(victim, sample)
        assert twin is not victim
        with torch.inference_mode():
            assert torch.equal(twin.probabilities(others[0]), victim.probabilities(others[0]))
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(partial(gradient, twin), others * 3))
        for one, own in zip(found, expected * 3, strict=True):
            assert one.abs().amax() > 0
            assert torch.equal(one, own)
        with torch.no_grad():
            pair = others[0].repeat(2, 1, 1, 1)  # not what was recorded
            assert torch.equal(twin.logits(pair), victim.logits(pair))


def test_an_attack_passes_python_by_and_gives_the_same_bytes() -> None:
    victim, attack, some = Recordable(), PGD(eps=(3.0,), iterations=20), pictures(4)
    calls, images = [], []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        Recordable.calls = 0
        images.append(some.attacked(attack, victim)["pgd-3"].images)
        calls.append(Recordable.calls)
    assert calls[0] == 80
    assert calls[1] < 5
    assert torch.equal(*images)


def test_scores_are_the_same_too() -> None:
    some, victim = pictures(40), Recordable()
    images = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in some.images]
    samples = [
        Sample(name, "", "", image, image, mask.numpy())
        for name, image, mask in zip(some.ids, images, some.masks, strict=True)
    ]
    cells = [Cell(advbench.load_defense("none"), None)]
    scorer, calls, records = Scorer("toy", victim, protocol("f1/v1")), [], []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        Recordable.calls = 0
        records.append([r for found in scorer.side_by_side(samples, cells) for _, r in found])
        calls.append(Recordable.calls)
    assert calls[0] == 40
    assert calls[1] < 35
    assert repr(records[0]) == repr(records[1])


def test_it_is_the_victim_itself_where_nothing_is_gained_or_nothing_promised() -> None:
    victim, sample = Recordable(), torch.rand(1, 3, 16, 16)
    assert in_threads(victim, sample, PAYS_FROM - 1) is victim
    assert in_threads(victim, sample, 1) is not victim  # with those before
    with reference_mode(victim.network):
        assert recorded(victim, sample, PAYS_FROM) is victim  # no threads to wait for
    toy = Toy(wavy_net())
    assert in_threads(toy, sample) is toy
    ifosn = VICTIMS.get("ifosn")
    assert ifosn.recordable(ifosn.__new__(ifosn), SIDE, SIDE)
    assert not ifosn.recordable(ifosn.__new__(ifosn), SIDE, SIDE + 1)


def test_other_weights_are_recorded_again() -> None:
    victim, sample = Recordable(), torch.rand(1, 3, 16, 16)
    in_threads(victim, sample)
    with torch.no_grad():
        next(victim.network.parameters()).mul_(2)
        assert torch.equal(in_threads(victim, sample).logits(sample), victim.logits(sample))


def test_hooks_are_heard() -> None:
    victim, sample = Recordable(), torch.rand(1, 3, 16, 16)
    in_threads(victim, sample)
    layer = next(m for m in victim.network.modules() if isinstance(m, nn.Conv2d))
    with layer.register_forward_hook(lambda *_: None):
        assert in_threads(victim, sample) is victim
    assert in_threads(victim, sample) is not victim


def test_a_promise_that_is_not_kept_costs_nothing() -> None:
    class Moody(Recordable):
        def logits(self, images: Tensor) -> Tensor:
            return super().logits(images) + torch.rand(())

    class Broken(Recordable):
        def logits(self, images: Tensor) -> Tensor:
            raise RuntimeError("not today")

    for victim in (Moody(), Broken()):
        assert in_threads(victim, torch.rand(1, 3, 16, 16)) is victim


def test_only_the_latest_shapes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 2)
    victim = Recordable()
    shapes = [torch.rand(1, 3, 16, side) for side in (16, 17, 18)]
    for sample in shapes:
        in_threads(victim, sample)
    assert in_threads(victim, shapes[0], 1) is victim
    assert in_threads(victim, shapes[1], 1) is not victim
