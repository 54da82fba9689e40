"""Reading HDF5 that others wrote: what is missing, odd or damaged is said with file and place.

A file is read as it is, by itself. What leads out of it, an external link or a virtual dataset,
is refused: nobody could vouch for what is read there, nor see that it has changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from connprops.errors import CircuitError

_HELD = 1 << 26
"""Values up to which a dataset may be as empty as it likes: zeros need not be written."""

_COMPRESSED_AT_MOST = 2000
"""Bytes that a stored byte may stand for: deflate reaches 1032."""

_EXACT = 2**53
"""Floating numbers below this may stand for whole ones."""

_OF_DAMAGE = (
    OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, AttributeError,
    OverflowError, SystemError,
)  # fmt: skip
"""What h5py raises, depending on where it stumbles, in a file that is not what it says it is."""


@contextmanager
def opened(file: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Raises
    ------
    CircuitError
        Where it is missing, is no HDF5, or leads to other files.
    """
    if not file.is_file():
        raise CircuitError.of(f"No file {file}", hint="the circuit's configuration names it")
    try:
        h5 = h5py.File(file, "r")
    except _OF_DAMAGE as error:
        raise CircuitError.of(
            f"{file} cannot be opened as HDF5", found=str(error), hint="damaged, or cut short?"
        ) from error
    with h5:
        with reading(file):
            leading_out = h5.visititems_links(_external)
        if leading_out is not None:
            name, link = leading_out
            raise CircuitError.of(
                f"{file}: {name} is a link to another file",
                found=f"{link.path} in {link.filename}",
                expected="everything in one file",
                hint="h5copy -f ext puts what it leads to in its place",
            )
        yield h5


def _external(name: str, link: object) -> tuple[str, h5py.ExternalLink] | None:
    """Return a link that leads to another file, which ends the visit."""
    return (name, link) if isinstance(link, h5py.ExternalLink) else None


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turn what h5py raises in a damaged file into an error that names the file.

    Raises
    ------
    CircuitError
        In place of what h5py raised.
    """
    try:
        yield
    except _OF_DAMAGE as error:
        raise CircuitError.of(
            f"{file} is not as SONATA has it, or is damaged",
            found=f"{type(error).__name__}: {error}",
        ) from error


def group(h5: h5py.Group, path: str, file: Path) -> h5py.Group:
    """Return a group of a file.

    Raises
    ------
    CircuitError
        Where there is none.
    """
    found = _member(h5, path)
    if not isinstance(found, h5py.Group):
        raise CircuitError.of(f"{file} lacks {path}", expected="an HDF5 group")
    return found


def dataset(h5: h5py.Group, path: str, file: Path) -> h5py.Dataset:
    """Return a one-dimensional dataset of a file.

    Raises
    ------
    CircuitError
        Where there is none, or it lies in other files.
    """
    found = _member(h5, path)
    if found is None:
        raise CircuitError.of(f"{file} lacks {path}", expected="a one-dimensional HDF5 dataset")
    if not isinstance(found, h5py.Dataset) or found.ndim != 1:
        raise CircuitError.of(f"{file}: {path} is not a one-dimensional HDF5 dataset")
    if found.is_virtual or found.external:
        raise CircuitError.of(
            f"{file}: the values of {path} lie in other files", expected="everything in one file"
        )
    return found


def count(h5: h5py.Group, path: str, file: Path) -> int:
    """Return the number of values of a dataset that says how many rows there are.

    Raises
    ------
    CircuitError
        As :func:`dataset`, and where it claims more than the file can hold: nobody waits for
        trillions of rows that a damaged file has made up.
    """
    found = dataset(h5, path, file)
    stored = found.id.get_storage_size()
    if found.size > _HELD and found.size * found.dtype.itemsize > stored * _COMPRESSED_AT_MOST:
        raise CircuitError.of(
            f"{file}: {path} claims values that the file does not hold",
            found=f"{found.size:,} values in {stored:,} bytes",
            hint="cut short, or never written in full?",
        )
    return int(found.size)


def members(parent: h5py.Group, file: Path) -> Iterator[tuple[str, h5py.HLObject]]:
    """Yield the members of a group.

    Raises
    ------
    CircuitError
        Where a link leads nowhere: what it stood for would be missed by nobody.
    """
    for name in parent:
        found = _member(parent, name)
        if found is None:
            raise CircuitError.of(f"{file}: {parent.name}/{name} is a link that leads nowhere")
        yield name, found


def is_column(item: object) -> bool:
    """Return whether a member of a group is a column: one value for each row."""
    return isinstance(item, h5py.Dataset) and item.ndim == 1


def _member(h5: h5py.Group, path: str) -> object:
    """Return what lies at a path; None where nothing does, a link that leads nowhere included."""
    try:
        return h5[path]
    except (KeyError, RuntimeError, ValueError):
        return None


def read(h5: h5py.Group, path: str, start: int, stop: int, file: Path) -> NDArray[Any]:
    """Return a range of a dataset, shape (stop - start,).

    Raises
    ------
    CircuitError
        Where the dataset is missing, too short, or cannot be read there.
    """
    found = dataset(h5, path, file)
    if found.shape[0] < stop:
        raise CircuitError.of(
            f"{file}: {path} is shorter than its population",
            found=f"{found.shape[0]:,} values",
            expected=f"at least {stop:,}",
        )
    try:
        values: NDArray[Any] = found[start:stop]
    except _OF_DAMAGE as error:
        raise CircuitError.of(
            f"{file}: {path} cannot be read in rows {start:,} to {stop:,}", found=str(error)
        ) from error
    return values


def read_ids(h5: h5py.Group, path: str, start: int, stop: int, file: Path) -> NDArray[np.int64]:
    """Return a range of a dataset of whole numbers: ids, indices, codes.

    Raises
    ------
    CircuitError
        As :func:`read`, and where the values are no whole numbers.
    """
    values = read(h5, path, start, stop, file)
    if values.dtype.kind == "f":  # some writers have ids as floating numbers
        odd = np.flatnonzero(~(np.abs(values) < _EXACT) | (values != np.trunc(values)))
    else:
        odd = np.arange(0 if values.dtype.kind in "iu" else values.size)
    if odd.size:
        raise CircuitError.of(
            f"{file}: {path} does not hold whole numbers",
            found=f"{values[odd[0]]} in row {start + odd[0]:,}",
        )
    # A copy takes as long as reading; what an int64 cannot hold gets negative either way.
    return values.view(np.int64) if values.dtype == np.uint64 else values.astype(np.int64)


def labels(libraries: h5py.Group, name: str, file: Path) -> list[str]:
    """Return the labels of an enumerated column, in the order of their codes.

    Raises
    ------
    CircuitError
        As :func:`count`, and where they are no text.
    """
    size = count(libraries, name, file)
    found = read(libraries, name, 0, size, file)
    if not is_text(libraries[name].dtype):
        raise CircuitError.of(
            f"{file}: {libraries.name}/{name} does not hold text", found=f"type {found.dtype}"
        )
    return [text(value) for value in found.tolist()]


def is_text(dtype: np.dtype[Any]) -> bool:
    """Return whether the values are text: strings of fixed or of variable length."""
    return dtype.kind in "SU" or (dtype.kind == "O" and h5py.check_string_dtype(dtype) is not None)


def is_number(dtype: np.dtype[Any]) -> bool:
    """Return whether the values are numbers that tables have, truth values included."""
    return dtype.kind in "biuf" and dtype.itemsize <= 8  # noqa: PLR2004 - bytes, of a float64


def text(value: object) -> str:
    """Return a value of a text dataset as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
