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
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from connprops.dataset import Dataset
from connprops.parts import run_rows
from connprops.schema import N_SYN_PER_CONN
from connprops.sorted_samples import (
    Floats,
    Ints,
    SortedSamples,
    count_below,
    count_distinct,
    histogram_edges,
    is_new,
    moments,
    quantiles,
    ranks,
    sort_samples,
)

VALUES_AT_MOST = 100
"""A table of distinct values is kept for at most so many of them."""

_GROUPS_AT_ONCE = 20_000
"""Groups whose histogram edges are searched at once, to bound memory."""


@dataclass(frozen=True)
class BucketSpec:
    """What to aggregate: a range of groups, how nodes form them, and which statistics.

    ``source_code`` and ``target_code`` give each node's group, -1 for nodes not selected; a
    connection's group is ``source_code * n_target_codes + target_code``. ``is_pathway`` says that
    these are the dataset's own pathways, so that parts can be read by range. Frames of tables that
    are not among ``tables`` are left empty.
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
    tables: tuple[str, ...] = ("statistics", "histograms", "values", "order_statistics")


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
    sample = sort_samples(raw, counts_raw)
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
            **moments(sample),
            **quantiles(sample),
            "n_unique": count_distinct(sample),
            "connection_mean": means[0],
            "connection_std": means[1],
        }
    ).with_columns(pl.col(pl.Float64).fill_nan(None))
    only = np.where(repeat, n, 0)
    return (
        statistics,
        _histograms(name, sample, bucket.group, spec.bins, only)
        if "histograms" in spec.tables
        else pl.DataFrame(),
        _distinct_values(name, sample, bucket.group, n, only)
        if "values" in spec.tables
        else pl.DataFrame(),
        _order_statistics(name, sample, bucket.group)
        if "order_statistics" in spec.tables
        else pl.DataFrame(),
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


def _constant(sample: SortedSamples, column: _Column, bucket: _Bucket) -> NDArray[np.bool_]:
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


def _connection_means(
    column: _Column, bucket: _Bucket, per_synapse: NDArray[np.bool_], sample: SortedSamples
) -> tuple[Floats, Floats]:
    """Return mean and std over connections of the connection's mean, by group."""
    if column.of_synapses is None or not per_synapse.any():
        own = moments(sample)
        return own["mean"], own["std"]
    x = column.of_synapses[run_rows(bucket.first_synapse, bucket.n_syn)].astype(np.float64)
    starts = np.cumsum(bucket.n_syn) - bucket.n_syn
    finite = np.isfinite(x)
    x[~finite] = 0.0
    n = np.add.reduceat(finite.astype(np.int64), starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.add.reduceat(x, starts) / n
    of_connections = moments(sort_samples(means, bucket.counts))
    return of_connections["mean"], of_connections["std"]


def _histograms(
    name: str, sample: SortedSamples, group: Ints, bins: int | tuple[float, ...], only: Ints
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
        below = count_below(sample.x, starts, n, edges)
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


def _distinct_values(
    name: str, sample: SortedSamples, group: Ints, n: Ints, only: Ints
) -> pl.DataFrame:
    """Return distinct values and their counts, for groups where these are few."""
    empty = pl.DataFrame(
        schema={"group": pl.Int64, "property": pl.String, "value": pl.Float64, "count": pl.Int64,
                "p": pl.Float64}
    )  # fmt: skip
    if not sample.some.size:
        return empty
    at = np.flatnonzero(is_new(sample))
    counts = np.diff(at, append=sample.x.size)
    n_unique = np.add.reduceat(is_new(sample).astype(np.int64), sample.starts)
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


def _order_statistics(name: str, sample: SortedSamples, group: Ints) -> pl.DataFrame:
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
