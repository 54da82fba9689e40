"""A copy of an edge file sorted by target and source, where its own order helps nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from connprops import schema
from connprops.arrays.arrow import to_arrow, to_numpy
from connprops.display import Progress
from connprops.resources import Resources
from connprops.sources.source import SourceColumn, SourceEdges

_ROWS_AT_ONCE = 1 << 18


def write_sorted(
    population: SourceEdges,
    columns: Sequence[SourceColumn],
    sorted_file: Path,
    resources: Resources,
    progress: Progress | None = None,
) -> None:
    """Sort all rows of an edge file by target, source and place, on disk where need be."""
    aside = sorted_file.with_suffix(".tmp")
    multiplicity = population.columns.get(schema.MULTIPLICITY)  # where rows stand for several
    columns = [*columns, *([] if multiplicity is None else [multiplicity])]
    query = 'select * from rows order by "@target", "@source", "@edge"'
    write_query(query, population, columns, aside, resources, progress)
    aside.rename(sorted_file)
    if progress:
        progress("sort", population.size, population.size, "rows")


def write_query(
    query: str,
    population: SourceEdges,
    columns: Sequence[SourceColumn],
    file: Path,
    resources: Resources,
    progress: Progress | None = None,
) -> None:
    """Write what a query gives of ``rows``, those of an edge file, as Parquet.

    They have ``@target`` and ``@source``, their ends, ``@edge``, their number, and columns.
    """
    import duckdb

    size = population.size
    arrow_schema = pa.schema(
        [(name, pa.int64()) for name in ("@target", "@source", "@edge")]
        + [(column.name, pa.from_numpy_dtype(np.dtype(column.dtype))) for column in columns]
    )

    def batches() -> Iterator[pa.RecordBatch]:
        with population.reader() as rows:
            for start in range(0, size, _ROWS_AT_ONCE):
                stop = min(start + _ROWS_AT_ONCE, size)
                source, target = rows.node_ids(start, stop)
                arrays = [target, source, np.arange(start, stop, dtype=np.int64)]
                arrays += [rows.column(column, start, stop) for column in columns]
                yield pa.record_batch([to_arrow(a) for a in arrays], schema=arrow_schema)
                if progress:
                    progress("read", stop, size, "rows")
        if progress:
            progress("sort", 0, size, "rows")

    with duckdb.connect(config=resources.duckdb_config()) as connection:
        connection.register("rows", pa.RecordBatchReader.from_batches(arrow_schema, batches()))
        connection.execute(
            f"copy ({query}) to $file (format parquet, compression zstd, row_group_size 122880)",
            {"file": str(file)},
        )


class SortedRows(AbstractContextManager["SortedRows"]):
    """Rows of the sorted copy, read by range."""

    def __init__(self, file: Path) -> None:
        self._file = pq.ParquetFile(file)
        groups = (self._file.metadata.row_group(i) for i in range(self._file.num_row_groups))
        self._ends = np.cumsum([group.num_rows for group in groups])

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def _read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        first, last = np.searchsorted(self._ends, [start, stop - 1], side="right").tolist()
        before = int(self._ends[first - 1]) if first else 0
        table = self._file.read_row_groups(list(range(first, last + 1)), [name], use_threads=False)
        values = to_numpy(table.column(0))
        return values[start - before : stop - before]

    def node_ids(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return source and target ids of a range of rows."""
        return self._read("@source", start, stop), self._read("@target", start, stop)

    def edge_ids(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the rows' places in the edge file."""
        return self._read("@edge", start, stop)

    def column(self, column: SourceColumn, start: int, stop: int) -> NDArray[Any]:
        """Return a column's values in a range of rows."""
        return self._read(column.name, start, stop).astype(np.dtype(column.dtype), copy=False)
