"""A copy of an edge file sorted by target and source, where its own order helps nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from connprops import schema
from connprops.arrays import Ints
from connprops.arrays.arrow import to_arrow, to_numpy
from connprops.display import Progress
from connprops.resources import Resources
from connprops.sources.parquet_rows import ParquetRows
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
    several = [*columns, *([] if multiplicity is None else [multiplicity])]
    columns = list({column.name: column for column in several}.values())
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
            f"copy ({query}) to $file (format parquet, compression lz4_raw, row_group_size 122880)",
            {"file": str(file)},
        )


class SortedRows(ParquetRows):
    """Rows of the sorted copy."""

    def __init__(self, file: Path) -> None:
        super().__init__([file])

    def node_ids(self, start: int, stop: int) -> tuple[Ints, Ints]:
        """Return source and target ids of a range of rows."""
        source, target = (to_numpy(self.read(name, start, stop)) for name in ("@source", "@target"))
        return source, target

    def edge_ids(self, start: int, stop: int) -> Ints:
        """Return the rows' places in the edge file."""
        return to_numpy(self.read("@edge", start, stop))

    def column(self, column: SourceColumn, start: int, stop: int) -> NDArray[Any]:
        """Return a column's values in a range of rows."""
        values = to_numpy(self.read(column.name, start, stop))
        return values.astype(np.dtype(column.dtype), copy=False)
