"""Groups of commands that suggest the nearest name."""

from __future__ import annotations

import click

from advbench.errors import did_you_mean


class Group(click.Group):
    """A group that answers an unknown command with the nearest ones."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            known = self.list_commands(ctx)
            ctx.fail(f"no such command {name!r}; {did_you_mean(name, known)}")
        return super().resolve_command(ctx, args)
