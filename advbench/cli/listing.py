"""``advbench list``: what is registered, at no cost."""

from __future__ import annotations

import json
from pathlib import Path

import click

from advbench.cli.options import json_option, out_option, plugin_option
from advbench.errors import AdvbenchError, first_line
from advbench.registry import Entry, families
from advbench.texts import read_json


@click.command("list")
@click.argument(
    "family",
    required=False,
    type=click.Choice(["attacks", "victims", "defenses", "datasets", "suites"]),
)
@out_option
@plugin_option
@json_option
def listing(family: str | None, out: Path, as_json: bool) -> None:
    """List what is registered, with entry points of installed packages, and what was imported.

    \b
    advbench list
    advbench list attacks --json
    """
    shown = {
        f"{registry.kind}s": registry
        for registry in families()
        if family in (None, f"{registry.kind}s")
    }
    entries = {kind: dict(registry.shown()) for kind, registry in shown.items()}
    if "datasets" in entries:
        entries["datasets"] |= _imported(out)
    if as_json:
        found = {
            kind: {name: vars(entry) for name, entry in own.items()}
            for kind, own in entries.items()
        }
        click.echo(json.dumps(found, indent=2))
        return
    for kind, registry in shown.items():
        click.echo(kind)
        width = max(len(name) for name in entries[kind])
        for name, entry in entries[kind].items():
            click.echo(f"  {name:<{width}} {entry.summary}")
        if registry.planned:
            what = "to import" if registry.kind == "dataset" else "later"
            click.echo(f"  {what}: {', '.join(registry.planned)}")


def _imported(out: Path) -> dict[str, Entry]:
    """List what lies below ``out/datasets``, by name."""
    found = {}
    for path in sorted((out / "datasets").glob("*/dataset.json")):
        try:
            counts = read_json(path)["counts"]
            summary = f"imported: {counts['forged']} forged, {counts['authentic']} authentic images"
        except (AdvbenchError, OSError, KeyError, TypeError) as error:
            summary = f"imported, but: {first_line(error)}"
        found[path.parent.name] = Entry(str(path.parent), summary, "imported")
    return found
