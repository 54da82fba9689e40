"""Group-bys of one's own: the statistics as Polars expressions over any lazy frame and any keys."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import polars as pl

from connprops import schema
from connprops.arrays.sorted_samples import QUANTILES
from connprops.errors import OptionError, listing
from connprops.schema import N_SYN_PER_CONN

_ENDS = ("source_node", "target_node")


def finite(name: str) -> pl.Expr:
    """Return the finite values of a column as float64, null where it has none."""
    value = pl.col(name).cast(pl.Float64)
    return pl.when(value.is_finite()).then(value)


def moments(value: pl.Expr) -> dict[str, pl.Expr]:
    """Return n, mean, std (ddof 0), extremes, skewness, kurtosis and moments of the logarithm.

    ``value`` holds finite numbers and nulls, as :func:`finite` gives them; nulls are left out.
    """
    varies, positive = value.min() < value.max(), value.min() > 0
    logarithm = pl.when(value > 0).then(value.log())
    largest = value.abs().max().clip(lower_bound=sys.float_info.min)
    unit = value / largest  # whose powers neither vanish nor overflow
    return {
        "n": value.count().cast(pl.Int64),
        "mean": value.mean(),
        "std": pl.when(varies).then(unit.std(ddof=0) * largest).when(value.count() > 0).then(0.0),
        "min": value.min(),
        "max": value.max(),
        "skewness": pl.when(varies).then(unit.skew().fill_nan(None)),
        "kurtosis": pl.when(varies).then(unit.kurtosis().fill_nan(None)),
        "mean_log": pl.when(positive).then(logarithm.mean()),
        "std_log": pl.when(positive).then(logarithm.std(ddof=0)),
    }


def quantiles(value: pl.Expr, at: Mapping[str, float] | None = None) -> dict[str, pl.Expr]:
    """Return quantiles with linear interpolation, as numpy's; by default q05 to q95."""
    levels = QUANTILES if at is None else at
    return {name: value.quantile(q, "linear") for name, q in levels.items()}


def distinct_values(value: pl.Expr) -> pl.Expr:
    """Return a group's distinct values with their counts, sorted, as a list of structs."""
    return value.drop_nulls().sort().value_counts(sort=False, name="count").sort()


def histogram(value: pl.Expr, edges: Sequence[float]) -> pl.Expr:
    """Return how many values lie in each bin between edges, as numpy counts them: a list.

    A left edge belongs to its bin, and the last bin has its right edge too.
    """
    if len(edges) <= 1 or any(a >= b for a, b in pairwise(edges)):
        raise OptionError.of(
            "These are no edges of bins", found=str([*edges]), expected="two or more, increasing"
        )
    below = [*((value < edge) for edge in edges[1:-1]), value <= edges[-1]]
    at_least = [value >= edge for edge in edges[:-1]]
    return pl.concat_list((a & b).sum() for a, b in zip(at_least, below, strict=True))


def describe(
    frame: Any,
    by: str | Sequence[str],
    properties: Sequence[str] | None = None,
    *,
    connection: Sequence[str] | None = None,
) -> pl.LazyFrame:
    """Return the statistics of any groups of any table of synapses, as a lazy query.

    The same columns as :func:`connprops.extract` gives, as Polars expressions: to be used where
    the groups are your own, and memory holds them. ``extract`` is exact in bounded memory; on
    clean data both agree to 1e-12.

    Parameters
    ----------
    frame
        One row per synapse: a lazy or eager Polars frame, or any object that speaks Arrow
        (pandas, pyarrow, DuckDB relations).
    by
        Columns that make the groups.
    properties
        Numeric columns to describe; by default all that are neither keys nor a dataset's own
        (``pathway``, ``edge_id`` and the like).
    connection
        Columns that name a synapse's connection; by default ``source_node`` and ``target_node``
        where the frame has both. A group in which each connection has one value counts it once
        per connection, else once per synapse; ``n_syn_per_conn`` is described too. With ``()``
        each row is a value.

    Returns
    -------
    polars.LazyFrame
        One row per group and property: the columns of ``by``, ``property``, and those of
        :data:`connprops.schema.STATISTICS`, whose ``shared_within``, ``n_multi`` and
        ``connection_*`` need connections, and are left out without. No order is promised.

    Raises
    ------
    OptionError
        Where a column is not in the frame, is no number, or is named twice.

    Examples
    --------
    >>> table = cp.describe(ds.synapses, by=["source_type", "target_type"])
    >>> table.filter(pl.col("property") == "conductance").collect()
    """
    rows, keys, connection, names = opened(frame, by, properties, connection)
    ends = {f"end {i}": pl.col(name) for i, name in enumerate(connection)}
    rows = rows.select(*keys, **ends, **{name: finite(name) for name in names})
    if connection:
        return _with_sharing(rows, keys, [*ends], names)
    return _long(rows, keys, {n: _of(pl.col(n)) | {"n_null": _n_null(n)} for n in names})


def opened(
    frame: Any,
    by: str | Sequence[str],
    properties: Sequence[str] | None,
    connection: Sequence[str] | None,
) -> tuple[pl.LazyFrame, list[str], list[str], list[str]]:
    """Return a table as a lazy frame, and its keys, connection and properties, checked."""
    rows = _lazy(frame)
    columns = rows.collect_schema()
    keys = [by] if isinstance(by, str) else [*by]
    if not keys:
        raise OptionError.of("by names no column", expected=f"some of {listing(columns)}")
    if connection is None:
        connection = _ENDS if {*_ENDS} <= {*columns} else ()
    return rows, keys, [*connection], _properties(columns, keys, connection, properties)


def _lazy(frame: Any) -> pl.LazyFrame:
    if isinstance(frame, pl.LazyFrame):
        return frame
    if isinstance(frame, pl.DataFrame):
        return frame.lazy()
    if hasattr(frame, "__arrow_c_stream__"):
        return pl.DataFrame(frame).lazy()
    raise OptionError.of(
        "This is no table",
        found=type(frame).__name__,
        expected="a Polars frame, or an object with the Arrow stream interface",
    )


def _properties(
    columns: pl.Schema, keys: Sequence[str], connection: Iterable[str], asked: Sequence[str] | None
) -> list[str]:
    """Return the columns to describe; check those and the keys."""
    for name in (*keys, *connection, *(asked or ())):
        if name not in columns:
            raise OptionError.unknown("column", name, columns)
    taken = {*keys, *connection, N_SYN_PER_CONN}
    numeric = [name for name, dtype in columns.items() if dtype.is_numeric()]
    own = [name for name in numeric if name not in taken | schema.RESERVED]
    names = own if asked is None else [*asked]
    for name in names:
        if name not in numeric or name in taken or names.count(name) > 1:
            raise OptionError.of(
                f"Column {name!r} cannot be described",
                found=f"{columns[name]}, {'a key' if name in taken else 'no key'}",
                expected="a column of numbers that is no key, once",
            )
    return names


def _of(value: pl.Expr) -> dict[str, pl.Expr]:
    distinct = value.drop_nulls().n_unique().cast(pl.Int64)
    return moments(value) | quantiles(value) | {"n_unique": distinct}


def _n_null(name: str) -> pl.Expr:
    return pl.col(name).null_count().cast(pl.Int64)


def _long(
    rows: pl.LazyFrame, keys: Sequence[str], of: Mapping[str, Mapping[str, pl.Expr]]
) -> pl.LazyFrame:
    """Aggregate rows; return one row per group and property, in the order of the schema."""
    groups = rows.group_by(keys).agg(
        pl.struct([value.alias(column) for column, value in values.items()]).alias(name)
        for name, values in of.items()
    )
    long = groups.unpivot(
        on=[*of], index=keys, variable_name="property", value_name="statistics"
    ).unnest("statistics")
    columns = [name for name in long.collect_schema() if name not in (*keys, "property")]
    known = [name for name in schema.STATISTICS.names if name in columns]
    return long.select(*keys, "property", *known, *(n for n in columns if n not in known))


def _with_sharing(
    rows: pl.LazyFrame, keys: Sequence[str], ends: Sequence[str], names: Sequence[str]
) -> pl.LazyFrame:
    """Describe values per connection where each has a single one, else per synapse."""

    def of_connection(name: str) -> pl.Expr:
        value = pl.col(name)
        shares = (value.count() == 0) | ((value.null_count() == 0) & (value.min() == value.max()))
        mean, n_null = value.mean(), _n_null(name)
        return pl.struct(value=value.min(), mean=mean, n_null=n_null, shares=shares).alias(name)

    n_synapses = pl.len().cast(pl.Float64).alias(N_SYN_PER_CONN)
    connections = rows.group_by(*keys, *ends).agg(n_synapses, *map(of_connection, names))
    n_syn = pl.col(N_SYN_PER_CONN)
    n_multi = {"n_multi": (n_syn > 1).sum().cast(pl.Int64)}
    of_each = {n: _of_connections(n) | n_multi for n in names}
    nothing_null = {"n_null": pl.lit(0, dtype=pl.Int64), "shared_within": pl.lit(None, pl.Boolean)}
    means = {"connection_mean": n_syn.mean(), "connection_std": n_syn.std(ddof=0)}
    counted = _long(
        connections, keys, {N_SYN_PER_CONN: _of(n_syn) | n_multi | nothing_null | means}
    )
    if not names:
        return counted
    each = _long(connections, keys, of_each)
    every = _long(rows, keys, {n: _of(pl.col(n)) for n in names})
    index = [*keys, "property"]
    of_values = [n for n in every.collect_schema() if n not in index]
    both = each.join(every, on=index, suffix=" of synapses", nulls_equal=True)
    chosen = both.with_columns(
        pl.when("_one_each").then(pl.col(n)).otherwise(pl.col(f"{n} of synapses"))
        for n in of_values
    )
    return pl.concat([chosen.select(counted.collect_schema().names()), counted])


def _of_connections(name: str) -> dict[str, pl.Expr]:
    """Return the statistics of connections' values, and what their sharing tells."""
    field, n_syn = pl.col(name).struct.field, pl.col(N_SYN_PER_CONN)
    value, mean = field("value"), field("mean")
    one_each, n_null = field("shares").all(), field("n_null").sum()
    constant = one_each & (n_null == 0) & (value.min() == value.max())
    silent = constant | ~(n_syn > 1).any() | (one_each & ~((n_syn > 1) & mean.is_not_null()).any())
    of = _of(value)
    # A constant property has a value for each synapse: no connection can be seen to share it.
    repeats = constant & (pl.len() > 1)
    n = pl.when(repeats).then(n_syn.sum().cast(pl.Int64)).otherwise(of["n"])
    return of | {
        "n": n,
        "n_null": n_null,
        "shared_within": pl.when(~silent).then(one_each),
        "connection_mean": mean.mean(),
        "connection_std": mean.std(ddof=0),
        "_one_each": one_each,
    }
