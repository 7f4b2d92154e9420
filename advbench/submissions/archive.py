"""The archive of a submission: a ZIP of four known files, read with bounds and never extracted."""

from __future__ import annotations

import hashlib
import io
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path

from advbench.errors import AdvbenchError
from advbench.escaping import visible
from advbench.files import write_atomically

CLAIMS, RECORDS, BOARD, SHARDS = MEMBERS = (
    "submission.json",
    "records.parquet",
    "leaderboard.csv",
    "shards.json",
)
# Largest size of each, unpacked.
LIMITS = {CLAIMS: 1 << 20, RECORDS: 256 << 20, BOARD: 4 << 20, SHARDS: 16 << 20}
_WHOLE = sum(LIMITS.values())


def pack(path: Path, files: Mapping[str, bytes]) -> None:
    """Write the archive, whole or not at all; the same files give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in MEMBERS:
            about = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            about.external_attr = (stat.S_IFREG | 0o644) << 16
            about.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(about, files[name])
    write_atomically(path, buffer.getvalue())


def unpack(path: Path) -> dict[str, bytes]:
    """Read the files of an archive into memory.

    Raises:
        AdvbenchError: no such archive, or anything in it but the four files within their limits.
    """
    if not path.is_file():
        raise AdvbenchError(f"{path}: no such archive")
    if path.stat().st_size > _WHOLE:
        raise AdvbenchError(f"{path}: is larger than a submission may be ({_WHOLE >> 20} MiB)")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive.infolist())
            return {name: _member(path, archive, name) for name in MEMBERS}
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError) as error:
        raise AdvbenchError(f"{path}: no whole ZIP archive ({error}); pack it again") from error


def sha256(data: bytes) -> str:
    """The hash that the claims name a file by."""
    return hashlib.sha256(data).hexdigest()


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    for about in members:
        shown = visible(about.filename)
        if about.filename not in MEMBERS:
            raise AdvbenchError(
                f"{path}: holds {shown!r}; a submission holds {', '.join(MEMBERS)} and nothing else"
            )
        kind = stat.S_IFMT(about.external_attr >> 16)
        if about.flag_bits & 1:
            raise AdvbenchError(f"{path}: {shown} is encrypted")
        if kind not in (0, stat.S_IFREG):
            raise AdvbenchError(f"{path}: {shown} is no plain file but a link or a device")
        if about.file_size > LIMITS[about.filename]:
            raise AdvbenchError(
                f"{path}: {shown} unpacks to {about.file_size} bytes; "
                f"it may have {LIMITS[about.filename]}"
            )
    names = [about.filename for about in members]
    for name in MEMBERS:
        if names.count(name) != 1:
            what = "lacks" if name not in names else "holds more than one"
            raise AdvbenchError(f"{path}: {what} {name}; pack it again with advbench submit")


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    """Read no more than the limit, whatever the archive says of the size."""
    with archive.open(name) as file:
        data = file.read(LIMITS[name] + 1)
    if len(data) > LIMITS[name]:
        raise AdvbenchError(f"{path}: {name} unpacks to more than {LIMITS[name]} bytes")
    return data
