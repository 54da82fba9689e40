"""The rows of groups of connections: read from a dataset chunk by chunk, and only what is needed.

Pathways lie together in each part, so that their rows can be read by range. Rows of other groups
lie anywhere: where they are too many for memory, one pass over the dataset first puts the rows of
each bucket of groups into a file of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from connprops.arrays import Ints
from connprops.arrays.arrow import to_arrow, to_numpy
from connprops.arrays.runs import run_rows
from connprops.dataset.dataset import Dataset
from connprops.dataset.selection import Groups
from connprops.schema import N_SYN_PER_CONN

_CONNECTIONS_AT_ONCE, _SYNAPSES_AT_ONCE = 1 << 16, 1 << 18
"""Rows of a batch that is read."""

ENDS = ("source_node", "target_node", N_SYN_PER_CONN)
"""Columns of connections that are read with any property."""


@dataclass(frozen=True)
class Rows:
    """Rows of connections, and of their synapses for the properties that vary, in one order."""

    connections: pa.Table
    synapses: pa.Table

    def take(self, chosen: NDArray[np.bool_]) -> Rows:
        """Return the rows of some connections and their synapses."""
        if chosen.all():
            return self
        connections = self.connections.filter(to_arrow(chosen))
        if not self.synapses.num_columns:
            return Rows(connections, self.synapses)
        n_syn = to_numpy(self.connections.column(N_SYN_PER_CONN))
        return Rows(connections, self.synapses.filter(to_arrow(np.repeat(chosen, n_syn))))

    def sort(self, order: Ints) -> Rows:
        """Return the rows in another order of the connections."""
        connections = self.connections.take(to_arrow(order))
        if not self.synapses.num_columns:
            return Rows(connections, self.synapses)
        n_syn = to_numpy(self.connections.column(N_SYN_PER_CONN)).astype(np.int64)
        first = np.cumsum(n_syn) - n_syn
        return Rows(connections, self.synapses.take(to_arrow(run_rows(first[order], n_syn[order]))))


class RowSource(Protocol):
    """Something that gives the rows of a range of groups, chunk by chunk."""

    def chunks(self, first: int, stop: int, properties: Sequence[str]) -> Iterator[Rows]:
        """Give the rows of connections whose groups are from ``first`` up to ``stop``."""


class DatasetRows:
    """The rows of a dataset, of whose columns several are read at once where threads allow."""

    def __init__(self, dataset: Dataset, groups: Groups, threads: int = 1) -> None:
        self._dataset = dataset
        self._threaded = threads > 1
        self._groups = groups

    def chunks(self, first: int, stop: int, properties: Sequence[str]) -> Iterator[Rows]:
        """Give the rows of connections whose groups are from ``first`` up to ``stop``."""
        wanted = [name for name in properties if name != N_SYN_PER_CONN]
        varying = [c.name for c in self._dataset.columns if c.varies and c.name in wanted]
        names = [*ENDS, *wanted]
        by_range = (first, stop) if self._groups.is_pathway else None
        files = zip(self._dataset.files("connections"), self._dataset.files("synapses"),
                    strict=True)  # fmt: skip
        for of_connections, of_synapses in files:
            with ExitStack() as stack:
                synapses = None
                if varying:
                    file = stack.enter_context(pq.ParquetFile(of_synapses))
                    synapses = _Queue(self._batches(file, varying, _SYNAPSES_AT_ONCE, by_range))
                file = stack.enter_context(pq.ParquetFile(of_connections))
                for connections in self._batches(file, names, _CONNECTIONS_AT_ONCE, by_range):
                    n_syn = to_numpy(connections.column(N_SYN_PER_CONN))
                    own = synapses.take(int(n_syn.sum())) if synapses else pa.table({})
                    group = self._groups.of(connections)
                    chosen = (group >= first) & (group < stop)
                    if chosen.any():
                        yield Rows(connections, own).take(chosen)

    def _batches(
        self,
        file: pq.ParquetFile,
        names: Sequence[str],
        at_once: int,
        by_range: tuple[int, int] | None,
    ) -> Iterator[pa.Table]:
        """Give some columns of a part, of a range of pathways or of all, batch after batch."""
        row_groups = list(range(file.metadata.num_row_groups))
        columns = list(names)
        if by_range is not None:
            first, stop = by_range
            columns.append("pathway")
            statistics = [file.metadata.row_group(i).column(0).statistics for i in row_groups]
            row_groups = [i for i in row_groups
                          if statistics[i].max >= first and statistics[i].min < stop]  # fmt: skip
        batches: Iterator[Any] = file.iter_batches(
            at_once, row_groups=row_groups, columns=columns, use_threads=self._threaded
        )
        for batch in batches:
            table = pa.Table.from_batches([batch])
            if by_range is not None:
                pathway = to_numpy(table.column("pathway"))
                low, high = np.searchsorted(pathway, by_range).tolist()
                table = table.drop_columns(["pathway"])
                few = high - low < table.num_rows // 2  # a slice of them would keep all
                table = table.slice(low, high - low)
                table = table.take(to_arrow(np.arange(high - low))) if few else table
            if table.num_rows:
                yield table


class SpilledRows:
    """The rows of several ranges of groups, each in files of its own.

    Parameters
    ----------
    rows
        Where they come from.
    groups
        How they form groups.
    ranges
        First and last-but-one of each range of groups, in order and without overlap.
    properties
        Those that will be asked for.
    folder
        Where to write; it is its owner's to remove.
    """

    def __init__(
        self,
        rows: RowSource,
        groups: Groups,
        ranges: Sequence[tuple[int, int]],
        properties: Sequence[str],
        folder: Path,
    ) -> None:
        self._folder = folder
        self._starts = np.array([first for first, _ in ranges], dtype=np.int64)
        self._stops = np.array([stop for _, stop in ranges], dtype=np.int64)
        with ExitStack() as stack:
            writers: dict[tuple[int, str], pa.ipc.RecordBatchStreamWriter] = {}
            for chunk in rows.chunks(int(self._starts[0]), int(self._stops[-1]), properties):
                self._spill(chunk, groups, writers, stack)

    def _spill(
        self,
        chunk: Rows,
        groups: Groups,
        writers: dict[tuple[int, str], pa.ipc.RecordBatchStreamWriter],
        stack: ExitStack,
    ) -> None:
        group = groups.of(chunk.connections)
        place = np.searchsorted(self._starts, group, side="right") - 1
        inside = (place >= 0) & (group < self._stops[np.maximum(place, 0)])
        chunk, place = chunk.take(inside), place[inside]
        order = np.argsort(place, kind="stable")
        ordered = chunk.sort(order)
        n_syn = to_numpy(ordered.connections.column(N_SYN_PER_CONN)).astype(np.int64)
        edges = np.searchsorted(place[order], np.arange(self._starts.size + 1))
        of_synapses = np.concatenate([[0], np.cumsum(n_syn)])[edges]
        for i in np.flatnonzero(np.diff(edges)).tolist():
            for kind, table, cut in (
                ("connections", ordered.connections, edges),
                ("synapses", ordered.synapses, of_synapses),
            ):
                if not table.num_columns:
                    continue
                if (i, kind) not in writers:
                    sink = stack.enter_context(pa.OSFile(str(self._file(i, kind)), "wb"))
                    writers[i, kind] = stack.enter_context(pa.ipc.new_stream(sink, table.schema))
                writers[i, kind].write_table(table.slice(cut[i], cut[i + 1] - cut[i]))

    def _file(self, place: int, kind: str) -> Path:
        return self._folder / f"{kind}-{place}.arrow"

    def chunks(self, first: int, stop: int, properties: Sequence[str]) -> Iterator[Rows]:
        """Give the rows of one of the ranges."""
        place = int(np.searchsorted(self._starts, first, side="right")) - 1
        file = self._file(place, "connections")
        if stop > self._stops[place] or not file.is_file():
            return
        names = [*ENDS, *(name for name in properties if name != N_SYN_PER_CONN)]
        with ExitStack() as stack:
            of_synapses = self._file(place, "synapses")
            synapses = None
            if of_synapses.is_file():
                reader = stack.enter_context(pa.ipc.open_stream(
                    stack.enter_context(pa.OSFile(str(of_synapses)))))  # fmt: skip
                varying = [name for name in reader.schema.names if name in names]
                if varying:
                    synapses = _Queue(pa.Table.from_batches([b]).select(varying) for b in reader)
            reader = stack.enter_context(pa.ipc.open_stream(
                stack.enter_context(pa.OSFile(str(file)))))  # fmt: skip
            for batch in reader:
                connections = pa.Table.from_batches([batch]).select(names)
                n_syn = int(to_numpy(connections.column(N_SYN_PER_CONN)).sum())
                yield Rows(connections, synapses.take(n_syn) if synapses else pa.table({}))


class _Queue:
    """Tables that follow each other, taken by numbers of rows."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables = tables
        self._left: list[pa.Table] = []
        self._n_left = 0

    def take(self, n: int) -> pa.Table:
        """Return the next n rows."""
        while self._n_left < n:
            table = next(self._tables)
            self._left.append(table)
            self._n_left += table.num_rows
        table = pa.concat_tables(self._left) if self._left else next(self._tables)
        self._left, self._n_left = [table.slice(n)], table.num_rows - n
        return table.slice(0, n)
