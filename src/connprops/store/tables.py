"""Writing files so that nobody ever sees half of one, and nothing is overwritten unasked.

Tables carry a seal, the checksum of their file, for neither Polars nor DuckDB nor pyarrow notices
a flipped bit in Parquet: they return other values, or the process dies.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from connprops import schema
from connprops.errors import DatasetError, OptionError, OutputError

_SEAL_KEY = "connprops.seal"
_SEAL = b"connprops-sha256:"
_UNSEALED = b"0" * 64
_PARQUET = b"PAR1"

FORMATS = (".csv", ".json", ".parquet")
"""How the names of files end in which tables are given to people."""


def refuse_existing(*paths: str | Path) -> None:
    """Raise :class:`OutputError` where one of the files is there already."""
    for path in paths:
        if os.path.lexists(path):
            raise OutputError.of(
                f"{path} exists already",
                hint="give another name, or overwrite (overwrite=True, --overwrite)",
            )


def leftover_of(path: str | Path) -> Path:
    """Return where a file is written before it takes its place, and stays if a process is killed.

    The name begins with a dot, so that no pattern for the files finds it. It is the same each
    time, so that the next attempt takes away what the last one left.
    """
    target = Path(path)
    return target.with_name(f".{target.name}.partial")


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn what the system has against writing a file into an error that names the file.

    Raises
    ------
    OutputError
        Where the disk is full, the folder read-only, a permission missing, ...
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise OutputError.of(
            f"{path} cannot be written",
            found=str(error),
            hint="make room, or give another place; what is finished is kept" if full else None,
        ) from error


@contextmanager
def locked(path: Path, what: str, *, shared: bool = False, wait: bool = False) -> Iterator[None]:
    """Hold a lock file, made where it is not there; the lock ends with the process at the latest.

    A ``shared`` lock is held beside others of its kind. With ``wait``, whoever holds it is waited
    for.

    Raises
    ------
    OutputError
        Where another process holds it, which writes ``what``.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    kind |= 0 if wait else fcntl.LOCK_NB
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:  # NFS wants reading for a shared lock, writing for one alone
            try:
                fcntl.flock(file, kind)
            except BlockingIOError as error:
                raise OutputError.of(
                    f"Another process is writing {what}", hint="wait for it, or give another place"
                ) from error
            if _is_still(path, file.fileno()):
                yield
                return


def _is_still(path: Path, handle: int) -> bool:
    """Return whether a path leads to an open file: who held its lock before may have moved it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


@contextmanager
def replacing(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path beside a file; put it in the file's place at the end.

    If the block raises, the temporary file is removed and what was there stays.

    Raises
    ------
    OutputError
        Where the file exists and ``overwrite`` is false, another process is writing it, or it
        cannot be written.
    """
    target = Path(path)
    if not overwrite:
        refuse_existing(target)
    aside = leftover_of(target)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(aside, str(target)):
            try:
                aside.write_bytes(b"")  # of what a killed process left, nothing remains
                yield aside
                sync(aside)
                aside.replace(target)
            except BaseException:
                aside.unlink(missing_ok=True)
                raise
        sync(target.parent)


def check_format(path: str | Path, formats: Sequence[str] = FORMATS) -> None:
    """Raise :class:`OptionError` unless a file's name ends in a format that we write."""
    if Path(path).suffix not in formats:
        raise OptionError.unknown("format", Path(path).suffix, formats, hint=f"the name was {path}")


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
    """Write a small table as Parquet, sorted by its keys, with its metadata; return the path.

    The same rows and facts give the same bytes. Enum columns come back as Enums in Polars, and
    as dictionaries or text elsewhere. Snappy and the first version of data pages are what every
    Parquet reader can read.

    Raises
    ------
    DatasetError
        Where the frame is not the table that it is said to be.
    OutputError
        As :func:`replacing`.
    """
    table.check(frame, str(path))
    ordered = frame.select(table.names).sort(table.keys, maintain_order=True)
    arrow = ordered.to_arrow(compat_level=pl.CompatLevel.oldest())
    metadata = {
        **schema.metadata(table, **(facts or {})),
        _SEAL_KEY: (_SEAL + _UNSEALED).decode(),
    }
    stream = io.BytesIO()
    pq.write_table(
        arrow.replace_schema_metadata(metadata),
        stream,
        compression="snappy",
        data_page_version="1.0",
        use_dictionary=_without_floats(arrow.schema),
    )
    with replacing(path, overwrite=overwrite) as aside:
        aside.write_bytes(_sealed(stream.getvalue()))
    return Path(path)


def _without_floats(layout: pa.Schema) -> list[str]:
    """Return the paths of the columns that a dictionary suits: floats hardly repeat."""
    names = []
    for one in layout:
        is_list = pa.types.is_list(one.type) or pa.types.is_large_list(one.type)
        if not pa.types.is_floating(one.type.value_type if is_list else one.type):
            names.append(f"{one.name}.list.element" if is_list else one.name)
    return names


def read_table(path: str | Path, table: schema.Table) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Read a table that :func:`write_table` wrote; return it and the facts of its metadata.

    Raises
    ------
    DatasetError
        Where the file is missing, damaged, foreign, of a later version, or another table.
    """
    found, frame, facts = read_any_table(path)
    if found is not table:
        raise DatasetError.of(
            f"{path} holds another table", found=repr(found.name), expected=repr(table.name)
        )
    return frame, facts


def read_any_table(path: str | Path) -> tuple[schema.Table, pl.DataFrame, dict[str, Any]]:
    """Read a table that :func:`write_table` wrote, whichever it is; return it, rows and facts.

    Raises
    ------
    DatasetError
        As :func:`read_table`.
    """
    file = Path(path)
    if not file.is_file():
        raise DatasetError.of(f"No file {file}", expected="a table of connprops, as Parquet")
    try:
        content = file.read_bytes()
        _check_seal(content, file)  # before a parser meets what could bring it down
        raw = pl.read_parquet_metadata(io.BytesIO(content))
        frame = pl.read_parquet(io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DatasetError.of(f"{file} cannot be read", found=str(error)) from error
    facts = schema.read_metadata(raw, str(file))
    name = str(facts.get("table"))
    if name not in schema.TABLES:
        raise DatasetError.unknown(f"table in {file}", name, schema.TABLES)
    table = schema.TABLES[name]
    table.check(frame, str(file))
    return table, frame.select(table.names), facts


def sync(path: Path) -> None:
    """Make a file's content, or a folder's entries, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sealed(content: bytes) -> bytes:
    """Return a Parquet file with the checksum in the place that its metadata keeps for it."""
    at = content.rindex(_SEAL) + len(_SEAL)
    checksum = hashlib.sha256(content).hexdigest().encode()
    return content[:at] + checksum + content[at + len(_UNSEALED) :]


def _check_seal(content: bytes, file: Path) -> None:
    """Raise unless each byte of a Parquet file is as :func:`_sealed` left it."""
    if len(content) < len(_PARQUET) * 2 or {content[:4], content[-4:]} != {_PARQUET}:
        raise DatasetError.of(
            f"{file} cannot be read as Parquet", hint="another format, or cut short?"
        )
    at = content.rfind(_SEAL) + len(_SEAL)
    if at < len(_SEAL):
        raise DatasetError.of(
            f"{file} was not written by connprops", expected="Parquet with its checksum within"
        )
    found = content[at : at + len(_UNSEALED)]
    unsealed = content[:at] + _UNSEALED + content[at + len(_UNSEALED) :]
    if found != hashlib.sha256(unsealed).hexdigest().encode():
        raise DatasetError.of(
            f"{file} is damaged: it is not what its checksum says",
            hint="take it from a copy, or write it again",
        )
