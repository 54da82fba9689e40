"""Writing files so that nobody ever sees half of one, and nothing is overwritten unasked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from connprops import schema
from connprops.errors import DatasetError, OutputError


@contextmanager
def replacing(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path beside a file; put it in the file's place at the end.

    The temporary name begins with a dot, so that no pattern for the files finds it. If the block
    raises, the temporary file is removed and what was there stays.

    Raises
    ------
    OutputError
        Where the file exists and ``overwrite`` is false, or it cannot be written.
    """
    target = Path(path)
    if target.exists() and not overwrite:
        raise OutputError.of(
            f"{target} exists already",
            hint="give another name, or overwrite (overwrite=True, --overwrite)",
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise OutputError.of(f"{target} cannot be written", found=str(error)) from error
    aside = Path(name)
    try:
        yield aside
        _sync(aside)
        aside.chmod(0o666 & ~_umask())
        aside.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise OutputError.of(f"{target} cannot be written", found=str(error)) from error
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: str | Path, text: str, *, overwrite: bool = False) -> Path:
    """Write text as UTF-8, whole or not at all; return the path."""
    with replacing(path, overwrite=overwrite) as aside:
        aside.write_text(text, encoding="utf-8")
    return Path(path)


def write_table(
    frame: pl.DataFrame,
    table: schema.Table,
    path: str | Path,
    *,
    overwrite: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write a small table as Parquet, with its metadata; return the path.

    Enum columns come back as Enums in Polars, and as dictionaries or text elsewhere. Snappy and
    the first version of data pages are what every Parquet reader can read.

    Raises
    ------
    DatasetError
        Where the frame is not the table that it is said to be.
    OutputError
        As :func:`replacing`.
    """
    table.check(frame, str(path))
    arrow = frame.select(table.names).to_arrow(compat_level=pl.CompatLevel.oldest())
    metadata = {**(arrow.schema.metadata or {}), **schema.metadata(table, **(facts or {}))}
    with replacing(path, overwrite=overwrite) as aside:
        pq.write_table(
            arrow.replace_schema_metadata(metadata),
            aside,
            compression="snappy",
            data_page_version="1.0",
        )
    return Path(path)


def read_table(path: str | Path, table: schema.Table) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Read a table that :func:`write_table` wrote; return it and the facts of its metadata.

    Raises
    ------
    DatasetError
        Where the file is missing, damaged, foreign, of a later version, or another table.
    """
    file = Path(path)
    if not file.is_file():
        raise DatasetError.of(f"No file {file}", expected=f"the table {table.name!r} as Parquet")
    try:
        raw = pl.read_parquet_metadata(file)
        frame = pl.read_parquet(file)
    except (pl.exceptions.PolarsError, OSError, pa.ArrowException) as error:
        raise DatasetError.of(
            f"{file} cannot be read as Parquet", found=str(error), hint="damaged, or cut short?"
        ) from error
    facts = schema.read_metadata(raw, str(file))
    if facts.get("table") != table.name:
        raise DatasetError.of(
            f"{file} holds another table",
            found=repr(facts.get("table")),
            expected=repr(table.name),
        )
    table.check(frame, str(file))
    return frame.select(table.names), facts


def _sync(path: Path) -> None:
    """Make a file's content, or a folder's entries, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    """Return the process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
