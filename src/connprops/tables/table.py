"""A table of synapses or connections, and one of their nodes, as a source of edges.

Ids of nodes, any integers of 64 bits or text, are mapped to integers from 0 by their order; the
nodes' column ``"@id"`` keeps them. Rows whose ends are no nodes have the node -1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from connprops import schema
from connprops.arrays import Ints
from connprops.arrays.arrow import filled, of_type
from connprops.errors import OptionError, TableError
from connprops.options import EdgeOptions
from connprops.resources import Resources
from connprops.sources.node_types import BY_NODE, BY_POPULATION, ID
from connprops.sources.parquet_rows import ParquetRows
from connprops.sources.predicate import checked_predicate
from connprops.sources.source import SourceColumn
from connprops.store.writing import sha256_of
from connprops.tables import names as guess
from connprops.tables.columns import check_counts, described, numbers
from connprops.tables.files import TableFiles, TableOpener
from connprops.tables.ids import NodeIds
from connprops.tables.nodes import check_kinds, listed, named, numbered, with_unlisted


@dataclass(frozen=True, eq=False)
class TableNodes:
    """The nodes of a side, as a table lists them, or as the edges name them."""

    name: str
    frame: pl.DataFrame
    grouped_by: str
    untyped: ClassVar[str] = "leave-out"

    def attributes(self) -> pl.DataFrame:
        """Return ``node``, the number of each node, in order, its id and its attributes."""
        return self.frame


@dataclass(frozen=True, eq=False)
class TableEdges:
    """Synapses, or connections with a number of them, one in each row."""

    name: str
    table: TableFiles
    columns: Mapping[str, SourceColumn]
    ends: tuple[str, str]
    count: str | None
    source: TableNodes
    target: TableNodes
    ids: pl.Series | None
    made_of: dict[str, Any]
    kind: str = "table"

    @property
    def file(self) -> Path:
        """Return the file of the edges, by which messages name them."""
        return self.table.path

    @cached_property
    def size(self) -> int:
        """Return the number of rows."""
        with ParquetRows(self.table.files) as rows:
            return rows.size

    @property
    def rows_together(self) -> int:
        """Return the number of rows of a row group."""
        with ParquetRows(self.table.files) as rows:
            return rows.rows_together

    @cached_property
    def node_ids(self) -> NodeIds | None:
        """Return the nodes by their ids; None where ids are the numbers of nodes."""
        return None if self.ids is None else NodeIds(self.ids.to_arrow())

    @contextmanager
    def reader(self) -> Iterator[TableRows]:
        """Open the files for reading ranges of rows."""
        with ParquetRows(self.table.files) as rows:
            yield TableRows(self, rows)

    def identity(self) -> dict[str, Any]:
        """Return what tells this content from another's."""
        return {"population": self.name, **self.table.facts, **self.made_of}

    @property
    def unmet(self) -> int:
        """Return the number of rows left out as they were fetched, as they do not meet "where"."""
        return self.table.unmet

    def state(self) -> dict[str, int]:
        """Return what changes whenever somebody writes the edges."""
        return self.table.state

    def sha256(self) -> str:
        """Return the checksum of all bytes of the edges."""
        return ",".join(map(sha256_of, self.table.files))


class TableRows:
    """Ranges of rows of an open table."""

    def __init__(self, edges: TableEdges, rows: ParquetRows) -> None:
        self._edges, self._rows = edges, rows
        self._ids = edges.node_ids

    def node_ids(self, start: int, stop: int) -> tuple[Ints, Ints]:
        """Return the source and the target node of each row, -1 where it is no node."""
        source, target = (
            self._nodes(self._rows.read(end, start, stop)) for end in self._edges.ends
        )
        return source, target

    def _nodes(self, ids: pa.ChunkedArray) -> Ints:
        if self._ids is None:
            ids = of_type(ids, pa.int64())
            nodes = filled(ids, -1)
            unknown = (nodes < 0) | (nodes >= len(self._edges.source.frame))
            return np.where(unknown, -1, nodes) if unknown.any() else nodes
        return self._ids.places(ids)

    def column(self, column: SourceColumn, start: int, stop: int) -> NDArray[Any]:
        """Return a column's values, of its dtype."""
        name = self._edges.count if column.name == schema.MULTIPLICITY else column.name
        return numbers(self._rows.read(name or column.name, start, stop), column)


class TableNetwork:
    """Tables of edges and nodes, opened: see :func:`connprops.open_table`."""

    def __init__(
        self,
        edges: Any,
        options: EdgeOptions,
        properties: Sequence[str] | None = None,
        resources: Resources | None = None,
    ) -> None:
        self._options, self._properties = options, properties
        self._opener = TableOpener(resources or Resources())
        self._edges = self._opener.open(edges, "edges", self._wanted, options.where)
        self._nodes = (
            None if options.nodes is None else self._opener.open(options.nodes, "nodes", list)
        )
        self.config = self._edges.path

    @property
    def name(self) -> str:
        """Return a name for people: that of the table of edges."""
        return self._edges.name

    def results_folder(self) -> Path:
        """Return the folder of the results where none is given: named after the table."""
        return Path(f"{self.name}-connprops")

    @property
    def populations(self) -> list[str]:
        """Return the name of the table."""
        return [self.name]

    def population(self, name: str | None = None) -> TableEdges:
        """Return the edges; ``name`` must be that of the table, if any."""
        if name not in (None, self.name):
            raise OptionError.unknown("edge population", name, [self.name])
        return self._population

    def node_sets(self, population: Any) -> dict[str, Ints]:  # noqa: ARG002 - tables have none
        """Return no node sets."""
        return {}

    def _wanted(self, columns: Sequence[str]) -> list[str]:
        """Return the columns of a remote table of edges that are used."""
        options = self._options
        if self._properties is None:
            return list(columns)
        ends = guess.ends(options.source, options.target, columns)
        used = {*self._properties, *ends, options.count, *self._types()}
        return [name for name in columns if name in used or name in (options.where or "")]

    def _types(self) -> list[str | None]:
        options = self._options
        return [of_side or options.type for of_side in (options.source_type, options.target_type)]

    @cached_property
    def _population(self) -> TableEdges:
        options, edges = self._options, self._edges
        columns = edges.schema.names
        ends = guess.ends(options.source, options.target, columns)
        count = guess.count(options.count, columns)
        with ParquetRows(edges.files) as rows:
            if not rows.size:
                raise TableError.of(f"{self.config} has no rows", expected="a row per synapse")
        if self._nodes is None:
            frame, of_types = self._named(ends, columns)
            sides = [frame.rename({"type": n} if n else {}) for n in of_types]
            by = [name or BY_POPULATION for name in of_types]
        else:
            frame, of_types = self._listed(self._nodes, ends), []
            guessed = None if all(self._types()) else guess.type_of_nodes(frame.columns)
            sides, by = [frame, frame], [t or guessed or "mtype" for t in self._types()]
        name = edges.name if self._nodes is None else self._nodes.name
        source, target = (TableNodes(name, *of) for of in zip(sides, by, strict=True))
        taken = {*ends, *of_types, count}
        properties = described(edges, [name for name in columns if name not in taken])
        if count is not None:
            of_count = described(edges, [count])[count]
            nominal = [name for name in options.nominal or () if name in properties]
            properties[schema.MULTIPLICITY] = replace(of_count, name=schema.MULTIPLICITY)
            if options.where is not None:
                labels = {n: SourceColumn(n, "int32", ("",)) for n in nominal}
                checked_predicate(options.where, {**properties, **labels})
            check_counts(edges, count, options.where, nominal)
        made_of = {
            "ends": list(ends), "count": count,
            "nodes": None if self._nodes is None else self._nodes.facts,
        }  # fmt: skip
        ids = frame[ID] if ID in frame.columns else None
        return TableEdges(edges.name, edges, properties, ends, count, source, target, ids, made_of)

    def _listed(self, nodes: TableFiles, ends: tuple[str, str]) -> pl.DataFrame:
        """Return the nodes of a table of nodes."""
        node_id = guess.node_id(self._options.node_id, nodes.schema.names, ends[0])
        check_kinds([*((self._edges, end) for end in ends), (nodes, node_id)])
        frame = listed(nodes, node_id, self._types())
        if self._options.untyped == "keep":
            frame = with_unlisted(frame, self._edges, ends)
        return numbered(frame)

    def _named(
        self, ends: tuple[str, str], columns: Sequence[str]
    ) -> tuple[pl.DataFrame, list[str | None]]:
        """Return the nodes that the edges name, and the columns that have their types."""
        check_kinds([(self._edges, end) for end in ends])
        types = [None if t is None or t in (BY_NODE, BY_POPULATION) else t for t in self._types()]
        for name in filter(None, types):
            guess.known(name, columns, "type", "edges")
        if not any(self._types()):
            types = list(guess.types_of_edges(columns) or types)
        return numbered(named(self._edges, ends, types)), types
