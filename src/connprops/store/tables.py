"""Tables as Parquet files, written in pieces and read as lazy frames.

Each carries a seal, the checksum of their file, for neither Polars nor DuckDB nor pyarrow notices
a flipped bit in Parquet: they return other values, or the process dies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from connprops import schema
from connprops.errors import DatasetError
from connprops.store import sealed
from connprops.store.folder import Folder, output_file

_ROWS_PER_GROUP, _LISTS_PER_GROUP = 1 << 17, 1 << 13
"""Rows of a row group: of numbers and names, and where columns are lists."""

_ORDER = "order"
"""Key of a field's metadata under which the names of a dictionary stand in their order."""


class StoredTable(NamedTuple):
    """A table in a file, which stays as it was when it was opened, whatever replaces it there."""

    table: schema.Table
    rows: pl.LazyFrame
    facts: dict[str, Any]


class TableWriter:
    """Writes a table whose rows come piece by piece, in the order of its keys.

    The file depends on the rows and the facts alone, not on the pieces: row groups have a fixed
    number of rows. Enum columns are dictionaries, whose order a field's metadata keep for our own
    readers: Enums of two files would neither join nor concatenate in Polars, Categoricals do.
    Every field says its unit and what it is. Every reader knows Snappy and data pages 1.0.
    """

    def __init__(
        self, file: Path, table: schema.Table, dtypes: pl.Schema, facts: Mapping[str, Any]
    ) -> None:
        self._file, self._table = file, table
        is_list = any(dtype.base_type() is pl.List for dtype in dtypes.values())
        self._size = _LISTS_PER_GROUP if is_list else _ROWS_PER_GROUP
        self._waiting: list[pl.DataFrame] = []
        metadata = {**schema.metadata(table, **facts), sealed.KEY: sealed.UNSEALED}
        layout = _layout(table, dtypes).with_metadata(metadata)
        self._writer = pq.ParquetWriter(
            file, layout, compression="snappy", data_page_version="1.0",
            use_dictionary=_without_floats(layout),
        )  # fmt: skip

    def write(self, rows: pl.DataFrame) -> None:
        """Take rows, which follow those before."""
        self._waiting.append(rows.select(self._table.names))
        while sum(map(len, self._waiting)) >= self._size:
            waiting = pl.concat(self._waiting)
            self._write_group(waiting[: self._size])
            self._waiting = [waiting[self._size :]]

    def _write_group(self, rows: pl.DataFrame) -> None:
        # Not of each piece: to ask for the type of a column of thousands of names takes a while.
        self._table.check(rows, str(self._file))
        columns = _to_arrow(rows.rechunk()).columns
        group = pa.Table.from_arrays(columns, schema=self._writer.schema)
        self._writer.write_table(group, row_group_size=self._size)

    def close(self) -> None:
        """Write what is left, and seal the file."""
        if any(map(len, self._waiting)):
            self._write_group(pl.concat(self._waiting))
        self._writer.close()
        sealed.seal(self._file)


def write_table(
    frame: pl.DataFrame,
    table: schema.Table,
    path: str | Path,
    *,
    overwrite: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write a table as Parquet, sorted by its keys, with its metadata; return the path."""
    table.check(frame, str(path))
    ordered = table.sorted(frame.select(table.names))
    with output_file(path, overwrite=overwrite) as aside:
        writer = TableWriter(aside, table, ordered.schema, facts or {})
        writer.write(ordered)
        writer.close()
    return Path(path)


def _to_arrow(rows: pl.DataFrame) -> pa.Table:
    return rows.to_arrow(compat_level=pl.CompatLevel.oldest())


def _layout(table: schema.Table, dtypes: pl.Schema) -> pa.Schema:
    """Return the Arrow schema of a file, whose fields say what they are."""
    fields = []
    for field in _to_arrow(pl.DataFrame(schema=dtypes)).schema:
        about, dtype = schema.field_metadata(table, field.name), dtypes[field.name]
        if isinstance(dtype, pl.Enum):
            about[_ORDER] = json.dumps(dtype.categories.to_list())
        fields.append(pa.field(field.name, field.type, field.nullable, about))
    return pa.schema(fields)


def _with_order(rows: pl.LazyFrame, layout: pa.Schema) -> pl.LazyFrame:
    """Return rows with the Enums that they were written with."""
    orders = {f.name: f.metadata[_ORDER.encode()] for f in layout
              if f.metadata and _ORDER.encode() in f.metadata}  # fmt: skip
    return rows.with_columns(
        pl.col(name).cast(pl.Enum(json.loads(order))) for name, order in orders.items()
    )


def _without_floats(layout: pa.Schema) -> list[str]:
    """Return the paths of the columns that a dictionary suits: floats hardly repeat."""
    names = []
    for field in layout:
        is_list = pa.types.is_list(field.type) or pa.types.is_large_list(field.type)
        if not pa.types.is_floating(field.type.value_type if is_list else field.type):
            names.append(f"{field.name}.list.element" if is_list else field.name)
    return names


def read_table(
    path: str | Path, table: schema.Table, folder: Folder | None = None
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Read a table that :func:`write_table` wrote; return it and the facts of its metadata.

    With the ``folder`` that it is in, it is of that generation.
    """
    stored = open_table(path, table, folder)
    return stored.rows.collect(), stored.facts


def open_table(
    path: str | Path, expected: schema.Table | None = None, folder: Folder | None = None
) -> StoredTable:
    """Open a table that :func:`write_table` wrote: its rows are read when they are collected.

    Raises :class:`DatasetError` where it is not the ``expected`` one; by default, any is taken.
    """
    file = Path(path)
    try:
        with file.open("rb") if folder is None else folder.open(file.name) as content:
            # Before a parser meets what could bring it down.
            sha256 = sealed.check_seal(content, file)
            if folder is not None:
                folder.check(file.name, sha256)
            content.seek(0)
            raw = pl.read_parquet_metadata(content)
            content.seek(0)
            layout = pq.read_schema(content)
            content.seek(0)
            # It holds the file: another in its place is none.
            rows = _with_order(pl.scan_parquet(content, glob=False), layout)
            dtypes = rows.collect_schema()
    except (FileNotFoundError, IsADirectoryError) as error:
        wanted = "a table of connprops, as Parquet"
        raise DatasetError.of(f"No file {file}", expected=wanted) from error
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError) as error:
        raise DatasetError.of(f"{file} cannot be read", found=str(error)) from error
    facts = schema.read_metadata(raw, str(file))
    name = str(facts.get("table"))
    if name not in schema.TABLES:
        raise DatasetError.unknown(f"table in {file}", name, schema.TABLES)
    table = schema.TABLES[name]
    if facts["schema_version"] < schema.VERSION:  # which lacks columns that are null in its rows
        layout = table.polars_schema()
        absent = [c.name for c in table.columns if c.nullable and c.name not in dtypes]
        rows = rows.with_columns(pl.lit(None, layout[n]).alias(n) for n in absent)
        dtypes = rows.collect_schema()
    table.check(pl.DataFrame(schema=dtypes), str(file))
    if expected is not None and expected is not table:
        raise DatasetError.of(
            f"{path} holds another table", found=repr(name), expected=repr(expected.name)
        )
    return StoredTable(table, rows.select(table.names), facts)
