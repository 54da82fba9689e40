"""Fits of groups of one's own: what ``extract`` and ``build`` do for pathways, for any frame.

The groups stand for pathways: each is a source type, and all have one target type. The first key
stands for the types' class, the second for their layer, so that levels lie within one another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from connprops import schema
from connprops.arrays import Ints
from connprops.arrays.arrow import to_arrow
from connprops.arrays.gather import run_starts
from connprops.dataset.selection import Choice, Groups
from connprops.declare import names as names_of
from connprops.errors import OptionError, listing
from connprops.fits.checks import check_names
from connprops.groups.describe import opened
from connprops.model.build import build
from connprops.model.model import Model
from connprops.options import BuildOptions
from connprops.pathways import check_number, enums_of, expanded, layout_of
from connprops.schema import N_SYN_PER_CONN, ROW_KEYS, Property
from connprops.statistics.bucket import BucketSpec
from connprops.statistics.rows import ENDS, Rows
from connprops.statistics.statistics import Statistics
from connprops.statistics.tables import StoredTables
from connprops.statistics.units import GroupTables, Unit

_BINS = 51  # of the histograms that --truncnorm histogram looks at
_CODE, _CONNECTION = "group code", "connection code"
_OF_FITS = ["n", "status", "ks", "p_value"]
_SHARED = {-1: None, 0: 2, 1: 1, 2: 2, 3: 1, 4: 0}
"""How many first keys the groups have in common that a group without values borrows from."""

_LAYOUT = {
    **{n: t for n, t in schema.MODEL.polars_schema().items()
       if n not in (*ROW_KEYS, "other_property", "level")},
    "shared_keys": pl.Int8(),
    **{n: t for n, t in schema.FITS.polars_schema().items() if n in _OF_FITS},
}  # fmt: skip
_TYPES = schema.TYPES.polars_schema()


def fit(
    frame: Any,
    by: str | Sequence[str],
    properties: Sequence[str] | None = None,
    *,
    connection: Sequence[str] | None = None,
    **options: Any,
) -> pl.DataFrame:
    """Fit a distribution to each property of any groups of any table.

    The engine of :func:`connprops.build` without a circuit: the same families, choice by evidence,
    standard errors and hierarchical estimates. A group with few values leans on those that share
    its first two keys, then on those that share the first, then on all.

    Parameters
    ----------
    frame
        One row per value: a lazy or eager Polars frame, or any object that speaks Arrow
        (pandas, pyarrow, DuckDB relations). It is read once per property; memory holds the groups
        and one property's values, some 100 bytes each.
    by
        Columns that make the groups, of any type, the widest first; null is a key too.
    properties
        Numeric columns to fit; by default all that are neither keys nor a dataset's own.
    connection
        Columns that name a value's connection; by default ``source_node`` and ``target_node``
        where the frame has both. A group in which each connection has one value counts it once per
        connection, else all, with their correlation within connections; ``n_syn_per_conn`` is
        fitted too. With ``()`` each row is a value.
    **options
        Those of :func:`connprops.build`, but for ``correlations``.

    Returns
    -------
    polars.DataFrame
        One row per group, property and parameter: the columns of ``by``; those of
        :data:`connprops.schema.MODEL` that are not about pathways; and of
        :data:`connprops.schema.FITS` ``n``, ``status``, ``ks`` and ``p_value``.

    Raises
    ------
    OptionError
        Where a column is not in the frame, is no number, or is named twice; or where an option
        names an unknown property or distribution.

    Examples
    --------
    >>> cp.fit(cells, by=["region", "layer"], properties=["volume"])
    >>> cp.fit(ds.synapses, by="target_type", distr_types={"conductance": "gamma"})
    """
    asked = _options(options)
    rows, keys, connection, names = opened(frame, by, properties, connection)
    groups = rows.select(keys).unique().collect(engine="streaming").sort(keys)
    if groups.is_empty():
        return pl.DataFrame(schema={**groups.schema, **_LAYOUT})
    check_number(len(groups), 1)
    columns = {**rows.collect_schema(), N_SYN_PER_CONN: pl.Int64()}
    names = [*names, *([N_SYN_PER_CONN] if connection else [])]
    if not names:
        raise OptionError.of("There is nothing to fit", found=listing(columns),
                             expected="a column of numbers that is no key")  # fmt: skip
    described = tuple(Property(n, _dtype(columns[n]), schema.unit_of(n)) for n in names)
    check_names(asked, described)
    spec = _spec(names, asked)
    coded = rows.join(
        groups.lazy().with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias(_CODE)),
        on=keys, nulls_equal=True,
    )  # fmt: skip
    parts = []
    for i, name in enumerate(names):
        rows_of, code = _connections(_values(coded, connection, name), name)
        of_groups = Groups(code, np.zeros_like(code), 1, is_pathway=False)
        unit = Unit(0, len(groups), (name,), on_disk=False, n_connections=code.size)
        parts += spec.compute(_FrameRows(rows_of), [of_groups], unit, asked.limits)
        if asked.progress:
            asked.progress("extract", i + 1, len(names), "properties")
    sizes = np.bincount(code, minlength=len(groups))
    stats = _statistics(groups, sizes, described, parts)
    return _keyed(build(stats, **options), groups)


def _options(options: Mapping[str, Any]) -> BuildOptions:
    known = [name for name in names_of(BuildOptions) if name != "correlations"]
    for name in options:
        if name not in known:
            raise OptionError.unknown("option of fit", name, known)
    return BuildOptions(**options)


def _dtype(dtype: pl.DataType) -> str:
    known = dtype.is_float() or (dtype.is_integer() and dtype not in (pl.Int128, pl.UInt128))
    return str(dtype).lower() if known else "float64"


def _spec(names: Sequence[str], options: BuildOptions) -> BucketSpec:
    histograms = ["histograms"] * (options.truncnorm == "histogram")
    return BucketSpec(
        choices=(Choice.of(None, None, None, options.seed),),
        properties=tuple(names),
        max_sample_size=None,
        seed=options.seed,
        bins=_BINS,
        min_sample_size=None,
        tables=("statistics", "values", "order_statistics", *histograms),
    )


# From rows to the tables of statistics


@dataclass(frozen=True)
class _FrameRows:
    """The values of one property, as the rows of connections and, if these vary, of synapses."""

    rows: Rows

    def chunks(self, first: int, stop: int, properties: Sequence[str]) -> Iterator[Rows]:  # noqa: ARG002
        """Give all."""
        yield self.rows


def _values(coded: pl.LazyFrame, connection: Sequence[str], name: str) -> pl.DataFrame:
    """Return the codes of group and connection and the value of each row, in one order."""
    own = [] if name == N_SYN_PER_CONN else [name]
    numbers = [_as_numbers(coded.collect_schema()[n], n) for n in own]
    ends = {f"end {i}": pl.col(end) for i, end in enumerate(connection)}
    values = coded.select(_CODE, *numbers, **ends).collect(engine="streaming")
    if not ends:
        return values
    begins = pl.struct(_CODE, *ends).rle_id().cast(pl.Int64).alias(_CONNECTION)
    return values.sort(_CODE, *ends, *own).select(_CODE, begins, *own)


def _as_numbers(dtype: pl.DataType, name: str) -> pl.Expr:
    """Return a column as the kernels take it: of whole numbers, or with NaN for null."""
    value = pl.col(name)
    if dtype.is_float():
        return value.fill_null(np.nan)
    return value if _dtype(dtype) != "float64" else value.cast(pl.Float64).fill_null(np.nan)


def _connections(values: pl.DataFrame, name: str) -> tuple[Rows, NDArray[np.int32]]:
    """Return the rows of connections and synapses, and the group of each connection."""
    code, first = values[_CODE].to_numpy(), np.arange(len(values))
    if _CONNECTION in values.columns:
        first = run_starts(values[_CONNECTION].to_numpy())
    node, n_syn = np.arange(first.size), np.diff(first, append=len(values)).astype(np.int32)
    columns = {ENDS[0]: to_arrow(node), ENDS[1]: to_arrow(node), N_SYN_PER_CONN: to_arrow(n_syn)}
    synapses = pa.table({})
    if name in values.columns:
        own = values[name]
        if own.null_count():  # whole numbers, among which there is no NaN
            own = own.cast(pl.Float64).fill_null(np.nan)
        each = own.to_numpy()
        # Sorted within connections: where the ends are the same, so is all between.
        low, high = each[first], each[first + n_syn - 1]
        varies = (low != high) & ~(np.isnan(low) & np.isnan(high))
        columns[name] = to_arrow(low, varies)
        if varies.any():
            synapses = pa.table({name: to_arrow(each)})
    return Rows(pa.table(columns), synapses), code[first]


# From the tables to fits, and back to the keys


def _statistics(
    groups: pl.DataFrame, sizes: Ints, properties: tuple[Property, ...], parts: list[GroupTables]
) -> Statistics:
    """Return the tables as those of pathways, whose source types are the groups' codes."""
    keys = groups.columns
    # The groups are in order, so those with the same first keys lie together.
    above = {
        name: pl.struct(keys[: i + 1]).rle_id().cast(pl.String)
        for i, name in enumerate(("synapse_class", "layer")[: len(keys) - 1])
    }
    code = pl.int_range(pl.len(), dtype=pl.Int32)
    source = groups.select(side=pl.lit("source"), code=code, type=code.cast(pl.String), **above)
    target = source.head(1).with_columns(side=pl.lit("target"), **dict.fromkeys(above, pl.lit("")))
    known = pl.concat([source, target]).with_columns(n_nodes=1)
    types = pl.concat([pl.DataFrame(schema=_TYPES), known], how="diagonal_relaxed")
    types = types.select(pl.col(n).cast(t) for n, t in _TYPES.items())
    dtypes = enums_of(types, [p.name for p in properties])
    names = pl.DataFrame({"group": np.arange(sizes.size), "size": sizes}).with_columns(
        source_type=pl.col("group").cast(pl.String), target_type=pl.lit("0")
    )

    def in_order(table: schema.Table, rows: pl.DataFrame) -> pl.LazyFrame:
        layout = layout_of(table, dtypes)
        return rows.select(pl.col(n).cast(t) for n, t in layout.items()).sort(table.keys).lazy()

    scans = {
        kind: in_order(
            schema.TABLES[kind],
            pl.concat(pl.DataFrame(part[kind]).join(names, on="group") for part in parts),
        )
        for kind in parts[0]
    }
    counts = dict.fromkeys(("n_connections", "n_synapses", "n_sampled"), pl.col("size"))
    nothing = dict.fromkeys(ROW_KEYS[2:], pl.lit(None))
    scans["pathways"] = in_order(schema.PATHWAYS, names.with_columns(**counts, **nothing))
    return Statistics(properties, types, StoredTables(scans, dtypes), options={}, identity={})


def _keyed(model: Model, groups: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of a model and of its fits, with keys in the place of types."""
    index = ["source_type", "property"]
    rows = expanded(model.table, model.types, model.pathways)
    if model.fits is not None:
        fits = expanded(model.fits, model.types, model.pathways)
        rows = rows.join(fits.select(*index, *_OF_FITS), on=index)
    place = pl.col("source_type").cast(pl.String).cast(pl.Int64).alias(_CODE)
    rows = rows.with_columns(place, pl.col("level").replace_strict(_SHARED).alias("shared_keys"))
    rows = rows.sort(_CODE, "property", "parameter", "position")
    keys = groups[rows[_CODE].to_list()]
    return pl.concat([keys, rows.select(pl.col(n).cast(t) for n, t in _LAYOUT.items())],
                     how="horizontal")  # fmt: skip
