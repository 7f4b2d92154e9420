"""Export shards: choose, look up the terms, write one format, describe it; whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import advbench
from advbench.escaping import csv_text
from advbench.exports.card import card
from advbench.exports.columns import COLUMNS, Row
from advbench.exports.croissant import About, croissant
from advbench.exports.format import SHARD_BYTES, Format, format_of
from advbench.exports.ledger import Ledger, ShardOrigin, made
from advbench.exports.photographs import photographs
from advbench.exports.samples import MOST, sample_of
from advbench.exports.scored import scores_of
from advbench.exports.selection import Group, select
from advbench.exports.target import whole_folder
from advbench.exports.terms import Terms, terms_of
from advbench.files import file_sha256
from advbench.progress import CountProgress


@dataclass(frozen=True)
class ExportJob:
    """Choose what to export.

    Attributes:
        format: a name of :data:`advbench.exports.FORMATS`.
        out: the output folder with ``shards`` and ``datasets``.
        to: the folder to make.
        datasets, victims, attacks: only these; see :func:`advbench.exports.selection.select`.
        include_images: images also where no manifest allows it.
        shard_bytes: largest file of the formats that bound theirs.
        url, creator: what Croissant says about where it is published, and by whom.
    """

    format: str
    out: Path
    to: Path
    datasets: Sequence[str] = ()
    victims: Sequence[str] = ()
    attacks: Sequence[str] = ()
    include_images: bool = False
    shard_bytes: int = SHARD_BYTES
    url: str | None = None
    creator: str = "advbench"


@dataclass
class ExportCounts:
    """Count what was exported.

    Attributes:
        terms: of each dataset, what was done and why.
    """

    images: int = 0
    photographs: int = 0
    files: int = 0
    bytes: int = 0
    content_sha256: str = ""
    terms: dict[str, str] = field(default_factory=dict)


def export(job: ExportJob, progress: CountProgress = lambda done, total: None) -> ExportCounts:
    """Make the folder; memory holds one photograph with its variants, or one row group of Parquet.

    Raises:
        AdvbenchError: nothing to export, the folder is not empty, a manifest at fault, a full disk.
        DamagedShardError: a shard is not what was written.
    """
    with whole_folder(job.to) as folder:
        groups = select(job.out / "shards", job.datasets, job.victims, job.attacks)
        terms = terms_of(groups, job.out, job.include_images)
        form = format_of(job.format)(folder, job.shard_bytes)
        ledger = _write(form, groups, terms, progress)
        sums = _sums(folder)
        known = made(groups)
        about = _about(job, groups, terms, ledger, known=known)
        columns = [*COLUMNS, *form.locations]
        text = croissant(about, form.distribution(sums), columns, sums)
        (folder / "croissant.json").write_text(text, encoding="utf-8")
        for sample in ledger.samples:
            (folder / sample.path).parent.mkdir(exist_ok=True)
            (folder / sample.path).write_bytes(sample.png)
        scores = scores_of(job.out, groups, ledger.pixels)
        text = card(
            form, groups, terms, ledger, made=known, columns=columns, url=job.url, scores=scores
        )
        (folder / "README.md").write_text(text, encoding="utf-8")
        files, size = _write_sums(folder, sums)
    return ExportCounts(
        ledger.images,
        len(ledger.photographs),
        files,
        size,
        ledger.content_sha256,
        {name: term.sentence for name, term in sorted(terms.items())},
    )


def _write(
    form: Format, groups: Sequence[Group], terms: Mapping[str, Terms], progress: CountProgress
) -> Ledger:
    ledger = Ledger()
    total = sum(group.images for group in groups)
    with _metadata(form) as write_row:
        for group in groups:
            with_images = terms[group.dataset_id].with_images
            for number, photograph in enumerate(photographs(group)):
                ledger.note_photograph(photograph)
                if with_images and number == 0 and len(ledger.samples) < MOST:
                    *_, attacked = photograph.attacked()
                    ledger.samples.append(sample_of(photograph, attacked, len(ledger.samples)))
                for identity, row in form.add(photograph, with_images):
                    ledger.note_image(identity, row)
                    write_row(row)
                progress(ledger.images, total)
            form.end_group(group)
    return ledger


@contextmanager
def _metadata(form: Format) -> Iterator[Callable[[Row], object]]:
    """``metadata.csv``, a row at a time."""
    with (form.folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        names = [column.name for column in (*COLUMNS, *form.locations)]
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        yield lambda row: writer.writerow(
            {
                key: csv_text(value) if isinstance(value, str) else value
                for key, value in row.items()
            }
        )


def _sums(folder: Path) -> dict[str, str]:
    """sha256 by path of every file that is there but PNGs, of which there may be very many."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".png")
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in paths}


def _write_sums(folder: Path, known: Mapping[str, str]) -> tuple[int, int]:
    """Write ``SHA256SUMS`` over every file but itself.

    Args:
        known: hashes that were taken already.

    Returns:
        how many files, how large.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    with (folder / "SHA256SUMS").open("w", encoding="utf-8") as file:
        for path in paths:
            name = path.relative_to(folder).as_posix()
            file.write(f"{known.get(name) or file_sha256(path)}  {name}\n")
    return len(paths) + 1, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _about(
    job: ExportJob,
    groups: Sequence[Group],
    terms: Mapping[str, Terms],
    ledger: Ledger,
    *,
    known: ShardOrigin,
) -> About:
    datasets, victims, variants = (
        ", ".join(sorted(names))
        for names in (
            {group.dataset for group in groups},
            {group.victim for group in groups},
            {variant for group in groups for variant in group.variants},
        )
    )
    return About(
        name=f"advbench-{'-'.join(sorted(terms))}",
        description=(
            f"{ledger.images} adversarial images of {len(ledger.photographs)} forged photographs "
            f"of {datasets}: attacks {variants} on the forgery localizers {victims}. "
            + " ".join(f"{name}: {term.sentence}." for name, term in sorted(terms.items()))
        ),
        version=advbench.__version__,
        licences=[_licence(name, term) for name, term in sorted(terms.items())],
        cited="; ".join(
            [t.info.citation for t in terms.values() if t.info and t.info.citation]
            or [f"advbench {advbench.__version__}, content sha256 {ledger.content_sha256}"]
        ),
        creator=job.creator,
        published=known.last_day,
        url=job.url,
    )


def _licence(name: str, term: Terms) -> str:
    if term.info is None:
        return f"{name}: unknown"
    return f"{name}: " + "; ".join(f"{key} {text}" for key, text in term.info.licence.items())
