"""Read HDF5 files that anybody may have made: nothing is read before it was checked.

HDF5 can name other files (external storage, external links, virtual datasets), load code (filters)
and claim any size. A shard needs none of that: hard links to plain datasets of known types, gzip.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5t, h5z

_LAYOUTS = {h5d.COMPACT, h5d.CONTIGUOUS, h5d.CHUNKED}
_FILTERS = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32}
# Deflate packs no more than 1032 bytes into one.
_LARGEST_RATIO = 1100
MAX_TEXT = 1 << 20


class NotPlainError(ValueError):
    """A part of a file that is missing, of another type, or not what a shard may hold."""


def open_plain(source: Path | BinaryIO) -> h5py.File:
    """Open a file for reading; its links, types and sizes are checked as they are read."""
    # Where the file system has no locks, HDF5 reads without.
    return h5py.File(source, "r", locking="best-effort")


def text_attribute(file: h5py.File, name: str) -> str:
    """Read an attribute of the file that is one text."""
    attribute = _attribute(file, name)
    if attribute.shape != () or attribute.get_type().get_class() != h5t.STRING:
        raise NotPlainError(f"attribute {name} is no text")
    if attribute.get_storage_size() > MAX_TEXT:
        raise NotPlainError(f"attribute {name} is too long")
    value = file.attrs[name]
    # HDF5 has no sum over such text, and h5py passes bytes that are no UTF-8 on as surrogates.
    raw = value if isinstance(value, bytes) else str(value).encode(errors="surrogateescape")
    text = raw.decode()
    if len(text) > MAX_TEXT:
        raise NotPlainError(f"attribute {name} is too long")
    return text


def count_attribute(file: h5py.File, name: str) -> int:
    """Read an attribute of the file that is one whole number."""
    attribute = _attribute(file, name)
    if attribute.shape != () or attribute.get_type().get_class() != h5t.INTEGER:
        raise NotPlainError(f"attribute {name} is no number")
    return int(file.attrs[name])


def subgroup(parent: h5py.Group, name: str) -> h5py.Group:
    """Open a group that lies in another one of the same file."""
    _check_link(parent, name, h5o.TYPE_GROUP)
    return h5py.Group(h5g.open(parent.id, name.encode()))


def members(group: h5py.Group) -> int:
    """Count what lies in a group."""
    return int(group.id.get_num_objs())


def texts(parent: h5py.Group, name: str, count: int) -> Any:
    """Read a dataset of fixed-width text."""
    dataset = _plain(parent, name)
    kind = dataset.get_type()
    if kind.get_class() != h5t.STRING or kind.is_variable_str() or kind.get_size() > MAX_TEXT:
        raise NotPlainError(f"{name} is no text of fixed width")
    return _read(dataset, name, (count,), kind.dtype)


def numbers(parent: h5py.Group, name: str, shape: tuple[int, ...], dtype: str) -> Any:
    """Read a dataset of numbers of this shape and numpy type."""
    dataset = _plain(parent, name)
    if dataset.get_type() != h5t.py_create(np.dtype(dtype)):
        raise NotPlainError(f"{name} is of another type")
    return _read(dataset, name, shape, np.dtype(dtype))


def plane_shape(parent: h5py.Group, name: str, most: int) -> tuple[int, int]:
    """Read height and width of a two-dimensional dataset of at most so many values."""
    shape = _plain(parent, name).shape
    if len(shape) != 2 or not 0 < shape[0] * shape[1] <= most:
        raise NotPlainError(f"{name} is of another shape")
    return shape[0], shape[1]


def _read(dataset: h5d.DatasetID, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
    if dataset.shape != shape:
        raise NotPlainError(f"{name} is of another shape")
    stored, wanted = dataset.get_storage_size(), dtype.itemsize * int(np.prod(shape))
    if not stored or wanted > _LARGEST_RATIO * stored:
        raise NotPlainError(f"{name} claims more than it stores")
    return h5py.Dataset(dataset)[...]


def _plain(parent: h5py.Group, name: str) -> h5d.DatasetID:
    _check_link(parent, name, h5o.TYPE_DATASET)
    dataset = h5d.open(parent.id, name.encode())
    how = dataset.get_create_plist()
    if how.get_layout() not in _LAYOUTS or how.get_external_count():
        raise NotPlainError(f"{name} is stored outside of the file")
    filters = {how.get_filter(number)[0] for number in range(how.get_nfilters())}
    if not filters <= _FILTERS:
        raise NotPlainError(f"{name} is packed in another way than gzip")
    if how.get_layout() == h5d.CHUNKED and how.get_chunk() != dataset.shape:
        raise NotPlainError(f"{name} is cut into other pieces")
    return dataset


def _check_link(parent: h5py.Group, name: str, kind: int) -> None:
    raw = name.encode()
    if not parent.id.links.exists(raw):
        raise NotPlainError(f"{name} is missing")
    if parent.id.links.get_info(raw).type != h5l.TYPE_HARD:
        raise NotPlainError(f"{name} is a link")
    if h5o.get_info(parent.id, raw).type != kind:
        raise NotPlainError(f"{name} is something else")


def _attribute(file: h5py.File, name: str) -> h5a.AttrID:
    if not h5a.exists(file.id, name.encode()):
        raise NotPlainError(f"attribute {name} is missing")
    return h5a.open(file.id, name.encode())
