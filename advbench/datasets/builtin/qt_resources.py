"""Files inside a compiled Qt resource (``.rcc``), which KDE's programs ship their photographs in.

Format versions 1 to 3: a header, a tree of nodes of one size, the names in UTF-16, and the
contents, plain or deflated. Numbers are big-endian.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from advbench.errors import AdvbenchError

_DEFLATED, _FOLDER = 1, 2
_MAXIMUM_BYTES = 1 << 26


def read_resource(path: Path, name: str) -> bytes:
    """Read the file ``name`` (``/folder/file``) of the resource at ``path``.

    Raises:
        AdvbenchError: ``path`` is no such resource, or holds no such file.
    """
    try:
        return _read(path.read_bytes(), name)
    except (struct.error, zlib.error, UnicodeDecodeError) as error:
        raise AdvbenchError(f"{path}: not a Qt resource of version 1 to 3 ({error})") from None
    except KeyError:
        raise AdvbenchError(f"{path}: holds no file {name}") from None


def _read(data: bytes, name: str) -> bytes:
    magic, version, tree, contents, names = struct.unpack_from(">4sIIII", data)
    if magic != b"qres" or version not in (1, 2, 3):
        raise struct.error("its header is another")
    node_bytes = 14 if version == 1 else 22

    def node(index: int) -> tuple[int, int, int, int]:
        """Return the name's offset, the flags and two numbers: of a folder how many children it
        has and the first of them, of a file its locale and the offset of its content."""
        return struct.unpack_from(">IHII", data, tree + index * node_bytes)

    def name_of(index: int) -> str:
        start = names + node(index)[0]
        (length,) = struct.unpack_from(">H", data, start)
        return data[start + 6 : start + 6 + 2 * length].decode("utf-16-be")

    found = 0
    for part in name.strip("/").split("/"):
        _, flags, count, first = node(found)
        children = range(first, first + count) if flags & _FOLDER else range(0)
        found = next((child for child in children if name_of(child) == part), 0)
        if not found:
            raise KeyError(name)
    _, flags, _, offset = node(found)
    (length,) = struct.unpack_from(">I", data, contents + offset)
    content = data[contents + offset + 4 : contents + offset + 4 + length]
    if not flags & _DEFLATED:
        return content
    # The inflated length stands before the deflated bytes.
    return zlib.decompressobj().decompress(content[4:], _MAXIMUM_BYTES)
