"""Tars that the library webdataset reads back."""

from __future__ import annotations

import tarfile

import numpy as np
import webdataset


def samples(folder) -> list[dict]:
    tars = sorted(str(path) for path in folder.rglob("*.tar"))
    data = webdataset.WebDataset(tars, shardshuffle=False).decode("rgb8")
    return list(data)


def test_every_image_comes_back(exported, store):
    found = samples(exported("webdataset"))
    assert len(found) == 2 * 3
    seen = {}
    for sample in found:
        about = sample["json"]
        name = about["sample_id"].partition("/")[2]
        for variant, own in about["variants"].items():
            key = ("data", own["victim"], variant, name)
            known = seen[key] = store.images[key]
            assert np.array_equal(sample[own["file"]], known.image)
            assert np.array_equal(sample["original.png"], known.original)
            assert np.array_equal(sample["mask-native.png"][..., 0] > 0, known.mask)
            assert sample["mask.png"].shape == known.image.shape
    assert seen.keys() == store.images.keys()


def test_keys_hold_no_dot_and_differ(exported):
    keys = [sample["__key__"] for sample in samples(exported("webdataset"))]
    assert len(set(keys)) == 6
    assert "data/ifosn-native/photo~0" in keys
    assert not any("." in key for key in keys)


def test_tars_are_bounded_and_complete(exported, store):
    """Of a size that takes one photograph of the larger ones: no tar is larger, none is lost."""
    whole = exported("webdataset", "whole")
    folder = exported("webdataset", shard_bytes=40_000)
    tars = sorted(folder.rglob("*.tar"))
    assert len(tars) > len(list(whole.rglob("*.tar"))) == 2
    assert all(path.stat().st_size <= 40_000 for path in tars)
    # In any number of tars the same samples.
    ours, theirs = ({s["__key__"]: s["json"] for s in samples(f)} for f in (folder, whole))
    assert ours == theirs


def test_members_have_no_dates_and_no_owners(exported):
    for path in exported("webdataset").rglob("*.tar"):
        with tarfile.open(path) as tar:
            names = [name.replace("~", ".", 1) for name in tar.getnames()]
            photographs = list(dict.fromkeys(name.rsplit("/")[-1][:7] for name in names))
            assert photographs == ["photo.0", "photo_1", "photo_2"]
            assert names == sorted(names)
            assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in tar} == {(0, 0, 0, "", 0o644)}
