"""The rows of ranges of pathways that follow each other: each row group is read once.

The rows of a part lie in the order of their pathways, so ranges that are asked for in order need
one pass over its two files. What a row group holds beyond a range is kept for the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from connprops.arrays.arrow import to_arrow, to_numpy
from connprops.dataset.dataset import Dataset
from connprops.dataset.selection import Groups
from connprops.schema import N_SYN_PER_CONN
from connprops.statistics.rows import ENDS, DatasetRows, Rows, RowSource

Request = tuple[int, int, tuple[str, ...]]
"""First and last-but-one group of a range, and the properties asked for."""

N_FILES, FILES_AT_MOST = 2, 200
"""Files of a part, and those that are kept open: a process may have a thousand, as a rule."""


class RowsInOrder:
    """Rows of ranges of pathways, asked for in order, all with the same properties.

    Parameters
    ----------
    dataset
        Where they are.
    groups
        Which of them are selected; the groups are the dataset's pathways.
    requests
        What will be asked for: ranges of pathways in order and without overlap, all with the same
        properties. Anything else may be asked for at any time, and is read for itself.
    """

    def __init__(self, dataset: Dataset, groups: Groups, requests: Sequence[Request]) -> None:
        self._groups = groups
        self._others = DatasetRows(dataset, groups)
        self._expected = set(requests)
        self._stack = ExitStack()
        properties = requests[0][2]
        varying = [c.name for c in dataset.columns if c.varies and c.name in properties]
        names = [*ENDS, *(name for name in properties if name != N_SYN_PER_CONN)]
        files = (dataset.files(kind) for kind in ("connections", "synapses"))
        self._parts = [
            (
                self._stack.enter_context(_InOrder(of_connections, names)),
                self._stack.enter_context(_InOrder(of_synapses, varying)) if varying else None,
            )
            for of_connections, of_synapses in zip(*files, strict=True)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def chunks(self, first: int, stop: int, properties: Sequence[str]) -> Iterator[Rows]:
        """Give the rows of connections whose groups are from ``first`` up to ``stop``."""
        if (first, stop, tuple(properties)) not in self._expected:
            yield from self._others.chunks(first, stop, properties)
            return
        for of_connections, of_synapses in self._parts:
            connections = of_connections.take(first, stop)
            synapses = of_synapses.take(first, stop) if of_synapses else pa.table({})
            chosen = self._groups.of(connections) >= 0
            if chosen.any():
                yield Rows(connections, synapses).take(chosen)


class _InOrder:
    """The rows of one file, which are taken in the order of their pathways."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._file = pq.ParquetFile(path)
        self._names = [*names, "pathway"]
        metadata = self._file.metadata
        bounds = [
            metadata.row_group(i).column(0).statistics for i in range(metadata.num_row_groups)
        ]
        self._low = np.array([bound.min for bound in bounds], dtype=np.int64)
        self._high = np.array([bound.max for bound in bounds], dtype=np.int64)
        self._next = 0
        self._left = self._read(0, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def take(self, first: int, stop: int) -> pa.Table:
        """Return the rows of pathways from ``first`` up to ``stop``; those before are lost."""
        begin = max(self._next, int(np.searchsorted(self._high, first)))
        end = max(begin, int(np.searchsorted(self._low, stop)))
        table = pa.concat_tables([self._left, self._read(begin, end)])
        self._next = end
        low, high = np.searchsorted(to_numpy(table.column("pathway")), (first, stop)).tolist()
        rows = np.arange(high, table.num_rows)
        self._left = table.take(to_arrow(rows))  # a slice of them would keep all
        return table.slice(low, high - low).drop_columns(["pathway"])

    def _read(self, begin: int, end: int) -> pa.Table:
        # More threads would take longer to wake than one takes to read a few row groups.
        return self._file.read_row_groups(range(begin, end), self._names, use_threads=False)


class RowsAhead:
    """Rows that are asked for range by range, of which the next is read while one is worked on.

    Parameters
    ----------
    rows
        Where they come from.
    requests
        What will be asked for, in order. Anything else is read as it is asked for.
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
        found = ahead.result() if ahead else self._rows.chunks(*request)
        following = self._following.get(request)
        if following is None:
            yield from found
            return
        found = list(found)
        self._ahead[following] = self._pool.submit(lambda: list(self._rows.chunks(*following)))
        yield from found
