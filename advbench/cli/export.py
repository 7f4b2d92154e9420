"""``advbench export``: shards as a dataset that others load."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from advbench.cli.options import UserPath, json_option, out_option, several
from advbench.cli.progress import Progress
from advbench.exports import FORMATS


@click.command()
@click.argument("format_name", metavar="FORMAT", type=click.Choice(list(FORMATS)))
@click.option(
    "--to",
    required=True,
    type=UserPath(),
    help="The folder to make; new or empty.",
)
@several("--dataset", help="Only these datasets [all that there are shards of].")
@several("--victim", help="Only these victims.")
@several("--attack", help="Only these attacks (pgd) or variants (pgd-3).")
@click.option("--include-images", is_flag=True, help="Images also where no manifest allows them.")
@click.option(
    "--shard-bytes",
    type=click.IntRange(min=1),
    help="Largest tar or Parquet file, a photograph at least [268435456].",
)
@click.option("--url", help="Where it will be published, for croissant.json and the card.")
@click.option("--push", metavar="NAME", help="huggingface: upload it as a dataset, if logged in.")
@click.option("--creator", default="advbench", show_default=True, help="Who publishes it.")
@out_option
@json_option
def export(
    format_name: str,
    to: Path,
    dataset: Sequence[str],
    victim: Sequence[str],
    *,
    attack: Sequence[str],
    include_images: bool,
    shard_bytes: int | None,
    url: str | None,
    push: str | None,
    creator: str,
    out: Path,
    as_json: bool,
) -> None:
    """Write the adversarial images below --out as a dataset to publish: png (Tp and Gt folders),
    webdataset (tar files) or huggingface (Parquet), with a data card and Croissant metadata.

    Images whose dataset's terms do not allow redistribution go out as residuals only. The same
    shards give the same bytes; what fails leaves nothing behind.

    \b
    advbench export png --to published
    advbench export webdataset --to tars --victim ifosn --attack pgd,fgsm-1
    advbench export huggingface --to hub --dataset mine --include-images
    advbench export huggingface --to hub --push me/adversarial-mine
    """
    from advbench.datasets.builtin.editions import recorded_name
    from advbench.exports.export import ExportJob
    from advbench.exports.export import export as run
    from advbench.exports.format import SHARD_BYTES, format_of
    from advbench.exports.hub import ADDRESS, check_login, upload

    if shard_bytes is not None and not format_of(format_name).bounded:
        raise click.UsageError(
            f"--shard-bytes is no option of {format_name}; it has a file for each image"
        )
    if push is not None:
        if format_name != "huggingface":
            raise click.UsageError(f"--push is no option of {format_name}; export huggingface")
        check_login(push)
        url = url or (ADDRESS + push if "/" in push else None)
    job = ExportJob(
        format_name,
        out,
        to,
        [recorded_name(name) for name in dataset],
        victim,
        attack,
        include_images,
        shard_bytes or SHARD_BYTES,
        url,
        creator,
    )
    try:
        with Progress(quiet=as_json) as progress:
            counts = run(job, progress.counting("exporting", "images"))
    except KeyboardInterrupt as error:
        error.add_note("stopped; nothing was exported")
        raise
    address = upload(to, push) if push else None
    if as_json:
        told = {"format": format_name, "to": str(to), **asdict(counts)}
        click.echo(json.dumps(told | ({"pushed": address} if address else {}), indent=2))
        return
    for name, sentence in counts.terms.items():
        click.echo(f"{name}: {sentence}")
    click.echo(
        f"{counts.images} adversarial images of {counts.photographs} photographs in {to}: "
        f"{counts.files} files, {counts.bytes / 1e6:.1f} MB"
    )
    click.echo(f"content sha256 {counts.content_sha256}")
    if address:
        click.echo(f"pushed: {address}")
