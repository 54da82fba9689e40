"""Connections to be drawn, and the lists of them that come in any form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from connprops.arrays import Bools, Ints
from connprops.arrays.arrow import to_numpy
from connprops.draw.lookup import SIDES, TypeCodes
from connprops.errors import DatasetError, OptionError, listing
from connprops.schema import N_SYN_PER_CONN

ConnectionStream: TypeAlias = pl.LazyFrame | pa.Table | pa.RecordBatchReader | str | Path
ConnectionTable: TypeAlias = pl.DataFrame | ConnectionStream
"""A list of connections; a path is that of a Parquet file."""


@dataclass(frozen=True)
class ConnectionBatch:
    """Connections, or stretches of the synapses of connections; all arrays are (n,).

    ``own_pathway`` is the pathway that a connection is of, ``pathway`` the one whose distributions
    it is drawn from, -1 where it is skipped. ``n_syn`` is the number of synapses and ``first`` the
    place of the first within its connection.
    """

    source: Ints
    target: Ints
    own_pathway: Ints
    pathway: Ints
    n_syn: Ints
    first: Ints

    def take(self, rows: slice | Bools) -> ConnectionBatch:
        """Return the connections of some rows."""
        return ConnectionBatch(**{name: values[rows] for name, values in vars(self).items()})

    def drawn(self) -> ConnectionBatch:
        """Return the connections that are not skipped."""
        is_drawn = self.pathway >= 0
        return self if is_drawn.all() else self.take(is_drawn)

    def pieces(self, synapses: int) -> Iterator[ConnectionBatch]:
        """Yield connections a number of synapses at a time; large ones come in several pieces."""
        ends = np.cumsum(self.n_syn)
        start = 0
        while start < ends.size:
            before = int(ends[start - 1]) if start else 0
            stop = int(np.searchsorted(ends, before + synapses, side="right"))
            if stop > start:
                yield self.take(slice(start, stop))
                start = stop
                continue
            large, n = self.take(slice(start, start + 1)), int(self.n_syn[start])
            for first in range(0, n, synapses):
                n_syn = np.array([min(synapses, n - first)])
                yield replace(large, n_syn=n_syn, first=large.first + first)
            start += 1


def read_connections(table: ConnectionTable, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield a list of connections in batches of so many rows, in its order."""
    for batch in _batches(table, rows):
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)


def _batches(table: ConnectionTable, rows: int) -> Iterator[pa.RecordBatch]:
    match table:
        case pl.DataFrame():
            yield from table.to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches()
        case pl.LazyFrame():
            for frame in table.collect_batches(maintain_order=True, lazy=True):
                yield from _batches(frame, rows)
        case pa.Table():
            yield from table.to_batches()
        case pa.RecordBatchReader():
            yield from table
        case _:
            yield from _of_file(Path(table), rows)


def _of_file(file: Path, rows: int) -> Iterator[pa.RecordBatch]:
    if not file.is_file():
        raise DatasetError.of(f"No file {file}", expected="a list of connections as Parquet")
    used = {N_SYN_PER_CONN, *(f"{side}_{what}" for side in SIDES for what in ("node", "type"))}
    try:
        with pq.ParquetFile(file) as parquet:
            columns = [name for name in parquet.schema_arrow.names if name in used]
            yield from parquet.iter_batches(batch_size=rows, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError.of(
            f"{file} cannot be read as Parquet", found=str(error), hint="cut short?"
        ) from error


def whole_numbers(batch: pa.RecordBatch, name: str, lowest: int) -> Ints:
    """Return a column of whole numbers that are at least ``lowest``."""
    if name not in batch.schema.names:
        raise OptionError.of(
            f"The connections lack the column {name!r}", found=listing(batch.schema.names),
            expected="source_node, target_node; optional are source_type, target_type, "
            f"{N_SYN_PER_CONN}",
        )  # fmt: skip
    values = batch.column(name)
    expected = "a whole number each"
    if values.null_count:
        fault = f"{values.null_count} nulls"
    elif not pa.types.is_integer(values.type):
        fault = str(values.type)
    else:
        numbers = _numbers(values)
        if numbers.min(initial=lowest) >= lowest:
            return numbers
        fault, expected = str(numbers.min()), f"at least {lowest}"
    raise OptionError.of(f"Column {name!r} of the connections", found=fault, expected=expected)


def types_in(batch: pa.RecordBatch, side: str) -> TypeCodes | None:
    """Return the types that a list of connections names; None where it names none."""
    name = f"{side}_type"
    if name not in batch.schema.names:
        return None
    values: Any = batch.column(name)
    if values.null_count:
        raise OptionError.of(f"Column {name!r} of the connections has nulls")
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    return TypeCodes(_numbers(values.indices), list(map(str, values.dictionary.to_pylist())))


def _numbers(values: pa.Array) -> Ints:
    return to_numpy(values).astype(np.int64, copy=False)


def as_pairs(source: Ints, target: Ints) -> NDArray[np.uint64]:
    """Return both nodes of each connection in one number."""
    for ids in (source, target):
        if ids.size and ids.max() >> 32:
            raise OptionError.of(
                "A node id of the connections", found=str(ids.max()), expected="less than 2^32"
            )
    return (target.astype(np.uint64) << np.uint64(32)) | source.astype(np.uint64)


def check_distinct(lists: Sequence[NDArray[np.uint64]]) -> None:
    """Refuse connections, as pairs, of which one comes twice."""
    pairs = np.concatenate([np.empty(0, np.uint64), *lists])
    if not (pairs[1:] > pairs[:-1]).all():  # most lists are sorted by target and source
        pairs.sort()
    twice = np.flatnonzero(pairs[1:] == pairs[:-1])
    if twice.size:
        target, source = divmod(int(pairs[twice[0]]), 1 << 32)
        raise OptionError.of(
            "A connection is listed several times",
            found=f"source_node {source}, target_node {target}",
            expected=f"each once, with its number of synapses in {N_SYN_PER_CONN}",
        )
