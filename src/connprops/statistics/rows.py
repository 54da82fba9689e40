"""The rows of ranges of groups of connections, chunk by chunk: read from a dataset, or from disk.

Pathways lie in order in each part of a dataset, so ranges of them that are asked for in order need
one pass. Rows of other groups lie anywhere: :func:`put_in_order` gathers those of each range first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from connprops.arrays import Bools, Ints
from connprops.arrays.arrow import filtered, missing, taken, to_arrow, to_numpy
from connprops.arrays.gather import run_rows
from connprops.dataset.dataset import Dataset
from connprops.dataset.selection import Groups
from connprops.schema import N_SYN_PER_CONN

CONNECTIONS_AT_ONCE = 1 << 16
"""Connections of a chunk where memory allows."""

ENDS = ("source_node", "target_node", N_SYN_PER_CONN)
"""Columns of connections that are read with any property."""

_NULL = ".null"

Request = tuple[int, int, tuple[str, ...]]
"""First and last-but-one group of a range, and the properties asked for."""


@dataclass(frozen=True)
class ColumnValues:
    """Values of connections and, for a column that varies, of synapses, in the rows' order."""

    values: NDArray[Any]
    null: Bools | None
    of_synapses: NDArray[Any] | None


@dataclass(frozen=True)
class Rows:
    """Rows of connections, and of their synapses for the properties that vary, in one order."""

    connections: pa.Table
    synapses: pa.Table

    @classmethod
    def concat(cls, chunks: Sequence[Rows]) -> Rows:
        """Return the rows of several chunks."""
        return cls(
            pa.concat_tables([chunk.connections for chunk in chunks]),
            pa.concat_tables([chunk.synapses for chunk in chunks]),
        )

    @property
    def n_syn(self) -> Ints:
        """Return the number of synapses of each connection."""
        return to_numpy(self.connections.column(N_SYN_PER_CONN)).astype(np.int64)

    def column(self, name: str) -> ColumnValues:
        """Return the values of a property."""
        column = self.connections.column(name)
        varies = name in self.synapses.column_names
        of_synapses = to_numpy(self.synapses.column(name)) if varies else None
        return ColumnValues(
            to_numpy(column), missing(column) if column.null_count else None, of_synapses
        )

    def take(self, chosen: Bools) -> Rows:
        """Return the rows of some connections and their synapses."""
        if chosen.all():
            return self
        connections = filtered(self.connections, chosen)
        if not self.synapses.num_columns:
            return Rows(connections, self.synapses)
        return Rows(connections, filtered(self.synapses, np.repeat(chosen, self.n_syn)))

    def sort(self, order: Ints) -> Rows:
        """Return the rows in another order of the connections."""
        connections = taken(self.connections, to_arrow(order))
        if not self.synapses.num_columns:
            return Rows(connections, self.synapses)
        n_syn = self.n_syn
        first = np.cumsum(n_syn) - n_syn
        return Rows(
            connections, taken(self.synapses, to_arrow(run_rows(first[order], n_syn[order])))
        )


class RowSource(Protocol):
    """Something that gives the rows of a range of groups, chunk by chunk."""

    def chunks(self, first: int, stop: int, properties: Sequence[str]) -> Iterator[Rows]:
        """Give the rows of connections whose groups are from ``first`` up to ``stop``."""


class DatasetRows:
    """The rows of a dataset, in chunks of about ``at_once`` connections: whole row groups.

    With several ``threads``, columns are read at once. With ``keep``, files stay open, and what a
    row group holds beyond a range of pathways stays in memory: each row group is read once as long
    as ranges are asked for in order, all with the same properties.
    """

    def __init__(
        self,
        dataset: Dataset,
        groups: Groups,
        *,
        at_once: int = CONNECTIONS_AT_ONCE,
        threads: int = 1,
        keep: bool = False,
    ) -> None:
        self.groups, self.at_once = groups, at_once
        self._threaded = threads > 1
        self._keep = keep
        self._varying = [column.name for column in dataset.columns if column.varies]
        self._files = list(
            zip(dataset.files("connections"), dataset.files("synapses"), strict=True)
        )
        self._kept: dict[int, _Part] = {}
        self._kept_from: tuple[int, tuple[str, ...]] = (0, ())

    def chunks(self, first: int, stop: int, properties: Sequence[str]) -> Iterator[Rows]:
        """Give the rows of connections whose groups are from ``first`` up to ``stop``."""
        names = tuple(name for name in properties if name != N_SYN_PER_CONN)
        if first < self._kept_from[0] or names != self._kept_from[1]:
            self._kept = {}
        self._kept_from = (stop, names)
        for i in range(len(self._files)):
            part = self._kept.pop(i, None) or self._open(i, names)
            for rows in part.chunks(first, stop, self.at_once):
                group = self.groups.of(rows.connections)
                chosen = (group >= first) & (group < stop)
                if chosen.any():
                    yield rows.take(chosen)
            if self._keep:
                self._kept[i] = part

    def _open(self, i: int, names: Sequence[str]) -> _Part:
        of_connections, of_synapses = self._files[i]
        varying = [name for name in self._varying if name in names]
        how = {"in_order": self.groups.is_pathway, "threaded": self._threaded}
        return _Part(
            _File(of_connections, [*ENDS, *names], **how),
            _File(of_synapses, varying, **how) if varying else None,
        )


@dataclass(frozen=True)
class _Part:
    """The files of a part, whose rows are in the same order."""

    connections: _File
    synapses: _File | None

    def chunks(self, first: int, stop: int, at_once: int) -> Iterator[Rows]:
        """Give the rows of a range of pathways; all rows where these are in no order."""
        self.connections.skip(first)
        if self.synapses is not None:
            self.synapses.skip(first)
        for connections in self.connections.until(stop, at_once):
            rows = Rows(connections, pa.table({}))
            if self.synapses is not None:
                rows = Rows(connections, self.synapses.take(int(rows.n_syn.sum())))
            yield rows


class _File:
    """The rows of a Parquet file, which are taken one after the other."""

    def __init__(self, path: Path, names: Sequence[str], *, in_order: bool, threaded: bool) -> None:
        self._file = pq.ParquetFile(path)
        self._names = [*names, "pathway"]
        self._in_order = in_order
        self._threaded = threaded and not in_order  # a few row groups take one thread less time
        metadata = self._file.metadata
        n_groups = metadata.num_row_groups if metadata.num_rows else 0  # of a part may be left none
        row_groups = [metadata.row_group(i) for i in range(n_groups)]
        bounds = [row_group.column(0).statistics for row_group in row_groups]
        self._low = np.array([bound.min for bound in bounds], dtype=np.int64)
        self._high = np.array([bound.max for bound in bounds], dtype=np.int64)
        self._ends = np.cumsum([0, *(row_group.num_rows for row_group in row_groups)])
        self._next = 0
        self._left = self._file.read_row_groups([], self._names)

    def skip(self, first: int) -> None:
        """Go on to the first row of a pathway from ``first`` on."""
        if self._in_order:
            self._left = self._left.slice(self._n_before(first))
            if not self._left.num_rows:
                self._next = max(self._next, int(np.searchsorted(self._high, first)))
                self.read_to(self._next + 1)
                self._left = self._left.slice(self._n_before(first))

    def until(self, stop: int, at_once: int) -> Iterator[pa.Table]:
        """Give the rows of pathways up to ``stop``, chunk by chunk."""
        n = int(np.searchsorted(self._low, stop)) if self._in_order else self._low.size
        while True:
            enough = np.searchsorted(self._ends, self._ends[self._next] + at_once)
            self.read_to(min(int(enough), n))
            rows = self._n_before(stop) if self._in_order else self._left.num_rows
            if rows:
                yield self.take(rows)
            if self._next >= n:
                return

    def take(self, n: int) -> pa.Table:
        """Return the next n rows."""
        wanted = self._ends[self._next] + n - self._left.num_rows
        self.read_to(int(np.searchsorted(self._ends, wanted)))
        table, n_left = self._left, self._left.num_rows - n
        # A slice would keep all of it.
        self._left = taken(table, to_arrow(np.arange(n, table.num_rows)))
        table = taken(table, to_arrow(np.arange(n))) if n < n_left else table.slice(0, n)
        return table.drop_columns(["pathway"])

    def _n_before(self, stop: int) -> int:
        return int(np.searchsorted(to_numpy(self._left.column("pathway")), stop))

    def read_to(self, end: int) -> None:
        """Read row groups up to ``end``."""
        if end > self._next and self._next < self._low.size:
            row_groups = range(self._next, min(end, self._low.size))
            table = self._file.read_row_groups(row_groups, self._names, use_threads=self._threaded)
            self._left = pa.concat_tables([self._left, table]) if self._left.num_rows else table
            self._next = row_groups.stop


class RowsAhead:
    """Rows that are asked for range by range, of which the next is read while one is worked on.

    ``requests`` is what will be asked for, in order. Anything else is read when it is asked for.
    """

    def __init__(self, rows: RowSource, requests: Sequence[Request]) -> None:
        self._rows = rows
        self._following = dict(pairwise(requests))
        self._pool = ThreadPoolExecutor(1)
        self._ahead: dict[Request, Future[list[Rows]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def chunks(self, first: int, stop: int, properties: Sequence[str]) -> Iterator[Rows]:
        """Give the rows of connections whose groups are from ``first`` up to ``stop``."""
        request = (first, stop, tuple(properties))
        ahead = self._ahead.pop(request, None)
        if ahead is None and request not in self._following:
            yield from self._rows.chunks(*request)
            return
        rows = ahead.result() if ahead else list(self._rows.chunks(*request))
        following = self._following.get(request)
        if following is not None:
            self._ahead[following] = self._pool.submit(lambda: list(self._rows.chunks(*following)))
        yield from rows


@dataclass(frozen=True)
class RowsOnDisk:
    """The rows of ranges of groups, each range's together, as one file of each column.

    ``first_row`` and ``dtypes`` are of connections and of synapses; the column ``NAME.null`` tells
    where another is null.
    """

    folder: Path
    at_once: int  # connections of a chunk
    starts: Ints  # first group of each range, in order
    stops: Ints  # the group after its last
    first_row: Mapping[str, Ints]  # of each range, and the number of all rows
    dtypes: Mapping[str, Mapping[str, np.dtype[Any]]]  # of the columns

    def chunks(self, first: int, stop: int, properties: Sequence[str]) -> Iterator[Rows]:
        """Give the rows of one of the ranges."""
        (place,) = np.flatnonzero((self.starts == first) & (self.stops == stop)).tolist()
        names = {*ENDS, *properties}
        connections, synapses = (self.columns(kind, names) for kind in self.dtypes)
        start, end = self.first_row["connections"][place : place + 2].tolist()
        first_synapse = int(self.first_row["synapses"][place])
        for at in range(start, end, self.at_once):
            rows = slice(at, min(at + self.at_once, end))
            of_rows = _table(connections, rows)
            n_synapses = int(to_numpy(of_rows.column(N_SYN_PER_CONN)).sum())
            yield Rows(of_rows, _table(synapses, slice(first_synapse, first_synapse + n_synapses)))
            first_synapse += n_synapses

    def columns(
        self, kind: str, names: set[str], *, new: bool = False
    ) -> dict[str, np.memmap[Any, Any]]:
        """Return some columns of one kind of rows, in place; ``new`` ones may be written to."""
        size = int(self.first_row[kind][-1])
        columns = {}
        for name, dtype in self.dtypes[kind].items():
            if size and name.removesuffix(_NULL) in names:
                path = self.folder / f"{kind}-{name}.bin"
                if new:
                    with path.open("wb") as file:  # a full disk is an error now, a crash later
                        os.posix_fallocate(file.fileno(), 0, size * dtype.itemsize)
                columns[name] = np.memmap(path, dtype, "r+" if new else "r", shape=(size,))
        return columns


def put_in_order(
    rows: DatasetRows, ranges: Sequence[tuple[int, int]], properties: Sequence[str], folder: Path
) -> RowsOnDisk:
    """Gather the rows of several ranges of groups on disk: one pass counts them, one copies them.

    ``ranges`` have the first and last-but-one group each, in order and without overlap. Within a
    range rows stay in their order. The folder is its owner's to remove.
    """
    starts, stops = np.array(ranges, dtype=np.int64).reshape(-1, 2).T
    counts = {kind: np.zeros(starts.size, dtype=np.int64) for kind in ("connections", "synapses")}
    dtypes: dict[str, dict[str, np.dtype[Any]]] = {kind: {} for kind in counts}

    def placed(names: Sequence[str]) -> Iterator[tuple[Rows, Ints]]:
        for chunk in rows.chunks(int(starts[0]), int(stops[-1]), names):
            group = rows.groups.of(chunk.connections)
            place = np.searchsorted(starts, group, side="right") - 1
            inside = (place >= 0) & (group < stops[place])
            yield chunk.take(inside), place[inside]

    for chunk, place in placed(()):
        n_synapses = np.bincount(place, chunk.n_syn, starts.size)
        counts["connections"] += np.bincount(place, minlength=starts.size)
        counts["synapses"] += n_synapses.astype(np.int64)
    first_row = {kind: np.cumsum([0, *n]) for kind, n in counts.items()}
    on_disk = RowsOnDisk(folder, rows.at_once, starts, stops, first_row, dtypes)
    columns: dict[str, dict[str, np.memmap[Any, Any]]] = {}
    following = {kind: first[:-1].copy() for kind, first in first_row.items()}
    for unordered, place in placed(properties):
        order = np.argsort(place, kind="stable")
        chunk = unordered.sort(order)
        nullable = chunk.synapses.column_names
        each = {"connections": np.ones(place.size, dtype=np.int64), "synapses": chunk.n_syn}
        for kind, table in (("connections", chunk.connections), ("synapses", chunk.synapses)):
            arrays = dict(_arrays(table, nullable if kind == "connections" else ()))
            if kind not in columns:
                dtypes[kind].update({name: array.dtype for name, array in arrays.items()})
                columns[kind] = on_disk.columns(kind, {*arrays}, new=True)
            n = np.bincount(place[order], each[kind], starts.size).astype(np.int64)
            filled = n > 0
            to = run_rows(following[kind][filled], n[filled])
            for name, array in arrays.items():
                columns[kind][name][to] = array
            following[kind] += n
    for column in (column for kind in columns.values() for column in kind.values()):
        column.flush()  # other processes read it
    return on_disk


def _table(columns: Mapping[str, NDArray[Any]], rows: slice) -> pa.Table:
    """Return some rows of columns that lie on disk, which are read where they are needed."""
    return pa.table(
        {
            name: to_arrow(column[rows], columns[null][rows] if null in columns else None)
            for name, column in columns.items()
            if not name.endswith(_NULL) and (null := name + _NULL)
        }
    )


def _arrays(table: pa.Table, nullable: Sequence[str] = ()) -> Iterator[tuple[str, NDArray[Any]]]:
    """Give the columns of a table as arrays, and where those are null that may be."""
    for name in table.column_names:
        yield name, to_numpy(table.column(name))
        if name in nullable:
            yield name + _NULL, missing(table.column(name))
