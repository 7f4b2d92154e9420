"""Verbs that later versions bring: each says what to do instead."""

from __future__ import annotations

import click

_ANY = {"ignore_unknown_options": True, "allow_extra_args": True}


def _later(name: str, instead: str) -> click.Command:
    @click.command(name, context_settings=_ANY, help=f"Not in this version: {instead}.")
    def command() -> None:
        raise click.UsageError(f"{name} is not in this version; {instead}")

    return command


report = _later("report", "read the tables of advbench evaluate, or the picture of quickstart")
