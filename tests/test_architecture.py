"""The rooms: imports run one way, down the floors of the design."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Floor of each room; a module may import from lower floors and from its own room.
FLOORS = {
    "advbench.cli": 9,
    "advbench.submissions": 8,
    "advbench.report": 7,
    "advbench.pipelines": 6,
    "advbench.exports": 5,
    "advbench.attacks": 5,
    "advbench.defenses": 5,
    "advbench.training": 4,
    "advbench.inference": 3,
    "advbench.scores": 3,
    "advbench.victims": 2,
    "advbench.datasets": 2,
    "advbench.shards": 2,
    "advbench.engines": 1,
}
# Rooms of the design that an importer on a higher floor still may not know.
STRANGERS = {
    "advbench.attacks": {"advbench.shards"},
    "advbench.defenses": {
        "advbench.shards",
        "advbench.datasets",
        "advbench.victims",
        "advbench.training",
    },
    "advbench.inference": {"advbench.datasets", "advbench.shards"},
    "advbench.training": {"advbench.shards"},
    "advbench.scores": {"advbench.victims", "advbench.shards"},
    "advbench.exports": {"advbench.victims", "advbench.engines"},
}
# Parts of a room that may know some of those after all: networks that are trained through a victim.
FRIENDS = {
    "advbench.defenses.ansm": {"advbench.victims", "advbench.training"},
    "advbench.defenses.relocalise": {"advbench.victims", "advbench.training"},
    "advbench.defenses.trained": {"advbench.victims"},
}

# What stands outside the floors and may know all of them.
ENTRANCES = {"advbench", "advbench.__main__", "advbench.api", "advbench.evaluation"}


def modules() -> list[tuple[str, Path]]:
    found = []
    for folder, _, names in os.walk(ROOT / "advbench", followlinks=True):
        for path in (Path(folder, name) for name in sorted(names) if name.endswith(".py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append((".".join(parts).removesuffix(".__init__"), path))
    return sorted(found)


def room(module: str) -> str | None:
    return next((name for name in FLOORS if f"{module}.".startswith(f"{name}.")), None)


def imported(path: Path) -> set[str]:
    """Modules that a file imports when it runs; what it imports for types alone does not count."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: str(value)[-40:])
def test_imports_run_down_the_floors(module, path):
    ours = room(module)
    for name in imported(path):
        theirs = room(name)
        if theirs is None or theirs == ours:
            continue
        assert ours is not None or module in ENTRANCES, f"{module}: the ground knows {name}"
        if ours is not None:
            assert FLOORS[theirs] < FLOORS[ours], f"{module} imports {name}"
            friends = (
                known for part, known in FRIENDS.items() if f"{module}.".startswith(f"{part}.")
            )
            strangers = STRANGERS.get(ours, set()).difference(*friends)
            assert theirs not in strangers, f"{module} imports {name}"


@pytest.mark.parametrize("package", ["scores", "shards", "exports"])
def test_what_reads_and_writes_knows_no_torch(package):
    for path in (ROOT / "advbench" / package).rglob("*.py"):
        assert not any(name.partition(".")[0] == "torch" for name in imported(path)), path


def test_nothing_unpickles():
    for _, path in modules():
        assert "weights_only=False" not in path.read_text()
        assert not {"pickle.load", "pickle.loads"} & {
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
        }
