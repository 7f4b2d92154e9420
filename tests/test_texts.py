"""Text, JSON and TOML as users write them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from advbench.errors import AdvbenchError
from advbench.files import user_path
from advbench.texts import parse_json, read_json, read_text, read_toml

DIGITS, NESTED = "9" * 5000, "[" * 100_000


@pytest.fixture
def written(tmp_path: Path):
    def written(data: str | bytes) -> Path:
        path = tmp_path / "file"
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return written


def test_a_byte_order_mark_is_no_content(written) -> None:
    assert read_text(written(b"\xef\xbb\xbfabc")) == "abc"
    assert read_json(written(b'\xef\xbb\xbf{"a": 1}')) == {"a": 1}
    assert read_toml(written(b"\xef\xbb\xbfa = 1")) == {"a": 1}


@pytest.mark.parametrize("text", ["", "{", "nul", DIGITS, NESTED, '{"a":' + DIGITS + "}", "\0"])
def test_no_json(written, text: str) -> None:
    with pytest.raises(AdvbenchError, match="file: no JSON file"):
        read_json(written(text))
    with pytest.raises(ValueError):  # noqa: PT011
        parse_json(text)


@pytest.mark.parametrize("text", ["a", "a = ", f"a = {DIGITS}", f"a = {NESTED}", "a = 1\na = 2"])
def test_no_toml(written, text: str) -> None:
    with pytest.raises(AdvbenchError, match="file: no TOML file") as caught:
        read_toml(written(text))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("read", [read_text, read_json, read_toml])
def test_what_is_no_file_of_text(tmp_path: Path, read) -> None:
    """Nothing is waited for."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin").write_bytes("é".encode("latin-1"))
    for name, said in [
        ("pipe", "no ordinary file"),
        (".", "no ordinary file"),
        ("none", "no such file"),
        ("latin", "no UTF-8 text"),
    ]:
        with pytest.raises(AdvbenchError, match=said):
            read(tmp_path / name)


def test_home_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert user_path("~/x") == Path("/home/me/x")
    assert user_path("x/~y") == Path("x/~y")
    with pytest.raises(AdvbenchError, match="no such home folder"):
        user_path("~no-such-user-here/x")
