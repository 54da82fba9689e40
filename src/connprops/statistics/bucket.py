"""Every statistic of a bucket of groups from one sort of its values.

A bucket is a range of groups, of pathways as a rule. Its rows are read from the dataset, brought
together by group, and each property's values are sorted within their group. All that is asked for
follows from the sorted values: moments, quantiles, distinct values, histograms. A bucket whose
rows fit in memory is worked on at once, vectorised over its groups; a group that does not fit is
read several times, one property after the other, and sorted on disk.

Because it is a function of the sorted values alone, a result does not depend on threads,
buckets, parts, memory, or the order of the file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from connprops.arrays import Floats, Ints
from connprops.arrays.arrow import missing, names_to_arrow, to_arrow, to_numpy
from connprops.arrays.random_numbers import sampling_key
from connprops.arrays.runs import Runs
from connprops.arrays.sorted_samples import (
    SortedSamples,
    count_distinct,
    distinct_values,
    histograms,
    moments,
    quantiles,
    ranks,
    sort_samples,
)
from connprops.dataset.selection import Groups
from connprops.schema import N_SYN_PER_CONN
from connprops.statistics.external_sort import ExternalSort
from connprops.statistics.rows import Rows, RowSource

VALUES_AT_MOST = 100
"""A table of distinct values is kept for at most so many of them."""


_LARGE = 100
"""Connections of a group from which looking for its subsample apart beats sorting all groups."""


@dataclass(frozen=True)
class BucketSpec:
    """What to aggregate: a range of groups, and which statistics of which properties.

    ``sort_on_disk`` is for one group
    whose rows are too many for memory; ``memory`` is then what may be used, in bytes.
    """

    first: int
    stop: int
    properties: tuple[str, ...]
    bins: int | tuple[float, ...]
    min_sample_size: int | None
    max_sample_size: int | None
    seed: int
    tables: tuple[str, ...] = ("statistics", "histograms", "values", "order_statistics")
    sort_on_disk: bool = False
    memory: int = 1 << 28


Aggregates = dict[str, pa.Table]
"""What a bucket gives: each table that was asked for, keyed by ``group`` and ``property``.

Tables of Arrow, for there are many and small ones: a call of Polars takes a tenth of a millisecond
or more. They also cross processes, where pickling frames stops for ever now and then in Polars 2.1.
"""


@dataclass(frozen=True)
class Gathered:
    """One property of several groups: its sorted values, and what they do not tell.

    ``n_values`` counts what is not finite too; ``constant`` says that all synapses, sampled or not,
    have one value; ``means`` are those of connections, and ``sample`` itself where each gives one
    value.
    """

    group: Ints
    sample: SortedSamples
    means: SortedSamples
    n_values: Ints
    n_connections: Ints
    n_synapses: Ints
    n_multi: Ints  # connections of two synapses or more
    per_synapse: NDArray[np.bool_]  # whether some connection has several values
    constant: NDArray[np.bool_]


def aggregate_bucket(
    rows: RowSource, groups: Sequence[Groups], spec: BucketSpec, threads: int, temp_dir: Path
) -> list[Aggregates]:
    """Return all statistics of a bucket, for one way or several in which nodes form its groups.

    They may differ in the nodes that take part (folds, say); where the bucket fits in memory, its
    rows are read once for all.
    """
    if spec.sort_on_disk:
        return [_aggregate_on_disk(rows, one, spec, temp_dir) for one in groups]
    chunks = list(rows.chunks(spec.first, spec.stop, spec.properties))
    if not chunks:
        return [_concat([]) for _ in groups]
    whole = Rows(
        pa.concat_tables([chunk.connections for chunk in chunks]),
        pa.concat_tables([chunk.synapses for chunk in chunks]),
    )
    del chunks
    return [_aggregate_rows(whole, one, spec, threads) for one in groups]


def _aggregate_rows(rows: Rows, groups: Groups, spec: BucketSpec, threads: int) -> Aggregates:
    """Return all statistics of the connections among the rows that are of the groups."""
    bucket = _bucket(rows.connections, groups, spec)
    if bucket.group.size == 0:
        return _concat([])

    def one(name: str) -> Aggregates:
        column = _column(rows, name)
        return _tables(name, _gather(column, bucket, means="statistics" in spec.tables), spec)

    if threads == 1:
        return _concat([one(name) for name in spec.properties])
    with ThreadPoolExecutor(threads) as pool:
        return _concat(list(pool.map(one, spec.properties)))


def _aggregate_on_disk(
    rows: RowSource, groups: Groups, spec: BucketSpec, temp_dir: Path
) -> Aggregates:
    """Return all statistics of one group whose values are sorted on disk."""
    found = []
    limit = _key_limit(rows, groups, spec)
    for name in spec.properties:
        with tempfile.TemporaryDirectory(dir=temp_dir, prefix="connprops-") as folder:
            gathered = _gather_on_disk(rows, groups, name, spec, limit, Path(folder))
            if gathered is not None:
                found.append(_tables(name, gathered, spec))
    return _concat(found)


@dataclass(frozen=True)
class _Column:
    """Values of connections and, for a column that varies, of synapses, in the rows' order."""

    values: NDArray[Any]
    null: NDArray[np.bool_] | None
    of_synapses: NDArray[Any] | None


def _column(rows: Rows, name: str) -> _Column:
    column = rows.connections.column(name)
    varies = name in rows.synapses.column_names
    of_synapses = to_numpy(rows.synapses.column(name)) if varies else None
    if not column.null_count:
        return _Column(to_numpy(column), None, of_synapses)
    return _Column(to_numpy(column), missing(column), of_synapses)


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

    @cached_property
    def connections(self) -> Runs:
        """One value of each connection."""
        return Runs(self.rows, np.ones(self.rows.size, dtype=np.int64))

    @cached_property
    def synapses(self) -> Runs:
        """All values of each connection."""
        return Runs(self.first_synapse, self.n_syn)

    @cached_property
    def n_synapses(self) -> Ints:
        """Synapses of each group."""
        return np.add.reduceat(self.n_syn, self.starts)

    @cached_property
    def n_multi(self) -> Ints:
        """Connections of several synapses of each group."""
        return np.add.reduceat((self.n_syn > 1).astype(np.int64), self.starts)


def _bucket(connections: pa.Table, groups: Groups, spec: BucketSpec) -> _Bucket:
    """Select the bucket's connections, order them by group, and take the subsample."""
    n_syn = to_numpy(connections.column(N_SYN_PER_CONN)).astype(np.int64)
    first_synapse = np.cumsum(n_syn) - n_syn
    group = groups.of(connections)
    rows = np.flatnonzero((group >= spec.first) & (group < spec.stop))
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
    chosen = _smallest(_keys(connections, spec)[rows], whole, limit)
    sample = _grouped(rows[chosen], group, n_syn, first_synapse)
    return replace(sample, whole=whole)


def _smallest(key: NDArray[np.uint64], whole: _Bucket, limit: int) -> NDArray[np.bool_]:
    """Return which rows have the smallest keys of their group; of equal keys, the first rows."""
    large = np.flatnonzero(whole.counts > limit)
    if large.size * _LARGE > key.size:  # many small ones: all at once
        order = np.lexsort((key, np.repeat(whole.group, whole.counts)))
        rank = np.arange(key.size) - np.repeat(whole.starts, whole.counts)
        found = np.zeros(key.size, dtype=np.bool_)
        found[order[rank < limit]] = True
        return found
    found = np.ones(key.size, dtype=np.bool_)
    for i in large.tolist():
        of_group = slice(whole.starts[i], whole.starts[i] + whole.counts[i])
        largest = np.partition(key[of_group], limit - 1)[limit - 1]
        chosen = key[of_group] < largest
        equal = np.flatnonzero(key[of_group] == largest)
        chosen[equal[: limit - np.count_nonzero(chosen)]] = True
        found[of_group] = chosen
    return found


def _grouped(rows: Ints, group: Ints, n_syn: Ints, first_synapse: Ints) -> _Bucket:
    of_row = group[rows]
    starts = np.flatnonzero(np.diff(of_row, prepend=-1)) if rows.size else rows
    counts = np.diff(starts, append=rows.size)
    return _Bucket(rows, of_row[starts], starts, counts, n_syn[rows], first_synapse[rows], None)


def _keys(connections: pa.Table, spec: BucketSpec) -> NDArray[np.uint64]:
    """Return the keys of which a subsample takes the smallest."""
    source, target = connections.column("source_node"), connections.column("target_node")
    return sampling_key(spec.seed, to_numpy(source), to_numpy(target))


def _gather(column: _Column, bucket: _Bucket, *, means: bool) -> Gathered:
    """Bring together and sort one property of a bucket's groups; connections' means if needed."""
    per_synapse = _per_synapse(column, bucket)
    raw, n_values = _pooled(column, bucket, per_synapse)
    sample = sort_samples(raw, n_values)
    return Gathered(
        group=bucket.group,
        sample=sample,
        means=(_connection_means(column, bucket, per_synapse) if means else None) or sample,
        n_values=n_values,
        n_connections=bucket.counts,
        n_synapses=bucket.n_synapses,
        n_multi=bucket.n_multi,
        per_synapse=per_synapse,
        constant=_constant(column, bucket, sample, per_synapse),
    )


def _per_synapse(column: _Column, bucket: _Bucket) -> NDArray[np.bool_]:
    """Return whether some connection of each group has several values."""
    if column.null is None:
        return np.zeros(bucket.group.size, dtype=np.bool_)
    return np.logical_or.reduceat(bucket.connections.of(column.null), bucket.starts)


def _pooled(
    column: _Column, bucket: _Bucket, per_synapse: NDArray[np.bool_]
) -> tuple[NDArray[Any], Ints]:
    """Return the values of each group, one per connection or per synapse, and how many."""
    if column.of_synapses is None or not per_synapse.any():
        return bucket.connections.of(column.values), bucket.counts
    if per_synapse.all():
        return bucket.synapses.of(column.of_synapses), bucket.n_synapses
    n_values = np.where(np.repeat(per_synapse, bucket.counts), bucket.n_syn, 1)
    values = Runs(bucket.first_synapse, n_values).of(column.of_synapses)
    return values, np.add.reduceat(n_values, bucket.starts)


def _constant(
    column: _Column, bucket: _Bucket, sample: SortedSamples, per_synapse: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return which groups have one finite value over all their synapses, sampled or not."""
    constant = np.zeros(bucket.group.size, dtype=np.bool_)
    constant[sample.some] = sample.low == sample.high
    constant &= ~per_synapse
    if bucket.whole is None or not constant.any():
        return constant
    return constant & _all_the_same(column, bucket.whole)


def _all_the_same(column: _Column, whole: _Bucket) -> NDArray[np.bool_]:
    """Return which groups have one finite value over all synapses of their rows."""
    per_synapse = _per_synapse(column, whole)
    if per_synapse.all():
        return ~per_synapse
    values = whole.connections.of(column.values)
    low = np.minimum.reduceat(values, whole.starts)
    same = (low == np.maximum.reduceat(values, whole.starts)) & np.isfinite(low)
    return np.asarray(same & ~per_synapse)


def _connection_means(
    column: _Column, bucket: _Bucket, per_synapse: NDArray[np.bool_]
) -> SortedSamples | None:
    """Return each connection's mean, sorted; None where each connection gives one value."""
    if column.of_synapses is None or not per_synapse.any():
        return None
    # A shared value is its own mean, to the last bit, whatever other groups of the bucket do.
    means = _means(column.of_synapses, bucket)
    if not per_synapse.all():
        varies = np.repeat(per_synapse, bucket.counts)
        means = np.where(varies, means, bucket.connections.of(column.values))
    return sort_samples(means, bucket.counts)


def _means(of_synapses: NDArray[Any], bucket: _Bucket) -> Floats:
    """Return the mean of each connection's finite values, NaN where there is none."""
    x = bucket.synapses.of(of_synapses).astype(np.float64)
    starts = bucket.synapses.starts
    finite, n = np.isfinite(x), bucket.n_syn
    if not finite.all():
        x[~finite] = 0.0
        n = np.add.reduceat(finite.astype(np.int64), starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.add.reduceat(x, starts) / n)


@dataclass(frozen=True)
class _KeyLimit:
    """The largest key in a subsample, and how many connections with just this key it takes."""

    key: np.uint64
    ties: int


def _key_limit(rows: RowSource, groups: Groups, spec: BucketSpec) -> _KeyLimit | None:
    """Return the largest key of the subsample; None where all connections are in it."""
    limit = spec.max_sample_size
    if limit is None:
        return None
    smallest, n = np.empty(0, dtype=np.uint64), 0
    for chunk in rows.chunks(spec.first, spec.stop, ()):
        bucket = _bucket(
            chunk.connections, groups, replace(spec, min_sample_size=None, max_sample_size=None)
        )
        n += bucket.rows.size
        smallest = np.concatenate([smallest, _keys(chunk.connections, spec)[bucket.rows]])
        if smallest.size > limit:
            smallest = np.partition(smallest, limit - 1)[:limit]
    if n <= limit:
        return None
    largest = smallest.max()
    return _KeyLimit(largest, int((smallest == largest).sum()))


def _gather_on_disk(
    rows: RowSource,
    groups: Groups,
    name: str,
    spec: BucketSpec,
    limit: _KeyLimit | None,
    folder: Path,
) -> Gathered | None:
    """Bring together one property of one group: in a first pass the facts, then the values."""
    group, n_connections, n_synapses, n_multi, n_values = -1, 0, 0, 0, 0
    per_synapse, constant, extremes = False, True, []
    for column, bucket in _read_group(rows, groups, name, spec, limit):
        whole = bucket.whole or bucket
        constant &= bool(_all_the_same(column, whole)[0])
        extremes += [column.values[whole.rows[:1]]]
        if not bucket.rows.size:
            continue
        group = int(bucket.group[0])
        n_connections += int(bucket.counts[0])
        n_synapses += int(bucket.n_synapses[0])
        n_multi += int(bucket.n_multi[0])
        per_synapse |= bool(_per_synapse(column, bucket)[0])
    if group < 0:
        return None
    values, means = (
        ExternalSort(_made(folder / kind), spec.memory // 2) for kind in ("values", "means")
    )
    of_group = np.array([per_synapse])
    for column, bucket in _read_group(rows, groups, name, spec, limit):
        if not bucket.rows.size:
            continue
        raw, _ = _pooled(column, bucket, of_group)
        n_values += raw.size
        values.add(raw)
        if per_synapse and column.of_synapses is not None:
            means.add(_means(column.of_synapses, bucket))
    sample = values.finish()
    return Gathered(
        group=np.array([group]),
        sample=sample,
        means=means.finish() if per_synapse else sample,
        n_values=np.array([n_values]),
        n_connections=np.array([n_connections]),
        n_synapses=np.array([n_synapses]),
        n_multi=np.array([n_multi]),
        per_synapse=of_group,
        constant=np.array([constant and np.unique(np.concatenate(extremes)).size == 1]),
    )


def _read_group(
    rows: RowSource, groups: Groups, name: str, spec: BucketSpec, limit: _KeyLimit | None
) -> Iterator[tuple[_Column, _Bucket]]:
    """Give a property of a group chunk by chunk, each with its connections in the subsample."""
    everything = replace(spec, min_sample_size=None, max_sample_size=None)
    ties = 0
    for chunk in rows.chunks(spec.first, spec.stop, (name,)):
        bucket = _bucket(chunk.connections, groups, everything)
        if not bucket.rows.size:
            continue
        if limit is not None:
            key = _keys(chunk.connections, spec)[bucket.rows]
            tied = key == limit.key
            chosen = (key < limit.key) | (tied & (ties + np.cumsum(tied) <= limit.ties))
            ties += int(tied.sum())
            bucket = replace(
                bucket,
                rows=bucket.rows[chosen],
                counts=np.array([int(chosen.sum())]),
                n_syn=bucket.n_syn[chosen],
                first_synapse=bucket.first_synapse[chosen],
                whole=bucket,
            )
        yield _column(chunk, name), bucket


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _concat(found: Sequence[Aggregates]) -> Aggregates:
    """Return the tables of several properties as one each."""
    kinds = found[0] if found else ()
    return {kind: pa.concat_tables([one[kind] for one in found]) for kind in kinds}


def _tables(name: str, gathered: Gathered, spec: BucketSpec) -> Aggregates:
    """Return the tables of one property."""
    sample = gathered.sample
    constant = gathered.constant & (sample.counts == gathered.n_values)
    repeat = constant & (gathered.n_connections > 1) & ~gathered.per_synapse
    # A constant property has a value for each synapse, since no connection can be seen to share it.
    n = np.where(repeat, gathered.n_synapses, sample.counts)
    unknown = constant | (gathered.n_multi == 0)
    if name == N_SYN_PER_CONN:
        n, repeat, unknown = sample.counts, np.zeros_like(repeat), np.ones_like(unknown)
    n_unique = count_distinct(sample) if {"statistics", "values"} & set(spec.tables) else n
    only = np.where(repeat, n, 0)
    makers: dict[str, Callable[[], dict[str, pa.Array]]] = {
        "statistics": lambda: _statistics(gathered, n, n_unique, unknown),
        "histograms": lambda: _histograms(gathered, spec.bins, only),
        "values": lambda: _distinct_values(gathered, n_unique, n, only),
        "order_statistics": lambda: _order_statistics(gathered),
    }
    names = names_to_arrow(spec.properties)
    found = {}
    for kind in spec.tables:
        columns = makers[kind]()
        number = np.full(len(columns["group"]), spec.properties.index(name), dtype=np.int16)
        of_property = pa.DictionaryArray.from_arrays(to_arrow(number), names)
        found[kind] = pa.table({"property": of_property, **columns})
    return found


def _statistics(
    gathered: Gathered, n: Ints, n_unique: Ints, unknown: NDArray[np.bool_]
) -> dict[str, pa.Array]:
    """Return the statistics; where it is ``unknown`` whether connections share values, null."""
    sample = gathered.sample
    of_values = moments(sample)
    of_connections = of_values if gathered.means is sample else moments(gathered.means)
    numbers = {
        **of_values,
        **quantiles(sample),
        "connection_mean": of_connections["mean"],
        "connection_std": of_connections["std"],
    }
    return {
        "group": to_arrow(gathered.group),
        "n": to_arrow(n),
        "n_null": to_arrow(gathered.n_values - sample.counts),
        "n_multi": to_arrow(gathered.n_multi),
        "shared_within": to_arrow(~gathered.per_synapse, unknown),
        "n_unique": to_arrow(n_unique),
        **{key: to_arrow(values, np.isnan(values)) for key, values in numbers.items()},
    }


def _histograms(
    gathered: Gathered, bins: int | tuple[float, ...], only: Ints
) -> dict[str, pa.Array]:
    """Return counts by bin; ``only`` is how often a constant group's value counts, else 0."""
    sample = gathered.sample
    edges, counts = histograms(sample, bins)
    of_one = only[sample.some, None]
    counts = np.where(of_one > 0, (counts > 0) * of_one, counts)
    n_bins = counts.shape[1]
    return {
        "group": to_arrow(np.repeat(gathered.group[sample.some], n_bins)),
        "bin": to_arrow(np.tile(np.arange(n_bins, dtype=np.int32), sample.some.size)),
        "left": to_arrow(edges[:, :-1].ravel()),
        "right": to_arrow(edges[:, 1:].ravel()),
        "count": to_arrow(counts.ravel()),
    }


def _distinct_values(
    gathered: Gathered, n_unique: Ints, n: Ints, only: Ints
) -> dict[str, pa.Array]:
    """Return distinct values and their counts, for groups where these are few."""
    sample = gathered.sample
    n_unique = n_unique[sample.some]
    few = (n_unique == 1) | ((n_unique <= VALUES_AT_MOST) & (n_unique < sample.n))
    of_some, values, counts = distinct_values(sample, few)
    of_value = sample.some[of_some]
    counts = np.where(only[of_value] > 0, only[of_value], counts)
    return {
        "group": to_arrow(gathered.group[of_value]),
        "value": to_arrow(values),
        "count": to_arrow(counts),
        "p": to_arrow(counts / n[of_value]),
    }


def _order_statistics(gathered: Gathered) -> dict[str, pa.Array]:
    sample = gathered.sample
    kept = [ranks(n) for n in sample.n.tolist()]
    sizes = np.array([r.size for r in kept], dtype=np.int64)
    rank = np.concatenate([np.empty(0, dtype=np.int64), *kept])
    value = sample.at(np.repeat(np.arange(sizes.size), sizes), rank)
    offsets = to_arrow(np.concatenate([[0], np.cumsum(sizes)]))
    return {
        "group": to_arrow(gathered.group[sample.some]),
        "rank": pa.LargeListArray.from_arrays(offsets, to_arrow(rank)),
        "value": pa.LargeListArray.from_arrays(offsets, to_arrow(value)),
    }
