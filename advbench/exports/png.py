"""PNG folders: ``DATASET/VICTIM/VARIANT/Tp`` and ``Gt``, as IMDLBenCo's ManiDataset pairs them.

That loader sorts both folders and pairs by position, so they hold the same names, and an image and
its mask have one size. ``list.json`` beside them is the same for its JsonDataset. The originals lie
once in ``DATASET/originals-SPACE``, with the masks at their native size in ``Gt-native``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import ClassVar

from advbench.exports.columns import Column, Row
from advbench.exports.croissant import Distribution, FileSet
from advbench.exports.format import Format
from advbench.exports.photographs import Photograph
from advbench.exports.selection import Group


class PngFolders(Format):
    """One PNG an image, lossless."""

    name = "png"
    bounded = False
    locations: ClassVar[Sequence[Column]] = (
        Column("image", "text", "path of the adversarial image; empty where residuals only"),
        Column("mask", "text", "path of the mask at the image's size; likewise"),
        Column("mask_native", "text", "path of the mask at its native size; likewise"),
        Column("original", "text", "path of the original at the working size; likewise"),
        Column("residual", "text", "path of the residual; empty where images are exported"),
    )

    def add(self, photograph: Photograph, with_images: bool) -> Iterator[tuple[str, Row]]:
        group, file = photograph.group, f"{photograph.name}.png"
        original = f"{group.dataset}/originals-{group.space}"
        fixed = photograph.pictures() if with_images else {}
        if with_images:
            self._write(f"{original}/Tp/{file}", fixed["original"])
            self._write(f"{original}/Gt/{file}", fixed["mask"])
            self._write(f"{original}/Gt-native/{file}", fixed["mask_native"])
        for attacked in photograph.attacked():
            base = f"{group.dataset}/{group.victim}/{attacked.variant}"
            where: Row = dict.fromkeys([column.name for column in self.locations], "")
            path = f"{base}/{'Tp' if with_images else 'residual'}/{file}"
            self._write(path, photograph.published(attacked, with_images))
            if with_images:
                self._write(f"{base}/Gt/{file}", fixed["mask"])
                where |= {
                    "image": path,
                    "mask": f"{base}/Gt/{file}",
                    "mask_native": f"{original}/Gt-native/{file}",
                    "original": f"{original}/Tp/{file}",
                }
            else:
                where["residual"] = path
            yield attacked.identity, attacked.row | where

    def end_group(self, group: Group) -> None:
        """Write the lists, from what lies in the folders."""
        folders = [f"{group.dataset}/{group.victim}/{variant}" for variant in group.variants]
        for base in [*folders, f"{group.dataset}/originals-{group.space}"]:
            if (self.folder / base / "Tp").is_dir():
                files = sorted(os.listdir(self.folder / base / "Tp"))
                pairs = ",\n".join(json.dumps([f"Tp/{file}", f"Gt/{file}"]) for file in files)
                self._write(f"{base}/list.json", f"[\n{pairs}\n]\n".encode())

    def distribution(self, sums: dict[str, str]) -> Distribution:
        sets = {
            "images": ("adversarial images", "*/*/*/Tp/*.png"),
            "masks": ("their masks, at their size", "*/*/*/Gt/*.png"),
            "originals": ("originals at the working size", "*/originals-*/Tp/*.png"),
            "native-masks": ("masks at native size", "*/originals-*/Gt-native/*.png"),
            "residuals": ("residuals: difference + 128 modulo 256", "*/*/*/residual/*.png"),
        }
        return Distribution(
            file_sets=[
                FileSet(name, what, (pattern,), "image/png")
                for name, (what, pattern) in sets.items()
                if next(self.folder.glob(pattern), None)
            ]
        )

    def front_matter(self, groups: Sequence[Group]) -> dict[str, object]:
        return {}

    def example(self, group: Group, with_images: bool) -> str:
        variant = next(iter(group.variants))
        column, comment = ("image", "uint8 H×W×3") if with_images else ("residual", "see Terms")
        lines = [
            "import csv, numpy as np, PIL.Image",
            'rows = list(csv.DictReader(open("metadata.csv", newline="", encoding="utf-8")))',
            f'{column} = np.asarray(PIL.Image.open(rows[0]["{column}"]))  # {comment}',
        ]
        if with_images:
            folder = f"{group.dataset}/{group.victim}/{variant}"
            lines += [
                "import IMDLBenCo.datasets  # resizing would change the noise, so pad",
                f'data = IMDLBenCo.datasets.ManiDataset("{folder}", is_padding=True)',
            ]
        return "\n".join(lines)

    def _write(self, path: str, data: bytes) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
