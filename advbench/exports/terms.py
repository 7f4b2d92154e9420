"""Under which terms a dataset may be passed on, by its manifest; images only where they say so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from advbench.datasets.manifest import DatasetInfo, Row, read_manifest
from advbench.errors import AdvbenchError
from advbench.exports.selection import Group
from advbench.shards.reader import Shard


@dataclass(frozen=True)
class Terms:
    """Hold the terms that a dataset's manifest states, and what follows.

    Attributes:
        info: None where no manifest was found.
        with_images: whether originals, masks and adversarial images are exported; else residuals.
        by_user: whether that is against or without the manifest, by ``--include-images``.
    """

    dataset_id: str
    info: DatasetInfo | None
    with_images: bool
    by_user: bool

    @property
    def redistribution(self) -> str:
        """``yes``, ``no``, ``research-only``, or ``unknown``."""
        return self.info.licence.get("redistribution", "unknown") if self.info else "unknown"

    @property
    def sentence(self) -> str:
        """Say what was done and why, in a line."""
        why = (
            f"its manifest says redistribution: {self.redistribution}"
            if self.info
            else "its manifest was not found, so its terms are unknown"
        )
        if self.by_user:
            return f"images are exported at the user's word (--include-images), though {why}"
        if self.with_images:
            return f"images are exported: {why}"
        return f"residuals only, no image and no mask: {why}"


def terms_of(groups: Iterable[Group], out: Path, include_images: bool) -> dict[str, Terms]:
    """The terms of each dataset id.

    A manifest lies below ``out/datasets``, where ``dataset import`` writes it, or is published
    with advbench.

    Raises:
        AdvbenchError: a manifest is invalid, or allows images but describes other ones.
    """
    found: dict[str, tuple[Path, DatasetInfo | None, list[Row]]] = {}
    terms = {}
    for group in groups:
        name = group.dataset_id
        if name not in found:
            found[name] = _manifest(name, out)
        folder, info, rows = found[name]
        allowed = info is not None and info.licence.get("redistribution") == "yes"
        if allowed and not include_images:
            _check_same_images(group, folder, rows)
        terms[name] = Terms(
            name, info, allowed or include_images, by_user=include_images and not allowed
        )
    return terms


def _manifest(name: str, out: Path) -> tuple[Path, DatasetInfo | None, list[Row]]:
    folder = out / "datasets" / name
    if (folder / "dataset.json").is_file() or (folder / "manifest.csv").is_file():
        return folder, *read_manifest(folder)
    published = resources.files("advbench.manifests") / "datasets" / name
    with resources.as_file(published) as path:
        if (path / "dataset.json").is_file():
            return path, *read_manifest(path)
    return folder, None, []


def _check_same_images(group: Group, folder: Path, rows: list[Row]) -> None:
    """A permission holds for the images it was given for, not for others of the same name."""
    described = {row.sample_id: row.pixels_sha256 for row in rows}
    wanted = set(group.sample_ids)
    for entry in group.originals:
        with Shard(entry.path) as shard:
            for number, sample_id in enumerate(shard.sample_ids):
                source = shard.sha256_of(number, "source_sha256")
                if sample_id in wanted and described.get(sample_id) != source:
                    raise AdvbenchError(
                        f"{folder}: not the manifest of these images ({sample_id} differs from "
                        f"{entry.path}), so its permission does not hold for them; restore it, or "
                        "give --include-images if you may pass them on"
                    )
