"""``advbench dataset``: build, import, check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from advbench.cli.options import json_option, out_option
from advbench.cli.progress import Progress
from advbench.errors import AdvbenchError
from advbench.registry import DATASETS


@click.group()
def dataset() -> None:
    """Build, import and check datasets of forged images."""


@dataset.command()
@click.argument("name")
@click.option(
    "--to", type=click.Path(path_type=Path, file_okay=False), help="[--out/datasets/NAME]"
)
@out_option
def build(name: str, to: Path | None, out: Path) -> None:
    """Write the dataset NAME (builtin) as ordinary image files with their manifest."""
    if name != "builtin":
        raise AdvbenchError(f"dataset {name!r} cannot be built; only builtin can")
    from advbench.datasets.builtin.build import build as run
    from advbench.datasets.dataset import open_folder

    folder = to or out / "datasets" / name
    with Progress() as progress:
        different = run(folder, progress=progress.counting("building", "images"))
    info = open_folder(folder).info
    click.echo(f"{folder}: {info.counts['forged']} forged, {info.counts['authentic']} authentic")
    click.echo(
        "all as published"
        if not different
        else f"{different} images differ from the published manifest (another codec build)"
    )


@dataset.command("import")
@click.argument("layout")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Its name from now on: a-z, 0-9 and _.")
@click.option("--images", help="Glob of the images, relative to PATH.")
@click.option("--masks", help="Glob of the masks, relative to PATH.")
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test")
@click.option("--allow-exclude", is_flag=True, help="Leave out what is at fault, and go on.")
@out_option
@json_option
def import_(
    layout: str,
    path: Path,
    name: str,
    images: str | None,
    masks: str | None,
    split: Any,
    allow_exclude: bool,
    out: Path,
    as_json: bool,
) -> None:
    """Import images and masks that lie in folder PATH; LAYOUT is 'folder'.

    PATH holds Tp and Gt, or images and masks; otherwise give both globs. An image and its mask
    share a stem, the mask's may end in _gt or _mask. Originals are left as they are: the manifest
    is written below --out, and --dataset NAME then works everywhere.

    \b
    advbench dataset import folder ~/forged --name mine
    advbench dataset import folder ~/forged --name mine --images 'fake/*' --masks 'gt/*.png'
    """
    if layout in DATASETS.planned:
        raise AdvbenchError(
            f"layout {layout!r} is not in this version; import its forged images with: "
            "advbench dataset import folder PATH --name NAME --images GLOB --masks GLOB"
        )
    if layout != "folder":
        raise AdvbenchError(f"unknown layout {layout!r}; there is folder")
    from advbench.datasets.importers.folder import import_folder

    folder = out / "datasets" / name
    with Progress() as progress:
        found = import_folder(
            path,
            folder,
            name,
            images,
            masks,
            split,
            allow_exclude,
            progress.counting("importing", "images"),
        )
    if as_json:
        click.echo(json.dumps(found.info.counts | {"excluded_rows": found.excluded}, indent=2))
        return
    for image, reason in found.excluded.items():
        click.echo(f"left out: {image}: {reason}")
    click.echo(f"{folder}: {found.info.counts['forged']} images; use it with --dataset {name}")


@dataset.command()
@click.argument("name")
@out_option
def check(name: str, out: Path) -> None:
    """Decode every image and mask of dataset NAME (or of a folder) against its manifest."""
    from advbench.pipelines.load import load_dataset

    with Progress() as progress:
        data = load_dataset(
            name, out, "train", progress.note, progress.counting("building", "images")
        )
        rows = data.select()
        for done, row in enumerate(rows):
            data.image(row)
            if row.mask:
                data.mask(row)
            progress.update("checking", done + 1, len(rows), "images")
    click.echo(f"{name}: {len(rows)} images as their manifest describes them")


@dataset.command()
@click.argument("name")
@click.option("--train", type=float, default=0.6, show_default=True, help="Part for training.")
@click.option("--val", type=float, default=0.1, show_default=True, help="Part for validation.")
@click.option("--sources", metavar="REGEX", help="Matches in a file name are its photographs.")
@click.option("--seed", type=int, default=0, show_default=True)
@out_option
def split(name: str, train: float, val: float, sources: str | None, seed: int, out: Path) -> None:
    """Divide the imported dataset NAME for training, validation and test.

    Images that share a photograph stay together. Which photographs an image was made from stands in
    the names of some datasets, as in Sp_D_CNN_A_ani0049_ani0084_0266.jpg of CASIA:

    \b
    advbench dataset split mine --sources '[a-z]{3}[0-9]{4}'
    """
    from advbench.datasets.splitting import split_folder

    folder = Path(name) if (Path(name) / "dataset.json").is_file() else out / "datasets" / name
    if name == "builtin":
        raise AdvbenchError("dataset builtin has its splits already; give an imported dataset")
    counts = split_folder(folder, train, val, sources, seed)
    click.echo(", ".join(f"{count} {part}" for part, count in counts.items()))
