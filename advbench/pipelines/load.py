"""From names on a command line to datasets, victims, attacks and defenses."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from advbench.datasets.builtin.build import build
from advbench.datasets.builtin.editions import BUILTIN, Edition
from advbench.datasets.dataset import Dataset, open_folder
from advbench.datasets.manifest import Split
from advbench.errors import AdvbenchError
from advbench.files import user_path, write_atomically
from advbench.locks import folder_lock
from advbench.progress import Feedback, Silent
from advbench.registry import DATASETS
from advbench.texts import read_json


def cache_folder() -> Path:
    """Return the folder of what can be made again: ``ADVBENCH_CACHE``, or the user's cache."""
    given = os.environ.get("ADVBENCH_CACHE")
    if given:
        return user_path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "advbench"


def _imports_file() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "advbench" / "imported.json"


def remember_import(folder: Path) -> None:
    """Note where a dataset was imported to, so that it is found from elsewhere."""
    entries = [*(place for place in _imports() if place != folder.resolve()), folder.resolve()]
    there = [str(place) for place in entries if (place / "dataset.json").is_file()]
    with suppress(OSError):  # a home folder that cannot be written to is no fault of the import
        write_atomically(_imports_file(), json.dumps(there, indent=1).encode())


def _imports() -> list[Path]:
    """List where datasets were imported to on this machine, as far as is known."""
    try:
        found = read_json(_imports_file())
    except (AdvbenchError, OSError):
        return []
    return [Path(place) for place in found if isinstance(place, str)] if found else []


def load_dataset(
    name: str,
    out: Path,
    split: Split = "test",
    feedback: Feedback | None = None,
) -> Dataset:
    """Open a dataset by registered name, by imported name (below ``out``), or by folder.

    Raises:
        AdvbenchError: there is none of that name.
    """
    if name in BUILTIN:
        return _builtin(BUILTIN[name], split, feedback or Silent())
    imported = out / "datasets" / name
    for folder in (imported, user_path(name)):
        if (folder / "dataset.json").is_file() or (folder / "manifest.csv").is_file():
            return open_folder(folder)
    if user_path(name).is_dir():
        raise AdvbenchError(
            f"{name}: holds no dataset.json; import it with: "
            f"advbench dataset import folder {name} --name NAME"
        )
    elsewhere = [place for place in _imports() if place.name == name]
    elsewhere = [place for place in elsewhere if (place / "dataset.json").is_file()]
    if elsewhere:
        raise AdvbenchError(
            f"dataset {name!r} is not below {out}, but was imported to {elsewhere[-1]}; give "
            f"--dataset {elsewhere[-1]}, or the --out that it lies below"
        )
    if name in DATASETS.planned:
        raise AdvbenchError(f"dataset {name!r} is not there; {DATASETS.planned[name]}")
    known = ["builtin"]
    if (out / "datasets").is_dir():
        known += sorted(path.name for path in (out / "datasets").iterdir() if path.is_dir())
    raise AdvbenchError(
        f"unknown dataset {name!r}; known: {', '.join(known)}; import your own with: "
        "advbench dataset import folder PATH --name NAME"
    )


def datasets_here(out: Path) -> list[str]:
    """Name the built-in dataset and those that were imported below an output folder."""
    imported = (path.parent.name for path in (out / "datasets").glob("*/dataset.json"))
    return sorted({"builtin", *imported})


def _builtin(edition: Edition, split: Split, feedback: Feedback) -> Dataset:
    alone = split in ("test", "val")  # training takes the others as well
    splits: tuple[Split, ...] = (split,) if alone else edition.splits
    what = f"the {split} split" if alone else "all splits"
    ending = f"-{split}" if alone else ""
    whole = cache_folder() / f"builtin-{edition.version}"
    folder = whole if (whole / "dataset.json").is_file() else Path(f"{whole}{ending}")
    if not (folder / "dataset.json").is_file():
        with folder_lock(folder):
            # Whoever waited finds it built.
            if not (folder / "dataset.json").is_file():
                feedback.note(f"building {what} of the built-in dataset into {folder} (once)")
                different = build(folder, edition, splits, feedback.counting("building", "images"))
                if different:
                    feedback.note(
                        f"{different} images differ from the published manifest (another codec "
                        "build): scores may differ slightly from published ones"
                    )
    return open_folder(folder)
