"""Print what ``advbench dataset import`` found: a table of faults, or a summary of the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advbench.cli.grid import terminal
from advbench.datasets.importing.report import FILE

if TYPE_CHECKING:
    from advbench.datasets.importing.problems import Fault

FAULTS_SHOWN = 20
LINES_SHOWN = 10


def show_faults(faults: Sequence[Fault]) -> None:
    """The first faults as a table on standard error, and how many more there are."""
    from rich.table import Table

    console = terminal(stderr=True)
    table = Table()
    for heading in ("file", "check", "found", "what to do"):
        table.add_column(heading, overflow="fold")
    for fault in faults[:FAULTS_SHOWN]:
        cells = (fault.file, fault.problem.check, fault.problem.value, fault.problem.fix)
        table.add_row(*(_plain(cell) for cell in cells))
    console.print(table)
    if len(faults) > FAULTS_SHOWN:
        checks = Counter(fault.problem.check for fault in faults)
        every = ", ".join(f"{count} {check}" for check, count in checks.most_common())
        click.echo(f"{len(faults) - FAULTS_SHOWN} more; all {len(faults)}: {every}", err=True)


def show_report(report: dict[str, Any], folder: Path) -> None:
    """A few lines: what was found, repaired, left out, and what is shared with other datasets."""
    found = ", ".join(f"{count} {what}" for what, count in report["found"].items())
    same = bool(report["published"]) and not report["differences"]
    click.echo(f"found: {found}{' (as published)' if same else ''}")
    _echo_all("differs", report["differences"])
    by = report["masks_found_by"]
    if len(by) > 1:
        click.echo(f"masks found by: {', '.join(f'{how} {count}' for how, count in by.items())}")
    _echo_all("repaired", [f"{one['image']}: {one['what']}" for one in report["repaired"]])
    for rule, count in report["masks_made"].items():
        click.echo(f"made: {count} masks by rule {rule}")
    excluded = report["excluded"]
    _echo_all("left out", [f"{e['image']}: {e['check']}: {e['value']}" for e in excluded])
    _echo_all("mask without image", report["orphan_masks"])
    if report["ignored"]:
        reasons = Counter(one["why"] for one in report["ignored"])
        click.echo(f"ignored: {', '.join(f'{n} files ({why})' for why, n in reasons.items())}")
    if report["flags"]:
        flags = ", ".join(f"{flag} {count}" for flag, count in report["flags"].items())
        click.echo(f"noted of images: {flags}")
    _echo_all("warning", [f"{w['image']} {w['warning']}".strip() for w in report["warnings"]])
    if report["duplicates"]:
        images = sum(map(len, report["duplicates"]))
        click.echo(f"duplicates: {images} images are {len(report['duplicates'])} pictures")
    for overlap in report["overlaps"]:
        click.echo(_overlap_line(overlap))
    counts = report["imported"]
    splits = ", ".join(f"{count} {split}" for split, count in report["splits"].items())
    authentic = f", {counts['authentic']} authentic" if counts["authentic"] else ""
    click.echo(f"the whole report: {folder / FILE}")
    click.echo(
        f"{folder}: {counts['forged']} forged images{authentic} ({splits}); "
        f"use it with --dataset {report['dataset']}"
    )


def _overlap_line(overlap: dict[str, Any]) -> str:
    if overlap["error"]:
        return f"not compared with {overlap['dataset']}: {overlap['error']}"
    counts = overlap["counts"]
    shared = f"{counts['file']} same files, {counts['pixels']} same pixels, {counts['near']} alike"
    if not counts["leaks"]:
        return f"shared with {overlap['dataset']}: {shared}; none between training and test"
    return (
        f"leak: {counts['leaks']} pairs with {overlap['dataset']} stand in training and in test "
        f"({shared}); {overlap['built_on']} forged images here are made from leaking photographs"
    )


def _echo_all(what: str, lines: Sequence[str]) -> None:
    for line in lines[:LINES_SHOWN]:
        click.echo(f"{what}: {_plain(line)}")
    if len(lines) > LINES_SHOWN:
        click.echo(f"{what}: {len(lines) - LINES_SHOWN} more, see the report")


def _plain(text: str) -> str:
    """One line that any terminal takes, whatever a file is called."""
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in text
    )
