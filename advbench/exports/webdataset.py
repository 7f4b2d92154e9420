"""WebDataset: tar files of bounded size, one sample a photograph with all that became of it.

A sample ``DATASET/VICTIM-SPACE/NAME`` holds ``original.png``, ``mask.png`` (at the image's size),
``mask-native.png``, ``json``, and one ``VARIANT.png`` for each variant; where images may not be
passed on, ``json`` and ``VARIANT.residual.png`` alone. So an original stands once beside all its
variants, and no sample needs another file.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from advbench.errors import AdvbenchError
from advbench.exports.columns import Column, Row
from advbench.exports.croissant import Distribution, FileObject, FileSet
from advbench.exports.format import SHARD_BYTES, Format
from advbench.exports.photographs import Photograph
from advbench.exports.selection import Group

_BLOCK = tarfile.BLOCKSIZE
# Two empty blocks end a tar, and then it is filled up to a whole record.
_END = 2 * _BLOCK + tarfile.RECORDSIZE


class WebDatasetTars(Format):
    """Tars that are the same bytes every time: no dates, no owners, members in order."""

    name = "webdataset"
    locations: ClassVar[Sequence[Column]] = (
        Column("file", "text", "path of the tar file"),
        Column("image", "text", "member with the adversarial image; empty where residuals only"),
        Column("mask", "text", "member with the mask at the image's size; likewise"),
        Column("mask_native", "text", "member with the mask at its native size; likewise"),
        Column("original", "text", "member with the original at the working size; likewise"),
        Column("residual", "text", "member with the residual; empty where images are exported"),
    )

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        super().__init__(folder, shard_bytes)
        self._tar: tarfile.TarFile | None = None
        self._path = ""
        self._bytes = self._number = 0

    def add(self, photograph: Photograph, with_images: bool) -> Iterator[tuple[str, Row]]:
        group = photograph.group
        # What follows the first dot of a name is not its key any more.
        key = f"{group.dataset}/{group.victim}-{group.space}/{photograph.name}".replace(".", "~")
        members: dict[str, bytes] = {}
        fixed: Row = dict.fromkeys([column.name for column in self.locations], "")
        if with_images:
            for name, data in photograph.pictures().items():
                fixed[name] = member = f"{key}.{name.replace('_', '-')}.png"
                members[member] = data
        rows: list[tuple[str, Row]] = []
        variants: dict[str, Row] = {}
        for attacked in photograph.attacked():
            # Readers take extensions in lower case.
            extension = f"{attacked.variant.lower()}{'' if with_images else '.residual'}.png"
            member = f"{key}.{extension}"
            if member in members:
                raise AdvbenchError(
                    f"{group.dataset}/{group.victim}: variant {attacked.variant} differs from "
                    "another only by case, which no tar can hold; export them apart by --attack"
                )
            members[member] = photograph.published(attacked, with_images)
            where: Row = fixed | {"image" if with_images else "residual": member}
            rows.append((attacked.identity, attacked.row | where))
            own = {name: attacked.row[name] for name in attacked.row.keys() - photograph.row.keys()}
            variants[attacked.variant] = {"file": extension, **own}
        about = photograph.row | {"variants": variants}
        text = json.dumps(about, ensure_ascii=False, sort_keys=True, allow_nan=False)
        members[f"{key}.json"] = text.encode()
        self._put(group, members)
        for identity, row in rows:
            yield identity, row | {"file": self._path}

    def end_group(self, group: Group) -> None:
        self._close()
        self._number = 0

    def distribution(self, sums: dict[str, str]) -> Distribution:
        tars = [path for path in sums if path.endswith(".tar")]
        return Distribution(
            [FileObject(path, "WebDataset", "application/x-tar") for path in tars],
            [
                FileSet("pictures", "all PNG members", ("*.png",), "image/png", tuple(tars)),
                FileSet(
                    "descriptions", "a JSON of each", ("*.json",), "application/json", tuple(tars)
                ),
            ],
        )

    def front_matter(self, groups: Sequence[Group]) -> dict[str, object]:
        return {}

    def example(self, group: Group, with_images: bool) -> str:
        stem = f"{group.dataset}/{group.victim}-{group.space}"
        variant = next(iter(group.variants)).lower()
        count = len(list(self.folder.glob(f"{stem}-*.tar")))
        image = f"{variant}.png" if with_images else f"{variant}.residual.png"
        names = f'sample["{image}"]'
        if with_images:
            names = f'sample["original.png"], sample["mask.png"], sample["{image}"]'
        return (
            "import webdataset\n"
            f'url = "{stem}-{{000000..{count - 1:06d}}}.tar"\n'
            'for sample in webdataset.WebDataset(url, shardshuffle=False).decode("rgb8"):\n'
            f'    print(sample["json"]["sample_id"], {names})  # uint8 H×W×3'
        )

    def _put(self, group: Group, members: dict[str, bytes]) -> None:
        infos = {name: tarfile.TarInfo(name) for name in sorted(members)}
        size = 0
        for name, info in infos.items():
            info.size = len(members[name])
            size += len(info.tobuf(tarfile.GNU_FORMAT)) + -(-info.size // _BLOCK) * _BLOCK
        if self._tar and self._bytes + size + _END > self.shard_bytes:
            self._close()
        if self._tar is None:
            self._path = f"{group.dataset}/{group.victim}-{group.space}-{self._number:06d}.tar"
            path = self.folder / self._path
            path.parent.mkdir(parents=True, exist_ok=True)
            self._tar = tarfile.TarFile(path, "x", format=tarfile.GNU_FORMAT)
            self._bytes, self._number = 0, self._number + 1
        for name, info in infos.items():
            self._tar.addfile(info, io.BytesIO(members[name]))
        self._bytes += size

    def _close(self) -> None:
        if self._tar:
            self._tar.close()
        self._tar = None
