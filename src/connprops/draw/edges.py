"""Drawn synapses as a SONATA edge file: those of listed connections, or of a circuit's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from connprops.arrays import Ints
from connprops.circuit import hdf5
from connprops.circuit.circuit import EdgePopulation, EdgeReader
from connprops.circuit.columns import path_in_group
from connprops.circuit.edge_file import (
    create_column,
    create_edges,
    created,
    replacing_hdf5,
    write_indices,
)
from connprops.distributions.table import ModelTable
from connprops.draw.circuit_rows import CircuitRows
from connprops.draw.connections import Connections, ConnectionTable, Missing
from connprops.draw.synapses import (
    SYNAPSES_AT_ONCE,
    Drawer,
    Values,
    in_order,
    listed_connections,
)
from connprops.draw.types_of_nodes import edge_population, node_types
from connprops.errors import OptionError, OutputError, listing
from connprops.resources import Resources

if TYPE_CHECKING:
    from connprops.progress import Progress


def write_edges(
    model: ModelTable,
    connections: ConnectionTable,
    path: str | Path,
    seed: int = 0,
    *,
    nodes: Any = None,
    population: str | None = None,
    missing: Missing = "error",
    properties: Sequence[str] | None = None,
    resources: Resources | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Draw the synapses of listed connections as a SONATA edge file; return their number.

    The edge population has name and nodes of that of the circuit. Edges come in the order of the
    list; floats are float32, as in most circuits, whole numbers int64.
    Arguments and errors are those of :func:`connprops.draw.write_synapses`.
    """
    edges = edge_population(nodes, population)
    drawer = Drawer(model, seed, properties)
    listed = listed_connections(drawer, connections, node_types(edges, model), missing)

    def rows(few: Connections) -> tuple[Ints, Ints, Values]:
        return (
            np.repeat(few.source, few.n_syn), np.repeat(few.target, few.n_syn), drawer.values(few)
        )  # fmt: skip

    threads = (resources or Resources()).threads
    n_done = 0
    with replacing_hdf5(path, overwrite=overwrite) as aside:
        with created(aside) as (file, written):
            group = create_edges(file, edges.name, (edges.source.name, edges.target.name), None)
            for name in drawer.properties:
                create_column(group["0"], name, np.dtype(_stored(drawer, name)), None)
            for source, target, values in in_order(rows, listed, threads):
                stop = n_done + source.size
                _extend(group["edge_type_id"], stop, None)
                _extend(group["source_node_id"], stop, source)
                _extend(group["target_node_id"], stop, target)
                for name, column in values.items():
                    _extend(group["0"][name], stop, column)
                n_done = stop
                written.check()
                if progress is not None:
                    progress("draw", n_done, 0, "synapses")
        if progress is not None:
            progress("draw", n_done, n_done, "synapses")
        write_indices(aside, edges.name, edges.source.size, edges.target.size)
    return n_done


def redraw_edges(
    model: ModelTable,
    path: str | Path,
    seed: int = 0,
    *,
    nodes: Any = None,
    population: str | None = None,
    missing: Missing = "error",
    properties: Sequence[str] | None = None,
    resources: Resources | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Draw the synapses of the circuit ``nodes`` anew, in a copy of its edge file.

    Arguments and result are those of :func:`connprops.draw.write_synapses`.

    Raises
    ------
    CircuitError
        Where the circuit cannot be read.
    OptionError, ModelError, OutputError
        As there; also where the circuit's type of a column cannot hold what is drawn.
    """
    edges = edge_population(nodes, population)
    drawer = Drawer(model, seed, properties)
    limits = resources or Resources()
    with replacing_hdf5(path, overwrite=overwrite) as aside, edges.reader() as reader:
        with created(aside) as (file, written):
            columns = _copy_but(reader, edges, file, drawer)
            if missing == "skip" and (new := columns.keys() - edges.columns.keys()):
                raise OptionError.of(
                    "Skipped synapses keep their values, but the circuit lacks a property",
                    found=listing(sorted(new)), expected=listing(edges.columns),
                )  # fmt: skip
            rows = CircuitRows(drawer, edges, missing, limits)
            start = 0
            for values, left in in_order(
                partial(_drawn, drawer), rows.stretches(reader), limits.threads
            ):
                stop = start + left.size
                if left.any():
                    for name, drawn in values.items():
                        drawn[left] = reader.column(edges.columns[name], start, stop)[left]
                for group, at, index in reader.in_groups(start, stop):
                    for name, drawn in values.items():
                        _put(columns[name][group], index, drawn[at])
                start = stop
                written.check()
                if progress is not None:
                    progress("draw", stop, edges.size, "synapses")
        with h5py.File(aside, "r") as file:
            indexed = "indices" in file[f"edges/{edges.name}"]
        if not indexed:
            write_indices(aside, edges.name, edges.source.size, edges.target.size)
    return edges.size


def _drawn(drawer: Drawer, stretches: Connections) -> tuple[Values, NDArray[np.bool_]]:
    """Return the values of rows, and which rows are to be left as they are."""
    left = np.repeat(stretches.pathway < 0, stretches.n_syn)
    values = drawer.values(stretches.take(stretches.pathway >= 0))
    if left.any():
        for name, drawn in values.items():
            values[name] = np.zeros(left.size, dtype=drawn.dtype)
            values[name][~left] = drawn
    return values, left


def _copy_but(
    reader: EdgeReader, edges: EdgePopulation, new: h5py.File, drawer: Drawer
) -> dict[str, dict[str, h5py.Dataset]]:
    """Copy a file but for the properties to be drawn; return the columns these are to be put in.

    A property has one in every group of attributes, wherever it was before.
    """
    old = reader.population.file
    population = f"/edges/{edges.name}"
    for name in drawer.properties:
        column = edges.columns.get(name)
        if column is not None and column.inherited is not None and column.labels is not None:
            raise _no_numbers(f"{edges.types_file}: {name!r}", "text")
    sizes = _group_sizes(reader)
    paths = {
        name: {group: f"{population}/{group}/{path_in_group(name)}" for group in sizes}
        for name in drawer.properties
    }
    with hdf5.guarded(edges.file):
        _copy(old, new, frozenset(path for of in paths.values() for path in of.values()))
    return {
        name: {
            group: _column_like(
                old.get(path), new, path, sizes[group], np.dtype(_stored(drawer, name))
            )
            for group, path in of_groups.items()
        }
        for name, of_groups in paths.items()
    }


def _group_sizes(reader: EdgeReader) -> dict[str, int]:
    """Return how many rows each group of attributes has room for."""
    sizes = dict.fromkeys(reader.groups, 0)
    for start in range(0, reader.size, SYNAPSES_AT_ONCE):
        stop = min(start + SYNAPSES_AT_ONCE, reader.size)
        for group, _, index in reader.in_groups(start, stop):
            sizes[group] = max(sizes[group], int(index.max()) + 1)
    return sizes


def _copy(old: h5py.Group, new: h5py.Group, without: frozenset[str]) -> None:
    for name, value in old.attrs.items():
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
    if not hdf5.is_number(was.dtype):
        raise _no_numbers(path, str(was.dtype))
    same_kind = (was.dtype.kind == "f") == (stored.kind == "f")
    column = new.create_dataset(
        path, (size,), was.dtype if same_kind else stored, chunks=was.chunks,
        compression=was.compression, compression_opts=was.compression_opts, shuffle=was.shuffle,
    )  # fmt: skip
    for attribute, value in was.attrs.items():
        column.attrs[attribute] = value
    return column


def _no_numbers(place: str, found: str) -> OptionError:
    return OptionError.of(
        f"{place} is no column of numbers in the circuit", found=found,
        hint="name the properties to draw (properties=, --sel-props)",
    )  # fmt: skip


def _stored(drawer: Drawer, name: str) -> type[np.int64 | np.float32]:
    return np.int64 if drawer.dtype(name) is np.int64 else np.float32


def _extend(column: h5py.Dataset, stop: int, values: NDArray[Any] | None) -> None:
    start = column.shape[0]
    column.resize((stop,))
    if values is not None:
        column[start:stop] = _fitting(values, column)


def _put(column: h5py.Dataset, index: Ints, values: NDArray[Any]) -> None:
    """Put values in their places."""
    low, high = int(index.min()), int(index.max()) + 1
    fitting = _fitting(values, column)
    if high - low != index.size or (np.diff(index) != 1).any():
        scattered, fitting = fitting, column[low:high]
        fitting[index - low] = scattered
    column[low:high] = fitting


def _fitting(values: NDArray[Any], column: h5py.Dataset) -> NDArray[Any]:
    """Return values in the type of a column.

    Raises
    ------
    OutputError
        Where the type cannot hold them.
    """
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
