"""Render self-contained HTML pages: autoescaped, style sheet and script allowed by their hash."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

import advbench
from advbench.escaping import visible, web_address


def render(template: str, **context: Any) -> bytes:
    """A page from a template of ``advbench/report/templates``.

    Every text goes through autoescape; names from datasets also through the filter ``name``, which
    shows what is hidden in them and keeps their direction to themselves.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("advbench.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., object]] = {
        "name": lambda value: Markup("<bdi>{}</bdi>").format(visible(value)),
        "visible": visible,
        "visible_lines": lambda text: "\n".join(map(visible, str(text).split("\n"))),
        "figure": figure,
        "address": web_address,
    }
    environment.filters.update(filters)
    folder = resources.files("advbench.report") / "templates"
    style = folder.joinpath("style.css").read_text("utf-8")
    script = folder.joinpath("page.js").read_text("utf-8")
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    )
    page = environment.get_template(template).render(
        style=Markup(style),
        script=Markup(script),
        policy=policy,
        version=advbench.__version__,
        **context,
    )
    return page.encode()


def figure(value: float | None, digits: int = 3) -> str:
    """A number to print, a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}"


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
