"""Small tables as Parquet files.

Each carries a seal, the checksum of their file, for neither Polars nor DuckDB nor pyarrow notices
a flipped bit in Parquet: they return other values, or the process dies.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    as dictionaries or text elsewhere. Every Parquet reader knows Snappy and data pages 1.0.
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
    for field in layout:
        is_list = pa.types.is_list(field.type) or pa.types.is_large_list(field.type)
        if not pa.types.is_floating(field.type.value_type if is_list else field.type):
            names.append(f"{field.name}.list.element" if is_list else field.name)
    return names


def read_table(path: str | Path, table: schema.Table) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Read a table that :func:`write_table` wrote; return it and the facts of its metadata."""
    stored, frame, facts = read_any_table(path)
    if stored is not table:
        raise DatasetError.of(
            f"{path} holds another table", found=repr(stored.name), expected=repr(table.name)
        )
    return frame, facts


def read_any_table(path: str | Path) -> tuple[schema.Table, pl.DataFrame, dict[str, Any]]:
    """Read a table that :func:`write_table` wrote, whichever it is; return it, rows and facts."""
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
    seal = content[at : at + len(_UNSEALED)]
    unsealed = content[:at] + _UNSEALED + content[at + len(_UNSEALED) :]
    if seal != hashlib.sha256(unsealed).hexdigest().encode():
        raise DatasetError.of(
            f"{file} is damaged: it is not what its checksum says",
            hint="take it from a copy, or write it again",
        )
