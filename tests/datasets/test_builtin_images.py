"""Built-in images: the same bytes every time, as published, split by photograph."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from advbench.datasets.builtin import photographs
from advbench.datasets.builtin.build import make_image, planned
from advbench.datasets.builtin.editions import BUILTIN_1, BUILTIN_2, Edition, published_rows
from advbench.datasets.builtin.photographs import PHOTOGRAPHS, photographs_of
from advbench.datasets.manifest import Kind, Split
from advbench.errors import AdvbenchError

from .pictures import one_line

EDITIONS = pytest.mark.parametrize(
    "edition", [BUILTIN_1, BUILTIN_2], ids=lambda edition: edition.dataset_id
)
SPLITS: tuple[Split, ...] = ("train", "val", "test")
# A splice, a copy-move, a removal and an authentic one, of different splits.
FEW: list[tuple[Split, str, Kind]] = [
    ("test", "test_0000_splice", "splice"),
    ("train", "train_0002_copymove", "copymove"),
    ("val", "val_0003_removal", "removal"),
    ("test", "test_0160_authentic", "none"),
    ("test", "test_0005_splice", "splice"),
]


@EDITIONS
def test_two_builds_are_identical(edition: Edition) -> None:
    """Bytes, pixels, mask and notes; whatever was made before."""
    first = {name: make_image(edition, split, name, kind) for split, name, kind in FEW}
    for split, name, kind in reversed(FEW):
        forgery, suffix, data, pixels = make_image(edition, split, name, kind)
        before = first[name]
        assert (suffix, data, forgery.notes) == (before[1], before[2], before[0].notes)
        assert np.array_equal(pixels, before[3])
        assert np.array_equal(forgery.mask, before[0].mask)
    assert len({data for _, _, data, _ in first.values()}) == len(FEW)


@EDITIONS
@pytest.mark.parametrize(("split", "name", "kind"), FEW)
def test_pixels_are_those_of_the_file(
    edition: Edition, split: Split, name: str, kind: Kind
) -> None:
    """What is hashed is what any reader of the file sees; forged means masked."""
    forgery, suffix, data, pixels = make_image(edition, split, name, kind)
    with PillowImage.open(io.BytesIO(data)) as image:
        assert image.format == {".png": "PNG", ".jpg": "JPEG"}[suffix]
        assert np.array_equal(np.asarray(image), pixels)
    assert pixels.shape == (256, 256, 3)
    assert forgery.mask.shape == (256, 256)
    assert forgery.mask.any() == (kind != "none")


@EDITIONS
def test_both_formats_come_up(edition: Edition) -> None:
    """About half are saved as JPEG; the few here hold both."""
    assert {make_image(edition, *one)[1] for one in FEW} == {".png", ".jpg"}


@EDITIONS
def test_published_manifest(edition: Edition) -> None:
    """Made here, the images are those of the manifest that ships."""
    rows = published_rows(edition.dataset_id)
    for split, name, kind in FEW:
        forgery, _, data, pixels = make_image(edition, split, name, kind)
        row = rows[f"{edition.dataset_id}/{name}"]
        assert row.image_sha256 == hashlib.sha256(data).hexdigest()
        assert row.pixels_sha256 == hashlib.sha256(pixels.tobytes()).hexdigest()
        bits = np.packbits(forgery.mask.ravel()).tobytes()
        assert row.maskbits_sha256 == (hashlib.sha256(bits).hexdigest() if row.mask else "")
        assert (row.split, row.kind, row.source_group) == (split, kind, forgery.host.group)


@EDITIONS
def test_published_manifest_is_the_plan(edition: Edition) -> None:
    """Every planned image is in it, and no other; host photographs stay in their split."""
    rows = published_rows(edition.dataset_id)
    assert set(rows) == {
        f"{edition.dataset_id}/{name}" for split in SPLITS for name, _ in planned(edition, split)
    }
    for row in rows.values():
        assert row.source_group in {photo.group for photo in photographs_of(row.split)}


@EDITIONS
def test_plan(edition: Edition) -> None:
    """Two splices, a copy-move and a removal in turn, then a fifth as many authentic ones."""
    for split in SPLITS:
        plan = planned(edition, split)
        kinds = Counter(kind for _, kind in plan)
        quarter = edition.sizes[split] // 4
        assert kinds == {
            "splice": 2 * quarter,
            "copymove": quarter,
            "removal": quarter,
            "none": edition.sizes[split] // 5,
        }
        assert len({name for name, _ in plan}) == len(plan)
        assert {(split, name, kind) for name, kind in plan} >= {f for f in FEW if f[0] == split}


def test_splits_share_no_photograph() -> None:
    """Neither a file, nor another view of the same scene."""
    for quality in ("name", "sha256", "path", "group"):
        per_split = [{getattr(photo, quality) for photo in photographs_of(s)} for s in SPLITS]
        assert all(per_split)
        assert len(set.union(*per_split)) == sum(map(len, per_split))
    assert sum(len(photographs_of(split)) for split in SPLITS) == len(PHOTOGRAPHS)


@EDITIONS
@pytest.mark.parametrize(("split", "name", "kind"), FEW)
def test_images_use_their_split_only(edition: Edition, split: Split, name: str, kind: Kind) -> None:
    """Host and donor are photographs of the split."""
    allowed = {photo.name for photo in photographs_of(split)}
    forgery = make_image(edition, split, name, kind)[0]
    used = [note.split()[1] for note in forgery.notes if note.startswith(("host ", "donor "))]
    assert len(used) == 1 + (kind == "splice")
    assert forgery.host.name == used[0]
    assert set(used) <= allowed


@pytest.mark.parametrize("photo", PHOTOGRAPHS, ids=lambda photo: photo.name)
def test_photographs_are_those_of_the_wheels(photo: photographs.Photograph) -> None:
    """Each one lies in its package, with the sum that is written here, and is RGB."""
    spec = find_spec(photo.package)
    assert spec is not None
    assert spec.origin is not None
    data = (Path(spec.origin).parent / photo.path).read_bytes()
    assert hashlib.sha256(data).hexdigest()[:16] == photo.sha256
    pixels = photo.load()
    assert pixels.dtype == np.uint8
    assert pixels.shape[2:] == (3,)
    assert min(pixels.shape[:2]) >= 256


@pytest.mark.parametrize("what", ["changed", "missing"])
def test_other_photograph_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A package that ships another file under that name makes no dataset."""
    photo = photographs_of("val")[0]
    monkeypatch.setattr(photographs, "_package_folder", lambda package: tmp_path)
    if what == "changed":
        (tmp_path / photo.path).parent.mkdir(parents=True)
        PillowImage.new("RGB", (300, 300)).save(tmp_path / photo.path)
    with pytest.raises(AdvbenchError) as caught:
        photo.load()
    assert photo.package in one_line(caught.value)
