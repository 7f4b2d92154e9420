"""The ``advbench`` command: finds the verb, and turns faults of the input into one line."""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
from typing import NoReturn, TextIO

import click

import advbench
from advbench.cli.groups import Group
from advbench.cli.interrupts import MESSAGE, Stopped, end_now, prompt_end
from advbench.errors import AdvbenchError, first_line, from_os_error
from advbench.escaping import visible
from advbench.plugins import from_plugin

# Verb → its module, and its line in the help, so that the help imports none of them.
VERBS = {
    "quickstart": ("quickstart", "The whole story on the built-in data, in minutes."),
    "list": ("listing", "What is registered: attacks, victims, defenses, datasets."),
    "generate": ("generate", "Build an anti-forensics dataset."),
    "evaluate": ("evaluate", "Score defenses on it; write records and tables."),
    "predict": ("predict", "Map, overlay and mask of your own images."),
    "train": ("train", "Train a victim, ANSM or a control for one."),
    "dataset": ("dataset", "Build, import and check datasets of forged images."),
    "verify": ("verify", "Check every byte of what was generated."),
    "check": ("check", "Check what must hold of a victim or a defense, by its network."),
    "export": ("export", "PNG folders, WebDataset or Hugging Face, to publish."),
    "doctor": ("doctor", "What this installation can do, and what is missing."),
    "plan": ("suite", "Whether a suite can run, and what it takes."),
    "run": ("suite", "Generate and evaluate a whole suite, resumably."),
    "reproduce": (
        "reproduce",
        "The paper's Tables III to VI, beside the published ones, and its figures.",
    ),
    "leaderboard": ("leaderboard", "Rank defenses by what they recover."),
    "submit": ("submit", "Pack a defense's records for a leaderboard."),
    "show": ("show", "Draw images under attack, behind defenses."),
    "report": ("report", "One HTML page: verdicts, tables, curves, pictures."),
}

OUT_OF_MEMORY = (
    "out of memory with a single image; take a smaller --size, fewer --workers or a machine with "
    "more; what was made is kept"
)


class Verbs(Group):
    """Commands that are imported when they are run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"advbench.cli.{VERBS[cmd_name][0]}")
        return getattr(module, cmd_name.replace("-", "_") if cmd_name != "list" else "listing")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, text) for verb, (_, text) in VERBS.items()])


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(advbench.__version__, prog_name="advbench")
def cli() -> None:
    """The adversarial benchmark of image forgery localization.

    \b
    advbench quickstart
    advbench generate --victim ifosn --attack pgd --eps 3
    advbench evaluate --defense jpeg

    --debug, anywhere, shows the traceback of an error.
    """


def main() -> NoReturn:
    """Entry point; exits with 0 (done), 1 (a check failed, or a fault of advbench), 2 (input), 130
    or 143 (stopped by Ctrl-C or SIGTERM)."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    for stream in (sys.stdout, sys.stderr):
        _accept_any_text(stream)
    try:
        with prompt_end():
            code = cli.main(arguments, prog_name="advbench", standalone_mode=False)
            sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "")
        sys.exit(0)
    except (click.Abort, KeyboardInterrupt) as error:
        _stop(error, debug)
    except BrokenPipeError:
        # Whoever read the output has read enough; Python would complain of the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except click.ClickException as error:
        _fail(error.format_message(), 2, debug)
    except AdvbenchError as error:
        _fail(str(error), 2, debug)
    except (Exception, SystemExit) as error:
        _fail(*_message_and_code(error), debug)
    sys.exit(code if isinstance(code, int) else 0)


def _message_and_code(error: Exception | SystemExit) -> tuple[str, int]:
    """Give the message and the exit code of an unforeseen error."""
    # By name: PyTorch's own error is not worth importing it for.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return OUT_OF_MEMORY, 2
    known = (from_os_error(error) if isinstance(error, OSError) else None) or from_plugin(error)
    if known is not None:
        return str(known), 2
    if isinstance(error, SystemExit):
        raise error
    kind = type(error).__name__
    return f"{kind}: {first_line(error)} (a fault of advbench; --debug shows where)", 1


def _stop(error: BaseException, debug: bool) -> NoReturn:
    """End after Ctrl-C or SIGTERM, which click's Abort has as its cause."""
    cause = error.__cause__ if isinstance(error, click.Abort) else error
    message = next(iter(getattr(cause, "__notes__", [])), MESSAGE)
    if isinstance(cause, Stopped):
        if debug:
            traceback.print_exc()
        end_now(cause.number, message)
    _fail(message, 130, debug)


def _accept_any_text(stream: TextIO) -> None:
    """Print what a terminal's encoding lacks as ``?``, and bytes of file names as they are."""
    if isinstance(stream, io.TextIOWrapper):
        utf = stream.encoding.lower().startswith("utf")
        stream.reconfigure(errors="backslashreplace" if utf else "replace")


def _fail(message: str, code: int, debug: bool) -> NoReturn:
    if debug:
        traceback.print_exc()
    click.echo(f"advbench: error: {visible(' '.join(message.split()))}", err=True)
    sys.exit(code)
