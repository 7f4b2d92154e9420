"""A dataset of Hugging Face with columns of images and masks: Parquet, an image folder, or a name.

Its images lie in tables, so they are written as files first, byte by byte as they are.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from advbench.datasets.importing.layouts.layout import Candidate, Found, Layout
from advbench.datasets.importing.problems import Problem
from advbench.datasets.manifest import Split
from advbench.errors import AdvbenchError, first_line
from advbench.files import temporary_folder
from advbench.progress import CountProgress

LAYOUT = Layout(name="huggingface", title="a dataset of Hugging Face")
ORIGINALS = "originals"
_SPLITS: dict[str, Split] = {"train": "train", "validation": "val", "val": "val", "valid": "val"}
_SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"II*\0": ".tif", b"MM\0*": ".tif"}


def unpack(
    source: str,
    folder: Path,
    image: str = "image",
    mask: str = "mask",
    *,
    progress: CountProgress = lambda done, total: None,
) -> Found:
    """Write the images and masks of a dataset into ``folder/originals``.

    An image without a mask is authentic, and so is one whose ``label`` is 0; one that has no mask
    while its label is another number cannot be imported (one generated as a whole, as half of
    OpenSDI's). Splits keep their names, with everything but train and validation for test.

    Args:
        source: a folder of Parquet files or of images with ``metadata.csv``, or a name on the hub.
        image, mask: the columns.

    Raises:
        AdvbenchError: the package ``datasets`` is missing, or the dataset or a column is.
    """
    tables = _load(source)
    whole = folder / ORIGINALS
    unpacked: list[tuple[str, str, Any, Split]] = []
    with temporary_folder(whole) as partial:
        for name, table in tables.items():
            _check_columns(source, table, image, mask)
            for number, row in enumerate(_rows(source, _undecoded(table, image, mask))):
                stem = f"{name}_{number:06d}"
                picture = _write(partial / "images" / stem, row[image], source)
                truth = _write(partial / "masks" / stem, row[mask], source)
                if not picture:
                    raise AdvbenchError(
                        f"{source}: row {number} of {name} has no {image}; remove it"
                    )
                label = row.get("label", 1 if truth else 0)
                unpacked.append((picture, truth, label, _SPLITS.get(name.lower(), "test")))
                progress(len(unpacked), len(unpacked))
        if not unpacked:
            raise AdvbenchError(f"{source}: holds no images; give another dataset")
        shutil.rmtree(whole, ignore_errors=True)
        partial.rename(whole)
    root = whole.resolve()
    candidates = tuple(
        _candidate(root, picture, truth, label=label, split=split)
        for picture, truth, label, split in unpacked
    )
    return Found(LAYOUT, root, candidates, sum(bool(truth) for _, truth, _, _ in unpacked))


def discard(folder: Path) -> None:
    """Remove what was unpacked into ``folder``, unless a dataset was made of it."""
    if not (folder / "dataset.json").exists():
        shutil.rmtree(folder / ORIGINALS, ignore_errors=True)
        with suppress(OSError):
            folder.rmdir()


def _candidate(root: Path, picture: str, truth: str, *, label: Any, split: Split) -> Candidate:
    image = root / "images" / picture
    if label in (0, None):
        return Candidate(image, label=0, kind="none", matched="", split=split)
    missing = Problem("no-mask", f"label {label} but no mask", "leave it out")
    masks = (root / "masks" / truth,) if truth else ()
    return Candidate(image, masks, matched="row", split=split, problem=None if truth else missing)


def _load(source: str) -> Mapping[str, Any]:
    try:
        import datasets
    except ImportError as error:
        raise AdvbenchError(
            "layout huggingface needs the package datasets; pip install 'advbench[huggingface]'"
        ) from error
    try:
        # Row by row: nothing is copied into the package's own cache.
        return dict(datasets.load_dataset(source, streaming=True))
    except Exception as error:  # of another package, which raises anything
        raise AdvbenchError(
            f"{source}: no dataset of Hugging Face ({type(error).__name__}: {first_line(error)}); "
            "give a folder of Parquet files or images, or a name on the hub"
        ) from error


def _check_columns(source: str, table: Any, image: str, mask: str) -> None:
    columns = list(table.features or {})
    for option, column in (("--images", image), ("--masks", mask)):
        if column not in columns:
            raise AdvbenchError(
                f"{source}: no column {column!r}; there are {', '.join(columns)}: name it by "
                f"{option}"
            )


def _undecoded(table: Any, image: str, mask: str) -> Any:
    from datasets import Image

    for column in (image, mask):
        table = table.cast_column(column, Image(decode=False))
    return table


def _rows(source: str, rows: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    try:
        yield from rows
    except AdvbenchError:
        raise
    except Exception as error:  # of another package, which raises anything
        raise AdvbenchError(
            f"{source}: cannot be read ({type(error).__name__}: {first_line(error)}); "
            "download it again"
        ) from error


def _write(place: Path, cell: Mapping[str, Any] | None, source: str) -> str:
    """Write a cell's bytes; the name of the file, empty for an empty cell."""
    if cell is None:
        return ""
    data = cell.get("bytes")
    if data is None:
        data = _read(str(cell.get("path")), source)
    suffix = next((end for start, end in _SUFFIXES.items() if data.startswith(start)), ".png")
    path = place.with_name(place.name + suffix)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path.name


def _read(path: str, source: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise AdvbenchError(f"{source}: {path} cannot be read; restore the file") from error
