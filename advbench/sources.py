"""Name plug-ins by the SHA-256 of their source, and files in settings by that of their content.

What was edited or overwritten under its old name is another thing then, and never takes over the
images or scores of the first.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import marshal
import struct
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from advbench.errors import AdvbenchError
from advbench.files import file_sha256

Adapted = type | FunctionType

_LIBRARIES = ("site-packages", "dist-packages")
# Names of files in a source are no longer than this.
_LONGEST_NAME = 300
_BYTECODE_HEAD = 16


def source_sha256(
    plugin: type, parts: Iterable[type] = (), adapted: Iterable[Adapted] = ()
) -> str | None:
    """SHA-256 over the source of a plug-in, None where all of it is advbench's own.

    A class is made of its module, of the modules beside it that this imports, also within
    functions, and of the files that these name in a string. A class without a file, as of an
    interactive session, is named by its compiled code.

    Args:
        parts: other classes that it is made of, such as those of its network. Installed libraries
            count only where the plug-in lies in them.
        adapted: classes and functions of an installed package that it calls in place of code of
            its own; of that package all that they import counts.
    """
    sums: set[tuple[str, str]] = set()
    own = {_top(plugin), *map(_top, adapted)}
    for base in {base for part in (plugin, *parts, *adapted) for base in _bases(part)}:
        if _is_foreign(base, own):
            sources, named = _sources(base)
            sums |= sources
            sums |= {(path.name, file_sha256(path)) for path in named if path.is_file()}
    if not sums:
        return None
    return hashlib.sha256("\n".join(f"{n} {s}" for n, s in sorted(sums)).encode()).hexdigest()


def with_file_sums(value: Any) -> Any:
    """A specification whose texts that name files or folders are replaced by their SHA-256: where a
    file lies is no part of what is done."""
    if isinstance(value, dict):
        return {key: with_file_sums(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [with_file_sums(part) for part in value]
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME or "\0" in value:
        return value
    path = Path(value)
    try:
        is_file, is_folder = path.is_file(), "/" in value and path.is_dir()
    except OSError:  # too long for a name
        return value
    if is_file:
        return f"sha256:{file_sha256(path)}"
    if is_folder:
        inside = sorted(one for one in path.rglob("*") if one.is_file())
        sums = [f"{one.relative_to(path).as_posix()} {file_sha256(one)}" for one in inside]
        whole = hashlib.sha256("\n".join(sums).encode()).hexdigest()
        return f"sha256:{whole}"
    return value


def package_versions(plugin: type, parts: Iterable[Adapted]) -> str | None:
    """Name the installed packages that classes and functions come from, with their versions, as in
    ``torchattacks 3.5.1``; None where they come from none but the plug-in's own, PyTorch, Python
    and advbench.

    A package that is no distribution, such as a folder on ``PYTHONPATH``, has no version.
    """
    tops = {_top(base) for part in parts for base in _bases(part)}
    known = {"advbench", "torch", _top(plugin)} | set(sys.stdlib_module_names)
    found = []
    for top in sorted(tops - known):
        for distribution in sorted(set(_distributions().get(top, []))):
            found.append(f"{distribution} {metadata.version(distribution)}")
    return ", ".join(found) or None


def is_own(cls: Adapted) -> bool:
    """Tell whether a class is advbench's."""
    return _top(cls) == "advbench"


@cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _bases(part: Adapted) -> Iterable[Adapted]:
    return part.__mro__ if isinstance(part, type) else (part,)


def _top(part: Adapted) -> str:
    return part.__module__.partition(".")[0]


def _is_foreign(base: Adapted, own: Collection[str]) -> bool:
    """Tell whether a class is neither advbench's, Python's, nor of another library than ``own``."""
    top = _top(base)
    if top == "advbench" or (top in sys.stdlib_module_names and top != "__main__"):
        return False
    file = _file_of(base)
    return file is None or not set(file.parts) & set(_LIBRARIES) or top in own


def _file_of(cls: Adapted) -> Path | None:
    name = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return Path(name) if name and Path(name).is_file() else None


@lru_cache(maxsize=1024)
def _sources(cls: Adapted) -> tuple[frozenset[tuple[str, str]], frozenset[Path]]:
    """Names and sums of the source files of a class, and the other files that they name. Kept,
    since it is the code that was imported which counts, whatever becomes of its file."""
    file = _file_of(cls)
    if file is None:
        code = hashlib.sha256("\n".join(_code_of(cls)).encode()).hexdigest()
        return frozenset({(cls.__qualname__, code)}), frozenset()
    module = cls.__module__
    depth = module.count(".") + (file.name == "__init__.py")
    root = file.resolve().parents[depth]
    own = module.partition(".")[0] if set(root.parts) & set(_LIBRARIES) else None
    found: dict[Path, str] = {}
    named: set[Path] = set()
    waiting = [file.resolve()]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        data = path.read_bytes()
        found[path] = hashlib.sha256(data).hexdigest()
        _refuse_stale_bytecode(path, data)
        tree = ast.parse(data)
        waiting += [each for each in _imported(tree, path, root, own) if each not in found]
        named |= set(_named_in(tree, path))
    sums = {(path.relative_to(root).as_posix(), sum_) for path, sum_ in found.items()}
    return frozenset(sums), frozenset(named - set(found))


def _refuse_stale_bytecode(path: Path, source: bytes) -> None:
    """Python takes a module's bytecode for current by the time and the size of its source, which an
    edit within a second, or a tool that sets times, can leave as they were.

    Raises:
        AdvbenchError: what was imported is not this source.
    """
    kept = Path(importlib.util.cache_from_source(str(path)))
    try:
        head, code = kept.read_bytes()[:_BYTECODE_HEAD], kept.read_bytes()[_BYTECODE_HEAD:]
        status = path.stat()
        current = (int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)
        if head[:8] != importlib.util.MAGIC_NUMBER + bytes(4):  # of another kind or Python
            return
        if struct.unpack("<II", head[8:]) != current:
            return
        imported = marshal.loads(code)
    except (OSError, ValueError, EOFError, TypeError, struct.error):
        return
    if imported != compile(source, str(path), "exec", dont_inherit=True):
        raise AdvbenchError(
            f"{path}: was edited, but Python still runs its former version from {kept}; remove that"
        )


def _imported(tree: ast.AST, path: Path, root: Path, own: str | None) -> Iterator[Path]:
    """Files below ``root`` that a module imports; only those of package ``own`` if it is given."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            starts = [(root, alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            folder = path.parents[node.level - 1] if node.level else root
            module = node.module.split(".") if node.module else []
            starts = [(folder, [*module, alias.name]) for alias in node.names]
        else:
            continue
        for folder, parts in starts:
            if folder == root and (parts[0] == "advbench" or own not in (None, parts[0])):
                continue
            for length in range(1, len(parts) + 1):
                place = folder.joinpath(*parts[:length])
                for candidate in (place.with_suffix(".py"), place / "__init__.py"):
                    if candidate.is_file() and candidate.is_relative_to(root):
                        yield candidate.resolve()


def _named_in(tree: ast.AST, path: Path) -> Iterator[Path]:
    """Files that a string of a module names, beside it or where the user stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
            if 0 < len(text) <= _LONGEST_NAME and text.isprintable():
                for folder in (path.parent, Path.cwd()):
                    with suppress(OSError):  # too long for a name
                        if (folder / text).is_file():
                            yield (folder / text).resolve()


def _code_of(cls: Adapted) -> Iterator[str]:
    """The compiled functions and the constants of a class, or one function, as text."""
    parts = vars(cls) if isinstance(cls, type) else {cls.__qualname__: cls}
    for name, value in sorted(parts.items()):
        function = getattr(value, "__func__", getattr(value, "fget", value))
        code = getattr(function, "__code__", None)
        if isinstance(code, CodeType):
            yield from (name, *_instructions(code))
        elif isinstance(value, str | int | float | tuple | bool | None):
            yield f"{name} {value!r}"


def _instructions(code: CodeType) -> Iterator[str]:
    yield code.co_code.hex()
    yield repr(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _instructions(constant)
        else:
            yield repr(constant)
