"""Drawn synapses as a SONATA edge file: a new one, or a circuit's with its rows drawn anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from connprops.arrays import Bools, Ints
from connprops.circuit import hdf5
from connprops.circuit.circuit import EdgeReader
from connprops.circuit.columns import path_in_group
from connprops.circuit.edge_file import (
    ForgivingFile,
    create_column,
    create_edges,
    created,
    write_indices,
)
from connprops.draw.connections import ConnectionBatch
from connprops.draw.drawer import Drawer, Values
from connprops.draw.source import Source
from connprops.errors import OptionError, OutputError, listing
from connprops.store.sealed import KEY, UNSEALED

_ROWS_AT_ONCE = 1 << 18

_MEMORY_PER_EDGE = 128
"""Bytes of memory allowed for each edge that is sorted for an index: this takes a quarter of it."""


@contextmanager
def edge_file(path: Path, source: Source, *, anew: bool) -> Iterator[NewEdges | RedrawnEdges]:
    """Give what writes a new edge file, or the circuit's ``anew``; indices follow at the end.

    The population has name and nodes of the circuit's.
    """
    edges = source.edges
    with edges.reader() as reader, created(path) as (h5, disk):
        h5.attrs[KEY] = np.bytes_(UNSEALED)
        yield RedrawnEdges(h5, disk, source, reader) if anew else NewEdges(h5, disk, source)
    with h5py.File(path, "r") as h5:
        is_indexed = "indices" in h5[edges.place]
    if not is_indexed:
        at_once = max(source.resources.memory // _MEMORY_PER_EDGE, 1 << 20)
        write_indices(path, edges.name, edges.source.end, edges.target.end, at_once)


class NewEdges:
    """Writes synapses one after the other; floats as float32, as in most circuits."""

    def __init__(self, file: h5py.File, disk: ForgivingFile, source: Source) -> None:
        edges, self._drawer, self._disk = source.edges, source.drawer, disk
        nodes = edges.source.name, edges.target.name
        self._population = create_edges(file, edges.name, nodes, None)
        group = self._population["0"]
        for name in self._drawer.properties:
            create_column(group, path_in_group(name), _stored(self._drawer, name), None)
            if labels := self._drawer.model.labels.get(name):
                _write_library(group, name, labels)

    def batch(self, connections: ConnectionBatch) -> Values:
        """Return the columns of the connections' synapses, by their paths in the population."""
        values = self._drawer.values(connections)
        return {
            "source_node_id": np.repeat(connections.source, connections.n_syn),
            "target_node_id": np.repeat(connections.target, connections.n_syn),
            **{f"0/{path_in_group(name)}": column for name, column in values.items()},
        }

    def write(self, batch: Values) -> int:
        """Append synapses; return their number."""
        types, n = self._population["edge_type_id"], batch["source_node_id"].size
        start, stop = types.size, types.size + n
        types.resize((stop,))
        for path, values in batch.items():
            column = self._population[path]
            column.resize((stop,))
            column[start:stop] = _fitting(values, column)
        self._disk.check()
        return n


class RedrawnEdges:
    """Writes the properties of all rows of an edge file into a copy of it."""

    def __init__(
        self, file: h5py.File, disk: ForgivingFile, source: Source, reader: EdgeReader
    ) -> None:
        self._edges, self._drawer, self._disk = source.edges, source.drawer, disk
        self._reader, self._n_done, self._missing = reader, 0, source.missing
        new = set(self._drawer.properties) - self._edges.columns.keys()
        if source.missing == "skip" and new:
            raise OptionError.of(
                "Skipped synapses keep their values, but the circuit lacks a property",
                found=listing(sorted(new)), expected=listing(self._edges.columns),
            )  # fmt: skip
        for name in set(self._drawer.properties) - self._drawer.model.labels.keys():
            column = self._edges.columns.get(name)
            if column is not None and column.inherited is not None and column.labels is not None:
                raise _no_numbers(f"{self._edges.types_file}: {name!r}", "text")
        self._of_code = {
            name: self._stored_of_codes(name, labels)
            for name, labels in self._drawer.model.labels.items()
            if name in self._drawer.properties
        }
        self._columns = self._copied(file)

    def _stored_of_codes(self, name: str, labels: tuple[str, ...]) -> NDArray[Any]:
        """Return what the file holds for each code of a labelled property: its code, or text."""
        column, population = self._edges.columns.get(name), self._reader.population
        if column is None or column.labels is None:
            return np.arange(len(labels))
        paths = [f"{group}/{path_in_group(name)}" for group in self._reader.groups]
        if column.inherited is not None:  # text of edge types, which rows of their own override
            return np.array(labels, dtype=object)
        if any(path in population and hdf5.is_text(population[path].dtype) for path in paths):
            if column.partial and self._missing == "skip":
                raise _no_numbers(f"{self._edges.place}: {name!r}", "text in some groups only")
            return np.array(labels, dtype=object)
        if labels == column.labels:
            return np.arange(len(labels))
        unknown = sorted(set(labels) - set(column.labels))
        if unknown:
            raise OptionError.of(
                f"The circuit has no code for some labels of {name!r}",
                found=listing(unknown), expected=listing(column.labels),
                hint="draw into a new file, which gets the model's labels: with connections",
            )  # fmt: skip
        return np.array([column.labels.index(label) for label in labels])

    def _copied(self, new: h5py.File) -> dict[tuple[str, str], h5py.Dataset]:
        """Copy the file but for the properties to be drawn; return the columns to put these in.

        A property has a column in every group, wherever it was before.
        """
        old, sizes = self._reader.population.file, self._group_sizes()
        paths = {
            (name, group): f"/{self._edges.place}/{group}/{path_in_group(name)}"
            for name in self._drawer.properties
            for group in sizes
        }
        with hdf5.guarded(self._edges.file):
            _copy(old, new, set(paths.values()))
        columns = {}
        for (name, group), path in paths.items():
            stored = _stored(self._drawer, name)
            if name in self._of_code and self._of_code[name].dtype == object:
                stored = h5py.string_dtype()
            elif name in self._of_code:
                column = self._edges.columns.get(name)
                labels = column.labels if column is not None else self._drawer.model.labels[name]
                if labels is not None:
                    _write_library(new[f"{self._edges.place}/{group}"], name, labels)
            columns[name, group] = _column_like(old.get(path), new, path, sizes[group], stored)
        return columns

    def _group_sizes(self) -> dict[str, int]:
        """Return how many rows each group has room for."""
        reader = self._reader
        sizes = {
            group: max((parent[name].shape[0] for name in hdf5.columns(parent)), default=0)
            for group in reader.groups
            for parent in [reader.population[group]]
        }
        for start in range(0, reader.size, _ROWS_AT_ONCE):
            for group, _, index in reader.in_groups(start, min(start + _ROWS_AT_ONCE, reader.size)):
                end = index.stop if isinstance(index, slice) else int(index.max()) + 1
                sizes[group] = max(sizes[group], end)
        return sizes

    def batch(self, stretches: ConnectionBatch) -> tuple[Values, Bools]:
        """Return the values of rows that are drawn, and which rows these are."""
        is_drawn = np.repeat(stretches.pathway >= 0, stretches.n_syn)
        return self._drawer.values(stretches.drawn()), is_drawn

    def write(self, batch: tuple[Values, Bools]) -> int:
        """Put the values of the next rows in their places; return the number of rows."""
        values, is_drawn = batch
        start, stop = self._n_done, self._n_done + is_drawn.size
        values |= {name: of_code[values[name]] for name, of_code in self._of_code.items()}
        if not is_drawn.all():
            for name, drawn in values.items():
                column = self._edges.columns[name]
                before = self._reader.column(column, start, stop)
                if drawn.dtype == object:
                    before = np.array(column.labels, dtype=object)[before]
                values[name] = np.empty(is_drawn.size, dtype=drawn.dtype)
                values[name][is_drawn] = drawn
                values[name][~is_drawn] = before[~is_drawn]
        for group, rows, index in self._reader.in_groups(start, stop):
            for name, drawn in values.items():
                _put(self._columns[name, group], index, drawn[rows])
        self._n_done = stop
        self._disk.check()
        return is_drawn.size


def _copy(old: h5py.Group, new: h5py.Group, without: set[str]) -> None:
    for name, value in old.attrs.items():
        if name != KEY:
            new.attrs[name] = value
    for name, item in old.items():
        if item.name in without:
            continue
        if any(path.startswith(f"{item.name}/") for path in without):
            _copy(item, new.create_group(name), without)
        else:
            old.copy(item, new, name)


def _column_like(
    was: h5py.Dataset | None, new: h5py.File, path: str, size: int, stored: np.dtype[Any]
) -> h5py.Dataset:
    """Create the column of a property, as it was if that suits numbers that are stored so."""
    if was is None:
        return new.create_dataset(path, (size,), stored)
    if not hdf5.is_number(was.dtype) and not hdf5.is_text(stored):
        raise _no_numbers(path, str(was.dtype))
    suits = (was.dtype.kind == "f") == (stored.kind == "f") and not hdf5.is_text(stored)
    column = new.create_dataset(
        path, (size,), was.dtype if suits else stored, chunks=was.chunks,
        compression=was.compression, compression_opts=was.compression_opts, shuffle=was.shuffle,
    )  # fmt: skip
    for attribute, value in was.attrs.items():
        column.attrs[attribute] = value
    return column


def _write_library(group: h5py.Group, name: str, labels: Sequence[str]) -> None:
    """Write the labels of a property's codes into a group, unless it has them."""
    library = group.require_group("@library")
    if name not in library:
        library.create_dataset(name, data=list(labels), dtype=h5py.string_dtype())


def _no_numbers(place: str, what: str) -> OptionError:
    return OptionError.of(
        f"{place} is no column of numbers in the circuit", found=what,
        hint="name the properties to draw (properties=, --sel-props)",
    )  # fmt: skip


def _stored(drawer: Drawer, name: str) -> np.dtype[Any]:
    return np.dtype(np.int64 if drawer.dtypes[name] == np.int64 else np.float32)


def _put(column: h5py.Dataset, index: Ints | slice, values: NDArray[Any]) -> None:
    """Put values in their places."""
    if isinstance(index, slice):
        column[index] = _fitting(values, column)
        return
    low, high = int(index.min()), int(index.max()) + 1
    fitting = _fitting(values, column)
    if high - low != index.size or (np.diff(index) != 1).any():
        scattered, fitting = fitting, column[low:high]
        fitting[index - low] = scattered
    column[low:high] = fitting


def _fitting(values: NDArray[Any], column: h5py.Dataset) -> NDArray[Any]:
    """Return values in the type of a column; refuse those that it cannot hold."""
    if values.dtype == object:
        return values
    with np.errstate(over="ignore"):
        fitting = values.astype(column.dtype)
    wrong = ~np.isfinite(fitting) if column.dtype.kind == "f" else fitting != values
    if wrong.any():
        raise OutputError.of(
            f"Drawn values of {column.name} do not fit its type",
            found=str(values[np.argmax(wrong)]), expected=str(column.dtype),
            hint="does the model have bounds? data_bounds of build",
        )  # fmt: skip
    return fitting
