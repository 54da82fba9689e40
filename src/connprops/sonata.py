"""Reading SONATA: the one module that touches HDF5, libsonata and bluepysnap.

A circuit is resolved to its edge and node populations. Edge columns are then read
sequentially, in ranges of rows, which is a hundred times faster than by selection and
needs no indices. The dialects are told apart here and nowhere else: attributes inherited
from ``edge_types.csv`` and ``node_types.csv``, several groups in one population, rows
that stand for ``nsyns`` synapses, columns under ``dynamics_params``.
"""

from __future__ import annotations

import csv
import hashlib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops.circuit_config import read_config, resolved_by_hand
from connprops.errors import CircuitError, ConnpropsWarning, OptionError, listing

if TYPE_CHECKING:
    import bluepysnap

CATEGORIES_AT_MOST = 100
"""A text column with more distinct values than this is not a property but a label."""

_BLOCK = 1 << 20
"""Rows read at once where a column is only looked through."""

_SAMPLED_BLOCKS = 64
_SAMPLED_BYTES = 4096


@dataclass(frozen=True)
class EdgeColumn:
    """A column of an edge population.

    ``dtype`` is that of the values as read here: numbers keep their type, enumerated and text
    columns become ``int32`` codes into ``labels``; ``"text"`` is text with more distinct values
    than categories have, which cannot be read as a property. ``inherited`` holds the values by
    edge type for a column that comes from ``edge_types.csv``. ``partial`` says that some edge
    groups lack it; their rows read as NaN.
    """

    name: str
    dtype: str
    labels: tuple[str, ...] | None = None
    partial: bool = False
    inherited: Mapping[int, float] | None = None


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
        with _open(self.file) as h5:
            return _nodes_size(h5, self)

    def attributes(self) -> pl.DataFrame:
        """Return text, enumerated and integer attributes of all nodes, with ``node``, their id.

        Shape (n_nodes, 1 + attributes). Floating columns (positions, rotations) stay out:
        nobody groups by them.
        """
        with _open(self.file) as h5:
            size = _nodes_size(h5, self)
            group = h5[f"nodes/{self.name}"]
            frame = pl.DataFrame({"node": np.arange(size, dtype=np.int64)})
            columns = dict(_node_columns(group, size, self.file))
        for name, series in _inherited_nodes(self, columns, size):
            columns.setdefault(name, series)
        columns.pop("node_type_id", None)
        return frame.with_columns(
            [series.alias(name) for name, series in columns.items() if name != "node"]
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
        """Return the number of rows."""
        with _open(self.file) as h5:
            return int(_dataset(h5, f"edges/{self.name}/source_node_id", self.file).shape[0])

    @cached_property
    def columns(self) -> dict[str, EdgeColumn]:
        """Return the columns by name, those of the file first, then the inherited ones."""
        with _open(self.file) as h5:
            found = dict(_edge_columns(h5, self))
            used = _edge_types_used(h5, self) if self.types_file else set()
        for column in _inherited_edges(self, used):
            found.setdefault(column.name, column)
        return found

    @contextmanager
    def reader(self) -> Iterator[EdgeReader]:
        """Open the file for reading ranges of rows."""
        with _open(self.file) as h5:
            yield EdgeReader(self, h5)

    def identity(self) -> dict[str, Any]:
        """Return what tells this file's content from another's: names, size, and a digest.

        The digest is over the structure (names, shapes, types) and blocks sampled evenly from
        the whole file, so that it takes milliseconds whatever the file's size.
        """
        digest = hashlib.sha256()
        size = self.file.stat().st_size
        with _open(self.file) as h5:
            _digest_structure(h5[f"edges/{self.name}"], digest)
        with self.file.open("rb") as raw:
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


@dataclass
class EdgeReader:
    """Ranges of rows of an open edge population, column by column."""

    population: EdgePopulation
    h5: h5py.File
    _groups: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self._groups = _groups(self.h5[f"edges/{self.population.name}"])

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
            ids = _slice(self.h5, path, start, stop, self.population.file).astype(np.int64)
            if ids.size and (ids.min() < 0 or ids.max() >= nodes.size):
                row = int(np.flatnonzero((ids < 0) | (ids >= nodes.size))[0])
                raise CircuitError.of(
                    f"{self.population.file}: {path} names a node that does not exist",
                    found=f"node id {ids[row]} in row {start + row}",
                    expected=f"ids from 0 to {nodes.size - 1}, the nodes of {nodes.name!r}",
                )
            ends.append(ids)
        return ends[0], ends[1]

    def column(self, column: EdgeColumn, start: int, stop: int) -> NDArray[Any]:
        """Return the values of a column in the rows, shape (stop - start,), of its dtype."""
        base = f"edges/{self.population.name}"
        if column.inherited is not None:
            ids = self._raw(f"{base}/edge_type_id", start, stop)
            known = np.array(sorted(column.inherited), dtype=np.int64)
            values = np.array([column.inherited[k] for k in known.tolist()], dtype=column.dtype)
            at = np.searchsorted(known, ids.astype(np.int64)).clip(0, known.size - 1)
            taken: NDArray[Any] = values[at]
            return taken
        if len(self._groups) == 1:
            raw = self._raw(f"{base}/{self._groups[0]}/{_h5_name(column.name)}", start, stop)
            return _decoded(raw, column)
        return self._gathered(column, start, stop)

    def _gathered(self, column: EdgeColumn, start: int, stop: int) -> NDArray[Any]:
        base = f"edges/{self.population.name}"
        group_of_row = self._raw(f"{base}/edge_group_id", start, stop)
        index_of_row = self._raw(f"{base}/edge_group_index", start, stop).astype(np.int64)
        values = np.full(
            stop - start, np.nan if column.partial else 0, dtype=np.dtype(column.dtype)
        )
        for group in self._groups:
            rows = np.flatnonzero(group_of_row == int(group))
            path = f"{base}/{group}/{_h5_name(column.name)}"
            if not rows.size or path not in self.h5:
                continue
            index = index_of_row[rows]
            low, high = int(index.min()), int(index.max()) + 1
            values[rows] = _decoded(self._raw(path, low, high), column)[index - low]
        return values

    def _raw(self, path: str, start: int, stop: int) -> NDArray[Any]:
        return _slice(self.h5, path, start, stop, self.population.file)


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
        import libsonata

        try:
            sets = libsonata.NodeSets.from_file(str(self.node_sets_file))
            nodes = libsonata.NodeStorage(str(population.file)).open_population(population.name)
        except (libsonata.SonataError, RuntimeError) as error:
            raise CircuitError.of(
                f"{self.node_sets_file} cannot be read as node sets", found=str(error)
            ) from error
        members = {}
        for name in sorted(sets.names):
            try:
                ids = sets.materialize(name, nodes).flatten()
            except (libsonata.SonataError, RuntimeError):
                ids = np.empty(0, dtype=np.int64)
            members[name] = np.sort(ids.astype(np.int64))
        return members


def open_circuit(source: str | Path | bluepysnap.Circuit) -> Circuit:
    """Resolve a circuit from its configuration file or a ``bluepysnap.Circuit``.

    bluepysnap resolves the configuration wherever it can; what it rejects or shows without
    edges (``$configdir``, targets other than NEURON, no ``populations`` entries) is
    resolved here, by the same rules.

    Raises
    ------
    CircuitError
        Where the file is missing, is no SONATA configuration, or has no edges.
    """
    if isinstance(source, str | Path):
        config = Path(source)
        if config.is_dir():
            config = config / "circuit_config.json"
        raw = read_config(config)
        networks, node_sets = _resolved_by_bluepysnap(config) or resolved_by_hand(config, raw)
    else:
        config = Path(getattr(source, "_circuit_config_path", None) or "circuit_config.json")
        content = source.config
        networks, node_sets = content.get("networks", {}), content.get("node_sets_file")
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


def _resolved_by_bluepysnap(config: Path) -> tuple[dict[str, Any], str | None] | None:
    """Return networks and node sets as bluepysnap resolves them; None where it does not."""
    import bluepysnap

    try:
        circuit = bluepysnap.Circuit(str(config))
        content = circuit.config
        if not circuit.edges.population_names:
            return None
    except Exception:  # noqa: BLE001 - whatever it dislikes, our own resolution judges next
        return None
    return content.get("networks", {}), content.get("node_sets_file")


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
        with _open(file) as h5:
            names = list(h5.get("nodes", {}))
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
        with _open(file) as h5:
            for name in h5.get("edges", {}):
                if declared and name not in declared:
                    continue
                kind = (declared.get(name) or {}).get("type", "chemical")
                ends = [_end(h5, file, name, side, nodes) for side in ("source", "target")]
                types_file = _existing(entry, "edge_types_file")
                yield name, EdgePopulation(name, file, types_file, kind, ends[0], ends[1])


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
    dataset = _dataset(h5, f"edges/{name}/{side}_node_id", file)
    value = dataset.attrs.get("node_population", dataset.attrs.get("network"))
    text = value.decode() if isinstance(value, bytes) else value
    if text not in nodes:
        raise CircuitError.of(
            f"{file}: edges/{name}/{side}_node_id names a node population that is not there",
            found=repr(text),
            expected=listing(nodes),
        )
    return nodes[str(text)]


@contextmanager
def _open(file: Path) -> Iterator[h5py.File]:
    if not file.is_file():
        raise CircuitError.of(f"No file {file}", hint="the circuit's configuration names it")
    try:
        h5 = h5py.File(file, "r")
    except OSError as error:
        raise CircuitError.of(
            f"{file} cannot be opened as HDF5", found=str(error), hint="damaged, or cut short?"
        ) from error
    with h5:
        yield h5


def _dataset(h5: h5py.File, path: str, file: Path) -> h5py.Dataset:
    try:
        found = h5[path]
    except KeyError as error:
        raise CircuitError.of(
            f"{file} lacks {path}", expected="a one-dimensional HDF5 dataset"
        ) from error
    if not isinstance(found, h5py.Dataset) or found.ndim != 1:
        raise CircuitError.of(f"{file}: {path} is not a one-dimensional HDF5 dataset")
    return found


def _slice(h5: h5py.File, path: str, start: int, stop: int, file: Path) -> NDArray[Any]:
    dataset = _dataset(h5, path, file)
    if dataset.shape[0] < stop:
        raise CircuitError.of(
            f"{file}: {path} is shorter than its population",
            found=f"{dataset.shape[0]:,} values",
            expected=f"at least {stop:,}",
        )
    try:
        values: NDArray[Any] = dataset[start:stop]
    except OSError as error:
        raise CircuitError.of(
            f"{file}: {path} cannot be read in rows {start:,} to {stop:,}", found=str(error)
        ) from error
    return values


def _groups(population: h5py.Group) -> list[str]:
    """Return the names of the groups that hold a population's attributes."""
    return sorted(
        (k for k in population if k.isdigit() and isinstance(population[k], h5py.Group)), key=int
    )


def _h5_name(name: str) -> str:
    """Return a column's path in its group; dynamics columns carry bluepysnap's prefix."""
    return name.replace("@dynamics:", "dynamics_params/", 1)


def _decoded(raw: NDArray[Any], column: EdgeColumn) -> NDArray[Any]:
    """Return values as the column's dtype; text as codes into its labels."""
    if raw.dtype.kind in "OSU":
        code = {label: i for i, label in enumerate(column.labels or ())}
        return np.array([code[_text(v)] for v in raw.tolist()], dtype=np.int32)
    return raw.astype(np.dtype(column.dtype), copy=False)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _edge_columns(h5: h5py.File, population: EdgePopulation) -> Iterator[tuple[str, EdgeColumn]]:
    base = h5[f"edges/{population.name}"]
    groups = [base[name] for name in _groups(base)]
    members: dict[str, list[h5py.Dataset]] = {}
    for group in groups:
        for name, item in group.items():
            if isinstance(item, h5py.Dataset) and item.ndim == 1:
                members.setdefault(name, []).append(item)
        for name, item in (group.get("dynamics_params") or {}).items():
            if isinstance(item, h5py.Dataset) and item.ndim == 1:
                members.setdefault(f"@dynamics:{name}", []).append(item)
    for name, datasets in members.items():
        partial = len(datasets) < len(groups)
        yield name, _edge_column(name, datasets, groups, partial=partial)


def _edge_column(
    name: str, datasets: list[h5py.Dataset], groups: list[h5py.Group], *, partial: bool
) -> EdgeColumn:
    """Return the column's description."""
    if datasets[0].dtype.kind in "OSU":
        labels: set[str] = set()
        for dataset in datasets:
            for start in range(0, dataset.shape[0], _BLOCK):
                labels |= {_text(v) for v in dataset[start : start + _BLOCK].tolist()}
                if len(labels) > CATEGORIES_AT_MOST:
                    return EdgeColumn(name, "text")
        dtype = "float64" if partial else "int32"
        return EdgeColumn(name, dtype, tuple(sorted(labels)), partial)
    libraries = [g["@library"][name] for g in groups if name in (g.get("@library") or {})]
    labels_of = tuple(_text(v) for v in libraries[0][:].tolist()) if libraries else None
    common = np.result_type(*(dataset.dtype for dataset in datasets))
    if common.kind == "b":
        common = np.dtype(np.uint8)
    elif common == np.float16:
        common = np.dtype(np.float32)
    if partial:  # the rows that lack it are NaN; float64 wherever float32 might round
        common = np.result_type(common, np.float32)
    return EdgeColumn(name, common.newbyteorder("=").name, labels_of, partial)


def _edge_types_used(h5: h5py.File, population: EdgePopulation) -> set[int]:
    """Return the edge types that rows refer to."""
    path = f"edges/{population.name}/edge_type_id"
    if path not in h5:
        return set()
    used: set[int] = set()
    for start in range(0, h5[path].shape[0], _BLOCK):
        used |= set(np.unique(h5[path][start : start + _BLOCK]).tolist())
    return used


def _read_types(file: Path, key: str) -> dict[int, dict[str, str]]:
    """Return the rows of a types file by their id; NULL and empty cells left out."""
    try:
        with file.open(encoding="utf-8", newline="") as text:
            rows = list(csv.DictReader(text, delimiter=" ", skipinitialspace=True))
    except OSError as error:
        raise CircuitError.of(f"{file} cannot be read", found=str(error)) from error
    if rows and key not in rows[0]:
        raise CircuitError.of(f"{file} has no column {key!r}", found=listing(rows[0]))
    return {
        int(row[key]): {
            k: v for k, v in row.items() if k and k != key and v not in (None, "", "NULL")
        }
        for row in rows
    }


def _inherited_edges(population: EdgePopulation, used: set[int]) -> Iterator[EdgeColumn]:
    """Yield the columns that edges inherit by their type, numbers and categories alike."""
    if population.types_file is None:
        return
    rows = {
        k: v for k, v in _read_types(population.types_file, "edge_type_id").items() if k in used
    }
    not_properties = {"target_query", "source_query"}
    names = dict.fromkeys(n for row in rows.values() for n in row if n not in not_properties)
    for name in names:
        cells = {k: row.get(name) for k, row in rows.items()}
        try:
            numbers = {k: float("nan" if v is None else v) for k, v in cells.items()}
        except ValueError:
            labels = tuple(sorted({v for v in cells.values() if v is not None}))
            code = {label: float(i) for i, label in enumerate(labels)}
            codes = {k: float("nan") if v is None else code[v] for k, v in cells.items()}
            complete = None not in cells.values()
            yield EdgeColumn(name, "int32" if complete else "float64", labels, inherited=codes)
        else:
            missing = dict.fromkeys(used - rows.keys(), float("nan"))
            yield EdgeColumn(name, "float64", inherited=numbers | missing)


def _nodes_size(h5: h5py.File, population: NodePopulation) -> int:
    group = h5[f"nodes/{population.name}"]
    if "node_type_id" in group:
        return int(group["node_type_id"].shape[0])
    for name in _groups(group):
        for item in group[name].values():
            if isinstance(item, h5py.Dataset):
                return int(item.shape[0])
    raise CircuitError.of(
        f"{population.file}: nodes/{population.name} does not say how many nodes it has",
        expected="the dataset node_type_id, which SONATA requires",
    )


def _node_columns(population: h5py.Group, size: int, file: Path) -> Iterator[tuple[str, pl.Series]]:
    """Yield text, enumerated and integer attributes, gathered over groups by node id."""
    groups = [population[name] for name in _groups(population)]
    if "node_type_id" in population:
        yield "node_type_id", pl.Series(population["node_type_id"][:].astype(np.int64))
    names = dict.fromkeys(
        name for g in groups for name, v in g.items() if isinstance(v, h5py.Dataset) and v.ndim == 1
    )
    for name in names:
        parts = [(g, _node_attribute(g, name)) for g in groups if name in g]
        if any(series is None for _, series in parts):
            continue
        series = parts[0][1] if len(groups) == 1 else _scatter_nodes(population, parts, size)
        if series is not None and len(series) != size:
            raise CircuitError.of(
                f"{file}: node attribute {name!r} has another length than its population",
                found=f"{len(series):,} values",
                expected=f"{size:,}",
            )
        if series is not None:
            yield name, series


def _node_attribute(group: h5py.Group, name: str) -> pl.Series | None:
    """Return one attribute of a node group; None for floating numbers."""
    dataset = group[name]
    library = (group.get("@library") or {}).get(name)
    if library is not None:
        labels = pl.Series([_text(v) for v in library[:].tolist()], dtype=pl.String)
        return labels.gather(dataset[:].astype(np.int64))
    if dataset.dtype.kind in "OSU":
        return pl.Series([_text(v) for v in dataset[:].tolist()], dtype=pl.String)
    if dataset.dtype.kind in "iu":
        return pl.Series(dataset[:].astype(np.int64))
    return None


def _scatter_nodes(
    population: h5py.Group, parts: list[tuple[h5py.Group, pl.Series | None]], size: int
) -> pl.Series:
    """Put the values of several node groups in the order of the nodes; nodes without are null."""
    group_of_node = population["node_group_id"][:]
    index_of_node = population["node_group_index"][:].astype(np.int64)
    order = np.full(size, -1, dtype=np.int64)
    offset = 0
    for group, series in parts:
        rows = np.flatnonzero(group_of_node == int(group.name.rsplit("/", 1)[1]))
        order[rows] = index_of_node[rows] + offset
        offset += len(series) if series is not None else 0
    values = pl.concat([series for _, series in parts if series is not None], how="vertical")
    index = pl.Series(order)
    return values.gather(index.set(index < 0, None))


def _inherited_nodes(
    population: NodePopulation, columns: Mapping[str, pl.Series], size: int
) -> Iterator[tuple[str, pl.Series]]:
    if population.types_file is None or "node_type_id" not in columns:
        return
    rows = _read_types(population.types_file, "node_type_id")
    type_of_node = columns["node_type_id"]
    for name in dict.fromkeys(n for row in rows.values() for n in row):
        mapping = {k: row[name] for k, row in rows.items() if name in row}
        series = type_of_node.replace_strict(mapping, default=None, return_dtype=pl.String)
        if len(series) == size:
            yield name, series


def _digest_structure(group: h5py.Group, digest: Any) -> None:
    def visit(name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset):
            digest.update(f"{name}|{item.shape}|{item.dtype}\n".encode())

    group.visititems(visit)
