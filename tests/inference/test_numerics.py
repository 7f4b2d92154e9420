"""Whatever arithmetic the caller has asked PyTorch for: the same bytes, and left as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from advbench.inference import numerics
from advbench.inference.fast import with_numerics
from advbench.inference.numerics import deterministic_mode

from ..attacks.test_hygiene import busy_net
from ..attacks.toys import BOUNDED, Toy, pictures, wavy_net

BACKENDS: Any = torch.backends
CUDNN, MKLDNN, MATMUL = BACKENDS.cudnn, BACKENDS.mkldnn, BACKENDS.cuda.matmul
NEW = hasattr(BACKENDS, "fp32_precision")
SWITCHES = (
    [BACKENDS, CUDNN, MATMUL, CUDNN.conv, CUDNN.rnn, MKLDNN.matmul, MKLDNN.conv, MKLDNN.rnn]
    if NEW
    else []
)
only_new = pytest.mark.skipif(not NEW, reason="this torch has no fp32_precision")


def defaults() -> None:
    torch.set_float32_matmul_precision("highest")
    CUDNN.allow_tf32 = True
    for switch in SWITCHES:
        switch.fp32_precision = "tf32" if switch in (CUDNN.conv, CUDNN.rnn) else "none"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    defaults()
    yield
    defaults()


def set_to(precision: str, *switches: Any) -> Callable[[], None]:
    def change() -> None:
        for switch in switches:
            switch.fp32_precision = precision

    return change


CHANGES: dict[str, Callable[[], None]] = {
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "older": lambda: setattr(CUDNN, "allow_tf32", False),
}
if NEW:
    CHANGES |= {
        "matmul": set_to("tf32", MATMUL),
        "everything": set_to("tf32", BACKENDS),
        "nothing set": set_to("none", *SWITCHES),
        "cudnn": set_to("tf32", CUDNN),
        "conv": set_to("ieee", CUDNN.conv),
        "conv and rnn": set_to("ieee", CUDNN.conv, CUDNN.rnn),
        "cpu": set_to("bf16", MKLDNN.matmul, MKLDNN.conv),
    }


def read(get: Callable[[], object]) -> object:
    try:
        return get()
    except RuntimeError:
        return "refused"


def settings() -> list[object]:
    """All that can be read, and what shows once the wholes say nothing: what is set itself."""
    older = [lambda: CUDNN.allow_tf32, lambda: MATMUL.allow_tf32]
    found = [read(get) for get in (*older, torch.get_float32_matmul_precision)]
    found += [switch.fp32_precision for switch in SWITCHES]
    wholes = [(switch, switch.fp32_precision) for switch in SWITCHES[:2]]
    for switch, _ in wholes:
        switch.fp32_precision = "none"
    found += [switch.fp32_precision for switch in SWITCHES]
    for switch, precision in wholes:
        switch.fp32_precision = precision
    return found


@pytest.mark.parametrize("change", CHANGES)
def test_any_precision_of_the_callers(change: str) -> None:
    CHANGES[change]()
    before = settings()
    found = pictures(2).attacked(BOUNDED["fgsm"], Toy(wavy_net()))
    assert settings() == before
    defaults()
    expected = pictures(2).attacked(BOUNDED["fgsm"], Toy(wavy_net()))
    for variant, result in expected.items():
        assert torch.equal(found[variant].images, result.images)


@only_new
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_within_all_settings_can_be_read_and_say_the_same(change: str, mode: Any) -> None:
    CHANGES[change]()
    before, tf32 = settings(), mode == "fast"
    with deterministic_mode(wavy_net(), mode):
        assert (CUDNN.allow_tf32, MATMUL.allow_tf32) == (tf32, tf32)
        assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
        parts = [switch.fp32_precision for switch in SWITCHES[2:]]
        assert parts == ["tf32" if tf32 else "ieee"] * 3 + ["ieee"] * 3
        other: Any = "exact" if tf32 else "fast"
        inside = settings()
        with deterministic_mode(wavy_net(), other):
            assert CUDNN.allow_tf32 != tf32
        assert settings() == inside
    assert settings() == before


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_torch_that_has_the_older_settings_alone(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numerics, "_precisions", lambda tf32: [])
    torch.set_float32_matmul_precision(precision)
    before = settings()
    with deterministic_mode(wavy_net()):
        assert not CUDNN.allow_tf32
        assert not MATMUL.allow_tf32
    assert settings() == before


@pytest.mark.parametrize("name", BOUNDED)
def test_autocast_of_the_callers_is_off(name: str) -> None:
    """And bfloat16, where it is asked for, is what it is elsewhere."""
    attack, exact = BOUNDED[name], Toy(wavy_net())
    batch = pictures(3)
    for victim in (exact, with_numerics(exact, "bf16")):
        arguments = (victim, batch.images, batch.masks, batch.ids)
        expected = attack.run(*arguments)
        with torch.autocast("cpu", torch.bfloat16):
            found = attack.run(*arguments)
            assert torch.is_autocast_enabled("cpu")
        for variant, result in expected.items():
            assert torch.equal(found[variant].images, result.images)


@only_new
def test_within_another_it_changes_nothing() -> None:
    """A thread that is late with its end leaves alone what was restored meanwhile."""
    network, entered, end = busy_net().train(), threading.Event(), threading.Event()
    CUDNN.benchmark, before = True, settings()

    def late() -> None:
        with deterministic_mode(network):
            entered.set()
            assert end.wait(20)

    thread = threading.Thread(target=late)
    try:
        with deterministic_mode(network):
            thread.start()
            assert entered.wait(20)
        end.set()
        thread.join(20)
        assert settings() == before
        assert (CUDNN.benchmark, CUDNN.deterministic) == (True, False)
        assert all(module.training for module in network.modules())
        assert all(parameter.requires_grad for parameter in network.parameters())
    finally:
        CUDNN.benchmark = False
