"""A recorded pass gives what the victim's own gives, to the bit, and is used only where it may."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import advbench
from advbench.attacks import recorded as module
from advbench.attacks.gradient import InputGradient
from advbench.attacks.pgd import PGD
from advbench.attacks.recorded import PAYS_FROM, recorded
from advbench.inference.batching import side_by_side
from advbench.inference.numerics import reference_mode
from advbench.pipelines.scoring import Cell, Sample, Scorer
from advbench.registry import VICTIMS
from advbench.scores.protocols import protocol
from advbench.victims.base import Victim
from advbench.victims.ifosn.tiling import SIDE

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
        with torch.inference_mode(), side_by_side(CPU):
            scored = recorded(victim, sample, PAYS_FROM, "probabilities")
            assert scored is not victim
            assert torch.equal(scored.probabilities(others[0]), victim.probabilities(others[0]))
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


def test_a_subclass_promises_for_itself() -> None:
    class Inverting(Recordable):
        def logits(self, images: Tensor) -> Tensor:
            return super().logits(1 - images if images.mean() > 0.5 else images)

    inverting = Inverting()
    assert in_threads(inverting, torch.rand(1, 3, 16, 16)) is inverting


def test_two_victims_may_share_a_network() -> None:
    """Of ``code`` and the same with gradients masked, which differ in an attribute alone."""
    plain = advbench.load_victim("code")
    sample = torch.rand(1, 3, 64, 64)
    in_threads(plain, sample)
    masked = copy.copy(plain)
    masked.margin = 0.2
    for victim in (masked, plain):
        twin = in_threads(victim, sample)
        assert twin is not victim
        assert torch.equal(twin.logits(sample), victim.logits(sample))
    assert not torch.equal(masked.logits(sample), plain.logits(sample))


def double_a_weight(network: nn.Sequential) -> None:
    with torch.no_grad():
        network[0].weight.mul_(2)


def put_another_weight(network: nn.Sequential) -> None:
    network[0].weight = nn.Parameter(network[0].weight * 2, requires_grad=False)


def put_another_module(network: nn.Sequential) -> None:
    network[1] = nn.Tanh()


def put_another_forward(network: nn.Sequential) -> None:
    network[1].forward = torch.tanh


def change_a_setting(network: nn.Sequential) -> None:
    network[0].padding_mode = "reflect"
    network[0]._reversed_padding_repeated_twice = [1, 1, 1, 1]


@pytest.mark.parametrize(
    "change",
    [
        double_a_weight,
        put_another_weight,
        put_another_module,
        put_another_forward,
        change_a_setting,
    ],
)
def test_a_victim_that_was_changed_is_recorded_again(
    change: Callable[[nn.Sequential], None],
) -> None:
    victim, sample = Recordable(), torch.rand(1, 3, 16, 16)
    in_threads(victim, sample)
    before = victim.logits(sample)
    change(victim.network)
    twin = in_threads(victim, sample)
    assert twin is not victim
    assert torch.equal(twin.logits(sample), victim.logits(sample))
    assert not torch.equal(victim.logits(sample), before)


def test_hooks_are_heard() -> None:
    """Of every kind, set before or after the pass was recorded."""
    victim, sample = Recordable(), torch.rand(1, 3, 16, 16)
    twin = in_threads(victim, sample)
    layer = victim.network[0]
    everywhere = nn.modules.module.register_module_forward_hook
    heard = []

    def listen(*_: object) -> None:
        heard.append(1)

    for listened in (
        layer.register_forward_hook,
        layer.register_forward_pre_hook,
        layer.register_full_backward_hook,
        everywhere,
    ):
        hook = listened(listen)
        assert in_threads(victim, sample) is victim
        heard.clear()
        x = sample.clone().requires_grad_()
        twin.logits(x).sum().backward()
        hook.remove()
        assert heard
    assert in_threads(victim, sample) is not victim


def test_a_copy_or_pickle_of_the_twin_is_of_the_victim_alone() -> None:
    victim = advbench.load_victim("mvssnet")
    sample = torch.rand(1, 3, 64, 64)
    twin = in_threads(victim, sample)
    copied = copy.deepcopy(twin)
    with torch.no_grad():
        for buffer in copied.network.buffers():
            buffer.mul_(2)
    assert not torch.equal(copied.logits(sample), victim.logits(sample))
    assert torch.equal(twin.logits(sample), victim.logits(sample))
    sent = pickle.loads(pickle.dumps(twin))
    assert torch.equal(sent.logits(sample), victim.logits(sample))


class Attentive(nn.Module):
    """Takes another way, with other roundings, where no gradient is asked for."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 8, 0, batch_first=True)
        self.inside, self.encoder = nn.Conv2d(3, 4, 1), nn.TransformerEncoder(layer, 1)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.encoder(self.inside(images).flatten(2).mT)
        return tokens.mean(2).view(len(images), 1, *images.shape[2:])


def test_a_network_with_a_way_of_its_own_for_scores() -> None:
    class Attending(Recordable):
        recordable = Recordable.recordable

    victim, sample = Attending(), torch.rand(1, 3, 8, 8)
    victim.network = Attentive().eval().requires_grad_(False)
    twin = in_threads(victim, sample)
    assert twin is not victim
    x = sample.clone().requires_grad_()
    gradients = [torch.autograd.grad(seen.logits(x).sum(), x)[0] for seen in (twin, victim)]
    assert torch.equal(*gradients)
    with torch.no_grad():
        assert torch.equal(twin.probabilities(sample), victim.probabilities(sample))


def test_a_promise_that_is_not_kept_costs_nothing() -> None:
    class Moody(Recordable):
        recordable = Recordable.recordable

        def logits(self, images: Tensor) -> Tensor:
            return super().logits(images) + torch.rand(())

    class Branching(Moody):
        recordable = Recordable.recordable

        def logits(self, images: Tensor) -> Tensor:
            return Recordable.logits(self, images) * (1 if images.mean() > 0.5 else 2)

    class BySize(Moody):
        recordable = Recordable.recordable

        def logits(self, images: Tensor) -> Tensor:
            return {16: images[:, :1]}[images.shape[2]]

    class Broken(Moody):
        recordable = Recordable.recordable

        def logits(self, images: Tensor) -> Tensor:
            raise MemoryError("not today")

    sample = 0.9 * torch.rand(1, 3, 16, 16)
    for victim in (Moody(), Branching(), BySize(), Broken()):
        assert in_threads(victim, sample) is victim


def test_only_the_latest_shapes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 2)
    victim = Recordable()
    shapes = [torch.rand(1, 3, 16, side) for side in (16, 17, 18)]
    for sample in shapes:
        in_threads(victim, sample)
    assert in_threads(victim, shapes[0], 1) is victim
    assert in_threads(victim, shapes[1], 1) is not victim


def test_nothing_is_kept_of_a_victim_that_is_gone() -> None:
    victim, compiled = Recordable(), torch.jit._state._python_cu.get_functions()
    in_threads(victim, torch.rand(1, 3, 16, 16))
    assert len(module._graphs) == 1
    network = weakref.ref(victim.network)
    del victim
    gc.collect()
    assert network() is None
    assert not module._graphs
    assert len(torch.jit._state._python_cu.get_functions()) == len(compiled)
