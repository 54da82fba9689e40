"""Reading SONATA: a circuit, resolved to its edge and node populations.

Edge columns are read sequentially, in ranges of rows, which is a hundred times faster than by
selection and needs no indices. The dialects are told apart here and in the modules below, and
nowhere else: attributes inherited from ``edge_types.csv`` and ``node_types.csv``, several groups
in one population, rows that stand for ``nsyns`` synapses, columns under ``dynamics_params``.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import h5py
import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops.arrays import Ints
from connprops.circuit import hdf5
from connprops.circuit.columns import (
    Column,
    decoded,
    edge_types_used,
    group_names,
    inherited_columns,
    inherited_values,
    own_columns,
    path_in_group,
)
from connprops.circuit.config import checked_networks, resolved
from connprops.circuit.node_attributes import count_nodes, inherited_attributes, own_attributes
from connprops.circuit.node_sets import attributes_in, members, read_node_sets
from connprops.errors import CircuitError, ConnpropsWarning, OptionError, listing
from connprops.store.writing import sha256_of

if TYPE_CHECKING:
    import bluepysnap

CircuitSource: TypeAlias = "str | Path | bluepysnap.Circuit"
"""What names a circuit: its configuration file, or a circuit that bluepysnap has opened."""

_SAMPLED_BLOCKS = 64
_SAMPLED_BYTES = 4096


_NO_NAMES = frozenset({"", "build", "circuit", "config", "configs", "sonata"})
"""Names of folders that tell no circuit from another."""


@dataclass(frozen=True)
class NodePopulation:
    """A node population: where it lies, and how to read its attributes."""

    name: str
    file: Path
    types_file: Path | None
    kind: str

    @cached_property
    def size(self) -> int:
        """Return the number of nodes."""
        with hdf5.opened(self.file) as h5, hdf5.reading(self.file):
            return count_nodes(h5, self.name, self.file)

    def attributes(self, only: Collection[str] | None = None) -> pl.DataFrame:
        """Return attributes of all nodes, with ``node``, their id: shape (n_nodes, 1 + attributes).

        By default those are text, enumerated or integer. Floating ones (positions, rotations) are
        among them where ``only`` names them: nobody groups by them.
        """
        size = self.size
        with hdf5.opened(self.file) as h5, hdf5.reading(self.file):
            columns = dict(own_attributes(h5, self.name, size, self.file, only))
        if self.types_file is not None:
            for name, series in inherited_attributes(self.types_file, columns, size):
                columns.setdefault(name, series)
        columns.pop("node_type_id", None)
        frame = pl.DataFrame({"node": np.arange(size, dtype=np.int64)})
        return frame.with_columns(
            series.alias(name)
            for name, series in columns.items()
            if name != "node" and (only is None or name in only)
        )


@dataclass(frozen=True)
class EdgePopulation:
    """An edge population: where it lies, what it joins, and its columns."""

    name: str
    file: Path
    types_file: Path | None
    kind: str
    source: NodePopulation
    target: NodePopulation

    @cached_property
    def size(self) -> int:
        """Return the number of rows.

        Raises
        ------
        CircuitError
            Where source and target do not have as many.
        """
        with hdf5.opened(self.file) as h5, hdf5.reading(self.file):
            sizes = [
                hdf5.count(h5, f"edges/{self.name}/{side}_node_id", self.file)
                for side in ("source", "target")
            ]
        if sizes[0] != sizes[1]:
            raise CircuitError.of(
                f"{self.file}: source_node_id and target_node_id of edges/{self.name} are not of "
                "one length",
                found=f"{sizes[0]:,} and {sizes[1]:,} values",
            )
        return sizes[0]

    @cached_property
    def columns(self) -> dict[str, Column]:
        """Return the columns by name, those of the file first, then the inherited ones."""
        with hdf5.opened(self.file) as h5, hdf5.reading(self.file):
            population = hdf5.group(h5, f"edges/{self.name}", self.file)
            found = {column.name: column for column in own_columns(population, self.file)}
            used = edge_types_used(h5, self.name, self.file) if self.types_file else set()
        if self.types_file:
            for column in inherited_columns(self.types_file, used):
                found.setdefault(column.name, column)
        return found

    @contextmanager
    def reader(self) -> Iterator[EdgeReader]:
        """Open the file for reading ranges of rows."""
        with hdf5.opened(self.file) as h5:
            yield EdgeReader(self, h5)

    def identity(self) -> dict[str, Any]:
        """Return what tells this file's content from another's: names, size, and a digest.

        The digest is over the structure (names, shapes, types) and blocks sampled evenly from
        the whole file, so that it takes milliseconds whatever the file's size.
        """
        digest = hashlib.sha256()
        with hdf5.opened(self.file) as h5, hdf5.reading(self.file):
            _digest_structure(h5[f"edges/{self.name}"], digest)
        with hdf5.reading(self.file), self.file.open("rb") as raw:
            size = self.file.stat().st_size
            for at in np.linspace(0, max(size - _SAMPLED_BYTES, 0), _SAMPLED_BLOCKS):
                raw.seek(int(at))
                digest.update(raw.read(_SAMPLED_BYTES))
        if self.types_file:
            digest.update(self.types_file.read_bytes())
        return {
            "population": self.name,
            "file": self.file.name,
            "bytes": size,
            "sampled_sha256": digest.hexdigest(),
        }

    def state(self) -> dict[str, int]:
        """Return what changes whenever somebody writes the file: its size and time."""
        with hdf5.reading(self.file):
            status = self.file.stat()
        return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}

    def sha256(self) -> str:
        """Return the checksum of the whole file: every byte of it is read."""
        with hdf5.reading(self.file):
            return sha256_of(self.file)


@dataclass
class EdgeReader:
    """Ranges of rows of an open edge population, column by column."""

    population: EdgePopulation
    h5: h5py.File
    _groups: list[str] = field(init=False)

    def __post_init__(self) -> None:
        with hdf5.reading(self.population.file):
            base = self.h5[f"edges/{self.population.name}"]
            self._groups = group_names(base, self.population.file)

    def node_ids(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return source and target node ids of the rows, each of shape (stop - start,).

        Raises
        ------
        CircuitError
            Where an id is not one of a node of the population that the edges name.
        """
        ends = []
        for side, nodes in (("source", self.population.source), ("target", self.population.target)):
            path = f"edges/{self.population.name}/{side}_node_id"
            ids = hdf5.read_ids(self.h5, path, start, stop, self.population.file)
            if ids.size and (ids.min() < 0 or ids.max() >= nodes.size):
                row = int(np.flatnonzero((ids < 0) | (ids >= nodes.size))[0])
                raise CircuitError.of(
                    f"{self.population.file}: {path} names a node that does not exist",
                    found=f"node id {ids[row]} in row {start + row}",
                    expected=f"ids from 0 to {nodes.size - 1}, the nodes of {nodes.name!r}",
                )
            ends.append(ids)
        return ends[0], ends[1]

    def column(self, column: Column, start: int, stop: int) -> NDArray[Any]:
        """Return the values of a column in the rows, shape (stop - start,), of its dtype."""
        base = f"edges/{self.population.name}"
        if column.inherited is not None:
            return inherited_values(column, self._ids(f"{base}/edge_type_id", start, stop))
        if len(self._groups) == 1:
            path = f"{base}/{self._groups[0]}/{path_in_group(column.name)}"
            found = hdf5.dataset(self.h5, path, self.population.file).shape[0]
            if found != self.population.size:
                raise CircuitError.of(
                    f"{self.population.file}: {path} has another length than its population",
                    found=f"{found:,} values",
                    expected=f"{self.population.size:,}",
                )
            return decoded(self._raw(path, start, stop), column, self._place(path))
        return self._gathered(column, start, stop)

    def in_groups(self, start: int, stop: int) -> Iterator[tuple[str, Ints, Ints]]:
        """Yield each group that rows of a range are of: its name, these rows, their places in it.

        Rows count from ``start``; rows and places have the same shape.

        Raises
        ------
        CircuitError
            Where a row names a group or place that is not there.
        """
        if len(self._groups) == 1:
            yield self._groups[0], np.arange(stop - start), np.arange(start, stop)
            return
        base = f"edges/{self.population.name}"
        group_of_row = self._ids(f"{base}/edge_group_id", start, stop)
        index_of_row = self._ids(f"{base}/edge_group_index", start, stop)
        self._check_groups(group_of_row, start)
        for group in self._groups:
            rows = np.flatnonzero(group_of_row == int(group))
            index = index_of_row[rows]
            if not rows.size:
                continue
            if index.min() < 0:
                raise CircuitError.of(
                    f"{self._place(f'{base}/edge_group_index')} has a negative index",
                    found=f"{index.min()}",
                )
            yield group, rows, index

    def _gathered(self, column: Column, start: int, stop: int) -> NDArray[Any]:
        values = np.full(
            stop - start, np.nan if column.partial else 0, dtype=np.dtype(column.dtype)
        )
        for group, rows, index in self.in_groups(start, stop):
            path = f"edges/{self.population.name}/{group}/{path_in_group(column.name)}"
            if path in self.h5:
                low, high = int(index.min()), int(index.max()) + 1
                raw = self._raw(path, low, high)[index - low]
                values[rows] = decoded(raw, column, self._place(path))
        return values

    def _check_groups(self, group_of_row: NDArray[np.int64], start: int) -> None:
        known = np.isin(group_of_row, [int(name) for name in self._groups])
        if not known.all():
            row = int(np.flatnonzero(~known)[0])
            raise CircuitError.of(
                f"{self._place(f'edges/{self.population.name}/edge_group_id')} names a group that "
                "is not there",
                found=f"group {group_of_row[row]} in row {start + row:,}",
                expected=listing(self._groups),
            )

    def _place(self, path: str) -> str:
        return f"{self.population.file}: {path}"

    def _raw(self, path: str, start: int, stop: int) -> NDArray[Any]:
        return hdf5.read(self.h5, path, start, stop, self.population.file)

    def _ids(self, path: str, start: int, stop: int) -> NDArray[np.int64]:
        return hdf5.read_ids(self.h5, path, start, stop, self.population.file)


@dataclass(frozen=True)
class Circuit:
    """A circuit: its populations, and its node sets."""

    config: Path
    nodes: Mapping[str, NodePopulation]
    edges: Mapping[str, EdgePopulation]
    node_sets_file: Path | None

    @property
    def name(self) -> str:
        """Return a name for people: that of the folder that holds the configuration."""
        return self.config.resolve().parent.name

    def results_folder(self) -> Path:
        """Return the folder of the results where none is given: named after the circuit.

        That is the name of the folder that the configuration is in, or of the nearest one above
        with a name that says something.
        """
        above = (place.name for place in self.config.resolve().parents)
        name = next((name for name in above if name.lower() not in _NO_NAMES), "circuit")
        return Path(f"{name}-connprops")

    def population(self, name: str | None = None) -> EdgePopulation:
        """Return the edge population of that name, or the default one.

        The default is the only one; else ``default__default__chemical``; else ``default``.

        Raises
        ------
        OptionError
            Where there is no such population, or no default among several.
        """
        if name is not None:
            if name not in self.edges:
                raise OptionError.unknown("edge population", name, self.edges)
            return self.edges[name]
        if len(self.edges) == 1:
            return next(iter(self.edges.values()))
        for default in ("default__default__chemical", "default"):
            if default in self.edges:
                return self.edges[default]
        sizes = [f"{name} ({edges.size:,} rows)" for name, edges in self.edges.items()]
        raise OptionError.of(
            f"{self.config} has several edge populations and none is named",
            found=listing(sizes),
            expected="the name of one",
            hint="give --population NAME, or edges_popul_name=NAME in Python",
        )

    def node_set(self, population: NodePopulation, name: str) -> NDArray[np.int64]:
        """Return the ids of one node set in a node population.

        Raises
        ------
        OptionError
            Where the circuit has no such node set.
        """
        sets = self.node_sets(population)
        if name not in sets:
            raise OptionError.unknown("node set", name, sets)
        return sets[name]

    def node_sets(self, population: NodePopulation) -> dict[str, NDArray[np.int64]]:
        """Return the ids of each node set in a node population; sets that are empty there too.

        A set that does not apply to the population (its attribute is missing, say) is empty.
        """
        if self.node_sets_file is None or not self.node_sets_file.is_file():
            return {}
        rules = read_node_sets(self.node_sets_file)
        return members(rules, population.attributes(only=attributes_in(rules)), population.name)


def open_circuit(source: CircuitSource) -> Circuit:
    """Resolve a circuit from its configuration file or a ``bluepysnap.Circuit``.

    A configuration is resolved by bluepysnap's rules, but without it: it takes a quarter of a
    second to import, and rejects or shows without edges what other simulators write
    (``$configdir``, targets other than NEURON, no ``populations`` entries).

    Raises
    ------
    CircuitError
        Where the file is missing, is no SONATA configuration, or has no edges.
    """
    if isinstance(source, str | Path):
        config = Path(source)
        if config.is_dir():
            config = config / "circuit_config.json"
        networks, node_sets = resolved(config)
    else:
        config = Path(getattr(source, "_circuit_config_path", None) or "circuit_config.json")
        content = source.config
        networks, node_sets = content.get("networks", {}), content.get("node_sets_file")
    networks = checked_networks(networks, config)
    nodes = dict(_node_populations(networks, config))
    edges = dict(_edge_populations(networks, nodes, config))
    if not edges:
        raise CircuitError.of(
            f"{config} has no edge population",
            found=f"{len(networks.get('edges', []))} edge files listed",
            expected="at least one population under networks/edges",
            hint="is this a circuit of nodes only, or a path that the manifest gets wrong?",
        )
    return Circuit(config, nodes, edges, Path(node_sets) if node_sets else None)


def _existing(entry: Mapping[str, Any], key: str) -> Path | None:
    value = entry.get(key)
    return Path(value) if value and value != "NULL" else None


def _node_populations(
    networks: Mapping[str, Any], config: Path
) -> Iterator[tuple[str, NodePopulation]]:
    for entry in networks.get("nodes") or []:
        file = _file_of(entry, "nodes_file", config)
        if not _is_there(file, config):
            continue
        with hdf5.opened(file) as h5, hdf5.reading(file):
            names = list(hdf5.group(h5, "nodes", file))
        declared = entry.get("populations") or {}
        for name in names:
            if declared and name not in declared:
                continue
            kind = (declared.get(name) or {}).get("type", "biophysical")
            yield name, NodePopulation(name, file, _existing(entry, "node_types_file"), kind)


def _edge_populations(
    networks: Mapping[str, Any], nodes: Mapping[str, NodePopulation], config: Path
) -> Iterator[tuple[str, EdgePopulation]]:
    for entry in networks.get("edges") or []:
        file = _file_of(entry, "edges_file", config)
        if not _is_there(file, config):
            continue
        declared = entry.get("populations") or {}
        with hdf5.opened(file) as h5, hdf5.reading(file):
            ends = {
                name: [_end(h5, file, name, side, nodes) for side in ("source", "target")]
                for name in hdf5.group(h5, "edges", file)
                if not declared or name in declared
            }
        for name, (source, target) in ends.items():
            kind = (declared.get(name) or {}).get("type", "chemical")
            types_file = _existing(entry, "edge_types_file")
            yield name, EdgePopulation(name, file, types_file, kind, source, target)


def _file_of(entry: Mapping[str, Any], key: str, config: Path) -> Path:
    file = _existing(entry, key)
    if file is None:
        raise CircuitError.of(
            f"{config}: an entry of networks has no {key!r}", found=listing(entry), expected=key
        )
    return file


def _is_there(file: Path, config: Path) -> bool:
    """Return whether a listed file exists; warn where it does not, for others may."""
    if file.is_file():
        return True
    warnings.warn(
        f"{config} lists {file}, which does not exist: its populations are left out",
        ConnpropsWarning,
        stacklevel=4,
    )
    return False


def _end(
    h5: h5py.File, file: Path, name: str, side: str, nodes: Mapping[str, NodePopulation]
) -> NodePopulation:
    """Return the node population that a side of an edge population refers to."""
    dataset = hdf5.dataset(h5, f"edges/{name}/{side}_node_id", file)
    value = dataset.attrs.get("node_population", dataset.attrs.get("network"))
    text = hdf5.text(value)
    if text not in nodes:
        raise CircuitError.of(
            f"{file}: edges/{name}/{side}_node_id names a node population that is not there",
            found=repr(text),
            expected=listing(nodes),
        )
    return nodes[text]


def _digest_structure(group: h5py.Group, digest: Any) -> None:
    def visit(name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset):
            digest.update(f"{name}|{item.shape}|{item.dtype}\n".encode())

    group.visititems(visit)
