"""Every Python block of README and docs runs: page by page, in a folder of its own, few images.

What a page takes as given (images, a module, folders that its commands made) is made here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import advbench
from advbench.images import pixels_sha256

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
# Packages that a block is about and that are not among those of the tests.
FOREIGN = {"IMDLBenCo", "transformers"}
# Tests in themselves, of a package: tests/test_third_party_victim.py runs them.
ELSEWHERE = {"docs/add-a-victim.md"}

Names = dict[str, Any]


def pages() -> dict[str, list[str]]:
    documents = [ROOT / "README.md", ROOT / "DESIGN.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found = {p.relative_to(ROOT).as_posix(): BLOCK.findall(p.read_text()) for p in documents}
    return {page: blocks for page, blocks in found.items() if blocks}


def pictures(side: int = 64, n: int = 2) -> Names:
    """Two smooth pictures with a square that is forged."""
    rng = np.random.default_rng(1)
    coarse = torch.from_numpy(rng.integers(40, 216, (n, 3, 4, 4))).float()
    images = nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    masks = torch.zeros(n, side, side, dtype=torch.bool)
    masks[:, side // 4 : side // 2, side // 4 : side // 2] = True
    return {"images": images.byte(), "masks": masks, "ids": [f"image-{i}" for i in range(n)]}


def an_attack() -> Names:
    return {"advbench": advbench, "attack": advbench.load_attack("fgsm", eps=[1])}


def a_module() -> Names:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 1, 1), nn.Sigmoid())
    return {"module": network, **pictures(512, 1)}


def a_guide(blocks: list[str]) -> Names:
    """Write the plug-in, which is the guide's first block, to the file that the next imports."""
    (name,) = re.findall(r"^from (\w+) import", blocks[1], re.MULTILINE)
    Path(f"{name}.py").write_text(blocks[0])
    return {"advbench": advbench, "victim": advbench.load_victim("ifosn"), **pictures()}


def stored(attack: str) -> Names:
    """Make below ``advbench-data`` what the commands of a page would have made, of one image."""
    setting = {"eps": [3], **({"iterations": 1} if attack == "pgd" else {})}
    advbench.generate("ifosn", {attack: setting}, limit=1, quiet=True)
    return {}


def exported() -> Names:
    """Export one image in each format as the page's commands do, with images."""
    import datasets
    import mlcroissant
    import webdataset

    from advbench.exports.export import ExportJob, export

    datasets.config.HF_DATASETS_CACHE = Path("cache").resolve()
    stored("pgd")
    folders = {"png": "published", "webdataset": "tars", "huggingface": "hub"}
    for name, folder in folders.items():
        export(ExportJob(name, Path("advbench-data"), Path(folder), include_images=True))
    (item,) = advbench.open_dataset("advbench-data")
    residual = item["image"] - item["original"] + np.uint8(128)
    row = {"image_sha256": pixels_sha256(item["image"])}
    modules = {"datasets": datasets, "mlcroissant": mlcroissant, "webdataset": webdataset}
    images = {"original": item["original"], "residual": residual, "row": row}
    return {"hashlib": hashlib, "np": np, "Path": Path, **modules, **images}


GIVEN: dict[str, Callable[[list[str]], Names]] = {
    "README.md": lambda blocks: pictures(),
    "DESIGN.md": lambda blocks: pictures(256, 1),
    "docs/add-a-defense.md": a_guide,
    "docs/add-an-attack.md": a_guide,
    "docs/numerics.md": lambda blocks: {**an_attack(), **pictures(256, 1)},
    "docs/other-localizers.md": lambda blocks: a_module(),
    "docs/publishing.md": lambda blocks: exported(),
    "docs/tutorials.md": lambda blocks: stored("fgsm"),
}
SLOW = {"DESIGN.md", "docs/numerics.md"}


_HEAVY = [pytest.mark.slow, pytest.mark.timeout(1200)]


def marked(page: str) -> Any:
    return pytest.param(page, marks=_HEAVY if page in SLOW else [], id=page)


@pytest.mark.parametrize("page", [marked(page) for page in pages() if page not in ELSEWHERE])
def test_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("CROISSANT_CACHE", str(tmp_path / "croissant"))
    before = set(sys.modules)
    blocks = pages()[page]
    names: Names = {"__name__": "__main__", **GIVEN.get(page, lambda blocks: {})(blocks)}
    for number, block in enumerate(blocks):
        imported = set(re.findall(r"^(?:from|import) (\w+)", block, re.MULTILINE))
        if any(importlib.util.find_spec(name) is None for name in imported & FOREIGN):
            continue
        few = re.sub(r"limit=\d+", "limit=1", block)
        exec(compile(few, f"{page}, block {number}", "exec"), names)
    for name in set(sys.modules) - before:
        if (
            getattr(sys.modules[name], "__file__", None)
            and tmp_path in Path(str(sys.modules[name].__file__)).parents
        ):
            del sys.modules[name]


def test_nothing_is_forgotten():
    """Each page that has something given, or is left out, has blocks."""
    assert set(GIVEN) | SLOW | ELSEWHERE <= set(pages())
