"""Keyed randomness against SHA-256 by hand."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advbench.rng import numpy_stream, stream_key, torch_stream

PARTS = st.lists(st.one_of(st.integers(), st.text(st.characters(exclude_categories=["Cs"]))))


def test_key_by_another_tool() -> None:
    """``printf '0|d/a|pgd' | sha256sum``, first eight bytes, big end first."""
    assert stream_key(0, "d/a", "pgd") == 0xE2DF33C9C3CAE58D
    assert stream_key() == 0xE3B0C44298FC1C14


@settings(deadline=None, max_examples=50)
@given(PARTS)
def test_key_by_hand(parts: list[object]) -> None:
    """The parts' text joined by bars, hashed, as a 64-bit number."""
    text = "|".join(map(str, parts)).encode("utf-8")
    key = stream_key(*parts)
    assert f"{key:016x}" == hashlib.sha256(text).hexdigest()[:16]


def test_order_and_number_of_parts_count() -> None:
    """Each of these is another stream."""
    keys = [("a", "b"), ("b", "a"), ("ab",), ("a", "b", ""), ("a",), (1, "b"), ("a", 1)]
    assert len({stream_key(*parts) for parts in keys}) == len(keys)


def test_numpy_stream_is_pcg64_of_the_key() -> None:
    """The same numbers as NumPy gives for that seed, and the same every time."""
    expected = np.random.Generator(np.random.PCG64(0xE2DF33C9C3CAE58D)).integers(0, 2**62, 20)
    for _ in range(2):
        assert np.array_equal(numpy_stream(0, "d/a", "pgd").integers(0, 2**62, 20), expected)
    assert not np.array_equal(numpy_stream(1, "d/a", "pgd").integers(0, 2**62, 20), expected)


@pytest.mark.parametrize("part", range(8))
def test_torch_stream_takes_all_64_bits(part: int) -> None:
    """Seeded with the whole key, the upper half of the range included, on the CPU."""
    key = int.from_bytes(hashlib.sha256(str(part).encode()).digest()[:8], "big")
    generator = torch_stream(part)
    assert generator.device == torch.device("cpu")
    assert generator.initial_seed() % 2**64 == key
    expected = torch.randn(5, generator=torch.Generator().manual_seed(key))
    assert torch.equal(torch.randn(5, generator=generator), expected)


def test_upper_half_is_among_them() -> None:
    """The parts above do reach beyond 63 bits, and below."""
    assert {stream_key(part) >= 2**63 for part in range(8)} == {True, False}


def test_global_state_is_left_alone() -> None:
    """Drawing from a stream moves no other generator."""
    torch.manual_seed(5)
    before = torch.get_rng_state(), pickle.dumps(np.random.get_state())
    torch.rand(3, generator=torch_stream("x"))
    numpy_stream("x").random(3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert pickle.dumps(np.random.get_state()) == before[1]
