"""Ranges of rows of Parquet files, column by column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


class ParquetRows:
    """Rows of Parquet files, one after the other, read by range."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = [pq.ParquetFile(file) for file in files]
        self._groups = [(f, i) for f in self._files for i in range(f.num_row_groups)]
        sizes = [file.metadata.row_group(i).num_rows for file, i in self._groups]
        self._ends = np.cumsum(sizes, dtype=np.int64)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for file in self._files:
            file.close()

    @property
    def size(self) -> int:
        """Return the number of rows."""
        return int(self._ends[-1]) if self._ends.size else 0

    @property
    def rows_together(self) -> int:
        """Return the number of rows of a row group, of the first as of most."""
        return int(self._ends[0]) if self._ends.size else 1

    def groups(self) -> Iterator[tuple[int, int]]:
        """Yield the range of rows of each row group."""
        yield from pairwise([0, *self._ends.tolist()])

    def read(self, name: str, start: int, stop: int) -> pa.ChunkedArray:
        """Return the values of a column in a range of rows."""
        if stop <= start:
            return self._files[0].schema_arrow.empty_table().column(name)
        first, last = np.searchsorted(self._ends, [start, stop - 1], side="right").tolist()
        before = int(self._ends[first - 1]) if first else 0
        chunks, left = [], stop - before
        for file, groups in groupby(self._groups[first : last + 1], key=itemgetter(0)):
            # In one array, where there is room for it, and of the last row group no more than that.
            of_file = [i for _, i in groups]
            for batch in file.iter_batches(left, of_file, [name], use_threads=False):
                chunks.append(batch.column(0))
                left -= len(batch)
                if not left:
                    break
        return pa.chunked_array(chunks).slice(start - before, stop - start)
