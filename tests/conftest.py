"""Fixtures of the whole suite: a small dataset, a small victim, and the command line in process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from advbench.datasets.dataset import Dataset, open_folder
from advbench.datasets.importing.layouts.folder import import_folder


@pytest.fixture(autouse=True)
def _registry_is_restored() -> None:
    """Plug-ins that a test adds are gone after it."""
    from advbench.registry import families

    kept = [(registry, dict(registry.entries)) for registry in families()]
    yield
    for registry, entries in kept:
        registry.entries = entries


@pytest.fixture(autouse=True)
def _imports_are_forgotten(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a test imports is remembered nowhere else."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder as a user has it: images and masks of two sizes, five pairs."""
    rng = np.random.default_rng(7)
    folder = tmp_path / "pictures"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(5):
        height, width = (40, 48) if number < 3 else (33, 40)
        smooth = np.kron(rng.integers(40, 216, (5, 6, 3)), np.ones((8, 8, 1)))[:height, :width]
        image = np.clip(smooth + rng.normal(0, 4, (height, width, 3)), 0, 255).astype(np.uint8)
        mask = np.zeros((height, width), np.uint8)
        mask[8 : 20 + number, 10:28] = 255
        PillowImage.fromarray(image).save(folder / "images" / f"photo{number}.png")
        PillowImage.fromarray(mask).save(folder / "masks" / f"photo{number}.png")
    return folder


@pytest.fixture
def small_dataset(pictures: Path, tmp_path: Path) -> Dataset:
    """The pictures, imported as ``tiny``."""
    import_folder(pictures, tmp_path / "imported", "tiny")
    return open_folder(tmp_path / "imported")


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def advbench_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    """``advbench ARGUMENTS`` in this process: exit code and what was printed."""
    from advbench.cli.main import main

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["advbench", *(str(argument) for argument in arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Ran(int(ended.value.code or 0), printed.out, printed.err)

    return run
