"""The wheel: one package that carries the plug-in folders, the manifests and the weights."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Files of a wheel built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(
        ".git", ".venv", "build", "*.egg-info", "__pycache__", "advbench-data", "runs"
    )
    shutil.copytree(ROOT, folder / "source", ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder]
    subprocess.run([*command, folder / "source"], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_everything_is_in_the_one_package(names):
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"advbench"}


def test_every_module_is_in_the_wheel(names):
    for folder, package in (
        ("advbench", "advbench"),
        ("attacks", "advbench/attacks"),
        ("defenses", "advbench/defenses"),
        ("victims", "advbench/victims"),
        ("manifests", "advbench/manifests"),
    ):
        for path in (ROOT / folder).rglob("*.py"):
            assert f"{package}/{path.relative_to(ROOT / folder).as_posix()}" in names


def test_manifests_weights_and_types_are_in_the_wheel(names):
    assert {
        "advbench/py.typed",
        "advbench/exports/card.md.jinja",
        "advbench/manifests/datasets/builtin/dataset.json",
        "advbench/manifests/datasets/builtin/manifest.csv",
        "advbench/manifests/datasets/builtin2/manifest.csv",
        "advbench/manifests/datasets/open/manifest.csv",
        "advbench/manifests/photographs.csv",
        "advbench/manifests/imports/defects.csv",
        "advbench/manifests/imports/renames.csv",
        "advbench/victims/pretrained/ifosn-small.safetensors",
        "advbench/victims/pretrained/ifosn-small.json",
    } <= names


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a git checkout says what there is")
def test_the_source_distribution_is_the_whole_project(tmp_path: Path) -> None:
    """Whoever has it can build the wheel, read the documents and run the tests."""
    ignored = shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, tmp_path / "source", ignore=ignored)
    build = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    command = [sys.executable, "-c", build, str(tmp_path)]
    subprocess.run(command, check=True, cwd=tmp_path / "source", capture_output=True)
    (archive,) = tmp_path.glob("advbench-*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    links = {f"advbench/{name}" for name in ("attacks", "defenses", "manifests", "victims")}
    kept = {name for name in tracked if not name.startswith(".") and name not in links}
    assert kept <= names
    assert "advbench/attacks/pgd.py" in names
