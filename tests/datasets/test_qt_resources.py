"""Compiled Qt resources: what is read is what was packed; anything else gets one line."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from advbench.datasets.builtin.qt_resources import read_resource
from advbench.errors import AdvbenchError


def _resource(files: dict[str, tuple[bytes, bool]], version: int) -> bytes:
    """Pack files of one folder ``photographs``, deflated where the flag says so."""
    names, contents, offsets = b"", b"", {}

    def name(text: str) -> int:
        nonlocal names
        offset = len(names)
        names += struct.pack(">HI", len(text), 0) + text.encode("utf-16-be")
        return offset

    stamp = b"" if version == 1 else bytes(8)
    nodes = [struct.pack(">IHII", 0, 2, 1, 1) + stamp]
    nodes.append(struct.pack(">IHII", name("photographs"), 2, len(files), 2) + stamp)
    for path, (content, deflated) in files.items():
        stored = struct.pack(">I", len(content)) + zlib.compress(content) if deflated else content
        offsets[path] = len(contents)
        contents += struct.pack(">I", len(stored)) + stored
        nodes.append(struct.pack(">IHII", name(path), int(deflated), 0, offsets[path]) + stamp)
    tree = b"".join(nodes)
    head = 20
    return (
        struct.pack(
            ">4sIIII", b"qres", version, head, head + len(tree), head + len(tree) + len(contents)
        )
        + tree
        + contents
        + names
    )


@pytest.mark.parametrize("version", [1, 2, 3])
def test_files_are_read_plain_and_deflated(tmp_path: Path, version: int) -> None:
    path = tmp_path / "a.rcc"
    files = {"ä.webp": (b"plain", False), "b.webp": (b"deflated" * 99, True)}
    path.write_bytes(_resource(files, version))
    for name, (content, _) in files.items():
        assert read_resource(path, f"/photographs/{name}") == content


@pytest.mark.parametrize("name", ["/photographs/none", "/none/b", "/photographs/b/c", "/"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.rcc"
    path.write_bytes(_resource({"b": (b"content", True)}, 3))
    with pytest.raises(AdvbenchError, match=r"a\.rcc: holds no file "):
        read_resource(path, name)


def test_every_truncation_is_told_or_harmless(tmp_path: Path) -> None:
    whole = _resource({"b": (b"content" * 9, False)}, 3)
    path = tmp_path / "a.rcc"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(AdvbenchError, match=r"a\.rcc: (not a Qt resource|holds no file)"):
            read_resource(path, "/photographs/b")


def test_another_file_is_no_resource(tmp_path: Path) -> None:
    path = tmp_path / "a.rcc"
    path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(64))
    with pytest.raises(AdvbenchError, match="not a Qt resource of version 1 to 3"):
        read_resource(path, "/photographs/b")
