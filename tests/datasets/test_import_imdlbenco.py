"""IMDLBenCo's JSON lists, with paths of every kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from advbench.datasets.importing.problems import ImportRefusedError
from advbench.errors import AdvbenchError

from .pictures import one_line, picture, save, truth
from .trees import opened, run, state


def write(path: Path, entries: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries))
    return path


@pytest.mark.parametrize("how", ["relative", "up", "absolute"])
def test_pairs(tmp_path: Path, how: str) -> None:
    """Relative to the list, above it, or absolute; a mask need not be named like its image."""
    source = tmp_path / "s"
    base = source / "lists" if how == "relative" else source / "data"
    prefix = {"relative": "", "up": "../data/", "absolute": f"{base}/"}[how]
    for seed, name in enumerate("abc"):
        save(base / f"img/{name}.png", picture(seed))
    save(base / "gt/one.png", truth(1))
    save(base / "gt/two.png", truth(0))
    entries = [
        [f"{prefix}img/b.png", f"{prefix}gt/one.png"],
        [f"{prefix}img/a.png", f"{prefix}gt/two.png"],
        [f"{prefix}img/c.png", "Negative"],
    ]
    path = write(source / "lists/test.json", entries)
    before = state(source)
    run("imdlbenco", path, tmp_path / "m", name="mine")
    data = opened(tmp_path / "m", {"a": truth(0), "b": truth(1), "c": None})
    assert state(source) == before
    assert str(tmp_path) not in (tmp_path / "m/manifest.csv").read_text()
    assert {row.kind for row in data.rows} == {"unknown", "none"}


def test_equal_names_in_several_folders(tmp_path: Path) -> None:
    """Ids then hold the folders; names that are unique stay short."""
    entries = []
    for seed, name in enumerate(("x/1", "y/1", "y/2")):
        save(tmp_path / f"s/{name}.png", picture(seed))
        save(tmp_path / f"s/gt/{name}.png", truth(seed))
        entries.append([f"{name}.png", f"gt/{name}.png"])
    run("imdlbenco", write(tmp_path / "s/l.json", entries), tmp_path / "m", name="mine")
    opened(tmp_path / "m", {"x_1": truth(0), "y_1": truth(1), "2": truth(2)})


@pytest.mark.parametrize("missing", ["img/a.png", "gt/a.png"])
def test_files_that_are_not_there(tmp_path: Path, missing: str) -> None:
    """Each is a fault of its entry; the others can go on."""
    for seed, name in enumerate("ab"):
        save(tmp_path / f"s/img/{name}.png", picture(seed))
        save(tmp_path / f"s/gt/{name}.png", truth(seed))
    (tmp_path / "s" / missing).unlink()
    path = write(tmp_path / "s/l.json", [[f"img/{n}.png", f"gt/{n}.png"] for n in "ab"])
    with pytest.raises(ImportRefusedError) as caught:
        run("imdlbenco", path, tmp_path / "m", name="mine")
    (fault,) = caught.value.faults
    assert fault.file == "img/a.png"
    assert str(tmp_path) not in fault.problem.reason
    run("imdlbenco", path, tmp_path / "m", name="mine", allow_exclude=True)
    opened(tmp_path / "m", {"b": truth(1)})


BAD: list[Any] = [
    "",
    "{",
    "[]",
    "{}",
    '"x"',
    [["a.png"]],
    [["a.png", "b.png", "c.png"]],
    [["a.png", 3]],
    [["", "b.png"]],
    [["Negative", "b.png"]],
    [["a\0.png", "b.png"]],
    ["ab"],
]


@pytest.mark.parametrize("content", BAD, ids=str)
def test_no_list(tmp_path: Path, content: Any) -> None:
    """Anything else is refused in one line that shows the form."""
    path = write(tmp_path / "l.json", content)
    with pytest.raises(AdvbenchError) as caught:
        run("imdlbenco", path, tmp_path / "m", name="mine")
    assert '["image", "Negative"]' in one_line(caught.value)


def test_an_image_twice(tmp_path: Path) -> None:
    """Two truths for one image."""
    save(tmp_path / "a.png", picture())
    path = write(tmp_path / "l.json", [["a.png", "m.png"], ["./a.png", "Negative"]])
    with pytest.raises(AdvbenchError, match="stands in it twice"):
        run("imdlbenco", path, tmp_path / "m", name="mine")
