"""Every statistic of a bucket of groups from one sort of its values.

A bucket is a range of groups (of pathways, as a rule) whose rows fit in memory together.
Its rows are read from the parts, brought together by group, and each property's values are
sorted within their group. All that is asked for follows from the sorted values: moments,
quantiles, distinct values, histograms. The work on the sorted values is vectorised over groups.

Because it is a function of the sorted values alone, a result does not depend on threads,
buckets, parts, or the order of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from connprops.dataset import Dataset
from connprops.parts import run_rows
from connprops.schema import N_SYN_PER_CONN

VALUES_AT_MOST = 100
"""A table of distinct values is kept for at most so many of them."""

RANKS_AT_MOST = 256
"""Samples up to this size are kept whole as order statistics, larger ones thinned to about it."""

QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.50, "q75": 0.75, "q95": 0.95}

_LOOP_FROM = 48
"""Mean size of a group from which one call of sort for each group beats one sort of all."""

_GROUPS_AT_ONCE = 20_000
"""Groups whose histogram edges are searched at once, to bound memory."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class BucketSpec:
    """What to aggregate: a range of groups, how nodes form them, and which statistics.

    ``source_code`` and ``target_code`` give each node's group, -1 for nodes not selected; a
    connection's group is ``source_code * n_target_codes + target_code``. ``is_pathway`` says that
    these are the dataset's own pathways, so that parts can be read by range.
    """

    first: int
    stop: int
    source_code: NDArray[np.int32]
    target_code: NDArray[np.int32]
    n_target_codes: int
    is_pathway: bool
    properties: tuple[str, ...]
    bins: int | tuple[float, ...]
    min_sample_size: int | None
    max_sample_size: int | None
    seed: int


@dataclass(frozen=True)
class Aggregates:
    """What a bucket gives, as frames keyed by ``group`` and ``property``."""

    statistics: pl.DataFrame
    histograms: pl.DataFrame
    values: pl.DataFrame
    order_statistics: pl.DataFrame


@dataclass(frozen=True)
class _Column:
    """Values of connections and, for a column that varies, of synapses, in the rows' order."""

    values: NDArray[Any]
    null: NDArray[np.bool_] | None
    of_synapses: NDArray[Any] | None


@dataclass(frozen=True)
class _Bucket:
    """The selected connections of a bucket, ordered by group."""

    rows: Ints  # rows of the columns, by group
    group: Ints  # the distinct groups
    starts: Ints  # first of each group's rows
    counts: Ints
    n_syn: Ints  # of each row
    first_synapse: Ints  # of each row, in the columns of synapses
    whole: _Bucket | None  # before subsampling, where it took some away


@dataclass(frozen=True)
class Rows:
    """The rows of a bucket: of connections, and of synapses for the properties that vary."""

    connections: pa.Table
    synapses: pa.Table


def aggregate_bucket(
    dataset: Dataset, specs: Sequence[BucketSpec], threads: int = 1
) -> list[Aggregates]:
    """Return all statistics of a bucket, for one specification or several.

    The specifications may differ in the nodes that take part (folds, say), but in nothing else;
    the rows are read once for all. A pure function of the dataset and the specifications.
    """
    rows = read_bucket(dataset, specs[0])
    return [aggregate_rows(rows, spec, threads) for spec in specs]


def read_bucket(dataset: Dataset, spec: BucketSpec) -> Rows:
    """Read what a bucket needs of the dataset, and little else."""
    wanted = [name for name in spec.properties if name != N_SYN_PER_CONN]
    varying = [c.name for c in dataset.columns if c.varies and c.name in wanted]
    names = ["source_node", "target_node", N_SYN_PER_CONN, *wanted]
    return Rows(
        _read(dataset, "connections", spec, names),
        _read(dataset, "synapses", spec, varying) if varying else pa.table({}),
    )


def aggregate_rows(rows: Rows, spec: BucketSpec, threads: int) -> Aggregates:
    """Return all statistics of the connections among the rows that a specification selects."""
    bucket = _bucket(rows.connections, spec)

    def one(name: str) -> _Frames:
        values, null = _values_and_null(rows.connections.column(name))
        varies = name in rows.synapses.column_names
        of_synapses = rows.synapses.column(name).to_numpy() if varies else None
        return _property(name, _Column(values, null, of_synapses), bucket, spec)

    if bucket.group.size == 0:
        return _concat([])
    with ThreadPoolExecutor(threads) as pool:
        return _concat(list(pool.map(one, spec.properties)))


def _read(dataset: Dataset, kind: str, spec: BucketSpec, names: Sequence[str]) -> pa.Table:
    """Return the rows of a table that may belong to the bucket, part after part."""
    pieces = []
    for file in dataset.files(kind):
        with pq.ParquetFile(file) as parquet:
            meta = parquet.metadata
            groups = [
                i for i in range(meta.num_row_groups)
                if not spec.is_pathway or _overlaps(meta.row_group(i).column(0).statistics, spec)
            ]  # fmt: skip
            piece = parquet.read_row_groups(groups, ["pathway", *names], use_threads=False)
        if spec.is_pathway:
            pathway = piece.column("pathway").to_numpy()
            low, high = np.searchsorted(pathway, [spec.first, spec.stop]).tolist()
            piece = piece.slice(low, high - low)
        pieces.append(piece.drop_columns(["pathway"]))
    return pa.concat_tables(pieces)


def _overlaps(statistics: Any, spec: BucketSpec) -> bool:
    return bool(statistics.max >= spec.first and statistics.min < spec.stop)


def _values_and_null(column: pa.ChunkedArray) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    if not column.null_count:
        return column.to_numpy(), None
    return column.fill_null(0).to_numpy(), column.is_null().to_numpy()


def _bucket(table: pa.Table, spec: BucketSpec) -> _Bucket:
    """Select the bucket's connections, order them by group, and take the subsample."""
    source, target = table.column("source_node").to_numpy(), table.column("target_node").to_numpy()
    n_syn = table.column(N_SYN_PER_CONN).to_numpy().astype(np.int64)
    first_synapse = np.cumsum(n_syn) - n_syn
    source_code, target_code = spec.source_code[source], spec.target_code[target]
    group = source_code.astype(np.int64) * spec.n_target_codes + target_code
    inside = (source_code >= 0) & (target_code >= 0) & (group >= spec.first) & (group < spec.stop)
    rows = np.flatnonzero(inside)
    relative = group[rows] - spec.first
    small = spec.stop - spec.first <= 1 << 16  # numpy sorts these by radix
    order = np.argsort(relative.astype(np.uint16) if small else relative, kind="stable")
    rows = rows[order]
    whole = _grouped(rows, group, n_syn, first_synapse)
    if spec.min_sample_size is not None:
        enough = np.repeat(whole.counts >= spec.min_sample_size, whole.counts)
        if not enough.all():
            rows = rows[enough]
            whole = _grouped(rows, group, n_syn, first_synapse)
    limit = spec.max_sample_size
    if limit is None or not (whole.counts > limit).any():
        return whole
    key = sampling_key(spec.seed, source[rows], target[rows])
    by_key = np.lexsort((key, group[rows]))
    rank = np.arange(rows.size) - np.repeat(whole.starts, whole.counts)
    chosen = np.sort(by_key[rank < limit])  # back in the order of the rows
    sample = _grouped(rows[chosen], group, n_syn, first_synapse)
    return _Bucket(**{**sample.__dict__, "whole": whole})


def _grouped(rows: Ints, group: Ints, n_syn: Ints, first_synapse: Ints) -> _Bucket:
    of_row = group[rows]
    starts = np.flatnonzero(np.diff(of_row, prepend=-1)) if rows.size else rows
    counts = np.diff(starts, append=rows.size)
    return _Bucket(rows, of_row[starts], starts, counts, n_syn[rows], first_synapse[rows], None)


def sampling_key(seed: int, source: Ints, target: Ints) -> NDArray[np.uint64]:
    """Return a pseudo-random number for each connection, from the seed and its ends alone.

    Three rounds of the SplitMix64 finaliser (Steele, Lea and Flood 2014, OOPSLA), each
    taking in one more number.
    """
    key = np.full(source.shape, np.uint64(seed % (1 << 64)), dtype=np.uint64)
    for word in (None, source, target):
        if word is not None:
            key ^= word.astype(np.uint64)
        key += np.uint64(0x9E3779B97F4A7C15)
        key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        key ^= key >> np.uint64(31)
    return key


_Frames = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]


def _concat(results: list[_Frames]) -> Aggregates:
    if not results:
        return Aggregates(*(pl.DataFrame() for _ in range(4)))
    return Aggregates(*(pl.concat(frames) for frames in zip(*results, strict=True)))


def _property(name: str, column: _Column, bucket: _Bucket, spec: BucketSpec) -> _Frames:
    """Return the frames of one property."""
    sharing = _sharing(column, bucket)
    raw, counts_raw = _pooled(column, bucket, sharing.per_synapse)
    sample = _sorted_sample(raw, counts_raw)
    constant = _constant(sample, column, bucket) & (sample.counts == counts_raw)
    repeat = constant & (bucket.counts > 1) & ~sharing.per_synapse
    n_synapses = np.add.reduceat(bucket.n_syn, bucket.starts)
    # A constant property has a value for each synapse, since no connection can be seen to share it.
    n = np.where(repeat, n_synapses, sample.counts)
    unknown = constant | (sharing.n_multi == 0)
    if name == N_SYN_PER_CONN:
        n, repeat, unknown = sample.counts, np.zeros_like(repeat), np.ones_like(unknown)
    shared = pl.Series(~sharing.per_synapse).set(pl.Series(unknown), None)
    means = _connection_means(column, bucket, sharing.per_synapse, sample)
    statistics = pl.DataFrame(
        {
            "group": bucket.group,
            "property": pl.repeat(name, n.size, eager=True),
            "n": n,
            "n_null": counts_raw - sample.counts,
            "n_multi": sharing.n_multi,
            "shared_within": shared,
            **_moments(sample),
            **_quantiles(sample),
            "n_unique": _n_unique(sample),
            "connection_mean": means[0],
            "connection_std": means[1],
        }
    ).with_columns(pl.col(pl.Float64).fill_nan(None))
    only = np.where(repeat, n, 0)
    return (
        statistics,
        _histograms(name, sample, bucket.group, spec.bins, only),
        _distinct_values(name, sample, bucket.group, n, only),
        _order_statistics(name, sample, bucket.group),
    )


@dataclass(frozen=True)
class _Sharing:
    n_multi: Ints  # connections of two synapses or more, by group
    per_synapse: NDArray[np.bool_]  # whether some connection has several values, by group


def _sharing(column: _Column, bucket: _Bucket) -> _Sharing:
    n_multi = np.add.reduceat((bucket.n_syn > 1).astype(np.int64), bucket.starts)
    if column.null is None:
        return _Sharing(n_multi, np.zeros(n_multi.size, dtype=np.bool_))
    return _Sharing(n_multi, np.logical_or.reduceat(column.null[bucket.rows], bucket.starts))


def _pooled(
    column: _Column, bucket: _Bucket, per_synapse: NDArray[np.bool_]
) -> tuple[NDArray[Any], Ints]:
    """Return the values of each group, one per connection or per synapse, and how many."""
    if column.of_synapses is None or not per_synapse.any():
        return column.values[bucket.rows], bucket.counts
    n_values = np.where(np.repeat(per_synapse, bucket.counts), bucket.n_syn, 1)
    at = run_rows(bucket.first_synapse, n_values)
    return column.of_synapses[at], np.add.reduceat(n_values, bucket.starts)


@dataclass(frozen=True)
class _Sample:
    """Finite values sorted within each group. ``groups`` are those that have any."""

    values: NDArray[Any]  # of the column's own type
    x: Floats  # the same as float64
    starts: Ints
    counts: Ints  # of all groups, zero included
    some: Ints  # the groups with at least one value

    @property
    def n(self) -> Ints:
        """Return the counts of the groups that have any value."""
        return self.counts[self.some]

    def spread(self, of_some: NDArray[Any], fill: float = np.nan) -> NDArray[Any]:
        """Return numbers of the groups with values as numbers of all groups."""
        if self.some.size == self.counts.size:
            return of_some
        full = np.full((self.counts.size, *of_some.shape[1:]), fill, dtype=np.float64)
        full[self.some] = of_some
        return full


def _sorted_sample(raw: NDArray[Any], counts: Ints) -> _Sample:
    """Leave out what is not finite, and sort each group's values."""
    values = raw
    if raw.dtype.kind == "f":
        finite = np.isfinite(raw)
        if not finite.all():
            starts = np.cumsum(counts) - counts
            counts = np.add.reduceat(finite.astype(np.int64), starts)
            values = raw[finite]
    some = np.flatnonzero(counts)
    n = counts[some]
    starts = np.cumsum(n) - n
    if n.size and values.size / n.size < _LOOP_FROM:
        values = values[np.lexsort((values, np.repeat(np.arange(n.size), n)))]
    else:
        values = values.copy() if values is raw else values
        for start, stop in zip(starts.tolist(), (starts + n).tolist(), strict=True):
            values[start:stop].sort()
    return _Sample(values, values.astype(np.float64), starts, counts, some)


def _constant(sample: _Sample, column: _Column, bucket: _Bucket) -> NDArray[np.bool_]:
    """Return which groups have one value over all their synapses, sampled or not."""
    constant = np.zeros(sample.counts.size, dtype=np.bool_)
    if not sample.some.size:
        return constant
    last = sample.starts + sample.n - 1
    constant[sample.some] = sample.values[sample.starts] == sample.values[last]
    constant &= sample.counts > 0
    if bucket.whole is not None and constant.any():
        values = column.values[bucket.whole.rows]
        low = np.minimum.reduceat(values, bucket.whole.starts)
        high = np.maximum.reduceat(values, bucket.whole.starts)
        constant &= low == high
        if column.null is not None:
            null = column.null[bucket.whole.rows]
            constant &= ~np.logical_or.reduceat(null, bucket.whole.starts)
    return constant


def _moments(sample: _Sample) -> dict[str, Floats]:
    """Return mean, std, min, max, skewness, kurtosis, mean_log, std_log of each group.

    Sums run pairwise over the sorted values; moments are those about the mean, with its
    rounding error taken out.
    """
    x, starts, n = sample.x, sample.starts, sample.n
    if not n.size:
        return {name: np.full(sample.counts.size, np.nan) for name in _MOMENTS}
    low, high = x[starts], x[starts + n - 1]
    # Powers of two keep squares of very large and very small numbers within range, exactly.
    scale = np.exp2(-np.frexp(np.maximum(np.abs(low), np.abs(high)))[1].astype(np.float64))
    extreme = ~((scale > 1e-60) & (scale < 1e60)) & (scale > 0)  # noqa: PLR2004
    if not extreme.any():
        scale = np.ones_like(scale)
        scaled = x
    else:
        scale = np.where(extreme, scale, 1.0)
        scaled = x * np.repeat(scale, n)
    mean = np.add.reduceat(scaled, starts) / n
    d = scaled - np.repeat(mean, n)
    shift = np.add.reduceat(d, starts) / n
    mean = np.clip((mean + shift) / scale, low, high)
    square = d * d
    m2 = np.maximum(np.add.reduceat(square, starts) / n - shift * shift, 0.0)
    m2[low == high] = 0.0
    d *= square
    m3 = np.add.reduceat(d, starts) / n - 3 * shift * m2
    square *= square
    m4 = np.add.reduceat(square, starts) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        skewness = np.where(m2 > 0, m3 / (m2 * np.sqrt(m2)), np.nan)
        kurtosis = np.where(m2 > 0, m4 / (m2 * m2) - 3.0, np.nan)
    mean_log, std_log = _log_moments(x, starts, n, low, high)
    found = (mean, np.sqrt(m2) / scale, low, high, skewness, kurtosis, mean_log, std_log)
    return {name: sample.spread(numbers) for name, numbers in zip(_MOMENTS, found, strict=True)}


_MOMENTS = ("mean", "std", "min", "max", "skewness", "kurtosis", "mean_log", "std_log")


def _log_moments(
    x: Floats, starts: Ints, n: Ints, low: Floats, high: Floats
) -> tuple[Floats, Floats]:
    """Return mean and std of the logarithms; NaN for groups with a value that has none."""
    positive = low > 0
    if not positive.any():
        return np.full(n.size, np.nan), np.full(n.size, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(x)
    logs[~np.isfinite(logs)] = 0.0
    mean = np.add.reduceat(logs, starts) / n
    logs -= np.repeat(mean, n)
    shift = np.add.reduceat(logs, starts) / n
    logs *= logs
    std = np.sqrt(np.maximum(np.add.reduceat(logs, starts) / n - shift * shift, 0.0))
    std[low == high] = 0.0
    return np.where(positive, mean + shift, np.nan), np.where(positive, std, np.nan)


def _quantiles(sample: _Sample) -> dict[str, Floats]:
    """Return quantiles by linear interpolation (Hyndman and Fan 1996, definition 7)."""
    found = {}
    for name, q in QUANTILES.items():
        at = q * (sample.n - 1)
        below = np.floor(at).astype(np.int64)
        t = at - below
        a = sample.x[sample.starts + below]
        b = sample.x[sample.starts + np.minimum(below + 1, sample.n - 1)]
        # From the nearer end, so that equal neighbours give their value exactly.
        found[name] = sample.spread(np.where(t < 0.5, a + (b - a) * t, b - (b - a) * (1 - t)))  # noqa: PLR2004
    return found


def _n_unique(sample: _Sample) -> Ints:
    counts = np.zeros(sample.counts.size, dtype=np.int64)
    if sample.some.size:
        counts[sample.some] = np.add.reduceat(_is_new(sample).astype(np.int64), sample.starts)
    return counts


def _is_new(sample: _Sample) -> NDArray[np.bool_]:
    """Return whether each sorted value differs from the one before in its group."""
    new = np.ones(sample.values.size, dtype=np.bool_)
    new[1:] = sample.values[1:] != sample.values[:-1]
    new[sample.starts] = True
    return new


def _connection_means(
    column: _Column, bucket: _Bucket, per_synapse: NDArray[np.bool_], sample: _Sample
) -> tuple[Floats, Floats]:
    """Return mean and std over connections of the connection's mean, by group."""
    if column.of_synapses is None or not per_synapse.any():
        own = _moments(sample)
        return own["mean"], own["std"]
    x = column.of_synapses[run_rows(bucket.first_synapse, bucket.n_syn)].astype(np.float64)
    starts = np.cumsum(bucket.n_syn) - bucket.n_syn
    finite = np.isfinite(x)
    x[~finite] = 0.0
    n = np.add.reduceat(finite.astype(np.int64), starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.add.reduceat(x, starts) / n
    of_connections = _moments(_sorted_sample(means, bucket.counts))
    return of_connections["mean"], of_connections["std"]


def histogram_edges(low: NDArray[Any], high: NDArray[Any], bins: int) -> Floats:
    """Return the edges that ``numpy.histogram`` gives each group's values, of their own type.

    Shape (groups, bins + 1). Where the values lie so close that their type has no room for the
    edges (numpy gives up there), the edges are float64 ones and reach as far as they need.
    """
    if low.dtype.kind != "f":
        low, high = low.astype(np.float64), high.astype(np.float64)
    constant = low == high
    half = low.dtype.type(0.5)
    first, last = np.where(constant, low - half, low), np.where(constant, high + half, high)
    edges = np.full((low.size, bins + 1), np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        # A step of zero would make linspace compute the edges of all groups in another way.
        steps = (last - first) / low.dtype.type(bins) != 0
        edges[steps] = np.linspace(first[steps], last[steps], bins + 1, axis=1, dtype=low.dtype)
        crowded = ~(np.diff(edges, axis=1) > 0).all(axis=1) | ~np.isfinite(edges).all(axis=1)
    for i in np.flatnonzero(crowded).tolist():
        edges[i] = _roomy_edges(float(low[i]), float(high[i]), bins)
    return edges


def _roomy_edges(low: float, high: float, bins: int) -> Floats:
    t = np.linspace(0.0, 1.0, bins + 1)
    edges = low * (1 - t) + high * t  # halves first: the range itself may be infinite
    edges[-1] = high
    if (np.diff(edges) > 0).all():
        return edges
    step = max(np.spacing(max(abs(low), abs(high))), np.finfo(np.float64).tiny)
    roomy: Floats = low + step * (np.arange(bins + 1) - bins // 2)
    return roomy


def _histograms(
    name: str, sample: _Sample, group: Ints, bins: int | tuple[float, ...], only: Ints
) -> pl.DataFrame:
    """Return counts by bin; ``only`` is how often a constant group's value counts, else 0."""
    pieces = []
    for at in range(0, sample.some.size, _GROUPS_AT_ONCE):
        some = slice(at, at + _GROUPS_AT_ONCE)
        starts, n = sample.starts[some], sample.n[some]
        if isinstance(bins, int):
            edges = histogram_edges(sample.values[starts], sample.values[starts + n - 1], bins)
        else:
            edges = np.broadcast_to(np.asarray(bins, dtype=np.float64), (n.size, len(bins)))
        below = _count_below(sample.x, starts, n, edges)
        counts = np.diff(below, axis=1)
        of_one = only[sample.some[some], None]
        counts = np.where(of_one > 0, (counts > 0) * of_one, counts)
        n_bins = counts.shape[1]
        pieces.append(
            pl.DataFrame(
                {
                    "group": np.repeat(group[sample.some[some]], n_bins),
                    "bin": np.tile(np.arange(n_bins, dtype=np.int32), n.size),
                    "left": edges[:, :-1].ravel(),
                    "right": edges[:, 1:].ravel(),
                    "count": counts.ravel(),
                }
            )
        )
    empty = pl.DataFrame(
        schema={"group": pl.Int64, "bin": pl.Int32, "left": pl.Float64, "right": pl.Float64,
                "count": pl.Int64}
    )  # fmt: skip
    frame = pl.concat([empty, *pieces])
    return frame.insert_column(1, pl.repeat(name, len(frame), eager=True).alias("property"))


def _count_below(x: Floats, starts: Ints, n: Ints, edges: Floats) -> Ints:
    """Return how many sorted values of each group lie below each edge; the last edge is closed.

    Shape as ``edges``. A binary search for all groups and edges at once.
    """
    edges = edges.copy()
    edges[:, -1] = np.nextafter(edges[:, -1], np.inf)
    low = np.repeat(starts[:, None], edges.shape[1], axis=1)
    high = low + n[:, None]
    while (open_ := low < high).any():
        middle = (low + high) >> 1
        below = open_ & (x[np.minimum(middle, x.size - 1)] < edges)
        low = np.where(below, middle + 1, low)
        high = np.where(open_ & ~below, middle, high)
    return low - starts[:, None]


def _distinct_values(name: str, sample: _Sample, group: Ints, n: Ints, only: Ints) -> pl.DataFrame:
    """Return distinct values and their counts, for groups where these are few."""
    empty = pl.DataFrame(
        schema={"group": pl.Int64, "property": pl.String, "value": pl.Float64, "count": pl.Int64,
                "p": pl.Float64}
    )  # fmt: skip
    if not sample.some.size:
        return empty
    at = np.flatnonzero(_is_new(sample))
    counts = np.diff(at, append=sample.x.size)
    n_unique = np.add.reduceat(_is_new(sample).astype(np.int64), sample.starts)
    few = (n_unique == 1) | ((n_unique <= VALUES_AT_MOST) & (n_unique < sample.n))
    keep = np.repeat(few, n_unique)
    of_value = np.repeat(sample.some, n_unique)[keep]
    counts = np.where(only[of_value] > 0, only[of_value], counts[keep])
    return pl.DataFrame(
        {
            "group": group[of_value],
            "property": pl.repeat(name, of_value.size, eager=True),
            "value": sample.x[at[keep]],
            "count": counts,
            "p": counts / n[of_value],
        }
    )


@lru_cache(maxsize=4096)
def ranks(n: int) -> Ints:
    """Return the ranks that order statistics of a sample of size n are kept at.

    All of them up to :data:`RANKS_AT_MOST`; else evenly spaced ones, with more towards both
    ends, whose distance doubles from the extremes inwards.
    """
    if n <= RANKS_AT_MOST:
        return np.arange(n)
    even = np.round(np.linspace(0, n - 1, RANKS_AT_MOST // 2 + 1)).astype(np.int64)
    tail = 2 ** np.arange(int(np.log2(n / (RANKS_AT_MOST // 2))) + 1, dtype=np.int64)
    return np.unique(np.concatenate([even, tail, n - 1 - tail]))


def _order_statistics(name: str, sample: _Sample, group: Ints) -> pl.DataFrame:
    kept = [ranks(n) for n in sample.n.tolist()]
    sizes = np.array([r.size for r in kept], dtype=np.int64)
    rank = np.concatenate(kept) if kept else np.empty(0, dtype=np.int64)
    value = sample.x[np.repeat(sample.starts, sizes) + rank]
    offsets = np.concatenate([[0], np.cumsum(sizes)])

    def lists(flat: NDArray[Any]) -> pl.Series:
        array = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat))
        return pl.Series(pl.from_arrow(array))

    return pl.DataFrame(
        {
            "group": group[sample.some],
            "property": pl.repeat(name, sample.some.size, eager=True),
            "rank": lists(rank),
            "value": lists(value),
        }
    )
