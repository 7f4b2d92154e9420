"""An error is one line that a terminal can show, whatever it quotes."""

from __future__ import annotations

import pickle

import pytest

from advbench.errors import AdvbenchError


@pytest.mark.parametrize("code", [10, 13, 11, 12, 0x1C, 0x1E, 0x85, 0x2028, 0x2029])
def test_one_line(code: int) -> None:
    text = str(AdvbenchError(f"a{chr(code)}b: gone"))
    assert len(text.splitlines()) == 1
    assert text.startswith("a\\")
    assert text.endswith("b: gone")


def test_a_long_value_is_cut_in_the_middle() -> None:
    text = str(AdvbenchError(f"file: {'9' * 5000}; give another"))
    assert len(text) <= 1500
    assert text.startswith("file: 999")
    assert text.endswith("9; give another")
    assert str(pickle.loads(pickle.dumps(AdvbenchError(text)))) == text
