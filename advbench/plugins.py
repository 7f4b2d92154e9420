"""Find the module of a plug-in, and tell the faults of foreign code as its own."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from advbench.errors import AdvbenchError, first_line
from advbench.files import user_path

# Modules of plug-ins by top-level name, as far as they were asked for.
_modules: set[str] = set()


def module_of(name: str) -> ModuleType:
    """Import a module by its dotted name, or by the path of its file, as in ``./mine.py``.

    What lies where the user stands comes before a module of that name of Python or of a library.

    Raises:
        AdvbenchError: no such file.
        ImportError, Exception: what importing raised.
    """
    if name.endswith(".py") or "/" in name:
        path = user_path(name).resolve()
        if not path.is_file():
            raise AdvbenchError("no such file")
        module = _from_file(path)
    else:
        folder = Path.cwd()
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
        top = name.partition(".")[0]
        path = folder / f"{top}.py"
        shadows = "." not in name and path.is_file() and not _is_at(top, path)
        module = _from_file(path) if shadows else importlib.import_module(name)
    own = module.__name__.partition(".")[0]
    if own != "advbench":
        _modules.add(own)
    return module


def import_package(module: str, what: str, hint: str) -> ModuleType:
    """Import a module of a package that the user may have installed.

    Args:
        what: needs it, as in ``attack advlib:dag``.
        hint: how to get the package.

    Raises:
        AdvbenchError: it is missing, or something that it needs is.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise AdvbenchError(
            f"{what}: cannot import {module} ({first_line(error)}); {hint}"
        ) from error


def from_plugin(error: BaseException) -> AdvbenchError | None:
    """Tell an error by the line of a plug-in where it arose; None where it arose elsewhere."""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if str(frame.f_globals.get("__name__")).partition(".")[0] in _modules:
            what = "ended the program" if isinstance(error, SystemExit) else "raised"
            kind = type(error).__name__
            text = first_line(error)
            said = kind if text == kind else f"{kind}: {text}"
            place = f"{frame.f_code.co_filename}, line {line}"
            return AdvbenchError(f"a plug-in {what} ({place}, in {frame.f_code.co_name}): {said}")
    return None


def _is_at(name: str, path: Path) -> bool:
    """Tell whether importing a name comes to a file."""
    if name in sys.modules:
        found = getattr(sys.modules[name], "__file__", None)
    else:
        spec = importlib.util.find_spec(name)
        found = spec.origin if spec else None
    return found is not None and Path(found).resolve() == path.resolve()


def _from_file(path: Path) -> ModuleType:
    """The module of a file: under its own name where that is free, so that other processes and what
    lies beside it find it, else under one that is made of its path."""
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)
        importlib.invalidate_caches()
    if path.stem.isidentifier() and _is_at(path.stem, path):
        return importlib.import_module(path.stem)
    name = f"plugin_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]
