"""What a card shows: scores of these images, samples of them, and whom to cite."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from advbench.images import pixels_sha256
from advbench.scores.records import path_of, write_records
from tests.scores.made import record

CLEAN, ATTACKED = {"photo.0": 0.8, "photo_1": 0.4}, {"photo.0": 0.3, "photo_1": 0.0}


def write_scores(store, attacked: dict[str, float], *, other: bool = False) -> None:
    """Records of ifosn on two photographs and their pgd-1."""
    images = store.images
    common = {"dataset": "data", "victim": "ifosn", "weights_sha256": "a1" * 32}
    pgd = {"attack": "pgd", "intensity": 1.0, "variant": "pgd-1"}
    rows = {"original": [], "pgd-1": []}
    for name, f1 in CLEAN.items():
        known = images["data", "ifosn", "pgd-1", name]
        about = {"source_group": name, **common}
        sha256 = "0" * 64 if other else pixels_sha256(known.image)
        clean = pixels_sha256(known.original)
        sample = f"data/{name}"
        rows["original"].append(record(sample, f1=f1, image_sha256=clean, **about))
        f1 = attacked[name]
        rows["pgd-1"].append(record(sample, f1=f1, image_sha256=sha256, **about, **pgd))
    for variant, records in rows.items():
        path = path_of(store.out / "records", "data", "ifosn", variant, defense="none")
        write_records(path, records, "key")


def test_scores_are_those_of_the_exported_images(store, exported):
    write_scores(store, ATTACKED)
    card = (exported("huggingface") / "README.md").read_text()
    rows = re.findall(
        r"^\| data \| ifosn \| builtin \| (.+?) \| (\d) \| (.+?) \| (.+?) \|", card, re.M
    )
    assert rows == [("original", "2", "0.600", "100"), ("pgd 1", "2", "0.150", "25")]


def test_records_of_other_bytes_are_left_out(store, exported):
    write_scores(store, ATTACKED, other=True)
    card = (exported("png") / "README.md").read_text()
    assert "| original | 2 | 0.600 |" in card
    assert "| pgd 1 |" not in card


def test_without_records_it_says_so(exported):
    card = (exported("png") / "README.md").read_text()
    assert "None were at hand when this was exported; `advbench evaluate` makes them." in card


@pytest.mark.parametrize("kind", ["png", "webdataset", "huggingface"])
def test_samples_are_of_the_images(store, exported, kind):
    folder = exported(kind)
    card = (folder / "README.md").read_text()
    shown = re.findall(r"!\[.*?\]\((samples/\d\.png)\)", card)
    assert shown == ["samples/0.png", "samples/1.png"]  # one a victim
    assert "data, before ifosn: an original, its mask, pgd-2.5, and its noise" in card
    strip = np.asarray(Image.open(io.BytesIO((folder / shown[1]).read_bytes())))
    known = store.images["data", "ifosn", "pgd-2.5", "photo.0"]
    assert strip.shape[0] == 192
    height, width = known.original.shape[:2]
    side = round(width * 192 / height)
    assert strip.shape[1] == 4 * side + 12
    scaled = Image.fromarray(known.original).resize((side, 192), Image.Resampling.BOX)
    assert np.array_equal(strip[:, :side], np.asarray(scaled))
    assert shown[1] in (folder / "SHA256SUMS").read_text()


def test_residuals_show_no_picture(store, tmp_path):
    store.manifest(redistribution="no")
    store.export("huggingface", tmp_path / "export")
    assert not (tmp_path / "export" / "samples").exists()
    assert "![" not in (tmp_path / "export" / "README.md").read_text()


def test_whom_to_cite(exported):
    card = (exported("png") / "README.md").read_text()
    (block,) = re.findall("```bibtex\n(.*?)```", card, re.DOTALL)
    assert re.findall(r"^@\w+\{(\w+),$", block, re.M) == ["advbench", "pgd", "cw", "ifosn", "code"]
    assert block.count("{") == block.count("}")
