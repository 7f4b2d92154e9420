"""``advbench dataset``: build, import, check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from advbench.cli.options import json_option, out_option
from advbench.cli.progress import Progress
from advbench.errors import AdvbenchError


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
@click.option("--name", help="Its name from now on: a-z, 0-9 and _.  [LAYOUT, of the five]")
@click.option("--images", help="Glob of the images, relative to PATH (folder).")
@click.option("--masks", help="Glob of the masks, relative to PATH (folder).")
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    help="Of all images.  [test; casiav2: train and val]",
)
@click.option("--list", "listed", type=click.Path(path_type=Path), help="Only these, one a line.")
@click.option(
    "--inverted",
    type=click.Path(path_type=Path),
    help="Images whose red part is forged, one a line (columbia).",
)
@click.option("--allow-exclude", is_flag=True, help="Leave out what is at fault, and go on.")
@out_option
@json_option
def import_(
    layout: str,
    path: Path,
    name: str | None,
    images: str | None,
    masks: str | None,
    split: Any,
    listed: Path | None,
    inverted: Path | None,
    allow_exclude: bool,
    out: Path,
    as_json: bool,
) -> None:
    """Import the dataset that lies in PATH, as it was downloaded.

    LAYOUT is casiav1, casiav2, columbia, imd20, misd (docs/datasets.md says what each looks like);
    folder: PATH holds Tp and Gt, or images and masks, or what two globs match, an image and its
    mask sharing a stem (the mask's may end in _gt or _mask); or imdlbenco: PATH is a JSON list.

    Originals are left as they are: manifest, repaired masks and import_report.json are written
    below --out, and --dataset NAME then works everywhere.

    \b
    advbench dataset import casiav1 ~/casia
    advbench dataset import columbia ~/columbia --list columbia160.txt --name columbia160
    advbench dataset import folder ~/forged --name mine
    advbench dataset import folder ~/forged --name mine --images 'fake/*' --masks 'gt/*.png'
    advbench dataset import imdlbenco ~/lists/test.json --name mine
    """
    from advbench.cli.importing import show_faults, show_report
    from advbench.datasets.importing.importing import check_name, import_found
    from advbench.datasets.importing.layouts import known as layouts
    from advbench.datasets.importing.problems import ImportRefusedError

    layouts.check_layout(layout)
    if name is None and layout not in layouts.DATASETS:
        raise AdvbenchError(f"layout {layout} needs a name for the dataset; add --name NAME")
    name = name or layout
    check_name(name)
    found = layouts.find(layout, path, images, masks, inverted)
    wanted = None
    if listed:
        found, wanted = layouts.restrict(found, listed, allow_exclude)
    folder = out / "datasets" / name
    beside = sorted(folder.parent.iterdir()) if folder.parent.is_dir() else []
    others = [one for one in beside if one != folder and (one / "dataset.json").is_file()]
    try:
        with Progress() as progress:
            done = import_found(
                found,
                folder,
                name,
                split,
                allow_exclude,
                wanted,
                others,
                progress.counting("importing", "images"),
            )
    except ImportRefusedError as error:
        if as_json:
            click.echo(json.dumps(error.report, indent=2))
        show_faults(error.faults)
        raise
    if as_json:
        click.echo(json.dumps(done.report, indent=2))
    else:
        show_report(done.report, folder)


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
