"""Images go out where a manifest allows it, else residuals, and nothing that shows a picture."""

from __future__ import annotations

import csv
import io
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from advbench.errors import AdvbenchError
from advbench.exports.pictures import from_residual_image, residual_image
from tests.exports.stores import SAMPLES, add_dataset

KINDS = ("png", "webdataset", "huggingface")


def pictures(folder) -> dict[str, np.ndarray]:
    """Every picture of an export, by path, member or row."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}
    for path in folder.rglob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".png"):
                    found[member.name] = tar.extractfile(member).read()
    for path in folder.rglob("*.parquet"):
        for number, row in enumerate(pq.read_table(path).to_pylist()):
            for name, value in row.items():
                if isinstance(value, dict):
                    found[f"{path.relative_to(folder)} {number} {name}"] = value["bytes"]
    return {name: np.asarray(Image.open(io.BytesIO(data))) for name, data in found.items()}


def residual_of(row: dict[str, str], found: dict[str, np.ndarray]) -> np.ndarray:
    return found[row.get("residual") or f"{row['file']} {row['row']} residual"]


@pytest.mark.parametrize(
    ("kind", "terms"),
    [("png", "no"), ("png", None), ("webdataset", "research-only"), ("huggingface", "no")],
)
def test_residuals_alone_and_their_exact_inverse(kind, terms, store, tmp_path):
    if terms:
        store.manifest(redistribution=terms)
    summary = store.export(kind, folder := tmp_path / "export")
    assert summary.terms["data"].startswith("residuals only, no image and no mask")
    assert ("was not found" if terms is None else terms) in summary.terms["data"]
    found = pictures(folder)
    with (folder / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(found) == len(rows) == len(store.images) == 12
    for row in rows:
        known = store.images["data", row["victim"], row["variant"], row["sample_id"][5:]]
        residual = residual_of(row, found)
        # As the card says it, also where the shard holds no residual (cw).
        assert np.array_equal(known.original + (residual - np.uint8(128)), known.image)
        if row["attack"] == "pgd":
            assert np.abs(residual.astype(int) - 128).max() <= 2
        else:
            assert np.abs(known.image.astype(int) - known.original).max() == 255
    card = (folder / "README.md").read_text()
    assert "original + (residual - np.uint8(128))" in card


@pytest.mark.parametrize("kind", KINDS)
def test_images_where_the_manifest_allows_them(kind, exported):
    found = pictures(exported(kind))
    assert not any("residual" in name for name in found)
    assert any("image" in name or "Tp" in name or ".pgd-1." in name for name in found)


@pytest.mark.parametrize("kind", KINDS)
def test_images_at_the_user_s_word(kind, store, tmp_path):
    store.manifest(redistribution="no", text="| by nobody,\nask first")
    store.export(kind, folder := tmp_path / "export", include_images=True)
    shapes = {array.shape for array in pictures(folder).values()}
    assert (24, 20, 3) in shapes
    card = (folder / "README.md").read_text()
    assert "(--include-images), though its manifest says redistribution: no" in card
    assert "text: \\| by nobody, ask first" in card
    assert "original + (residual" not in card


def test_each_dataset_has_its_own_terms(store, tmp_path):
    store.manifest()
    add_dataset(store.out, "other", "other")
    store.manifest("other", "no")
    store.export("png", folder := tmp_path / "export")
    assert list(folder.glob("data/*/*/Tp"))
    assert not list(folder.glob("other/*/*/Tp"))
    assert len(list(folder.glob("other/*/*/residual/*.png"))) == 12
    card = (folder / "README.md").read_text()
    assert card.index("### data\n") < card.index("### other\n")


def test_a_permission_for_other_images_is_none(store, tmp_path):
    store.manifest()
    path = store.out / "datasets" / "data" / "manifest.csv"
    info = path.with_name("dataset.json")
    # A manifest of the same name whose second photograph is another one.
    import hashlib

    text = path.read_text()
    row = next(line for line in text.splitlines() if line.startswith("data/photo_1"))
    sha256 = row.split(",")[8]
    text = text.replace(sha256, "b" * 64)
    old = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_text(text)
    new = hashlib.sha256(path.read_bytes()).hexdigest()
    info.write_text(info.read_text().replace(old, new))
    with pytest.raises(AdvbenchError, match=r"not the manifest of these images \(data/photo_1"):
        store.export("png", tmp_path / "export")
    store.export("png", tmp_path / "export", include_images=True)


def test_built_in_terms_need_no_built_dataset(store, tmp_path, monkeypatch):
    """The manifest shipped with advbench answers; nothing is made for it."""
    monkeypatch.setenv("ADVBENCH_CACHE", str(tmp_path / "cache"))
    add_dataset(store.out, "builtin", "builtin")
    summary = store.export("png", tmp_path / "export", datasets=["builtin"])
    assert "redistribution: no" in summary.terms["builtin"]
    card = (tmp_path / "export" / "README.md").read_text()
    assert "china.jpg and flower.jpg are CC BY 2.0" in card
    assert not (tmp_path / "cache").exists()


def test_residual_images_cover_every_difference():
    levels = np.arange(256, dtype=np.uint8)
    original, adversarial = (np.stack([a] * 3, -1) for a in np.meshgrid(levels, levels))
    stored = residual_image(adversarial, original)
    assert np.array_equal(from_residual_image(stored, original), adversarial)
    assert (stored[levels, levels] == 128).all()


def test_the_card_tells_what_a_reader_must_know(exported, store):
    card = (exported("png") / "README.md").read_text()
    for text in (
        "12 adversarial images of 3 forged photographs",
        "| data | ifosn | pgd-2.5 | native | 3 |",
        '`{"alpha":0.5,"attack":"cw","eps":50.0}`',
        f"| ifosn | small | native | **builtin** | `{'a1' * 32}` |",
        f"| code | small | bilinear-16 | file:0123 | `{'a1' * 32}` |",
        "redistribution: yes",
        "id: CC-BY-4.0",
        "citation: Nobody, Nothing, 2026",
        "data: none of it is \\| real",
        "victim ifosn: its weights are builtin",
        "data: 3 photographs have a mask of another size",
        "Made with advbench 0.1.0 on cpu",
    ):
        assert text in card
    assert "victim code: its weights" not in card
    assert len(SAMPLES) == 3
