"""Every reader of files takes a damaged file or names it in one line; no other exception."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

import advbench
from advbench.cli.options import parse_settings
from advbench.datasets.dataset import open_folder
from advbench.datasets.decoding import decode_image, decode_mask
from advbench.datasets.importing.fingerprints import read_fingerprints
from advbench.datasets.importing.layouts import imdlbenco
from advbench.datasets.importing.stems import read_lines
from advbench.pipelines.evaluate import EvaluationJob, evaluate
from advbench.pipelines.generate import GenerationJob, generate
from advbench.pipelines.suites.suite import read_suite, shipped_suites
from advbench.scores.protocols import protocol
from advbench.scores.records import read_records
from advbench.shards.index import read_index
from advbench.shards.reader import Shard
from advbench.victims.checkpoints import read_checkpoint
from advbench.victims.weights import card_of, label_of

from .fuzzing import fuzz
from .pipelines.conftest import ToyVictim, _make

FEW, MANY = 20, 1250


@dataclass
class Reader:
    """A reader, a file that it reads, and whether that file carries a checksum."""

    path: Path
    read: Callable[[Path], Any]
    same: Callable[[Any, Any], bool] | None = None
    before: Callable[[Path], None] = lambda path: None
    share: float = 1.0


@pytest.fixture
def readers(small_dataset, tmp_path: Path) -> dict[str, Reader]:
    made, out = small_dataset.folder, tmp_path / "out"
    toy = _make(ToyVictim, 3)
    rows = small_dataset.select("test", label=1, limit=2)
    generate(GenerationJob(small_dataset, rows, toy, [advbench.load_attack("fgsm", eps=3)], out))
    evaluate(EvaluationJob(out, [], protocol("f1/v1")), lambda identity: toy)
    shard = next((out / "shards" / "tiny" / "toy").rglob("shard-*.h5"))
    original = next((out / "shards" / "tiny").glob("originals-*/shard-*.h5"))
    records = next((out / "records").rglob("*.parquet"))

    suite = tmp_path / "suite.toml"
    shutil.copy(shipped_suites()["leaderboard"], suite)
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps([["pictures/images/photo0.png", "pictures/masks/photo0.png"]]))
    names = tmp_path / "names.txt"
    names.write_text("photo0.png\nphoto1\nphoto2.jpg\n")
    setting = tmp_path / "setting.txt"
    setting.write_text("sigma=30,50.5")

    state = {"a.weight": torch.ones(3, 2), "b": torch.zeros(4)}
    plain, zipped, old = (tmp_path / name for name in ("w.safetensors", "w.pth", "old.pth"))
    from safetensors.torch import save_file

    save_file(state, plain)
    card = plain.with_suffix(".json")
    sum_ = hashlib.sha256(plain.read_bytes()).hexdigest()
    card.write_text(json.dumps({"label": "builtin", "size": "small", "sha256": sum_}))
    torch.save({"state_dict": state}, zipped)
    torch.save(state, old, _use_new_zipfile_serialization=False)
    pixels = np.random.default_rng(0).integers(0, 255, (20, 24, 3), np.uint8)
    pictures = {
        name: tmp_path / f"p.{name}" for name in ("png", "jpg", "gif", "bmp", "tif", "webp")
    }
    for path in pictures.values():
        PillowImage.fromarray(pixels).save(path)

    def whole(path: Path) -> Any:
        data = open_folder(path.parent)
        return data.info, data.rows

    def rehashed(path: Path) -> None:
        described = json.loads((path.parent / "dataset.json").read_text())
        described["manifest_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        (path.parent / "dataset.json").write_text(json.dumps(described))

    def checked(path: Path) -> Any:
        with Shard(path) as opened:
            opened.check_content()
            return opened.settings, opened.sample_ids, opened.content_sha256

    def labelled(path: Path) -> Any:
        sha256, _ = read_checkpoint(path)
        return label_of(path, sha256)

    def equal(one: Any, other: Any) -> bool:
        return bool(one == other)

    found = {
        "dataset.json": Reader(made / "dataset.json", whole),
        "manifest.csv": Reader(made / "manifest.csv", whole, equal),
        "manifest.csv that fits its sum": Reader(made / "manifest.csv", whole, before=rehashed),
        "location.json": Reader(made / "location.json", whole),
        "fingerprints.csv": Reader(
            made / "fingerprints.csv", lambda path: read_fingerprints(path.parent)
        ),
        "suite": Reader(suite, lambda path: read_suite(str(path)), share=2),
        "suite that builds": Reader(suite, _built, share=2),
        "imdlbenco list": Reader(listed, imdlbenco.find),
        "list of names": Reader(names, read_lines),
        "--set": Reader(setting, lambda path: parse_settings([path.read_text("latin-1")])),
        "index.csv": Reader(out / "shards" / "index.csv", lambda path: read_index(path.parent)),
        "records": Reader(records, read_records, lambda a, b: a.equals(b)),
        "shard": Reader(shard, checked, equal, share=0.5),
        "shard of originals": Reader(original, checked, equal, share=0.5),
        "weights' card": Reader(card, card_of),
        "weights by their card": Reader(plain, labelled, lambda a, b: a != b),
        "safetensors": Reader(plain, read_checkpoint),
        "pth": Reader(zipped, read_checkpoint, share=0.5),
        "old pth": Reader(old, read_checkpoint, share=0.5),
    }
    for name, path in pictures.items():
        found[f"image {name}"] = Reader(path, decode_image, share=0.4)
    found["mask"] = Reader(pictures["png"], decode_mask, share=0.4)
    return found


def _built(path: Path) -> Any:
    suite = read_suite(str(path))
    return suite.build_attacks(), suite.build_defenses()


@pytest.mark.parametrize("tries", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_no_foreign_exception_and_nothing_silent(readers, tries: int, record_property) -> None:
    total, wrong = 0, {}
    for name, reader in readers.items():
        few = max(1, round(tries * reader.share))
        tally = fuzz(reader.path, reader.read, few, same=reader.same, before=reader.before)
        total += tally.tried
        record_property(name, str(tally))
        print(f"{name}: {tally}")
        if tally.foreign or tally.silent:
            wrong[name] = tally
    print(f"tried: {total}")
    assert not wrong
