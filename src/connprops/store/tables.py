"""Tables as Parquet files, written in pieces and read as lazy frames.

Each carries a seal, the checksum of their file, for neither Polars nor DuckDB nor pyarrow notices
a flipped bit in Parquet: they return other values, or the process dies.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from connprops import schema
from connprops.errors import DatasetError
from connprops.store.writing import replacing

_SEAL_KEY = "connprops.seal"
_SEAL = b"connprops-sha256:"
_UNSEALED = b"0" * 64
_PARQUET = b"PAR1"
_FOOTER = 8
"""Bytes at the end of a Parquet file: the length of its metadata, and its name."""

_PIECE = 1 << 20

_ROWS_PER_GROUP, _LISTS_PER_GROUP = 1 << 17, 1 << 13
"""Rows of a row group: of numbers and names, and where columns are lists."""


class StoredTable(NamedTuple):
    """A table in a file, which stays as it was when it was opened, whatever replaces it there."""

    table: schema.Table
    rows: pl.LazyFrame
    facts: dict[str, Any]


class TableWriter:
    """Writes a table whose rows come piece by piece, in the order of its keys.

    The file depends on the rows and the facts alone, not on the pieces: row groups have a fixed
    number of rows. Enum columns come back as Enums in Polars, and as dictionaries or text
    elsewhere. Every Parquet reader knows Snappy and data pages 1.0.
    """

    def __init__(
        self, file: Path, table: schema.Table, dtypes: pl.Schema, facts: Mapping[str, Any]
    ) -> None:
        self._file, self._table = file, table
        is_list = any(dtype.base_type() is pl.List for dtype in dtypes.values())
        self._size = _LISTS_PER_GROUP if is_list else _ROWS_PER_GROUP
        self._waiting: list[pl.DataFrame] = []
        metadata = {
            **schema.metadata(table, **facts),
            _SEAL_KEY: (_SEAL + _UNSEALED).decode(),
        }
        layout = _to_arrow(pl.DataFrame(schema=dtypes)).schema.with_metadata(metadata)
        self._writer = pq.ParquetWriter(
            file,
            layout,
            compression="snappy",
            data_page_version="1.0",
            use_dictionary=_without_floats(layout),
        )

    def write(self, rows: pl.DataFrame) -> None:
        """Take rows, which follow those before."""
        self._table.check(rows, str(self._file))
        self._waiting.append(rows.select(self._table.names))
        while sum(map(len, self._waiting)) >= self._size:
            waiting = pl.concat(self._waiting)
            self._write_group(waiting[: self._size])
            self._waiting = [waiting[self._size :]]

    def _write_group(self, rows: pl.DataFrame) -> None:
        self._writer.write_table(_to_arrow(rows.rechunk()), row_group_size=self._size)

    def close(self) -> None:
        """Write what is left, and seal the file."""
        if any(map(len, self._waiting)):
            self._write_group(pl.concat(self._waiting))
        self._writer.close()
        with self._file.open("r+b") as content:
            content.seek(-_FOOTER, os.SEEK_END)
            length = int.from_bytes(content.read(4), "little")
            start = content.seek(-_FOOTER - length, os.SEEK_END)
            at = start + content.read(length).rindex(_SEAL) + len(_SEAL)
            checksum = _checksum(content, at)
            content.seek(at)
            content.write(checksum)


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
    ordered = frame.select(table.names).sort(table.keys, maintain_order=True)
    return write_pieces([ordered], ordered.schema, table, path, overwrite=overwrite, facts=facts)


def write_pieces(
    pieces: Iterable[pl.DataFrame],
    dtypes: pl.Schema,
    table: schema.Table,
    path: str | Path,
    *,
    overwrite: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write a table whose rows come piece by piece, in the order of its keys; return the path."""
    with replacing(path, overwrite=overwrite) as aside:
        writer = TableWriter(aside, table, dtypes, facts or {})
        for piece in pieces:
            writer.write(piece)
        writer.close()
    return Path(path)


def _to_arrow(rows: pl.DataFrame) -> pa.Table:
    return rows.to_arrow(compat_level=pl.CompatLevel.oldest())


def _without_floats(layout: pa.Schema) -> list[str]:
    """Return the paths of the columns that a dictionary suits: floats hardly repeat."""
    names = []
    for field in layout:
        is_list = pa.types.is_list(field.type) or pa.types.is_large_list(field.type)
        if not pa.types.is_floating(field.type.value_type if is_list else field.type):
            names.append(f"{field.name}.list.element" if is_list else field.name)
    return names


def read_table(path: str | Path, table: schema.Table) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Read a table that :func:`write_table` wrote; return it and the facts of its metadata."""
    stored = open_table(path, table)
    return stored.rows.collect(), stored.facts


def read_any_table(path: str | Path) -> tuple[schema.Table, pl.DataFrame, dict[str, Any]]:
    """Read a table that :func:`write_table` wrote, whichever it is; return it, rows and facts."""
    table, rows, facts = _open(path)
    return table, rows.collect(), facts


def open_table(path: str | Path, table: schema.Table) -> StoredTable:
    """Open a table that was written as ``table``: its rows are read when they are collected."""
    stored = _open(path)
    if stored.table is not table:
        raise DatasetError.of(
            f"{path} holds another table", found=repr(stored.table.name), expected=repr(table.name)
        )
    return stored


def _open(path: str | Path) -> StoredTable:
    file = Path(path)
    if not file.is_file():
        raise DatasetError.of(f"No file {file}", expected="a table of connprops, as Parquet")
    try:
        with file.open("rb") as content:
            _check_seal(content, file)  # before a parser meets what could bring it down
            raw = pl.read_parquet_metadata(content)
            content.seek(0)
            rows = pl.scan_parquet(content, glob=False)  # holds it: another in its place is none
            dtypes = rows.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
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
    return StoredTable(table, rows.select(table.names), facts)


def _checksum(content: BinaryIO, seal: int) -> bytes:
    """Return the SHA-256 of a file in which the checksum at ``seal`` is not written yet."""
    digest, stop = hashlib.sha256(), seal + len(_UNSEALED)
    content.seek(0)
    at = 0
    while piece := content.read(_PIECE):
        first, last = (min(max(edge - at, 0), len(piece)) for edge in (seal, stop))
        digest.update(piece[:first] + _UNSEALED[: last - first] + piece[last:])
        at += len(piece)
    return digest.hexdigest().encode()


def _check_seal(content: BinaryIO, file: Path) -> None:
    """Raise unless each byte of a Parquet file is as :meth:`TableWriter.close` left it."""
    size = content.seek(0, os.SEEK_END)
    content.seek(0)
    head = content.read(len(_PARQUET))
    content.seek(max(size - _FOOTER, 0))
    tail = content.read(_FOOTER)
    length = int.from_bytes(tail[:4], "little")
    if size < len(_PARQUET) + _FOOTER + length or {head, tail[4:]} != {_PARQUET}:
        raise DatasetError.of(
            f"{file} cannot be read as Parquet", hint="another format, or cut short?"
        )
    start = content.seek(size - _FOOTER - length)
    metadata = content.read(length)
    at = metadata.rfind(_SEAL) + len(_SEAL)
    if at < len(_SEAL):
        raise DatasetError.of(
            f"{file} was not written by connprops", expected="Parquet with its checksum within"
        )
    if metadata[at : at + len(_UNSEALED)] != _checksum(content, start + at):
        raise DatasetError.of(
            f"{file} is damaged: it is not what its checksum says",
            hint="take it from a copy, or write it again",
        )
    content.seek(0)
