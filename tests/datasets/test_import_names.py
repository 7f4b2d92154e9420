"""Names of datasets, files and globs: kept where they can be, else refused in one line."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advbench.datasets.dataset import open_folder
from advbench.datasets.importing.layouts.folder import import_folder
from advbench.errors import AdvbenchError

from .pictures import forged_folder, imported_or_refused, one_line, picture, save, truth

BAD = [
    "",
    "A",
    "Mine",
    "a b",
    "a b",
    "a.b",
    "../x",
    "a/b",
    "ä",
    "a\n",
    "a" * 33,
    "builtin",
    "builtin2",
    "open",
]


@pytest.mark.parametrize("name", BAD)
def test_bad_dataset_name(tmp_path: Path, name: str) -> None:
    """A name that is no plain id, or is taken by the built-in dataset."""
    with pytest.raises(AdvbenchError, match="--name"):
        import_folder(forged_folder(tmp_path / "s"), tmp_path / "m", name)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("name", ["a", "casia_v1", "0", "_", "a" * 32])
def test_good_dataset_name(tmp_path: Path, name: str) -> None:
    """Ids begin with it."""
    source = forged_folder(tmp_path / "s", ("a", "x" * 60, "y" * 61))
    import_folder(source, tmp_path / "m", name)
    opened = open_folder(tmp_path / "m")
    assert opened.id == name
    assert {row.sample_id.partition("/")[0] for row in opened.rows} == {name}


AWKWARD = [
    "a b",
    " a ",
    "ä ö ß",
    "日本語",
    'a,"b";c',
    "a#1%20&",
    "a'b$c",
    "[a]*",
    "NA",
    "00012",
    "a\tb",
    "a\nb",
    "a:b",
    "-n",
    "x" * 200,
    "é" * 100,
]


@pytest.mark.parametrize("stem", AWKWARD)
def test_awkward_file_names_are_kept(tmp_path: Path, stem: str) -> None:
    """Blanks, other scripts and marks: the file is found again, its id is plain ASCII."""
    source = forged_folder(tmp_path / "s", (stem, "plain"))
    import_folder(source, tmp_path / "m", "mine")
    opened = open_folder(tmp_path / "m")
    (row,) = (row for row in opened.rows if row.name != "plain")
    assert row.orig_name == f"{stem}.png"
    assert re.fullmatch(r"mine/[A-Za-z0-9_.-]{1,60}", row.sample_id)
    assert np.array_equal(opened.image(row), picture(0))
    assert np.array_equal(opened.mask(row), truth(0))


@pytest.mark.parametrize(
    "stem", ["a\\b", os.fsdecode(b"a\xffb"), "a\rb"], ids=["backslash", "not utf-8", "return"]
)
def test_names_that_a_manifest_cannot_hold(tmp_path: Path, stem: str) -> None:
    """Kept in full, or refused in one line; never a traceback, never a broken manifest."""
    source = forged_folder(tmp_path / "s", (stem, "plain"))
    opened = imported_or_refused(source, tmp_path / "m")
    assert opened is None or len(opened.rows) == 2


def test_fault_of_a_file_with_a_line_break(tmp_path: Path) -> None:
    """The message stays one line whatever the file is called."""
    source = forged_folder(tmp_path / "s", ("a\nb", "plain"))
    (source / "Gt/a\nb.png").unlink()
    with pytest.raises(AdvbenchError) as caught:
        import_folder(source, tmp_path / "m", "mine")
    one_line(caught.value)


def test_colon_at_the_top(tmp_path: Path) -> None:
    """A name like a drive letter, straight below the root."""
    source = forged_folder(tmp_path / "s", ("12:30",), images="{}.png", masks="{}_gt.png")
    try:
        import_folder(source, tmp_path / "m", "mine", "*30.png", masks="*_gt.png")
    except AdvbenchError as error:
        one_line(error)
    else:
        assert len(open_folder(tmp_path / "m").rows) == 1


LONG = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\:"))


@settings(deadline=None, max_examples=15)
@given(st.lists(LONG.filter(lambda s: 0 < len(s.encode()) <= 200), min_size=2, max_size=3))
def test_any_names(tmp_path_factory: pytest.TempPathFactory, stems: list[str]) -> None:
    """Different names have different ids; names that differ in case alone may be refused."""
    folder = tmp_path_factory.mktemp("names")
    stems = sorted({stem for stem in stems if not stem.startswith(".")})
    for seed, stem in enumerate(stems):
        save(folder / "s" / "Tp" / f"{stem}.png", picture(seed, 2, 3))
        save(folder / "s" / "Gt" / f"{stem}.png", truth(seed, 2, 3))
    if not stems:
        return
    try:
        import_folder(folder / "s", folder / "m", "mine")
    except AdvbenchError:
        if len({stem.casefold() for stem in stems}) == len(stems):
            raise
        return
    rows = open_folder(folder / "m").rows
    assert sorted(row.orig_name for row in rows) == [f"{stem}.png" for stem in stems]
    assert len({row.sample_id.lower() for row in rows}) == len(stems)


@pytest.mark.parametrize("names", [("IMG", "img"), ("a", "b", "A")])
@pytest.mark.parametrize("allow", [False, True])
def test_names_that_differ_in_case(tmp_path: Path, names: tuple[str, ...], allow: bool) -> None:
    """On many disks they are one file: both are named, and no leave to exclude helps."""
    source = forged_folder(tmp_path / "s", names)
    if len(list((source / "Tp").iterdir())) < len(names):
        pytest.skip("this disk does not tell case apart")
    with pytest.raises(AdvbenchError) as caught:
        import_folder(source, tmp_path / "m", "mine", allow_exclude=allow)
    assert f"Tp/{names[0]}.png" in one_line(caught.value)
    assert f"Tp/{names[-1]}.png" in str(caught.value)
    assert not (tmp_path / "m").exists()


def test_same_stem_twice(tmp_path: Path) -> None:
    """a.png and a.jpg would share an id."""
    source = forged_folder(tmp_path / "s")
    save(source / "Tp/a.jpg", picture(5))
    with pytest.raises(AdvbenchError) as caught:
        import_folder(source, tmp_path / "m", "mine")
    assert "Tp/a.jpg" in one_line(caught.value)


LEAVING = ["../x/*", "Tp/../../x/*", "/etc/*", "..", "Tp/.."]
SENSELESS = ["**x", ".", "[", "no/such/*", "Tp/*.gif", "~/x", "a\0b", "Tp"]


@pytest.mark.parametrize("glob", [*LEAVING, *SENSELESS])
@pytest.mark.parametrize("option", ["images", "masks"])
def test_globs_refused(tmp_path: Path, option: str, glob: str) -> None:
    """A glob that leaves the folder, matches nothing, or is none."""
    forged_folder(tmp_path / "x", images="{}.png", masks="{}_gt.png")
    globs: dict[str, Any] = {"images": "Tp/*", "masks": "Gt/*", option: glob}
    with pytest.raises(AdvbenchError) as caught:
        import_folder(forged_folder(tmp_path / "s"), tmp_path / "m", "mine", **globs)
    text = one_line(caught.value)
    assert repr(glob) in text
    assert ("leaves" in text) == (glob in LEAVING)


@pytest.mark.parametrize("globs", [{"images": "Tp/*"}, {"masks": "Gt/*"}], ids=str)
def test_one_glob_is_not_enough(tmp_path: Path, globs: dict[str, Any]) -> None:
    """Both or neither."""
    with pytest.raises(AdvbenchError, match="--images and --masks"):
        import_folder(forged_folder(tmp_path / "s"), tmp_path / "m", "mine", **globs)


@pytest.mark.parametrize("what", ["missing", "file"])
def test_no_such_folder(tmp_path: Path, what: str) -> None:
    """A path that is no folder."""
    path = tmp_path / "s"
    if what == "file":
        path.touch()
    with pytest.raises(AdvbenchError, match="no such folder"):
        import_folder(path, tmp_path / "m", "mine")
