"""What the columns of a table are to statistics, and their values as numbers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from connprops.arrays.arrow import distinct, filled, names_to_arrow, of_type, places_in, to_numpy
from connprops.errors import TableError
from connprops.schema import MULTIPLICITY
from connprops.sources.labels import few_labels
from connprops.sources.parquet_rows import ParquetRows
from connprops.sources.source import SourceColumn
from connprops.sources.sql_text import quoted
from connprops.tables.files import TableFiles

_TYPES = {"bool": "uint8", "halffloat": "float32", "float": "float32", "double": "float64"}


def described(table: TableFiles, names: Sequence[str]) -> dict[str, SourceColumn]:
    """Return what some columns of a table are, by name.

    Text is read until it has too many distinct values for categories; of numbers, no value is.
    """
    lacking = _with_nulls(table, names)
    columns = {}
    with ParquetRows(table.files) as rows:
        for name in names:
            kind = table.schema.field(name).type
            stored, labels = _stored(kind), None
            if stored == "text" and (labels := _labels(rows, name)) is not None:
                stored = "int32"
            elif stored == "text" and table.is_text:
                _check_not_numbers(table, name)
            columns[name] = SourceColumn(name, stored, labels, partial=name in lacking)
    return columns


def numbers(values: pa.ChunkedArray, column: SourceColumn) -> NDArray[Any]:
    """Return values as the numbers that a column has of them, NaN where there is none."""
    if column.labels is not None:
        values = places_in(of_type(values, pa.string()), names_to_arrow(column.labels))
    elif pa.types.is_decimal(values.type) or pa.types.is_float16(values.type):
        values = of_type(values, pa.float64())
    dtype = np.dtype(column.dtype)
    if values.null_count and dtype.kind == "f":
        return filled(of_type(values, pa.from_numpy_dtype(dtype)), np.nan)
    return to_numpy(values).astype(dtype, copy=False)


def is_text(kind: pa.DataType) -> bool:
    """Return whether values of a type are text, also where each is stored once."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _stored(kind: pa.DataType) -> str:
    """Return what a column of some Arrow type is stored as, by the words of `SourceColumn`."""
    if pa.types.is_integer(kind):
        return str(kind)
    if pa.types.is_decimal(kind):
        return "float64"
    if is_text(kind):
        return "text"
    return _TYPES.get(str(kind), "several" if pa.types.is_nested(kind) else "other")


def _labels(rows: ParquetRows, name: str) -> tuple[str, ...] | None:
    """Return the distinct values of text, in order; None where they are too many."""
    blocks = (distinct(of_type(rows.read(name, *group), pa.string())) for group in rows.groups())
    return few_labels({*block.to_pylist()} - {None} for block in blocks)


def _with_nulls(table: TableFiles, names: Sequence[str]) -> set[str]:
    """Return the columns that have nulls, as the files' footers say, or else a look at them."""
    lacking: set[str] = set()
    untold: set[str] = set()
    for file in table.files:
        footer = pq.read_metadata(file)
        for i in range(footer.num_row_groups):
            group = footer.row_group(i)
            for j in range(group.num_columns):
                column = group.column(j)
                statistics = column.statistics
                if statistics is None or not statistics.has_null_count:
                    untold.add(column.path_in_schema)
                elif statistics.null_count:
                    lacking.add(column.path_in_schema)
    if counted := [name for name in names if name in untold - lacking]:
        counts = ", ".join(f"count(*) - count({quoted(name)})" for name in counted)
        nulls = table.ask(f"select {counts} from rows").row(0)  # noqa: S608 - quoted
        lacking |= {name for name, n in zip(counted, nulls, strict=True) if n}
    return lacking & {*names}


def check_counts(
    table: TableFiles, name: str, where: str | None = None, nominal: Collection[str] = ()
) -> None:
    """Raise unless a column has numbers of synapses, or nothing, in each row that counts.

    ``where`` must have been checked; it names the column as circuits do, too, and ``nominal``
    columns are text there. One that SQL understands only of the numbers that are read is left to
    those who read them.
    """
    import duckdb

    kind = table.schema.field(name).type
    what = str(kind)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        count = quoted(name)
        bad = f"{count} < 1 or {count} >= {1 << 31} or {count} <> floor({count})"
        bad = f"({bad}) and not isnan({count}::double)"
        alias = "" if MULTIPLICITY in table.schema.names else f", {count} as {MULTIPLICITY}"
        texts = ", ".join(f"{quoted(n)}::varchar as {quoted(n)}" for n in nominal)
        texts = f" replace ({texts})" if texts else ""
        query = f"""
            select count(*), any_value({count}) from (select *{texts}{alias} from rows)
            where {bad} and (\n{where or "true"}\n)
        """  # noqa: S608 - quoted, and checked
        try:
            n, value = table.ask(query).row(0)
        except duckdb.BinderException:
            if where is None:
                raise
            return
        if not n:
            return
        what = f"{value} in one of {n:,} such rows"
    raise TableError.of(
        f"{table.path}: column {name!r} must hold numbers of synapses",
        found=what, expected="whole numbers from 1 to 2,147,483,647",
        hint="--where 'nsyns > 0' leaves out rows without any, whatever the name of the column",
    )  # fmt: skip


def _check_not_numbers(table: TableFiles, name: str) -> None:
    """Raise where most values of a text column are numbers, and some are not."""
    query = f"""
        select count(*), count(number), arg_min(value, row) filter (number is null),
            min(row) filter (number is null)
        from (select {quoted(name)} as value, try_cast(value as double) as number,
            row_number() over () as row from rows)
        where value is not null
    """  # noqa: S608 - quoted
    n, n_numbers, other, row = table.ask(query).row(0)
    if 2 * n_numbers > n > n_numbers:
        raise TableError.of(
            f"{table.path}: column {name!r} holds numbers and text",
            found=f"{other!r} in row {row}",
            expected="numbers, or text; empty where there is no value",
        )  # fmt: skip
