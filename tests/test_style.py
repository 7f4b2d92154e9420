"""Docstrings begin with what the thing does."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from .test_architecture import modules

CLAUSE = re.compile(r"(What|How|Where|Whether|Which|Of|As|When|If)\b")
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: str(value)[-40:])
def test_docstrings_begin_with_no_clause(module: str, path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, DOCUMENTED):
            first = (ast.get_docstring(node) or "").partition("\n")[0]
            assert not CLAUSE.match(first), f"{module}: {first}"
