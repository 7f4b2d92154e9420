"""Make untrusted text safe to show: one function for each boundary that it crosses.

Names of files, samples and datasets, and the texts of a ``dataset.json``, come from strangers.
HTML is escaped by Jinja's autoescape, after :func:`visible`.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from rich.text import Text

# Control, format (bidirectional marks, zero width), surrogate, line and paragraph separators.
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINER = "\u200d"  # within emoji of several parts
# Anywhere; underscores but within a word; and what starts a heading, quotation, list or rule.
_MARKDOWN = re.compile(r"[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)|^[#>+=-]")
_NUMBERED = re.compile(r"^(\d+)([.)])(?=\s|$)")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def visible(value: object) -> str:
    """Replace characters that a reader cannot see, or that steer a terminal or the direction of
    text, by escapes such as ``\\n``, ``\\x1b`` and ``\\u202e``."""
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if character != _JOINER and unicodedata.category(character) in _HIDDEN
        else character
        for character in text
    )


def rich_text(value: object) -> Text:
    """Text for a rich table or console that holds no markup and no control codes."""
    from rich.text import Text

    return Text(visible(value))


def markdown(value: object) -> str:
    """Text that starts no heading, link, image, table cell, code or HTML in Markdown."""
    text = " ".join(visible(" ".join(str(value).split())).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return _NUMBERED.sub(r"\1\\\2", _MARKDOWN.sub(r"\\\g<0>", text))


def markdown_code(value: object) -> str:
    """A code span of Markdown, also within a table, around any text."""
    text = visible(value).replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def web_address(value: object) -> str | None:
    """The address where it is one of http or https without credentials, else None."""
    text = str(value).strip()
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    plain = text.isascii() and not re.search(r"[\s<>\"'`()\[\]\\]", text)
    good = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
    return text if good and plain else None


def markdown_address(value: object) -> str:
    """A link for Markdown where the address is one of http or https, else its escaped text."""
    address = web_address(value)
    return f"<{address}>" if address else markdown(value)


def csv_text(value: str) -> str:
    """A cell that no spreadsheet takes for a formula: such text gets an apostrophe in front."""
    return f"'{value}" if value.startswith(_FORMULA) else value
