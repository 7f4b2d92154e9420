"""Look into a checkpoint before PyTorch parses it: sizes and names that would take for ever."""

from __future__ import annotations

import io
import pickletools
import zipfile
from typing import BinaryIO

from advbench.errors import AdvbenchError

# PyTorch's complaint of a global takes time that grows with the square of its name.
LONGEST_TEXT = 10_000
_LARGEST_PICKLE = 64 << 20
_LARGEST_GROWTH = 4  # torch.save stores tensors as they are
_LEGACY_PICKLES = 5  # magic number, version, system, content, storage keys
_WEIGHTS = (".pth", ".pt", ".ckpt", ".tar", ".bin", ".safetensors")


def unpacked(file: BinaryIO) -> BinaryIO:
    """The file itself, or what a zip archive of a single weights file holds.

    Raises:
        AdvbenchError: the archive holds several files, or much more than its size.
    """
    if not zipfile.is_zipfile(file):
        file.seek(0)
        return file
    with zipfile.ZipFile(file) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        _check_growth(members, file)
        if len(members) == 1 and members[0].filename.lower().endswith(_WEIGHTS):
            return io.BytesIO(archive.read(members[0]))
        if not any(member.filename.endswith("data.pkl") for member in members):
            raise AdvbenchError(
                f"a zip archive of {len(members)} files, none of them the content of a torch.save; "
                "unpack it and give the weights file"
            )
    file.seek(0)
    return file


def check_pickles(file: BinaryIO) -> None:
    """Refuse pickles of absurd size and names of absurd length, in time linear in the file.

    Raises:
        AdvbenchError: one is there.
    """
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                if member.filename.endswith(".pkl"):
                    if member.file_size > _LARGEST_PICKLE:
                        raise AdvbenchError(f"its pickle has {member.file_size:,} bytes")
                    _check_texts(io.BytesIO(archive.read(member)))
    else:
        file.seek(0)
        for _ in range(_LEGACY_PICKLES):
            _check_texts(file)
    file.seek(0)


def _check_growth(members: list[zipfile.ZipInfo], file: BinaryIO) -> None:
    packed, size = file.seek(0, io.SEEK_END), sum(member.file_size for member in members)
    single = len(members) == 1
    if size > (100 if single else _LARGEST_GROWTH) * packed + (1 << 20):
        raise AdvbenchError(f"a zip archive of {packed:,} bytes that holds {size:,}; unpack it")


def _check_texts(stream: BinaryIO) -> None:
    try:
        for _, argument, _ in pickletools.genops(stream):
            if isinstance(argument, str | bytes) and len(argument) > LONGEST_TEXT:
                raise AdvbenchError(f"its pickle holds a text of {len(argument):,} characters")
    except ValueError:  # no whole pickle: PyTorch says what is wrong with it
        return
