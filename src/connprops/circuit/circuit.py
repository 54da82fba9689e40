"""A SONATA circuit, resolved to its node and edge populations.

Edge columns are read sequentially, in ranges of rows. That is a hundred times faster than by
selection and needs no indices. The dialects of SONATA are told apart in this package and nowhere
else: values inherited from ``edge_types.csv`` and ``node_types.csv``, several groups in one
population, columns under ``dynamics_params``.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import h5py
import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops.arrays import Ints
from connprops.circuit import hdf5
from connprops.circuit.columns import ColumnReader, Kind, SonataColumn, inherited_cells, inheriting
from connprops.circuit.config import Declared, Entry, Networks, checked, resolved
from connprops.circuit.node_sets import attributes_in, members, read_node_sets
from connprops.errors import CircuitError, ConnpropsWarning, OptionError, listing
from connprops.store.writing import add_samples, sha256_of

if TYPE_CHECKING:
    import bluepysnap

CircuitSource: TypeAlias = "str | Path | bluepysnap.Circuit"
"""What names a circuit: its configuration file, or a circuit that bluepysnap has opened."""

_LARGEST_WHOLE = 2**63 - 1
"""Whole numbers beyond are names of nodes, as text."""

_LARGEST_ID = 1 << 24
"""Node ids up to this, or to 16 times the number of nodes, have a place in tables by id."""

_NO_NAMES = frozenset({"", "build", "circuit", "config", "configs", "sonata"})
"""Names of folders that tell no circuit from another."""


@dataclass(frozen=True)
class Population:
    """A population of nodes or edges: where it lies, and its columns."""

    name: str
    file: Path
    types_file: Path | None
    kind: str
    _of: ClassVar[Kind]

    @property
    def place(self) -> str:
        """Return the path of the population in its file."""
        return f"{self._of}s/{self.name}"

    @cached_property
    def size(self) -> int:
        """Return the number of rows."""
        with hdf5.reading(self.file) as h5:
            return ColumnReader(h5, self.name, self._of).size

    @cached_property
    def columns(self) -> dict[str, SonataColumn]:
        """Return the columns by name, those of the file first, then the inherited ones."""
        with hdf5.reading(self.file) as h5:
            reader = ColumnReader(h5, self.name, self._of)
            columns = {column.name: column for column in reader.own_columns()}
            used = reader.types_used(self.types_file) if self.types_file else set()
        if self.types_file:
            cells = inherited_cells(self.types_file, self._of, self.name, used)
            for name, of_types in cells.items():
                columns[name] = inheriting(columns.get(name), name, of_types, self._of)
        return columns


@dataclass(frozen=True)
class NodePopulation(Population):
    """A node population. Its ``size`` is the number of nodes."""

    _of = "node"
    grouped_by: ClassVar[str] = "mtype"
    untyped: ClassVar[str] = "keep"

    @property
    def ids(self) -> Ints | None:
        """Return the id of each row; None where they are 0, 1, 2, and so on."""
        with hdf5.guarded(self.file):
            mtime_ns = self.file.stat().st_mtime_ns
        return _node_ids(self, mtime_ns)

    @property
    def end(self) -> int:
        """Return the number above all ids."""
        return self.size if self.ids is None else int(self.ids.max(initial=-1)) + 1

    def attributes(self, only: Collection[str] | None = None) -> pl.DataFrame:
        """Return attributes of all nodes, with ``node``, their id: shape (n_nodes, 1 + attributes).

        By default those are text, enumerated or integer. Floating ones (positions, rotations) and
        those of dynamics are among them where ``only`` names them: nobody groups by them.
        """
        attributes = [
            column
            for name, column in self.columns.items()
            if name != "node" and (_groups_nodes(column) if only is None else name in only)
        ]
        with hdf5.reading(self.file) as h5:
            reader = ColumnReader(h5, self.name, self._of)
            ids = np.arange(reader.size, dtype=np.int64) if self.ids is None else self.ids
            series = [_series(c, reader.column(c, 0, reader.size)) for c in attributes]
        frame = pl.DataFrame([pl.Series("node", ids), *series])
        return frame if self.ids is None else frame.sort("node")


@lru_cache(maxsize=4)
def _node_ids(nodes: NodePopulation, _mtime_ns: int) -> Ints | None:
    """Return the id of each row of the file as it is; None where they are 0, 1, 2, and so on."""
    with hdf5.reading(nodes.file) as h5:
        population = ColumnReader(h5, nodes.name, "node").population
        place, n = hdf5.place(population, "node_id"), nodes.size
        if "node_id" not in population:
            return None
        if n == 0 or hdf5.progression(population, "node_id", 0, n, 1) == 0:
            return None
        ids = hdf5.read_ids(population, "node_id", 0, n)
    order = np.argsort(ids, kind="stable")
    for row in np.flatnonzero(np.diff(ids[order]) == 0)[:1]:
        raise CircuitError.of(
            f"{place} has an id twice",
            found=f"{ids[order[row]]} in rows {order[row]:,} and {order[row + 1]:,}",
        )
    largest = max(_LARGEST_ID, 16 * n)
    odd = np.flatnonzero((ids < 0) | (ids > largest))
    if odd.size:
        raise CircuitError.of(
            f"{place} has an id that tables by id have no room for",
            found=f"{ids[odd[0]]} in row {odd[0]:,}",
            expected=f"ids from 0 to {largest:,}",
        )
    return ids


def _groups_nodes(column: SonataColumn) -> bool:
    unfit = column.stored.startswith(("float", "other", "several"))
    return not unfit and not column.name.startswith("@")


def _series(column: SonataColumn, values: NDArray[Any]) -> pl.Series:
    """Return the values of a node attribute as text, whole or floating numbers."""
    if column.stored == "text":
        return pl.Series(column.name, values.tolist(), dtype=pl.String)
    if column.stored.startswith("float"):
        return pl.Series(column.name, values.astype(np.float64))
    if values.dtype.kind == "f":  # NaN where a node has none
        whole = pl.Series(values).fill_nan(None).cast(pl.Int64)
    elif values.dtype == object or values.max(initial=0) > _LARGEST_WHOLE:
        known = [int(v) if v == v else None for v in values.tolist()]  # noqa: PLR0124 - NaN
        fits = all(v is None or v <= _LARGEST_WHOLE for v in known)
        whole = pl.Series(known, dtype=pl.Int64) if fits else pl.Series(known).cast(pl.String)
    else:
        whole = pl.Series(values.astype(np.int64))
    if column.labels is not None:
        whole = pl.Series(column.labels, dtype=pl.String).gather(whole)
    return whole.rename(column.name)


@dataclass(frozen=True)
class EdgePopulation(Population):
    """An edge population, and the node populations that it joins. Its ``size`` is its rows'."""

    source: NodePopulation
    target: NodePopulation
    _of = "edge"
    unmet: ClassVar[int] = 0

    @property
    def rows_together(self) -> int:
        """Return how many rows a chunk of the file has; 1 where it has none."""
        with hdf5.reading(self.file) as h5:
            chunks = hdf5.dataset(h5, f"{self.place}/source_node_id").chunks
        return chunks[0] if chunks else 1

    @contextmanager
    def reader(self) -> Iterator[EdgeReader]:
        """Open the file for reading ranges of rows."""
        with hdf5.opened(self.file) as h5:
            with hdf5.guarded(self.file):
                reader = EdgeReader(h5, self)
            yield reader

    def identity(self) -> dict[str, Any]:
        """Return what tells this file's content from another's: names, size, and a digest.

        The digest is over the structure (names, shapes, types) and blocks sampled evenly from
        the whole file, so that it takes milliseconds whatever the file's size.
        """
        digest = hashlib.sha256()

        def add(name: str, item: h5py.HLObject) -> None:
            if isinstance(item, h5py.Dataset):
                digest.update(f"{name}|{item.shape}|{item.dtype}\n".encode())

        with hdf5.reading(self.file) as h5:
            h5[self.place].visititems(add)
        with hdf5.guarded(self.file):
            add_samples(self.file, digest)
        if self.types_file:
            digest.update(self.types_file.read_bytes())
        return {
            "population": self.name,
            "file": self.file.name,
            "bytes": self.file.stat().st_size,
            "sampled_sha256": digest.hexdigest(),
        }

    def state(self) -> dict[str, int]:
        """Return what changes whenever somebody writes the file: its size and time."""
        with hdf5.guarded(self.file):
            status = self.file.stat()
        return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}

    def sha256(self) -> str:
        """Return the checksum of the whole file: every byte of it is read."""
        with hdf5.guarded(self.file):
            return sha256_of(self.file)


class EdgeReader(ColumnReader):
    """Ranges of rows of an open edge population: its columns, and the nodes that it joins."""

    def __init__(self, h5: h5py.File, edges: EdgePopulation) -> None:
        super().__init__(h5, edges.name, "edge")
        self._nodes = edges.source, edges.target

    def node_ids(self, start: int, stop: int) -> tuple[Ints, Ints]:
        """Return source and target node ids of the rows, each of shape (stop - start,)."""
        source, target = (
            self._checked_ids(f"{side}_node_id", nodes, start, stop)
            for side, nodes in zip(("source", "target"), self._nodes, strict=True)
        )
        return source, target

    def _checked_ids(self, name: str, nodes: NodePopulation, start: int, stop: int) -> Ints:
        ids = hdf5.read_ids(self.population, name, start, stop)
        if not ids.size:
            return ids
        expected = f"ids from 0 to {nodes.size - 1}, the nodes of {nodes.name!r}"
        if nodes.ids is None:
            if ids.min() >= 0 and ids.max() < nodes.size:
                return ids
            absent = (ids < 0) | (ids >= nodes.size)
        else:
            absent = ~np.isin(ids, nodes.ids)
            if not absent.any():
                return ids
            expected = f"an id in node_id of {nodes.name!r}, which has {nodes.size:,} nodes"
        row = int(np.flatnonzero(absent)[0])
        raise CircuitError.of(
            f"{hdf5.place(self.population, name)} names a node that does not exist",
            found=f"node id {ids[row]} in row {start + row}",
            expected=expected,
        )


@dataclass(frozen=True)
class Circuit:
    """A circuit: its populations, and its node sets.

    ``faults`` say of further populations, by ``"nodes"`` or ``"edges"`` and name, why they cannot
    be read.
    """

    config: Path
    nodes: Mapping[str, NodePopulation]
    edges: Mapping[str, EdgePopulation]
    node_sets_file: Path | None
    faults: Mapping[tuple[str, str], CircuitError]

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

    @property
    def populations(self) -> list[str]:
        """Return the names of the edge populations that can be read."""
        return list(self.edges)

    def population(self, name: str | None = None) -> EdgePopulation:
        """Return the edge population of that name, or the default one.

        The default is the only one; else ``default__default__chemical``; else ``default``.
        """
        faults = {key: error for (what, key), error in self.faults.items() if what == "edges"}
        if name is not None:
            if name in faults:
                raise faults[name]
            if name not in self.edges:
                raise OptionError.unknown("edge population", name, self.edges)
            return self.edges[name]
        for bad, error in faults.items():
            warnings.warn(
                f"edge population {bad!r} is left out: {str(error).splitlines()[0]}",
                ConnpropsWarning,
                stacklevel=3,
            )
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

    def node_sets(self, population: NodePopulation) -> dict[str, Ints]:
        """Return the ids of each node set in a node population; sets that are empty there too.

        A set that does not apply to the population (its attribute is missing, say) is empty.
        """
        if self.node_sets_file is None:
            return {}
        if not self.node_sets_file.exists():
            warnings.warn(
                f"{self.config} names {self.node_sets_file}, which does not exist: "
                "there are no node sets",
                ConnpropsWarning,
                stacklevel=3,
            )
            return {}
        rules = read_node_sets(self.node_sets_file)
        return members(rules, population.attributes(only=attributes_in(rules)), population.name)


def resolve_circuit(source: CircuitSource) -> Circuit:
    """Resolve a circuit from its configuration file or a ``bluepysnap.Circuit``.

    A configuration is resolved by bluepysnap's rules, but without it: it takes a quarter of a
    second to import, and rejects or shows without edges what other simulators write
    (``$configdir``, targets other than NEURON, no ``populations`` entries).
    """
    if isinstance(source, str | Path):
        config = Path(source)
        if config.is_dir():
            config = config / "circuit_config.json"
        networks, node_sets = resolved(config)
    else:
        config = Path(getattr(source, "_circuit_config_path", None) or "circuit_config.json")
        content = source.config
        networks = checked(content.get("networks") or {}, Networks, "networks", config)
        node_sets = content.get("node_sets_file")
    return circuit_of(config, networks, node_sets)


def circuit_of(config: Path, networks: Networks, node_sets: str | None = None) -> Circuit:
    """Return the circuit whose files these are, which ``config`` lists."""
    faults: dict[tuple[str, str], CircuitError] = {}
    nodes, edges = {}, {}
    for name, (file, types_file, kind) in _listed("nodes", networks.nodes, config, faults).items():
        nodes[name] = NodePopulation(name, file, types_file, kind or "biophysical")
    for name, (file, types_file, kind) in _listed("edges", networks.edges, config, faults).items():
        try:
            source, target = _ends(file, name, nodes, faults)
        except CircuitError as error:
            faults["edges", name] = error
        else:
            edges[name] = EdgePopulation(name, file, types_file, kind or "chemical", source, target)
    if not edges:
        for (what, _), fault in faults.items():
            if what == "edges":
                raise fault
        raise CircuitError.of(
            f"{config} has no edge population",
            found=f"{len(networks.edges or [])} edge files listed",
            expected="at least one population under networks/edges",
            hint="is this a circuit of nodes only, or a path that the manifest gets wrong?",
        )
    return Circuit(config, nodes, edges, Path(node_sets) if node_sets else None, faults)


_Listed = dict[str, tuple[Path, Path | None, str | None]]
"""Of each population, by name: its file, its types file and its kind."""


def _listed(
    what: str,
    entries: Sequence[Entry] | None,
    config: Path,
    faults: dict[tuple[str, str], CircuitError],
) -> _Listed:
    """Return the populations of the files that are there, and note the faults of others."""
    listed: _Listed = {}
    for entry in entries or []:
        file, types_file = (
            Path(path) if (path := getattr(entry, name)) and path != "NULL" else None
            for name in (f"{what}_file", f"{what[:-1]}_types_file")
        )
        if file is None:
            raise CircuitError.of(
                f"{config}: an entry of networks has no '{what}_file'",
                found=listing(k for k, v in msgspec.to_builtins(entry).items() if v is not None),
                expected=f"{what}_file",
            )
        if not file.exists():
            warnings.warn(
                f"{config} lists {file}, which does not exist: its populations are left out",
                ConnpropsWarning,
                stacklevel=3,
            )
            continue
        declared = entry.populations or {}
        try:
            with hdf5.reading(file) as h5:
                names = list(hdf5.group(h5, what))
        except CircuitError as error:
            faults |= {(what, name): error for name in declared or [file.name]}
            continue
        for name in declared or names:
            if name not in names:
                faults[what, name] = CircuitError.of(
                    f"{file} lacks {what}/{name}", found=listing(names)
                )
            elif name in listed:
                faults[what, name] = CircuitError.of(
                    f"{config}: {what[:-1]} population {name!r} is listed twice",
                    found=f"in {listed[name][0]} and in {file}",
                    expected="each population once",
                )
            else:
                kind = (declared.get(name) or Declared()).type
                listed[name] = (file, types_file, kind)
    return {name: place for name, place in listed.items() if (what, name) not in faults}


def _ends(
    file: Path,
    name: str,
    nodes: Mapping[str, NodePopulation],
    faults: Mapping[tuple[str, str], CircuitError],
) -> Iterator[NodePopulation]:
    """Yield the node populations that the sides of an edge population refer to."""
    for side in ("source", "target"):
        with hdf5.reading(file) as h5:
            ids = hdf5.dataset(h5, f"edges/{name}/{side}_node_id")
            stored = ids.attrs.get("node_population", ids.attrs.get("network"))
        place = f"{file}: edges/{name}/{side}_node_id"
        if stored is None:
            raise CircuitError.of(
                f"{place} does not say which nodes its ids are of",
                expected="their population's name in its attribute node_population",
                hint=f'with h5py: file["edges/{name}/{side}_node_id"].attrs["node_population"] = '
                f'"{next(iter(nodes), "NAME")}"',
            )
        population = hdf5.text(stored)
        if population not in nodes:
            fault = faults.get(("nodes", population))
            raise CircuitError.of(
                f"{place} names a node population that is not there",
                found=repr(population) if fault is None else f"{population!r}: {fault}",
                expected=listing(nodes),
            )
        yield nodes[population]
