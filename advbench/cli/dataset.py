"""``advbench dataset``: build, import, check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advbench.cli.groups import Group
from advbench.cli.options import UserPath, json_option, out_option
from advbench.cli.progress import Progress
from advbench.errors import AdvbenchError
from advbench.files import user_path

if TYPE_CHECKING:
    from advbench.datasets.builtin.editions import Edition
    from advbench.datasets.importing.layouts.layout import Found


@click.group(cls=Group)
def dataset() -> None:
    """Build, import and check datasets of forged images."""


@dataset.command()
@click.argument("name")
@click.option("--to", type=UserPath(file_okay=False), help="[--out/datasets/NAME]")
@click.option(
    "--photographs",
    type=UserPath(file_okay=False, exists=True),
    help="Where the Debian packages of 'open' are installed (/) or unpacked.",
)
@out_option
def build(name: str, to: Path | None, photographs: Path | None, out: Path) -> None:
    """Write the dataset NAME as ordinary image files with their manifest.

    NAME is builtin, of one version builtin1 or builtin2, or open, whose photographs come from the
    packages that manifests/photographs.csv lists:

    \b
    apt-get download endless-sky-data lomiri-wallpapers-16.04 mate-backgrounds
    for package in *.deb; do dpkg -x $package photographs; done
    advbench dataset build open --photographs photographs
    """
    from advbench.datasets.builtin.editions import BUILTIN, OPEN, open_edition, published_rows

    if name == OPEN:
        if photographs is None:
            raise AdvbenchError("dataset open needs --photographs ROOT; see dataset build --help")
        edition = open_edition(photographs)
    elif name in BUILTIN:
        edition = BUILTIN[name]
    else:
        raise AdvbenchError(f"dataset {name!r} cannot be built; only {', '.join(BUILTIN)} and open")
    different = _write(edition, to or out / "datasets" / name)
    if different:
        click.echo(f"{different} images differ from the published manifest (another codec build)")
    elif published_rows(edition.dataset_id):
        click.echo("all as published")


@dataset.command()
@click.argument("photographs", type=UserPath(file_okay=False, exists=True))
@click.option("--name", required=True, help="Its name from now on: a-z, 0-9, - and _.")
@click.option("--images", type=click.IntRange(min=3), default=480, show_default=True)
@click.option("--side", type=click.IntRange(64, 4096), default=256, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@out_option
def synthesize(
    photographs: Path, name: str, images: int, side: int, *, seed: int, out: Path
) -> None:
    """Make forgeries from the photographs in a folder, by the recipes of the built-in dataset.

    Each forgery differs from its host in at least two traces, and its mask is exact. The splits
    share no photograph. --dataset NAME then works everywhere.

    \b
    advbench dataset synthesize ~/holiday --name holiday
    advbench dataset synthesize ~/holiday --name holiday --images 1200 --side 512
    """
    from advbench.datasets.builtin.editions import synthesized_edition
    from advbench.datasets.importing.importing import check_name
    from advbench.locks import folder_lock

    check_name(name)
    edition = synthesized_edition(photographs, name, images=images, side=side, seed=seed)
    folder = out / "datasets" / name
    with folder_lock(folder):
        if (folder / "dataset.json").exists():
            raise AdvbenchError(f"{folder}: a dataset of that name is there; take another --name")
        _write(edition, folder)


def _write(edition: Edition, folder: Path) -> int:
    """Build an edition and say what was written; returns how many differ from the published."""
    from advbench.datasets.builtin.build import build
    from advbench.datasets.dataset import open_folder

    with Progress() as progress:
        different = build(folder, edition, progress=progress.counting("building", "images"))
    counts = open_folder(folder).info.counts
    click.echo(f"{folder}: {counts['forged']} forged, {counts['authentic']} authentic")
    return different


@dataset.command("import")
@click.argument("layout")
@click.argument("path", type=UserPath())
@click.option("--name", help="Its name from now on: a-z, 0-9 and _.  [LAYOUT, of a published one]")
@click.option("--images", help="Glob relative to PATH (folder), or a column (huggingface).")
@click.option("--masks", help="Likewise of the masks.")
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    help="Of all images.  [test; casiav2: train and val]",
)
@click.option("--list", "listed", type=UserPath(), help="Only these, one a line.")
@click.option(
    "--inverted",
    type=UserPath(),
    help="Images whose red part is forged, one a line (columbia).",
)
@click.option("--mask-suffix", help="What masks' names end in, if not in _gt or _mask (folder).")
@click.option(
    "--redistribution",
    type=click.Choice(["yes", "no", "research-only"]),
    help="Whether its images may be passed on; export heeds it  [unknown; of a published one: no].",
)
@click.option("--allow-exclude", is_flag=True, help="Leave out what is at fault, and go on.")
@out_option
@json_option
def import_(
    layout: str,
    path: Path,
    name: str | None,
    images: str | None,
    *,
    masks: str | None,
    split: Any,
    listed: Path | None,
    inverted: Path | None,
    mask_suffix: str | None,
    redistribution: str | None,
    allow_exclude: bool,
    out: Path,
    as_json: bool,
) -> None:
    """Import the dataset that lies in PATH, as it was downloaded.

    LAYOUT is casiav1, casiav2, columbia, imd20, misd, nist16, coverage, dso1, korus, cocoglide,
    autosplice75, autosplice90, autosplice100 (docs/datasets.md says what each looks like); folder:
    PATH holds Tp and Gt, or images and masks, or what two globs match, an image and its mask
    sharing a stem (the mask's may end in _gt or _mask); imdlbenco: PATH is a JSON list; or
    huggingface: PATH is a folder of Parquet files or of images with metadata.csv, or a name on
    the hub, with columns image and mask.

    Originals are left as they are: manifest, repaired masks and import_report.json are written
    below --out, and --dataset NAME then works everywhere.

    \b
    advbench dataset import casiav1 ~/casia
    advbench dataset import columbia ~/columbia --list columbia160.txt --name columbia160
    advbench dataset import folder ~/forged --name mine
    advbench dataset import folder ~/forged --name mine --images 'fake/*' --masks 'gt/*.png'
    advbench dataset import imdlbenco ~/lists/test.json --name mine
    advbench dataset import huggingface ~/opensdi/data --name opensdi --allow-exclude
    """
    from advbench.cli.importing import show_faults, show_report
    from advbench.datasets.importing.importing import check_name, import_found
    from advbench.datasets.importing.layouts import known as layouts
    from advbench.datasets.importing.problems import ImportRefusedError
    from advbench.pipelines.load import remember_import

    layouts.check_options(layout, images, masks, inverted=inverted, mask_suffix=mask_suffix)
    if name is None and layout not in layouts.DATASETS:
        raise AdvbenchError(f"layout {layout} needs a name for the dataset; add --name NAME")
    name = layout if name is None else name
    check_name(name)
    folder = out / "datasets" / name
    if layout == "huggingface":
        found = _unpacked(path, folder, images, masks)
    else:
        found = layouts.find(
            layout, path, images, masks, inverted=inverted, mask_suffix=mask_suffix
        )
    wanted = None
    if listed:
        found, wanted = layouts.restrict(found, listed, allow_exclude)
    beside = sorted(folder.parent.iterdir()) if folder.parent.is_dir() else []
    others = [one for one in beside if one != folder and (one / "dataset.json").is_file()]
    try:
        with Progress() as progress:
            done = import_found(
                found,
                folder,
                name,
                split,
                allow_exclude=allow_exclude,
                listed=wanted,
                others=others,
                redistribution=redistribution,
                progress=progress.counting("importing", "images"),
            )
        remember_import(folder)
    except ImportRefusedError as error:
        if as_json:
            click.echo(json.dumps(error.report, indent=2))
        show_faults(error.faults)
        raise
    finally:
        if layout == "huggingface":
            _discard_unpacked(folder)
    if as_json:
        click.echo(json.dumps(done.report, indent=2))
    else:
        show_report(done.report, folder)


def _unpacked(path: Path, folder: Path, images: str | None, masks: str | None) -> Found:
    """Write the images of a dataset of Hugging Face as files, which an import reads."""
    from advbench.datasets.importing.layouts.huggingface import unpack

    if (folder / "dataset.json").exists():
        raise AdvbenchError(f"{folder}: a dataset of that name is there; take another --name")
    with Progress() as progress:
        counting = progress.counting("unpacking", "images")
        return unpack(str(path), folder, images or "image", masks or "mask", progress=counting)


def _discard_unpacked(folder: Path) -> None:
    from advbench.datasets.importing.layouts.huggingface import discard

    discard(folder)


@dataset.command()
@click.argument("name")
@out_option
def check(name: str, out: Path) -> None:
    """Decode every image and mask of dataset NAME (or of a folder) against its manifest."""
    from advbench.pipelines.load import load_dataset

    with Progress() as progress:
        data = load_dataset(name, out, "train", progress)
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
def split(
    name: str, train: float, val: float, sources: str | None, *, seed: int, out: Path
) -> None:
    """Divide the imported dataset NAME for training, validation and test.

    Images that share a photograph stay together. Which photographs an image was made from stands in
    the names of some datasets, as in Sp_D_CNN_A_ani0049_ani0084_0266.jpg of CASIA:

    \b
    advbench dataset split mine --sources '[a-z]{3}[0-9]{4}'
    """
    from advbench.datasets.splitting import split_folder

    own = user_path(name)
    folder = own if (own / "dataset.json").is_file() else out / "datasets" / name
    if name in ("builtin", "builtin1", "builtin2", "open"):
        raise AdvbenchError(f"dataset {name} has its splits already; give an imported dataset")
    counts = split_folder(folder, train, val, sources, seed=seed)
    click.echo(", ".join(f"{count} {part}" for part, count in counts.items()))
