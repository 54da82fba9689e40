"""Every statistic of a bucket of groups from one sort of its values.

A bucket is a range of groups, of pathways as a rule. A result is a function of the sorted values of
a group alone, so it does not depend on threads, buckets, parts, memory, or the order of the file.
A bucket whose rows fit in memory is worked on at once, vectorised over its groups; values of a
group that does not fit are sorted in a file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from connprops.arrays import Bools, Floats, Ints
from connprops.arrays.arrow import names_to_arrow, to_arrow, to_numpy
from connprops.arrays.gather import Runs, run_rows, run_starts
from connprops.arrays.normal_scores import Classes, intraclass_correlations
from connprops.arrays.random_numbers import sampling_key
from connprops.arrays.sorted_samples import (
    RANKS_AT_MOST,
    SortedSamples,
    append_to_file,
    count_distinct,
    smallest,
    sort_file,
    sort_samples,
)
from connprops.dataset.dataset import Dataset
from connprops.dataset.selection import Groups
from connprops.resources import Resources
from connprops.schema import N_SYN_PER_CONN
from connprops.statistics.group_tables import (
    OF_CONNECTIONS,
    Gathered,
    distinct_values_of,
    histograms_of,
    order_statistics_of,
    statistics_of,
)
from connprops.statistics.rows import ColumnValues, Rows, RowSource
from connprops.statistics.units import (
    BYTES_OF_ENDS,
    CONNECTIONS_AT_MOST,
    TABLES_OF,
    GroupTables,
    Unit,
    UnitSpec,
    concat_tables,
)

_BYTES_PER_VALUE = 80
"""What a value costs that is being aggregated: copies, sorted, and the file's own."""

_BYTES_PER_RESULT = 128
"""What a row of results costs: as arrays, as a table, and as one with the names of types."""


@dataclass(frozen=True)
class BucketSpec(UnitSpec):
    """What to aggregate: which statistics of which properties, how sampled.

    Several choices (folds, say) are computed in one pass over the rows. All values of the
    ``labelled`` properties are listed, however many they are: there is no number between codes.
    Groups of fewer than ``histogram_from`` values have no histogram. Of the statistics, ``columns``
    are computed, None for all; others may be null.
    Correlations within connections rest on at most ``connections_at_most`` of each group.
    """

    bins: int | tuple[float, ...]
    min_sample_size: int | None
    labelled: tuple[str, ...] = ()
    connections_at_most: int = CONNECTIONS_AT_MOST
    histogram_from: int = 1
    tables: tuple[str, ...] = tuple(table.name for table in TABLES_OF["buckets"])
    columns: frozenset[str] | None = None

    kind: ClassVar[str] = "buckets"
    unit_name: ClassVar[str] = "bucket"
    step: ClassVar[str] = "extract"
    in_memory: ClassVar[bool] = True
    fewest: ClassVar[int] = 1

    def asks(self, columns: Iterable[str]) -> bool:
        """Return whether some of these statistics are asked for."""
        wanted = self.columns is None or not self.columns.isdisjoint(columns)
        return wanted and "statistics" in self.tables

    def bytes_of(
        self, dataset: Dataset, sizes: pl.DataFrame, properties: Sequence[str], threads: int
    ) -> Ints:
        """Return the bytes that groups take while some of their properties are aggregated."""
        varying = sum(c.varies for c in dataset.columns if c.name in properties)
        at_work = _BYTES_PER_VALUE * min(threads, len(properties))
        cost = sizes["n_connections"].to_numpy() * (BYTES_OF_ENDS + 8 * len(properties) + at_work)
        n_values = sizes["n_connections"].to_numpy()
        if varying:
            n_values = sizes["n_synapses"].to_numpy()
            cost = cost + n_values * (8 * (varying + 1) + at_work)  # and the scores of ranks
        n_bins = self.bins if isinstance(self.bins, int) else len(self.bins)
        rows = 1 + n_bins * (n_values >= self.histogram_from) + np.minimum(n_values, RANKS_AT_MOST)
        return np.asarray(cost + len(properties) * rows * _BYTES_PER_RESULT)

    def compute(
        self, rows: RowSource, groups: Sequence[Groups], unit: Unit, resources: Resources
    ) -> list[GroupTables]:
        """Return the tables of a bucket, for each way in which nodes form groups."""
        if unit.on_disk:
            return [_aggregate_on_disk(rows, g, unit, self, resources.temp_dir) for g in groups]
        chunks = list(rows.chunks(unit.first, unit.stop, unit.properties))
        if not chunks:
            return [{} for _ in groups]
        whole = Rows.concat(chunks)
        del chunks
        return [_aggregate_rows(whole, g, unit, self, resources.threads) for g in groups]


def _aggregate_rows(
    rows: Rows, groups: Groups, unit: Unit, spec: BucketSpec, threads: int
) -> GroupTables:
    """Return the tables of the connections among the rows that are of the groups."""
    bucket = _sampled(_bucket(rows, groups, unit), rows, spec)
    if bucket.group.size == 0:
        return {}
    several = None
    if spec.asks(OF_CONNECTIONS):  # for correlations within them
        several = _at_most(spec.connections_at_most, bucket, rows, spec)
        several = several.take(several.n_syn > 1)

    def of_property(name: str) -> GroupTables:
        return tables_of_property(name, _gather(rows.column(name), bucket, several), spec)

    if threads == 1:
        return concat_tables([of_property(name) for name in unit.properties])
    with ThreadPoolExecutor(threads) as pool:
        return concat_tables(list(pool.map(of_property, unit.properties)))


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

    def take(self, chosen: Bools) -> _Bucket:
        """Return some of the connections."""
        of_row = np.repeat(self.group, self.counts)[chosen]
        return _grouped(self.rows[chosen], of_row, self.n_syn[chosen], self.first_synapse[chosen])

    @cached_property
    def connections(self) -> Runs:
        """One value of each connection."""
        return Runs(self.rows, np.ones(self.rows.size, dtype=np.int64))

    @cached_property
    def synapses(self) -> Runs:
        """All values of each connection."""
        return Runs(self.first_synapse, self.n_syn)

    @cached_property
    def classes(self) -> Classes:
        """Connections as the classes that their synapses fall into."""
        return Classes(self.n_syn, self.counts)

    @cached_property
    def n_synapses(self) -> Ints:
        """Synapses of each group."""
        return np.add.reduceat(self.n_syn, self.starts)

    @cached_property
    def n_multi(self) -> Ints:
        """Connections of several synapses of each group."""
        return np.add.reduceat((self.n_syn > 1).astype(np.int64), self.starts)


def _bucket(rows: Rows, groups: Groups, unit: Unit) -> _Bucket:
    """Select the connections that are of the groups, and order them by group."""
    n_syn = rows.n_syn
    group = groups.of(rows.connections)
    selected = np.flatnonzero(group >= 0)
    relative = group[selected] - unit.first
    small = unit.stop - unit.first <= 1 << 16  # numpy sorts these by radix
    order = np.argsort(relative.astype(np.uint16) if small else relative, kind="stable")
    selected = selected[order]
    first_synapse = np.cumsum(n_syn) - n_syn
    return _grouped(selected, group[selected], n_syn[selected], first_synapse[selected])


def _grouped(rows: Ints, of_row: Ints, n_syn: Ints, first_synapse: Ints) -> _Bucket:
    starts = run_starts(of_row)
    counts = np.diff(starts, append=rows.size)
    return _Bucket(rows, of_row[starts], starts, counts, n_syn, first_synapse, None)


def _sampled(whole: _Bucket, rows: Rows, spec: BucketSpec) -> _Bucket:
    """Leave out groups that are too small, and take the subsample of those that are large."""
    if spec.min_sample_size is not None:
        enough = np.repeat(whole.counts >= spec.min_sample_size, whole.counts)
        if not enough.all():
            whole = whole.take(enough)
    sample = _at_most(spec.max_sample_size, whole, rows, spec)
    return whole if sample is whole else replace(sample, whole=whole)


def _at_most(limit: int | None, bucket: _Bucket, rows: Rows, spec: BucketSpec) -> _Bucket:
    """Return so many connections of each group at most, those with the smallest keys."""
    if limit is None or not (bucket.counts > limit).any():
        return bucket
    return bucket.take(smallest(_keys(rows, spec)[bucket.rows], bucket.counts, limit))


def _keys(rows: Rows, spec: BucketSpec) -> NDArray[np.uint64]:
    """Return the keys of which a subsample takes the smallest."""
    ends = (to_numpy(rows.connections.column(f"{side}_node")) for side in ("source", "target"))
    return sampling_key(spec.seed, *ends)


def _gather(column: ColumnValues, bucket: _Bucket, several: _Bucket | None) -> Gathered:
    """Bring together and sort one property of a bucket's groups.

    Means of connections and correlations within them, too, if there are ``several``.
    """
    per_synapse = _per_synapse(column, bucket)
    raw, n_values = _pooled(column, bucket, per_synapse)
    sample = sort_samples(raw, n_values)
    n_null = n_values - sample.counts
    if n_null.any():
        n_null = np.where(per_synapse, n_null, _left_out(column, bucket))
    means, icc = None, np.full((2, per_synapse.size), np.nan)
    if several is not None:
        means = _connection_means(column, bucket, per_synapse)
        place = np.searchsorted(bucket.group, several.group)
        icc[:, place] = _intraclass(column, several, per_synapse[place])
    return Gathered(
        group=bucket.group, sample=sample, means=means or sample, n_values=n_values, n_null=n_null,
        n_connections=bucket.counts, n_synapses=bucket.n_synapses, n_multi=bucket.n_multi,
        n_shared=_n_shared(column, bucket, all_finite=not n_null.any()), per_synapse=per_synapse,
        constant=_constant(column, bucket, sample, per_synapse), icc=icc,
    )  # fmt: skip


def _per_synapse(column: ColumnValues, bucket: _Bucket) -> Bools:
    """Return whether some connection of each group has several values."""
    if column.null is None:
        return np.zeros(bucket.group.size, dtype=np.bool_)
    return np.logical_or.reduceat(bucket.connections.of(column.null), bucket.starts)


def _pooled(column: ColumnValues, bucket: _Bucket, per_synapse: Bools) -> tuple[NDArray[Any], Ints]:
    """Return the values of each group, one per connection or per synapse, and how many."""
    if column.of_synapses is None or not per_synapse.any():
        return bucket.connections.of(column.values), bucket.counts
    if per_synapse.all():
        return bucket.synapses.of(column.of_synapses), bucket.n_synapses
    n_values = np.where(np.repeat(per_synapse, bucket.counts), bucket.n_syn, 1)
    values = Runs(bucket.first_synapse, n_values).of(column.of_synapses)
    return values, np.add.reduceat(n_values, bucket.starts)


def _left_out(column: ColumnValues, bucket: _Bucket) -> Ints:
    """Return the synapses without a finite value, of groups whose connections have one each."""
    finite = np.isfinite(bucket.connections.of(column.values))
    return np.asarray(np.add.reduceat(np.where(finite, 0, bucket.n_syn), bucket.starts))


def _n_shared(column: ColumnValues, bucket: _Bucket, *, all_finite: bool = False) -> Ints:
    """Return how many connections of two synapses or more have one finite value."""
    if all_finite and column.null is None:
        return bucket.n_multi
    shares = np.isfinite(column.values) & (True if column.null is None else ~column.null)
    of_connections = bucket.connections.of(shares) & (bucket.n_syn > 1)
    return np.asarray(np.add.reduceat(of_connections.astype(np.int64), bucket.starts))


def _intraclass(column: ColumnValues, several: _Bucket, per_synapse: Bools) -> Floats:
    """Return the correlations within connections and their standard errors, (2, g).

    They are 1 and 0 where connections have one value each, unless all have the same.
    """
    icc = np.full((2, per_synapse.size), np.nan)
    icc[:, _vary(column, several, per_synapse)] = np.array([[1.0], [0.0]])
    if column.of_synapses is not None and per_synapse.any():
        part = several
        if not per_synapse.all():
            part = several.take(np.repeat(per_synapse, several.counts))
        of_synapses = part.synapses.of(column.of_synapses)
        icc[:, per_synapse] = intraclass_correlations(of_synapses, part.classes)
    return icc


def _vary(column: ColumnValues, several: _Bucket, per_synapse: Bools) -> Bools:
    """Return which of the groups of one value per connection have two finite ones that differ."""
    ends = several.starts, several.starts + several.counts - 1
    first, last = (column.values[several.rows[end]] for end in ends)
    vary: Bools = np.isfinite(first) & np.isfinite(last) & (first != last) & ~per_synapse
    unclear = ~vary & ~per_synapse & (several.counts > 1)
    if unclear.any():
        counts = several.counts[unclear]
        rows = several.rows[run_rows(several.starts[unclear], counts)]
        sample = sort_samples(column.values[rows], counts)
        vary[unclear] = sample.spread(sample.low) < sample.spread(sample.high)
    return vary


def _constant(
    column: ColumnValues, bucket: _Bucket, sample: SortedSamples, per_synapse: Bools
) -> Bools:
    """Return which groups have one finite value over all their synapses, sampled or not."""
    constant = np.zeros(bucket.group.size, dtype=np.bool_)
    constant[sample.filled] = sample.low == sample.high
    constant &= ~per_synapse
    if bucket.whole is None or not constant.any():
        return constant
    return constant & _all_the_same(column, bucket.whole)


def _all_the_same(column: ColumnValues, whole: _Bucket) -> Bools:
    """Return which groups have one finite value over all synapses of their rows."""
    per_synapse = _per_synapse(column, whole)
    if per_synapse.all():
        return ~per_synapse
    values = whole.connections.of(column.values)
    low = np.minimum.reduceat(values, whole.starts)
    same = (low == np.maximum.reduceat(values, whole.starts)) & np.isfinite(low)
    return np.asarray(same & ~per_synapse)


def _connection_means(
    column: ColumnValues, bucket: _Bucket, per_synapse: Bools
) -> SortedSamples | None:
    """Return each connection's mean, sorted; None where each connection gives one value."""
    if column.of_synapses is None or not per_synapse.any():
        return None
    # A shared value is its own mean, to the last bit, whatever other groups of the bucket do.
    means = bucket.synapses.means(column.of_synapses)
    if not per_synapse.all():
        varies = np.repeat(per_synapse, bucket.counts)
        means = np.where(varies, means, bucket.connections.of(column.values))
    return sort_samples(means, bucket.counts)


def _aggregate_on_disk(
    rows: RowSource, groups: Groups, unit: Unit, spec: BucketSpec, temp_dir: Path
) -> GroupTables:
    """Return the tables of one group whose values are sorted in files."""
    tables = []
    limits = [
        _key_limit(rows, groups, unit, spec, limit)
        for limit in (spec.max_sample_size, spec.connections_at_most)
    ]
    for name in unit.properties:
        with tempfile.TemporaryDirectory(dir=temp_dir, prefix="connprops-") as folder:
            columns = _columns(rows, groups, unit, spec, name, limits)
            if (gathered := _gather_on_disk(columns, Path(folder))) is not None:
                tables.append(tables_of_property(name, gathered, spec))
    return concat_tables(tables)


KeyLimit = tuple[np.uint64, int] | None
"""Largest key of a subsample, and how many connections have just this key; None for all keys."""


def _key_limit(
    rows: RowSource, groups: Groups, unit: Unit, spec: BucketSpec, limit: int | None
) -> KeyLimit:
    """Return the largest key of a subsample of so many connections."""
    if limit is None:
        return None
    lowest, n = np.empty(0, dtype=np.uint64), 0
    for chunk in rows.chunks(unit.first, unit.stop, ()):
        key = _keys(chunk, spec)[_bucket(chunk, groups, unit).rows]
        n += key.size
        lowest = np.concatenate([lowest, key])
        if lowest.size > limit:
            lowest = np.partition(lowest, limit - 1)[:limit]
    largest = lowest.max(initial=0)
    return (largest, int((lowest == largest).sum())) if n > limit else None


def _columns(
    rows: RowSource, groups: Groups, unit: Unit, spec: BucketSpec, name: str,
    limits: Sequence[KeyLimit],
) -> Iterator[tuple[ColumnValues, _Bucket, _Bucket]]:  # fmt: skip
    """Give a property chunk by chunk, with the connections of statistics, and of correlations."""
    n_tied = [0 for _ in limits]
    for chunk in rows.chunks(unit.first, unit.stop, (name,)):
        whole = _bucket(chunk, groups, unit)
        if not whole.rows.size:
            continue
        key = _keys(chunk, spec)[whole.rows]
        chosen = np.ones(key.size, dtype=np.bool_)
        parts = []
        for i, limit in enumerate(limits):
            if limit is not None:
                tied = key == limit[0]
                chosen &= (key < limit[0]) | (tied & (n_tied[i] + np.cumsum(tied) <= limit[1]))
                n_tied[i] += int(tied.sum())
            parts.append(whole if chosen.all() else replace(whole.take(chosen), whole=whole))
        yield chunk.column(name), parts[0], parts[1].take(parts[1].n_syn > 1)


def _gather_on_disk(
    columns: Iterator[tuple[ColumnValues, _Bucket, _Bucket]], folder: Path
) -> Gathered | None:
    """Bring together one property of one group; only the last chunk tells which values it takes."""
    of_connections, of_synapses, of_means = (folder / name for name in ("each", "all", "means"))
    group, sizes = np.empty(0, np.int64), np.zeros(5, np.int64)
    per_synapse, constant = False, True
    firsts: list[NDArray[Any]] = []
    alike: list[tuple[NDArray[Any], NDArray[Any], Ints]] = []
    for column, bucket, several in columns:
        whole = bucket.whole or bucket
        constant &= bool(_all_the_same(column, whole)[0])
        firsts.append(column.values[whole.rows[:1]])
        if not bucket.rows.size:
            continue
        group = bucket.group
        per_synapse |= bool(_per_synapse(column, bucket)[0])
        counts = (bucket.counts, bucket.n_synapses, bucket.n_multi, _left_out(column, bucket))
        sizes += np.concatenate([*counts, _n_shared(column, bucket)])
        append_to_file(of_connections, bucket.connections.of(column.values))
        values = several.connections.of(column.values)
        synapses = values[:0]
        if column.of_synapses is not None:
            append_to_file(of_synapses, bucket.synapses.of(column.of_synapses))
            append_to_file(of_means, bucket.synapses.means(column.of_synapses))
            synapses = several.synapses.of(column.of_synapses)
        alike.append((values, synapses, several.n_syn))
    if not group.size:
        return None
    sample = sort_file(of_synapses if per_synapse else of_connections, firsts[0].dtype)
    n_values = sizes[[1 if per_synapse else 0]]
    values, synapses, n_syn = (np.concatenate(pieces) for pieces in zip(*alike, strict=True))
    several = _grouped(np.arange(n_syn.size), n_syn * 0, n_syn, np.cumsum(n_syn) - n_syn)
    icc = np.full((2, 1), np.nan)
    icc[:, several.group] = _intraclass(
        ColumnValues(values, None, synapses), several, np.array([per_synapse])[several.group]
    )
    return Gathered(
        group=group, sample=sample,
        means=sort_file(of_means, np.dtype(np.float64)) if per_synapse else sample,
        n_values=n_values, n_null=n_values - sample.counts if per_synapse else sizes[[3]],
        n_connections=sizes[[0]], n_synapses=sizes[[1]], n_multi=sizes[[2]], n_shared=sizes[[4]],
        per_synapse=np.array([per_synapse]),
        constant=np.array([constant and np.unique(np.concatenate(firsts)).size == 1]), icc=icc,
    )  # fmt: skip


def tables_of_property(name: str, gathered: Gathered, spec: BucketSpec) -> GroupTables:
    """Return the tables of one property."""
    sample = gathered.sample
    constant = gathered.constant & (sample.counts == gathered.n_values)
    repeat = constant & (gathered.n_connections > 1) & ~gathered.per_synapse
    # A constant property has a value for each synapse, since no connection can be seen to share it.
    n = np.where(repeat, gathered.n_synapses, sample.counts)
    shows = gathered.per_synapse | (gathered.n_shared > 0)  # that synapses share values, or do not
    unknown = constant | ~shows
    if name == N_SYN_PER_CONN:
        n, repeat, unknown = sample.counts, np.zeros_like(repeat), np.ones_like(unknown)
        none = np.full_like(gathered.icc, np.nan)
        gathered = replace(gathered, n_shared=np.zeros_like(n), icc=none)
    counted = "values" in spec.tables or spec.asks(["n_unique"])
    n_unique = count_distinct(sample) if counted else n
    only = np.where(repeat, n, 0)
    is_labelled = name in spec.labelled
    makers: dict[str, Callable[[], dict[str, pa.Array]]] = {
        "statistics": lambda: statistics_of(gathered, n, n_unique, unknown, spec.asks),
        "histograms": lambda: histograms_of(gathered, spec.bins, only, spec.histogram_from),
        "values": lambda: distinct_values_of(gathered, n_unique, n, only, whole=is_labelled),
        "order_statistics": lambda: order_statistics_of(gathered),
    }
    tables, names = {}, names_to_arrow(spec.properties)
    for kind in spec.tables:
        columns = makers[kind]()
        number = np.full(len(columns["group"]), spec.properties.index(name), dtype=np.int16)
        of_property = pa.DictionaryArray.from_arrays(to_arrow(number), names)
        tables[kind] = pa.table({"property": of_property, **columns})
    return tables
