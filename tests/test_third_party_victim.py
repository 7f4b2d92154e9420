"""The example of docs/add-a-victim.md, installed by pip and used as anybody's package."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image as PillowImage

from advbench.datasets.dataset import open_folder
from advbench.datasets.importing.layouts.folder import import_folder
from advbench.datasets.manifest import write_manifest
from advbench.errors import AdvbenchError
from advbench.registry import VICTIMS, Entry

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "victim-package"
GUIDE = (ROOT / "docs" / "add-a-victim.md").read_text()
SPLITS = ["train"] * 6 + ["val"] * 2 + ["test"] * 3
SETTINGS = ("epochs=8", "crop=32", "batch=6", "crops_per_image=6", "ema=0.5")


def code_block(language: str, start: str) -> str:
    """The one code block of the guide that begins so."""
    (found,) = re.findall(rf"```{language}\n({re.escape(start)}.*?)```", GUIDE, re.DOTALL)
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder on the path into which pip installed a copy of the example."""
    folder = tmp_path_factory.mktemp("third-party")
    ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    shutil.copytree(EXAMPLE, folder / "source", ignore=ignored)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target"]
    # Setuptools before 70.1 cannot make a wheel by itself; pip then fetches a newer one.
    major, minor = (int(part) for part in metadata.version("setuptools").split(".")[:2])
    offline = ["--no-build-isolation", "--no-index"] if (major, minor) >= (70, 1) else []
    subprocess.run([*command, folder / "site", *offline, folder / "source"], check=True)
    return folder / "site"


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package on the path of this process, found by its entry point."""
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(VICTIMS, "_discovered", False)
    monkeypatch.setattr(VICTIMS, "entries", dict(VICTIMS.entries))
    yield site
    sys.modules.pop("residualnet", None)


@pytest.fixture
def command(site: Path, tmp_path: Path) -> Callable[..., str]:
    """``advbench ARGUMENTS`` in a process of its own that has the package on its path."""
    environment = os.environ | {"PYTHONPATH": str(site)}

    def run(*arguments: object) -> str:
        ran = subprocess.run(
            [sys.executable, "-m", "advbench", *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    return run


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    """An output folder with a dataset ``noisy`` of three splits: forged is where noise is."""
    rng = np.random.default_rng(0)
    for name in ("Tp", "Gt"):
        (tmp_path / name).mkdir()
    for number in range(len(SPLITS)):
        top, left = rng.integers(2, 14, 2)
        mask = np.zeros((38, 45), np.uint8)
        mask[top : top + 18, left : left + 22] = 255
        noise = rng.normal(0, 10, (*mask.shape, 3)) * (mask[..., None] > 0)
        image = np.clip(rng.integers(60, 190, 3) + noise, 0, 255).astype(np.uint8)
        PillowImage.fromarray(image).save(tmp_path / "Tp" / f"{number:02}.png")
        PillowImage.fromarray(mask).save(tmp_path / "Gt" / f"{number:02}.png")
    folder = tmp_path / "out" / "datasets" / "noisy"
    import_folder(tmp_path, folder, "noisy")
    opened = open_folder(folder)
    rows = [
        row.model_copy(update={"split": split})
        for row, split in zip(opened.rows, SPLITS, strict=True)
    ]
    info = opened.info.model_dump(exclude={"counts", "content_sha256", "manifest_sha256"})
    write_manifest(folder, rows, **info)
    return tmp_path / "out"


def test_listed_with_the_package_that_brings_it(command):
    found = json.loads(command("list", "victims", "--json"))["victims"]
    assert list(found)[:1] == ["mvssnet"]
    assert found["residual-net"]["target"] == "residualnet:ResidualNet"
    assert found["residual-net"]["origin"] == "advbench-residualnet"


def test_trained_attacked_and_defended(command, noisy):
    """The guide's commands: what it learnt shows in the tables, and so does the attack."""
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    data = ("--dataset", "noisy", "--out", noisy)
    said = command("train", "victim", "residual-net", *data, *settings)
    weights = noisy.parent / "runs/residual-net-small-noisy/residual-net-small.safetensors"
    assert str(weights.relative_to(noisy.parent)) in said
    card = json.loads(weights.with_suffix(".json").read_text())
    assert (card["victim"], card["label"]) == ("residual-net", "noisy")

    chosen = ("--victim", "residual-net", "--weights", weights)
    attack = ("--attack", "bim", "--eps", "6", "--size", "small")
    (made,) = json.loads(command("generate", *chosen, *attack, *data, "--json"))
    assert (made["victim"], made["made"]) == ("residual-net", 3)
    shards = noisy / "shards" / "noisy"
    assert (shards / "residual-net" / "bim-6" / "shard-000008.h5").is_file()
    assert (shards / "originals-native" / "shard-000008.h5").is_file()

    defended = ("--defense", "jpeg", "--quality", "75", "--out", noisy, "--json")
    scored = json.loads(command("evaluate", *chosen, *defended))
    assert scored["scored"] == 3 * 2 * 2
    table = pd.read_csv(noisy / "tables" / "long.csv").set_index(["attack", "defense"])
    assert set(table.victim) == {"residual-net"}
    f1 = table.f1[table.index.get_level_values("defense") == "none"].droplevel("defense")
    floor = scored["floors"][0]["all_ones"]
    assert f1["original"] > floor + 0.2
    assert f1["bim"] < f1["original"] - 0.2
    assert "residual-net" in (noisy / "tables" / "noisy.csv").read_text()


def test_plugin_needs_no_package(monkeypatch, advbench_command):
    monkeypatch.chdir(EXAMPLE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    listing = advbench_command("list", "victims", "--plugin", "residualnet:ResidualNet", "--json")
    sys.modules.pop("residualnet")
    entry = json.loads(listing.out)["victims"]["residual-net"]
    assert (entry["target"], entry["origin"]) == ("residualnet:ResidualNet", "--plugin")
    assert "residual" in entry["summary"]


def run_checks() -> set[str]:
    """The guide's checks on what is registered as ``residual-net``: names of those that fail."""
    block: dict[str, Any] = {}
    exec(code_block("python", "import torch"), block)
    checks = {name: check for name, check in block.items() if name.startswith("test_")}
    assert len(checks) == 3
    failed = set()
    for name, check in checks.items():
        try:
            check()
        except AssertionError:
            failed.add(name)
    return failed


def test_it_passes_the_checks_of_the_guide(installed):
    assert run_checks() == set()


def rounded(images):
    return (255 * images).round() / 255


def with_detached_mean(images):
    return images - images.mean((2, 3), keepdim=True).detach() * images


def with_batch_mean(images):
    return images - images.mean(0, keepdim=True) * images


@pytest.mark.parametrize(
    ("fault", "caught"),
    [
        (rounded, "test_gradient_is_not_masked"),
        (with_detached_mean, "test_gradient_is_that_of_finite_differences"),
        (with_batch_mean, "test_batch_mates_do_not_matter"),
    ],
)
def test_the_checks_of_the_guide_find_faults(fault, caught, installed, monkeypatch):
    """A victim that treats its images so is found out."""
    cls = VICTIMS.get("residual-net")
    module = ModuleType("faulty_victim")
    module.Faulty = type(
        "Faulty", (cls,), {"logits": lambda self, images: cls.logits(self, fault(images))}
    )
    monkeypatch.setitem(sys.modules, "faulty_victim", module)
    monkeypatch.setitem(VICTIMS.entries, "residual-net", Entry("faulty_victim:Faulty", ""))
    assert caught in run_checks()


def test_unfinished_victims_are_refused(installed, monkeypatch):
    """In one line, before anything runs: methods left out, and a name of another."""
    from advbench.victims.base import Victim

    module = ModuleType("unfinished_victims")
    module.Partial = type("Partial", (Victim,), {"name": "mine", "logits": lambda self, x: x})
    module.Renamed = type("Renamed", (VICTIMS.get("residual-net"),), {})
    monkeypatch.setitem(sys.modules, "unfinished_victims", module)
    for name, refusal in (
        ("Partial", "does not define build_network, taps$"),
        ("Renamed", "the class needs the same name: name = 'mine'$"),
    ):
        monkeypatch.setitem(VICTIMS.entries, "mine", Entry(f"unfinished_victims:{name}", ""))
        with pytest.raises(AdvbenchError, match=refusal):
            VICTIMS.get("mine")


def test_logits_of_another_shape_are_refused(installed):
    """N×H×W would be spread over N×1×H×W masks, and scored, without a word."""
    cls = VICTIMS.get("residual-net")
    flat = type("Flat", (cls,), {"logits": lambda self, images: cls.logits(self, images)[:, 0]})
    with pytest.raises(AdvbenchError, match=r"logits: must be floats N×1×H×W.*float32 2×8×9"):
        flat.load("small", None).probabilities(torch.rand(2, 3, 8, 9))


def test_the_guide_quotes_the_example():
    """Module and entry point, as they are; fewer than 40 lines."""
    module = (EXAMPLE / "residualnet.py").read_text()
    assert code_block("python", '"""') == module
    assert len(module.splitlines()) < 40
    assert code_block("toml", "[project.entry-points") in (EXAMPLE / "pyproject.toml").read_text()
