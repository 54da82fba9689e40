"""The columns of an edge population: those of its groups, and those inherited by edge type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from connprops.circuit import hdf5
from connprops.circuit.types_files import read_types
from connprops.errors import CircuitError

CATEGORIES_AT_MOST = 100
"""A text column with more distinct values than this is not a property but a label."""

LEFT_OUT = {
    "text": "text with too many distinct values",
    "other": "values that are neither numbers nor text",
}
"""Why columns of these dtypes cannot be properties."""

_BLOCK = 1 << 20
"""Rows read at once where a column is only looked through."""

_NOT_PROPERTIES = frozenset({"target_query", "source_query"})


@dataclass(frozen=True)
class Column:
    """A column of an edge population.

    ``dtype`` is that of the values as read here: numbers keep their type, enumerated and text
    columns become ``int32`` codes into ``labels``; ``"text"`` is text with more distinct values
    than categories have, ``"other"`` neither text nor numbers: those cannot be read as a property.
    ``inherited`` holds the values by edge type for a column that comes from ``edge_types.csv``.
    ``partial`` says that some edge groups lack it; their rows read as NaN.
    """

    name: str
    dtype: str
    labels: tuple[str, ...] | None = None
    partial: bool = False
    inherited: Mapping[int, float] | None = None


def group_names(population: h5py.Group, file: Path) -> list[str]:
    """Return the names of the groups that hold a population's attributes."""
    found = (name for name, item in hdf5.members(population, file) if isinstance(item, h5py.Group))
    return sorted((name for name in found if name.isdecimal()), key=int)


def path_in_group(name: str) -> str:
    """Return a column's path in its group; dynamics columns carry bluepysnap's prefix."""
    return name.replace("@dynamics:", "dynamics_params/", 1)


def own_columns(population: h5py.Group, file: Path) -> Iterator[Column]:
    """Yield the columns that the groups of a population hold."""
    names = group_names(population, file)
    members: dict[str, list[str]] = {}
    for name in names:
        group = population[name]
        for column, item in hdf5.members(group, file):
            if hdf5.is_column(item):
                members.setdefault(column, []).append(name)
        dynamics = group.get("dynamics_params")
        for column, item in (
            hdf5.members(dynamics, file) if isinstance(dynamics, h5py.Group) else ()
        ):
            if hdf5.is_column(item):
                members.setdefault(f"@dynamics:{column}", []).append(name)
    for column, having in members.items():
        paths = [f"{name}/{path_in_group(column)}" for name in having]
        datasets = [hdf5.dataset(population, path, file) for path in paths]
        labels = [
            library
            for name in having
            for library in [_library(population[name], column, file)]
            if library is not None
        ]
        if any(one != labels[0] for one in labels[1:]):
            raise CircuitError.of(
                f"{file}: groups of {population.name} name the values of {column!r} differently"
            )
        yield _column(column, datasets, labels, partial=len(having) < len(names))


def _library(group: h5py.Group, name: str, file: Path) -> tuple[str, ...] | None:
    """Return the labels of an enumerated column of a group; None where it is not enumerated."""
    libraries = group.get("@library")
    if not isinstance(libraries, h5py.Group) or name not in libraries:
        return None
    return tuple(hdf5.labels(libraries, name, file))


def _column(
    name: str, datasets: list[h5py.Dataset], libraries: list[tuple[str, ...]], *, partial: bool
) -> Column:
    """Return the column's description."""
    if all(hdf5.is_text(dataset.dtype) for dataset in datasets):
        labels: set[str] = set()
        for dataset in datasets:
            for start in range(0, dataset.shape[0], _BLOCK):
                labels |= {hdf5.text(v) for v in dataset[start : start + _BLOCK].tolist()}
                if len(labels) > CATEGORIES_AT_MOST:
                    return Column(name, "text")
        dtype = "float64" if partial else "int32"
        return Column(name, dtype, tuple(sorted(labels)), partial)
    if not all(hdf5.is_number(dataset.dtype) for dataset in datasets):
        return Column(name, "other")
    common = np.result_type(*(dataset.dtype for dataset in datasets))
    if common.kind == "b":
        common = np.dtype(np.uint8)
    elif common == np.float16:
        common = np.dtype(np.float32)
    if partial:  # the rows that lack it are NaN; float64 wherever float32 might round
        common = np.result_type(common, np.float32)
    return Column(name, common.newbyteorder("=").name, libraries[0] if libraries else None, partial)


def edge_types_used(h5: h5py.File, population: str, file: Path) -> set[int]:
    """Return the edge types that rows refer to."""
    path = f"edges/{population}/edge_type_id"
    if path not in h5:
        return set()
    used: set[int] = set()
    size = hdf5.count(h5, path, file)
    for start in range(0, size, _BLOCK):
        ids = hdf5.read_ids(h5, path, start, min(start + _BLOCK, size), file)
        used |= set(np.unique(ids).tolist())
    return used


def inherited_columns(types_file: Path, used: set[int]) -> Iterator[Column]:
    """Yield the columns that edges inherit by their type, numbers and categories alike."""
    rows = {k: v for k, v in read_types(types_file, "edge_type_id").items() if k in used}
    names = dict.fromkeys(n for row in rows.values() for n in row if n not in _NOT_PROPERTIES)
    for name in names:
        cells = {k: row.get(name) for k, row in rows.items()}
        cells |= dict.fromkeys(used - rows.keys())
        try:
            numbers = {k: float("nan" if v is None else v) for k, v in cells.items()}
        except ValueError:
            labels = tuple(sorted({v for v in cells.values() if v is not None}))
            code = {label: float(i) for i, label in enumerate(labels)}
            codes = {k: float("nan") if v is None else code[v] for k, v in cells.items()}
            complete = None not in cells.values()
            yield Column(name, "int32" if complete else "float64", labels, inherited=codes)
        else:
            yield Column(name, "float64", inherited=numbers)


def inherited_values(column: Column, type_ids: NDArray[np.int64]) -> NDArray[Any]:
    """Return the values that rows of these edge types inherit."""
    inherited = column.inherited or {}
    known = np.array(sorted(inherited), dtype=np.int64)
    values = np.array([inherited[k] for k in known.tolist()], dtype=column.dtype)
    taken: NDArray[Any] = values[np.searchsorted(known, type_ids).clip(0, known.size - 1)]
    return taken


def decoded(raw: NDArray[Any], column: Column, place: str) -> NDArray[Any]:
    """Return values as the column's dtype; text as codes into its labels.

    Raises
    ------
    CircuitError
        Where a code has no label.
    """
    if raw.dtype.kind in "OSU":
        code = {label: i for i, label in enumerate(column.labels or ())}
        return np.array([code[hdf5.text(v)] for v in raw.tolist()], dtype=np.int32)
    if column.labels is not None and raw.size:
        low, high = raw.min(), raw.max()
        if raw.dtype.kind not in "iu" or low < 0 or high >= len(column.labels):
            raise CircuitError.of(
                f"{place} has values that its @library does not name",
                found=f"from {low} to {high}",
                expected=f"codes from 0 to {len(column.labels) - 1}",
            )
    return raw.astype(np.dtype(column.dtype), copy=False)
