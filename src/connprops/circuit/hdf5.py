"""Reading HDF5 that others wrote: an error names the file and the place that it is about.

A file is read by itself. External links and virtual datasets lead to other files and are refused:
nobody could vouch for what is read there, or see that it has changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from connprops.arrays import Ints
from connprops.errors import CircuitError

_MAY_BE_EMPTY = 1 << 26
"""Values up to which a dataset may have nothing stored: zeros need not be written."""

_LARGEST_RATIO = 2000
"""Bytes that a stored byte may stand for: deflate reaches 1032."""

_BLOCK = 1 << 20

_IN_CACHE = 1 << 17
"""Values that are looked at and not kept: so many stay in the processor's cache."""

_LABELS_AT_MOST = 1 << 24
"""Labels of a library that are read; so many names of morphologies, say, nobody has."""

_EXACT = 2**53
"""Floating numbers below this may stand for whole ones."""

_OF_DAMAGE = (
    OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, AttributeError,
    OverflowError, SystemError,
)  # fmt: skip
"""What h5py raises, depending on where it stumbles, in a damaged file."""


@contextmanager
def guarded(file: Path) -> Iterator[None]:
    """Turn what h5py raises in a damaged file into an error that names the file."""
    try:
        yield
    except _OF_DAMAGE as error:
        raise CircuitError.of(
            f"{file} is not as SONATA has it, or is damaged",
            found=f"{type(error).__name__}: {error}",
        ) from error


@contextmanager
def opened(file: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; refuse one that links to other files."""
    if not file.is_file():
        fact = f"{file} is not a file" if file.exists() else f"No file {file}"
        raise CircuitError.of(fact, hint="the circuit's configuration names it")
    try:
        h5 = h5py.File(file, "r")
    except _OF_DAMAGE as error:
        raise CircuitError.of(
            f"{file} cannot be opened as HDF5", found=str(error), hint="damaged, or cut short?"
        ) from error
    with h5:
        with guarded(file):
            # visititems_links looks at each link by its name, a sixth of the time of small exports.
            external = h5.id.links.visit(
                lambda name, link: name if link.type == h5py.h5l.TYPE_EXTERNAL else None, info=True
            )
        if external is not None:
            name = external.decode(errors="backslashreplace")
            link = h5.get(external, getlink=True)
            raise CircuitError.of(
                f"{file}: {name} is a link to another file",
                found=f"{link.path} in {link.filename}",
                expected="everything in one file",
                hint="h5copy -f ext puts the content in place of the link",
            )
        yield h5


@contextmanager
def reading(file: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading that is all done within the block, guarded."""
    with opened(file) as h5, guarded(file):
        yield h5


def _member(parent: h5py.Group, path: str) -> object:
    """Return the member at a path; None where there is none, or a link leads nowhere."""
    try:
        return parent[path]
    except (KeyError, RuntimeError, ValueError):
        return None


def _path(parent: h5py.Group, path: str) -> str:
    return f"{parent.name}/{path}".lstrip("/")


def place(parent: h5py.Group, path: str) -> str:
    """Return file and path, for a message."""
    return f"{parent.file.filename}: {_path(parent, path)}"


def group(parent: h5py.Group, path: str) -> h5py.Group:
    """Return a group, which must be there."""
    member = _member(parent, path)
    if not isinstance(member, h5py.Group):
        raise CircuitError.of(
            f"{parent.file.filename} lacks {_path(parent, path)}", expected="an HDF5 group"
        )
    return member


def dataset(parent: h5py.Group, path: str) -> h5py.Dataset:
    """Return a one-dimensional dataset, which must be there."""
    member = _member(parent, path)
    if member is None:
        raise CircuitError.of(
            f"{parent.file.filename} lacks {_path(parent, path)}",
            expected="a one-dimensional HDF5 dataset",
        )
    if not isinstance(member, h5py.Dataset) or member.ndim != 1:
        raise CircuitError.of(f"{place(parent, path)} is not a one-dimensional HDF5 dataset")
    if member.is_virtual or member.external:
        raise CircuitError.of(
            f"{parent.file.filename}: the values of {_path(parent, path)} lie in other files",
            expected="everything in one file",
        )
    return member


def count(parent: h5py.Group, path: str) -> int:
    """Return the number of values of a dataset, unless the file cannot hold as many.

    Nobody is to wait for trillions of rows that a damaged file has made up.
    """
    member = dataset(parent, path)
    stored, size = member.id.get_storage_size(), member.size * member.dtype.itemsize
    if member.size > _MAY_BE_EMPTY and size > stored * _LARGEST_RATIO:
        raise CircuitError.of(
            f"{place(parent, path)} claims values that the file does not hold",
            found=f"{member.size:,} values in {stored:,} bytes",
            hint="cut short, or never written in full?",
        )
    return int(member.size)


def members(parent: h5py.Group) -> Iterator[tuple[str, h5py.HLObject]]:
    """Yield the members of a group; refuse a link that leads nowhere, which nobody would miss."""
    for name in parent:
        member = _member(parent, name)
        if member is None:
            raise CircuitError.of(
                f"{parent.file.filename}: {parent.name}/{name} is a link that leads nowhere"
            )
        yield name, member


def columns(parent: h5py.Group) -> Iterator[str]:
    """Yield the names of the members that are columns, whatever their dimensions."""
    for name, member in members(parent):
        if isinstance(member, h5py.Dataset) and member.shape:
            yield name


def read(parent: h5py.Group, path: str, start: int, stop: int) -> NDArray[Any]:
    """Return a range of a dataset, shape (stop - start,)."""
    member = dataset(parent, path)
    if member.shape[0] < stop:
        raise CircuitError.of(
            f"{place(parent, path)} is shorter than its population",
            found=f"{member.shape[0]:,} values",
            expected=f"at least {stop:,}",
        )
    try:
        values: NDArray[Any] = member[start:stop]
    except _OF_DAMAGE as error:
        raise CircuitError.of(
            f"{place(parent, path)} cannot be read in rows {start:,} to {stop:,}", found=str(error)
        ) from error
    return values


def read_ids(parent: h5py.Group, path: str, start: int, stop: int) -> Ints:
    """Return a range of a dataset of whole numbers: ids, indices, codes."""
    values = read(parent, path, start, stop)
    if values.dtype.kind == "f":  # some writers have ids as floating numbers
        odd = np.flatnonzero(~(np.abs(values) < _EXACT) | (values != np.trunc(values)))
    else:
        odd = np.arange(0 if values.dtype.kind in "iu" else values.size)
    if odd.size:
        raise CircuitError.of(
            f"{place(parent, path)} does not hold whole numbers",
            found=f"{values[odd[0]]} in row {start + odd[0]:,}",
        )
    # A copy takes as long as reading; what an int64 cannot hold gets negative either way.
    is_unsigned = values.dtype == np.uint64
    return values.view(np.int64) if is_unsigned else values.astype(np.int64, copy=False)


def progression(parent: h5py.Group, path: str, start: int, stop: int, step: int) -> int | None:
    """Return the first value of a range that rises by 0 or 1 at each row; None if it does not."""
    member = dataset(parent, path)
    if member.dtype.kind not in "iu" or member.shape[0] < stop:
        return None
    buffer, first = np.empty(min(_IN_CACHE, stop - start), member.dtype), None
    for at in range(start, stop, _IN_CACHE):
        values = buffer[: stop - at]
        with guarded(Path(parent.file.filename)):
            member.read_direct(values, np.s_[at : at + values.size])
        low, high = int(values[0]), int(values[-1])
        first = low if first is None else first
        rises = values[1:] > values[:-1] if step else values[1:] == low
        if (low, high) != (first + (at - start) * step, low + (values.size - 1) * step):
            return None
        if not rises.all():
            return None
    return first


def blocks(parent: h5py.Group, path: str) -> Iterator[NDArray[Any]]:
    """Yield all values of a dataset, some at a time."""
    size = count(parent, path)
    for start in range(0, size, _BLOCK):
        yield read(parent, path, start, min(start + _BLOCK, size))


def labels_of(parent: h5py.Group, name: str) -> tuple[str, ...] | None:
    """Return the labels of an enumerated column by their codes; None where it is not enumerated."""
    libraries = parent.get("@library")
    if not isinstance(libraries, h5py.Group) or name not in libraries:
        return None
    n_labels = count(libraries, name)
    if n_labels > _LABELS_AT_MOST:
        raise CircuitError.of(
            f"{place(libraries, name)} has more labels than anybody can have named",
            found=f"{n_labels:,}",
            expected=f"at most {_LABELS_AT_MOST:,}",
        )
    labels = read(libraries, name, 0, n_labels)
    if not is_text(libraries[name].dtype):
        raise CircuitError.of(
            f"{place(libraries, name)} does not hold text", found=f"type {labels.dtype}"
        )
    return tuple(map(text, labels.tolist()))


def is_text(dtype: np.dtype[Any]) -> bool:
    """Return whether values are text: strings of fixed or of variable length."""
    return dtype.kind in "SU" or (dtype.kind == "O" and h5py.check_string_dtype(dtype) is not None)


def is_number(dtype: np.dtype[Any]) -> bool:
    """Return whether values are numbers that tables can hold, truth values included."""
    return dtype.kind in "biuf" and dtype.itemsize <= np.dtype(np.float64).itemsize


def text(value: object) -> str:
    """Return a value of a text dataset as text; bytes that are not UTF-8 as hexadecimal numbers."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
