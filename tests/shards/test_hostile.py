"""A shard that anybody made: refused in one line, and nothing outside of it is read.

Every file here is a sound one with one change, after which its hashes were made right again where
that can be done: what refuses it is not a checksum.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from advbench.errors import AdvbenchError
from advbench.shards.reader import Shard
from advbench.shards.schema import Settings, content_sha256, text_sha256
from advbench.shards.store import ShardStore
from advbench.shards.verify import verify

from .made import ATTACKED, ORIGINAL

SECRET = b"root:secret:" * 200
IMAGE, COLUMN = "records/000000/image", "index/height"
Change = Callable[[h5py.File, Path], object]


def replaced(name: str, make: Callable[[h5py.File, Path], object]) -> Change:
    """Put something else in the place of a dataset or group."""

    def change(file: h5py.File, beside: Path) -> None:
        del file[name]
        made = make(file, beside)
        if made is not None:
            file[name] = made

    return change


def stored(name: str, **options: object) -> Change:
    """Make a dataset anew in another way."""

    def change(file: h5py.File, beside: Path) -> None:
        data = options.pop("data") if "data" in options else file[name][...]
        del file[name]
        file.create_dataset(name, data=data, **options)

    return change


def virtual(file: h5py.File, beside: Path, name: str = IMAGE) -> None:
    shape, dtype = (9, 7, 3), "u1"
    if name == COLUMN:
        shape, dtype = (2,), "<i4"
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource(beside / "other.h5", "data", shape)
    file.create_virtual_dataset(name, layout)


def external(file: h5py.File, beside: Path, name: str = IMAGE) -> None:
    shape, dtype = ((2,), "<i4") if name == COLUMN else ((9, 7, 3), "u1")
    file.create_dataset(name, shape, dtype, external=[(str(beside / "secret"), 0, 9 * 7 * 3)])


def huge(file: h5py.File, beside: Path) -> None:
    """Of a size that the index gives as well, and that is not stored."""
    side = 14_000
    file.create_dataset(IMAGE, (side, side, 3), "u1")
    file["index/height"][0] = file["index/width"][0] = side


def sized(height: int, width: int) -> Change:
    def change(file: h5py.File, beside: Path) -> None:
        file["index/height"][0], file["index/width"][0] = height, width

    return change


def attribute(name: str, value: object = None) -> Change:
    def change(file: h5py.File, beside: Path) -> None:
        del file.attrs[name]
        if value is not None:
            file.attrs[name] = value

    return change


def settings(**changes: object) -> Change:
    def change(file: h5py.File, beside: Path) -> None:
        values = json.loads(file.attrs["settings"])
        for key, value in changes.items():
            if key == "victim_name":
                values["victim"]["name"] = value
            else:
                values[key] = value
        file.attrs["settings"] = json.dumps(values, sort_keys=True, separators=(",", ":"))

    return change


def named(first: bytes, second: bytes = b"data/1") -> Change:
    return stored("index/sample_id", data=np.array([first, second]))


def cyclic(file: h5py.File, beside: Path) -> None:
    del file["records/000000"]
    file["records/000000"] = file["/"]


def link_datatype(file: h5py.File, beside: Path) -> None:
    del file[IMAGE]
    file[IMAGE] = np.dtype("u1")


ORIGINALS: dict[str, Change] = {
    "image in another file": replaced(IMAGE, external),
    "column in another file": replaced(COLUMN, lambda f, b: external(f, b, COLUMN)),
    "virtual image": replaced(IMAGE, virtual),
    "virtual column": replaced(COLUMN, lambda f, b: virtual(f, b, COLUMN)),
    "image by external link": replaced(
        IMAGE, lambda f, b: h5py.ExternalLink(b / "other.h5", "data")
    ),
    "group by external link": replaced(
        "records/000000", lambda f, b: h5py.ExternalLink(b / "other.h5", "/")
    ),
    "index by external link": replaced(
        "index", lambda f, b: h5py.ExternalLink(b / "other.h5", "/")
    ),
    "records by external link": replaced(
        "records", lambda f, b: h5py.ExternalLink(b / "other.h5", "/")
    ),
    "image by soft link": replaced(IMAGE, lambda f, b: h5py.SoftLink("/records/000001/image")),
    "dangling soft link": replaced(IMAGE, lambda f, b: h5py.SoftLink("/nowhere")),
    "soft link to itself": replaced(IMAGE, lambda f, b: h5py.SoftLink(f"/{IMAGE}")),
    "records by soft link": replaced("records", lambda f, b: h5py.SoftLink("/index")),
    "a group that holds itself": cyclic,
    "a datatype for an image": link_datatype,
    "lzf": stored(IMAGE, chunks=(9, 7, 3), compression="lzf"),
    "scale and offset": stored(IMAGE, chunks=(9, 7, 3), scaleoffset=0),
    "many chunks": stored(IMAGE, chunks=(1, 1, 1), compression="gzip"),
    "floats": stored(IMAGE, dtype="f8"),
    "wide integers": stored(IMAGE, dtype=">u2"),
    "signed image": stored(IMAGE, dtype="i1"),
    "compound": stored(IMAGE, data=np.zeros((9, 7, 3), [("a", "u1"), ("b", "f8")])),
    "array type": replaced(
        IMAGE, lambda f, b: f.create_dataset(IMAGE, (9,), np.dtype(("u1", (7, 3)))) and None
    ),
    "text of any length": stored(IMAGE, data=["a"] * 3, dtype=h5py.string_dtype()),
    "references": stored(IMAGE, data=[h5py.Reference()] * 2, dtype=h5py.ref_dtype),
    "opaque": stored(IMAGE, data=np.zeros((9, 7, 3), "V4")),
    "scalar": stored(IMAGE, data=np.uint8(3)),
    "null": stored(IMAGE, data=h5py.Empty("u1")),
    "two dimensions": stored(IMAGE, data=np.zeros((9, 7), "u1")),
    "four channels": stored(IMAGE, data=np.zeros((9, 7, 4), "u1")),
    "another size": stored(IMAGE, data=np.zeros((9, 8, 3), "u1")),
    "no byte stored": replaced(IMAGE, huge),
    "no pixel": sized(0, 7),
    "less than no pixel": sized(-9, -7),
    "two thousand million rows": sized(2**31 - 1, 2**31 - 1),
    "mask of three dimensions": stored("records/000000/mask", data=np.zeros((9, 7, 1), "u1")),
    "mask without end": replaced(
        "records/000000/mask",
        lambda f, b: f.create_dataset("records/000000/mask", (2**31, 2**31), "u1") and None,
    ),
    "mask of floats": stored("records/000000/mask", data=np.zeros((9, 7), "f4")),
    "no mask": replaced("records/000000/mask", lambda f, b: None),
    "no index": replaced("index", lambda f, b: None),
    "no column": replaced("index/kind", lambda f, b: None),
    "a short column": stored("index/kind", data=np.array([b"splice"])),
    "a long column": stored("index/width", data=np.full(3, 7, "<i4")),
    "a column of floats": stored("index/width", dtype="f8"),
    "sample ids of any length": stored(
        "index/sample_id", data=["data/0", "data/1"], dtype=h5py.string_dtype()
    ),
    "sample ids of a megabyte": named(b"data/" + b"0" * (1 << 21)),
    "sample id that leaves the folder": named(b"../../data/0"),
    "sample id of the root": named(b"/etc/passwd"),
    "sample id with a line break": named(b"data/0\n1"),
    "a sample twice": named(b"data/1"),
    "text that is no UTF-8": stored("index/source_group", data=np.array([b"\xff\xfe", b"g"])),
    "records that are an array": stored("records", data=np.zeros(3)),
    "no records": replaced("records", lambda f, b: None),
    "a record too many": lambda f, b: f.create_group("records/000002"),
    "a record too few": replaced("records/000001", lambda f, b: None),
    "no schema": attribute("schema"),
    "a newer schema": attribute("schema", "advbench.shard/9"),
    "schemas": attribute("schema", ["advbench.shard/2"]),
    "no count": attribute("n_records"),
    "count of none": attribute("n_records", 0),
    "count below none": attribute("n_records", -1),
    "count of all": attribute("n_records", 2**62),
    "count as text": attribute("n_records", "2"),
    "counts": attribute("n_records", [2, 2]),
    "no settings": attribute("settings"),
    "settings that are no JSON": attribute("settings", "{"),
    "settings that are a list": attribute("settings", "[]"),
    "settings without a bottom": attribute("settings", "[" * 50_000),
    "settings that are a number": attribute("settings", 7),
    "settings with more": settings(more=1),
    "a kind of its own": settings(kind="other"),
    "a dataset that leaves the folder": settings(dataset="../../data"),
    "a dataset that is hidden": settings(dataset=".data"),
    "a dataset that is a number": settings(dataset=7),
    "a size that leaves the folder": settings(space="x/../../y"),
    "no provenance": attribute("provenance"),
    "provenance that is a list": attribute("provenance", "[]"),
    "provenance of other fields": attribute("provenance", '{"a": 1}'),
    "provenance that is no UTF-8": lambda f, b: f.attrs.create(
        "provenance", b'{"a": "\xff"}', dtype=h5py.string_dtype()
    ),
    "provenance of megabytes": attribute("provenance", "x" * (3 << 20)),
    "no content hash": attribute("content_sha256"),
}
ADVERSARIAL: dict[str, Change] = {
    "a victim that leaves the folder": settings(victim_name="../../../x"),
    "a victim from the root": settings(victim_name="/x"),
    "a victim with a line break": settings(victim_name="a\nb"),
    "a victim that is a text": settings(victim="toy"),
    "a victim without weights": settings(victim={"name": "toy"}),
    "a variant that leaves the folder": settings(variant=".."),
    "no variant": settings(variant=None),
    "an attack that is a list": settings(attack=["x"]),
    "a budget that is a text": settings(budget="2"),
    "unsigned residual": stored("records/000000/residual", dtype="u1"),
    "residual in another file": replaced(
        "records/000000/residual", lambda f, b: external(f, b, "records/000000/residual")
    ),
    "a largest difference of its own": stored("index/linf", data=np.array([1, 1], "u1")),
    "a psnr of its own": stored("index/psnr", data=np.array([99, 99], "<f4")),
}
CASES = [(ORIGINAL, name, change) for name, change in ORIGINALS.items()]
CASES += [(ATTACKED, name, change) for name, change in ADVERSARIAL.items()]


def make_right(file: h5py.File) -> None:
    """Make the hashes those of the content, where there is any that can be hashed."""
    try:
        own = Settings(**json.loads(file.attrs["settings"]))
        columns = {name: file["index"][name][...] for name in file["index"]}
        file.attrs["content_sha256"] = content_sha256(own, columns)
        file.attrs["settings_sha256"] = own.sha256
        file.attrs["kind"] = own.kind
        file.attrs["provenance_sha256"] = text_sha256(file.attrs["provenance"])
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError, IndexError, OSError):
        return


@pytest.mark.parametrize(("path", "change"), [c[::2] for c in CASES], ids=[c[1] for c in CASES])
def test_a_hostile_file(path: str, change: Change, store: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.zeros((9, 7, 3), "u1")
    with h5py.File(store / path, "r+") as file:
        change(file, tmp_path)
        if "content_sha256" in file.attrs:
            make_right(file)
    report = verify(store)
    told = [text for name, text in report.problems if name == path]
    assert told
    assert all("\n" not in text and len(text) < 400 for text in told)
    with pytest.raises(AdvbenchError, match=r"shard-000000\.h5: ") as refused:
        read_all(store / path, store)
    assert "secret" not in str(refused.value)
    assert "not what was written" not in str(refused.value), "a checksum refused it"


def read_all(path: Path, root: Path) -> None:
    """As evaluate and export read."""
    originals = ShardStore(root).originals("data", "native")
    with Shard(path) as shard:
        for number, name in enumerate(shard.sample_ids):
            if shard.settings.kind == "originals":
                shard.original(number)
            else:
                original, _ = originals.get(name)
                shard.check_noise(number, shard.adversarial(number, original), original)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: path.write_bytes(b"hello"), "damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:600]), "damaged"),
        (lambda path: (path.unlink(), path.mkdir()), "not a file"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "not a file"),
        (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), "not a file"),
        (lambda path: (path.unlink(), path.symlink_to(path)), "cannot be read"),
        (lambda path: (path.unlink(), path.symlink_to("nowhere")), "no such file"),
    ],
)
def test_what_is_no_hdf5_file(make: Callable[[Path], object], told: str, store: Path) -> None:
    make(store / ORIGINAL)
    with pytest.raises(AdvbenchError, match=told):
        Shard(store / ORIGINAL)
    assert any(told in text for name, text in verify(store).problems if name == ORIGINAL)


def test_there_are_many() -> None:
    assert len(CASES) >= 40
