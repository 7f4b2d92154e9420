"""``advbench list``: what is registered, at no cost."""

from __future__ import annotations

import json

import click

from advbench.cli.options import json_option, plugin_option
from advbench.registry import families


@click.command("list")
@click.argument(
    "family",
    required=False,
    type=click.Choice(["attacks", "victims", "defenses", "datasets", "suites"]),
)
@plugin_option
@json_option
def listing(family: str | None, as_json: bool) -> None:
    """List what is registered, with entry points of installed packages.

    \b
    advbench list
    advbench list attacks --json
    """
    shown = {
        f"{registry.kind}s": registry
        for registry in families()
        if family in (None, f"{registry.kind}s")
    }
    if as_json:
        found = {
            kind: {name: vars(entry) for name, entry in registry.shown().items()}
            for kind, registry in shown.items()
        }
        click.echo(json.dumps(found, indent=2))
        return
    for kind, registry in shown.items():
        click.echo(kind)
        width = max(len(name) for name in registry.shown())
        for name, entry in registry.shown().items():
            click.echo(f"  {name:<{width}} {entry.summary}")
        if registry.planned:
            what = "to import" if registry.kind == "dataset" else "later"
            click.echo(f"  {what}: {', '.join(registry.planned)}")
