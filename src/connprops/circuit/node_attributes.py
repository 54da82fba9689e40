"""The attributes of a node population that nodes can be grouped and selected by."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl

from connprops.circuit import hdf5
from connprops.circuit.columns import group_names
from connprops.circuit.types_files import read_types
from connprops.errors import CircuitError


def count_nodes(h5: h5py.File, population: str, file: Path) -> int:
    """Return the number of nodes of a population.

    Raises
    ------
    CircuitError
        Where the file does not say.
    """
    place = f"nodes/{population}"
    group = hdf5.group(h5, place, file)
    if "node_type_id" in group:
        return hdf5.count(group, "node_type_id", file)
    for name in group_names(group, file):
        for column, item in hdf5.members(group[name], file):
            if hdf5.is_column(item):
                return hdf5.count(group[name], column, file)
    raise CircuitError.of(
        f"{file}: {place} does not say how many nodes it has",
        expected="the dataset node_type_id, which SONATA requires",
    )


def own_attributes(
    h5: h5py.File, population: str, size: int, file: Path, only: Collection[str] | None = None
) -> Iterator[tuple[str, pl.Series]]:
    """Yield attributes, gathered over groups by node id; floating ones only where named.

    Text, enumerated and integer ones all, unless only some are named.
    """
    place = f"nodes/{population}"
    group = hdf5.group(h5, place, file)
    if "node_type_id" in group:
        yield "node_type_id", pl.Series(hdf5.read_ids(group, "node_type_id", 0, size, file))
    groups = [group[name] for name in group_names(group, file)]
    found = (member for g in groups for member in hdf5.members(g, file))
    names = dict.fromkeys(name for name, item in found if hdf5.is_column(item))
    for name in names:
        if only is not None and name not in only:
            continue
        parts = [(g, _attribute(g, name, file, floats=only is not None)) for g in groups
                 if name in g]  # fmt: skip
        values = [(g, series) for g, series in parts if series is not None]
        if len(values) < len(parts):
            continue
        series = values[0][1] if len(groups) == 1 else _scattered(group, values, size, file)
        if len(series) != size:
            raise CircuitError.of(
                f"{file}: node attribute {name!r} of {place} has another length than its nodes",
                found=f"{len(series):,} values",
                expected=f"{size:,}",
            )
        yield name, series


def _attribute(group: h5py.Group, name: str, file: Path, *, floats: bool) -> pl.Series | None:
    """Return one attribute of a node group; None for what is neither text nor a number."""
    dataset = hdf5.dataset(group, name, file)
    libraries = group.get("@library")
    if isinstance(libraries, h5py.Group) and name in libraries:
        labels = hdf5.labels(libraries, name, file)
        codes = hdf5.read_ids(group, name, 0, dataset.shape[0], file)
        if codes.size and (codes.min() < 0 or codes.max() >= len(labels)):
            raise CircuitError.of(
                f"{file}: {group.name}/{name} has values that its @library does not name",
                found=f"from {codes.min()} to {codes.max()}",
                expected=f"codes from 0 to {len(labels) - 1}",
            )
        return pl.Series(labels, dtype=pl.String).gather(codes)
    if hdf5.is_text(dataset.dtype):
        return pl.Series([hdf5.text(v) for v in dataset[:].tolist()], dtype=pl.String)
    if dataset.dtype.kind in "iu":
        return pl.Series(dataset[:].astype(np.int64))
    if floats and dataset.dtype.kind == "f":
        return pl.Series(dataset[:].astype(np.float64))
    return None


def _scattered(
    population: h5py.Group, parts: list[tuple[h5py.Group, pl.Series]], size: int, file: Path
) -> pl.Series:
    """Put the values of several node groups in the order of the nodes; nodes without are null."""
    group_of_node = hdf5.read_ids(population, "node_group_id", 0, size, file)
    index_of_node = hdf5.read_ids(population, "node_group_index", 0, size, file)
    known = [int(name) for name in group_names(population, file)]
    if not np.isin(group_of_node, known).all():
        raise CircuitError.of(
            f"{file}: {population.name}/node_group_id names a group that is not there",
            found=str(np.setdiff1d(group_of_node, known)[0]),
            expected=", ".join(map(str, known)),
        )
    order = np.full(size, -1, dtype=np.int64)
    offset = 0
    for group, series in parts:
        rows = np.flatnonzero(group_of_node == int(group.name.rsplit("/", 1)[1]))
        index = index_of_node[rows]
        if index.size and (index.min() < 0 or index.max() >= len(series)):
            raise CircuitError.of(
                f"{file}: {population.name}/node_group_index leads out of group {group.name}",
                found=f"from {index.min()} to {index.max()}",
                expected=f"from 0 to {len(series) - 1}",
            )
        order[rows] = index + offset
        offset += len(series)
    types = {series.dtype for _, series in parts}
    dtype = types.pop() if len(types) == 1 else pl.String
    values = pl.concat([series.cast(dtype) for _, series in parts], how="vertical")
    places = pl.Series(order)
    return values.gather(places.set(places < 0, None))


def inherited_attributes(
    types_file: Path, own: Mapping[str, Any], size: int
) -> Iterator[tuple[str, pl.Series]]:
    """Yield the attributes that nodes inherit by their type."""
    if "node_type_id" not in own:
        return
    rows = read_types(types_file, "node_type_id")
    type_of_node = own["node_type_id"]
    for name in dict.fromkeys(n for row in rows.values() for n in row):
        mapping = {k: row[name] for k, row in rows.items() if name in row}
        series = type_of_node.replace_strict(mapping, default=None, return_dtype=pl.String)
        if len(series) == size:
            yield name, series
