"""The columns of a population, of nodes or of edges: those of its groups, and inherited ones.

A row's values lie in one of the population's groups, at a place that :meth:`ColumnReader.in_groups`
tells; what the groups lack, rows inherit by their type, from a types file.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import isnan
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from connprops.arrays import Ints
from connprops.circuit import hdf5
from connprops.errors import CircuitError, ConnpropsWarning, listing
from connprops.sources.labels import few_labels
from connprops.sources.source import SourceColumn

Kind = Literal["node", "edge"]

InGroup = tuple[str, "Ints | slice", "Ints | slice"]
"""A group, rows of a range that lie in it, and their places in it."""

_BLOCK = 1 << 20
"""Places of a group that are read at once, where rows point to places in any order."""

_QUERIES = frozenset({"target_query", "source_query"})
"""Columns of types files that say how a network was built."""


@dataclass(frozen=True)
class SonataColumn(SourceColumn):
    """A column of a population.

    ``inherited`` are values by type id, for rows whose group lacks the column.
    """

    inherited: Mapping[int, float | str | None] | None = None


def path_in_group(name: str) -> str:
    """Return a column's path in its group; dynamics columns carry bluepysnap's prefix."""
    return name.replace("@dynamics:", "dynamics_params/", 1)


class ColumnReader:
    """Ranges of rows of an open population, column by column."""

    def __init__(self, h5: h5py.File, name: str, kind: Kind) -> None:
        self.population = hdf5.group(h5, f"{kind}s/{name}")
        self.kind = kind
        members = hdf5.members(self.population)
        groups = [member_name for member_name, m in members if isinstance(m, h5py.Group)]
        self.groups = sorted(filter(str.isdecimal, groups), key=int)
        for group, other in pairwise(self.groups):
            if int(group) == int(other):
                raise CircuitError.of(
                    f"{self.population.file.filename}: {self.population.name} has a group twice",
                    found=f"{group!r} and {other!r}",
                )
        self._last: tuple[tuple[int, int], list[InGroup]] = ((0, 0), [])
        self._found: dict[str, bool] = {}  # whether paths are there

    @cached_property
    def size(self) -> int:
        """Return the number of rows; refuse datasets about them that are of another length."""
        size = self._count_rows()
        of_rows = [f"{self.kind}_{what}" for what in ("type_id", "group_id", "group_index")]
        for path in [*of_rows, "node_id"]:
            if path in self.population:
                self._check_length(path, size)
        return size

    def _count_rows(self) -> int:
        file, name = self.population.file.filename, self.population.name.lstrip("/")
        if self.kind == "edge":
            sizes = [hdf5.count(self.population, f"{s}_node_id") for s in ("source", "target")]
            if sizes[0] != sizes[1]:
                raise CircuitError.of(
                    f"{file}: source_node_id and target_node_id of {name} are not of one length",
                    found=f"{sizes[0]:,} and {sizes[1]:,} values",
                )
            return sizes[0]
        of_rows = ("node_type_id", "node_id", "node_group_id", "node_group_index")
        paths = [path for path in of_rows if path in self.population]
        for group in self.groups if len(self.groups) == 1 else ():
            columns = (f"{group}/{column}" for column in hdf5.columns(self.population[group]))
            paths += (path for path in columns if self.population[path].ndim == 1)
        if paths:
            return hdf5.count(self.population, paths[0])
        raise CircuitError.of(
            f"{file}: {name} does not say how many nodes it has",
            expected="the dataset node_type_id, which SONATA requires",
        )

    def _check_length(self, path: str, size: int) -> None:
        """Raise where a dataset about all rows has not as many values."""
        n_values = hdf5.dataset(self.population, path).shape[0]
        if n_values != size:
            raise CircuitError.of(
                f"{self._place(path)} has another length than its population",
                found=f"{n_values:,} values",
                expected=f"{size:,}",
            )

    def in_groups(self, start: int, stop: int) -> list[InGroup]:
        """Return each group that rows of a range are in: its name, these rows, their places in it.

        Rows count from ``start``. Both are slices where all rows lie in one group, in order: so it
        is in most files, with or without the datasets that say so.
        """
        if self._last[0] != (start, stop):  # columns of a range are read one after the other
            self._last = ((start, stop), self._places(start, stop))
        return self._last[1]

    def _places(self, start: int, stop: int) -> list[InGroup]:
        if start == stop:
            return []
        only = self.groups[0] if len(self.groups) == 1 else None
        told = [
            only is None or f"{self.kind}_group_{w}" in self.population for w in ("id", "index")
        ]
        if only is not None and (first := self._in_order(int(only), told, start, stop)) is not None:
            return [(only, slice(0, stop - start), slice(first, first + stop - start))]
        groups = (
            self._ids("group_id", start, stop) if told[0] else np.full(stop - start, int(only or 0))
        )
        index = self._ids("group_index", start, stop) if told[1] else np.arange(start, stop)
        unknown = np.flatnonzero(~np.isin(groups, [int(name) for name in self.groups]))
        if unknown.size:
            raise CircuitError.of(
                f"{self._place(f'{self.kind}_group_id')} names a group that is not there",
                found=f"group {groups[unknown[0]]} in row {start + unknown[0]:,}",
                expected=listing(self.groups),
            )
        if index.min() < 0:
            raise CircuitError.of(
                f"{self._place(f'{self.kind}_group_index')} has a negative index",
                found=f"{index.min()}",
            )
        rows_of = {name: np.flatnonzero(groups == int(name)) for name in self.groups}
        places: list[InGroup] = [
            (name, rows, index[rows]) for name, rows in rows_of.items() if rows.size
        ]
        if len(places) == 1 and (np.diff(index) == 1).all():
            return [
                (places[0][0], slice(0, stop - start), slice(int(index[0]), int(index[-1]) + 1))
            ]
        return places

    def _in_order(self, only: int, told: list[bool], start: int, stop: int) -> int | None:
        """Return the place of the first row where all rows lie in the only group, in order."""
        group, index = (f"{self.kind}_group_{what}" for what in ("id", "index"))
        if told[0] and hdf5.progression(self.population, group, start, stop, 0) != only:
            return None
        if not told[1]:
            return start
        first = hdf5.progression(self.population, index, start, stop, 1)
        return first if first is not None and first >= 0 else None

    def column(self, column: SonataColumn, start: int, stop: int) -> NDArray[Any]:
        """Return the values of a column in the rows, shape (stop - start,), of its dtype.

        Text is an array of ``str``, with None in rows that have none.
        """
        is_own = any(self._has(group, column) for group in self.groups)
        places = self.in_groups(start, stop) if is_own else []
        if len(places) == 1 and self._has(places[0][0], column):
            return self._at(column, places[0][0], places[0][2])
        values: NDArray[Any] = np.empty(stop - start, dtype=object)
        if column.inherited is not None:
            type_ids = self._ids("type_id", start, stop)
            values = _inherited_values(column, type_ids, self._dtype(column))
        elif column.stored != "text":
            values = np.full(stop - start, np.nan if column.partial else 0, self._dtype(column))
        for group, rows, index in places:
            if self._has(group, column):
                values[rows] = self._at(column, group, index)
        return values

    def _dtype(self, column: SonataColumn) -> np.dtype[Any]:
        """Return the type of values as read: objects for text, and for ids that nodes may lack."""
        is_id = column.stored in ("int64", "uint64") and column.labels is None
        is_exact = is_id and column.partial and self.kind == "node"
        return np.dtype(object if column.stored == "text" or is_exact else column.dtype)

    def _has(self, group: str, column: SonataColumn) -> bool:
        path = f"{group}/{path_in_group(column.name)}"
        if path not in self._found:  # HDF5 takes a while to tell
            self._found[path] = path in self.population
        return self._found[path]

    def _at(self, column: SonataColumn, group: str, index: Ints | slice) -> NDArray[Any]:
        """Return the values of a group at places in any order, a block of it at a time."""
        if isinstance(index, slice):
            return self._of_group(column, group, index.start, index.stop)
        order = np.argsort(index, kind="stable")
        places = index[order]
        values: NDArray[Any] = np.empty(index.size, self._dtype(column))
        first = 0
        while first < index.size:
            low = int(places[first])
            end = int(np.searchsorted(places, low + _BLOCK))
            block = self._of_group(column, group, low, int(places[end - 1]) + 1)
            values[order[first:end]] = block[places[first:end] - low]
            first = end
        return values

    def _of_group(self, column: SonataColumn, group: str, start: int, stop: int) -> NDArray[Any]:
        """Return a range of the values of a group as the column's dtype."""
        path = f"{group}/{path_in_group(column.name)}"
        stored = hdf5.dataset(self.population, path)
        if self._is_whole:
            self._check_length(path, self.size)
        if column.stored == "text" or hdf5.is_text(stored.dtype):
            library = hdf5.labels_of(self.population[group], column.name)
            words = self._words(path, library, start, stop)
            if column.labels is None:
                return words
            code = {label: i for i, label in enumerate(column.labels)}
            return np.array([code[word] for word in words], dtype=column.dtype)
        if column.labels is not None:
            library = hdf5.labels_of(self.population[group], column.name) or column.labels
            return self._codes(path, library, start, stop).astype(column.dtype)
        values = hdf5.read(self.population, path, start, stop)
        return values.astype(self._dtype(column), copy=False)

    @property
    def _is_whole(self) -> bool:
        """Return whether the values of the only group are those of all rows, as they come."""
        return len(self.groups) == 1 and f"{self.kind}_group_index" not in self.population

    def _words(
        self, path: str, labels: tuple[str, ...] | None, start: int, stop: int
    ) -> NDArray[np.object_]:
        """Return values of any type as text."""
        if labels is not None:
            return np.array(labels, dtype=object)[self._codes(path, labels, start, stop)]
        values = hdf5.read(self.population, path, start, stop).tolist()
        return np.array([hdf5.text(value) for value in values], dtype=object)

    def _codes(self, path: str, labels: tuple[str, ...], start: int, stop: int) -> Ints:
        """Return codes, each of which has its label."""
        codes = hdf5.read_ids(self.population, path, start, stop)
        if codes.size and (codes.min() < 0 or codes.max() >= len(labels)):
            codes = hdf5.read(self.population, path, start, stop)  # of their own, unsigned type
            raise CircuitError.of(
                f"{self._place(path)} has values that its @library does not name",
                found=f"from {codes.min()} to {codes.max()}",
                expected=f"codes from 0 to {len(labels) - 1}",
            )
        return codes

    def own_columns(self) -> Iterator[SonataColumn]:
        """Yield the columns that the groups hold."""
        groups_of: dict[str, list[str]] = {}
        for group in self.groups:
            parent = self.population[group]
            dynamics = parent.get("dynamics_params")
            names = list(hdf5.columns(parent))
            if isinstance(dynamics, h5py.Group):
                names += [f"@dynamics:{name}" for name in hdf5.columns(dynamics)]
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise CircuitError.of(
                    f"{self._place(group)} has two columns of one name",
                    found=f"{twice!r}, and {path_in_group(twice)!r}",
                )
            for name in names:
                groups_of.setdefault(name, []).append(group)
        for name, groups in groups_of.items():
            yield self._described(name, groups)

    def _described(self, name: str, groups: list[str]) -> SonataColumn:
        paths = [f"{group}/{path_in_group(name)}" for group in groups]
        if any(self.population[path].ndim != 1 for path in paths):
            return SonataColumn(name, "several")
        types = [hdf5.dataset(self.population, path).dtype for path in paths]
        of_groups = (hdf5.labels_of(self.population[group], name) for group in groups)
        libraries = {labels for labels in of_groups if labels is not None}
        partial = len(groups) < len(self.groups)
        n_text, n_numbers = sum(map(hdf5.is_text, types)), sum(map(hdf5.is_number, types))
        is_odd = n_text + n_numbers < len(types) or (n_text and n_numbers and self.kind == "edge")
        if is_odd and not (libraries and self.kind == "node"):  # their codes are refused when read
            return SonataColumn(name, "other")
        if self.kind == "node" and (n_text or len(libraries) > 1):
            return SonataColumn(name, "text", partial=partial)
        if len(libraries) > 1:
            raise CircuitError.of(
                f"{self.population.file.filename}: groups of {self.population.name} name the "
                f"values of {name!r} differently"
            )
        if n_text:
            labels = self._distinct(paths)
            return SonataColumn(name, "int32" if labels else "text", labels, partial)
        common = np.result_type(*types)
        stored = {"bool": "uint8", "float16": "float32"}.get(common.name, common.name)
        return SonataColumn(name, stored, next(iter(libraries), None), partial)

    def _distinct(self, paths: Sequence[str]) -> tuple[str, ...] | None:
        """Return the distinct values of text, in order; None where they are too many."""
        for path in paths if self._is_whole else ():
            self._check_length(path, self.size)
        blocks = (block for path in paths for block in hdf5.blocks(self.population, path))
        return few_labels({hdf5.text(value) for value in block.tolist()} for block in blocks)

    def types_used(self, types_file: Path) -> set[int]:
        """Return the types that rows refer to, in a file of types that the circuit has for them."""
        path = f"{self.kind}_type_id"
        if path not in self.population:
            raise CircuitError.of(
                f"{self.population.file.filename} lacks {self.population.name.lstrip('/')}/{path}",
                expected=f"the type of each row, of those in {types_file}",
                hint=f"is {types_file.name} about another population?",
            )
        starts = range(0, self.size, _BLOCK)
        blocks = (self._ids("type_id", at, min(at + _BLOCK, self.size)) for at in starts)
        return set().union(*(np.unique(block).tolist() for block in blocks))

    def _ids(self, name: str, start: int, stop: int) -> Ints:
        return hdf5.read_ids(self.population, f"{self.kind}_{name}", start, stop)

    def _place(self, path: str) -> str:
        return hdf5.place(self.population, path)


def inheriting(
    own: SonataColumn | None, name: str, cells: Mapping[int, str | None], kind: Kind
) -> SonataColumn:
    """Return a column whose rows have, by their type, these cells where their group lacks it."""
    if own is not None and (not own.partial or own.stored in ("other", "several")):
        return own
    is_text = own is not None and (own.labels is not None or own.stored == "text")
    numbers = None if is_text else _as_numbers(cells)
    if numbers is not None and (own is not None or kind == "edge"):
        whole = all(v.is_integer() or isnan(v) for v in numbers.values())
        is_whole = whole and own is not None and not own.stored.startswith("float")
        lacks = any(map(isnan, numbers.values()))
        return SonataColumn(name, "int64" if is_whole else "float64", None, lacks, numbers)
    lacks = None in cells.values()
    if own is not None and own.labels is None:
        is_node = kind == "node"
        stored = "text" if is_node or own.stored == "text" else "other"
        return SonataColumn(name, stored, partial=lacks, inherited=cells)
    labels = () if own is None else own.labels or ()
    labels += tuple(sorted({v for v in cells.values() if v is not None} - set(labels)))
    code = {label: float(i) for i, label in enumerate(labels)}
    codes = {k: float("nan") if v is None else code[v] for k, v in cells.items()}
    return SonataColumn(name, "int32", labels, lacks, codes)


def inherited_cells(
    types_file: Path, kind: Kind, population: str, used: set[int]
) -> dict[str, dict[int, str | None]]:
    """Return the columns of a types file: the cell of each used type, None where it has none."""
    rows = read_types(types_file, f"{kind}_type_id", population)
    rows = {k: v for k, v in rows.items() if k in used}
    names = dict.fromkeys(n for row in rows.values() for n in row if n not in _QUERIES)
    return {name: {k: rows.get(k, {}).get(name) for k in used} for name in names}


def _as_numbers(cells: Mapping[int, str | None]) -> dict[int, float] | None:
    """Return cells as numbers; None where one is text."""
    try:
        return {k: float("nan" if v is None else v) for k, v in cells.items()}
    except ValueError:
        return None


def read_types(file: Path, key: str, population: str) -> dict[int, dict[str, str]]:
    """Return a population's rows of a types file by their id; NULL and empty cells left out.

    Where several populations share the file, its column ``population`` says whose a row is.
    """
    if not file.is_file():
        raise CircuitError.of(f"{file} is not a file", expected="a CSV file of types")
    try:
        with file.open(encoding="utf-8", newline="") as text:
            lines = csv.reader(text, delimiter=" ", skipinitialspace=True)
            header = next(lines, [])
            rows = [
                (lines.line_num, dict(zip(header, line, strict=False))) for line in lines if line
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CircuitError.of(f"{file} cannot be read", found=str(error)) from error
    named = [name for name in header if name]
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        places = ", ".join(str(i) for i, name in enumerate(header, start=1) if name == twice)
        raise CircuitError.of(
            f"{file} has two columns of one name", found=f"{twice!r} in columns {places}"
        )
    if rows and key not in header:
        raise CircuitError.of(f"{file} has no column {key!r}", found=listing(named))
    line_of: dict[int, int] = {}
    by_id: dict[int, dict[str, str]] = {}
    for number, row in rows:
        if row.pop("population", population) not in (population, "", "NULL"):
            continue
        try:
            type_id = int(row.get(key, ""))
        except ValueError as error:
            raise CircuitError.of(
                f"{file}: {key} in line {number} is no whole number", found=repr(row.get(key))
            ) from error
        if type_id in by_id:
            raise CircuitError.of(
                f"{file}: {key} {type_id} stands in several lines",
                found=f"lines {line_of[type_id]} and {number}",
            )
        line_of[type_id] = number
        by_id[type_id] = {
            name: value
            for name, value in row.items()
            if name not in ("", key) and value not in ("", "NULL")
        }
    if rows and not by_id:
        warnings.warn(
            f"{file} has no types of {population!r}: its column 'population' names others",
            ConnpropsWarning,
            stacklevel=4,
        )
    return by_id


def _inherited_values(column: SonataColumn, type_ids: Ints, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the values that rows of these types inherit."""
    inherited = column.inherited or {}
    types = np.array(sorted(inherited), dtype=np.int64)
    values = np.array([inherited[k] for k in types.tolist()], dtype=dtype)
    taken: NDArray[Any] = values[np.searchsorted(types, type_ids).clip(0, types.size - 1)]
    return taken
