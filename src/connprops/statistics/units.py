"""Which groups are aggregated together, and where: the plan of an extraction, carried out.

The groups are cut into buckets whose rows fit in memory. Each bucket is a unit of work: a small
specification from which any process that sees the dataset's folder computes the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from connprops.arrays import Ints
from connprops.dataset.dataset import Dataset
from connprops.dataset.selection import Choice, Groups
from connprops.export.parts import ROW_GROUP
from connprops.progress import Progress
from connprops.resources import Resources, release_memory
from connprops.statistics.bucket import Aggregates, BucketSpec, aggregate_bucket
from connprops.statistics.rows import DatasetRows, RowSource, SpilledRows
from connprops.statistics.rows_in_order import FILES_AT_MOST, N_FILES, RowsAhead, RowsInOrder
from connprops.workers import Workers, number_of, of_each_worker, run_units

_BYTES_OF_ENDS = 32
"""What a connection costs besides its properties: its nodes, its size, and their order."""

_BYTES_PER_VALUE = 56
"""What a value costs that is being aggregated: copies, sorted, and the file's own."""

_SHARE_OF_BUCKET = 8
"""A bucket takes one part in so many of the memory: sizes are guesses, and results stay."""

_LEAST, _MOST_PER_THREAD = 1 << 26, 1 << 27
"""Bytes that a bucket may always take; and those for each thread, of two at least, beyond which no
more groups join it, for nothing is gained by that."""

_READ_AHEAD_FROM = 1 << 31
"""Bytes of memory from which a bucket is read while the one before is worked on."""

_UNITS_PER_WORKER = 4
"""Units for each worker, or some would wait for the last."""

_PASSES_AT_MOST = 8
"""Passes over all rows beyond which these are put in order on disk first."""

_RANGES_AT_ONCE = 200
"""Ranges of groups that are put in order on disk in one pass: each takes two open files."""


@dataclass(frozen=True)
class Bucket:
    """A range of groups, and the properties of theirs that are aggregated at once."""

    first: int
    stop: int
    properties: tuple[str, ...]
    on_disk: bool
    n_connections: int


@dataclass(frozen=True)
class Unit:
    """All that is needed to aggregate a bucket, wherever the dataset's folder can be read."""

    folder: Path
    choices: tuple[Choice, ...]
    spec: BucketSpec
    threads: int
    temp_dir: Path
    rows: RowSource | None  # other than the dataset itself


def aggregate_unit(unit: Unit) -> list[Aggregates]:
    """Return the statistics of a bucket, for each of the unit's choices of nodes."""
    dataset = Dataset(unit.folder)
    groups = [choice.grouping(dataset).groups for choice in unit.choices]
    rows = unit.rows or DatasetRows(dataset, _any_of(groups), unit.threads)
    found = aggregate_bucket(rows, groups, unit.spec, unit.threads, unit.temp_dir)
    release_memory()  # or each bucket would leave pieces that the next has no use for
    return found


def aggregate(
    dataset: Dataset,
    choices: Sequence[Choice],
    spec: BucketSpec,
    sizes: pl.DataFrame,
    resources: Resources,
    progress: Progress | None,
) -> list[list[Aggregates]]:
    """Aggregate some properties of some groups, bucket by bucket.

    Parameters
    ----------
    dataset
        Where the rows are.
    choices
        How nodes form groups, and which take part: once, or once for each member of a family.
    spec
        What to compute; its range, and what depends on memory, are set here.
    sizes
        The groups in order: ``group``, ``n_connections``, ``n_synapses``.
    resources
        What may be used, and where to work.
    progress
        Called as buckets get done.

    Returns
    -------
    list
        For each choice, what the buckets give, in their order.
    """
    buckets = plan_buckets(dataset, spec.properties, sizes, resources)
    results: list[list[Aggregates]] = [[] for _ in choices]
    found = dict(aggregate_buckets(dataset, choices, spec, buckets, resources, progress))
    for i in range(len(buckets)):
        for of_choice, aggregates_of_choice in zip(results, found[i], strict=True):
            of_choice.append(aggregates_of_choice)
    return results


def plan_buckets(
    dataset: Dataset,
    properties: tuple[str, ...],
    sizes: pl.DataFrame,
    resources: Resources,
    n_shards: int = 1,
) -> list[Bucket]:
    """Cut the groups into buckets whose rows fit in a worker's memory, enough for all workers.

    Parameters are those of :func:`aggregate`; of ``n_shards``, each has as many workers.
    """
    at_least = _UNITS_PER_WORKER * number_of(resources.workers) * n_shards
    resources = of_each_worker(resources)
    plan = _Plan(dataset, properties, resources.threads, _allowed(resources))
    return plan.buckets(sizes, at_least)


def aggregate_buckets(
    dataset: Dataset,
    choices: Sequence[Choice],
    spec: BucketSpec,
    buckets: Sequence[Bucket],
    resources: Resources,
    progress: Progress | None,
) -> Iterator[tuple[int, list[Aggregates]]]:
    """Aggregate buckets; give each one's number and what it gave for each choice, as they end.

    Parameters are those of :func:`aggregate`.
    """
    resources, workers = of_each_worker(resources), resources.workers
    total, done = sum(b.n_connections * len(b.properties) for b in buckets), 0
    before = 0
    for some, rows in _with_rows(dataset, choices, buckets, spec.properties, resources, workers):
        units = [
            Unit(
                dataset.folder, tuple(choices),
                replace(spec, first=bucket.first, stop=bucket.stop, properties=bucket.properties,
                        sort_on_disk=bucket.on_disk, memory=_allowed(resources)),
                _threads_beside(rows, resources), resources.temp_dir, rows,
            )
            for bucket in some
        ]  # fmt: skip
        for i, aggregates in run_units(aggregate_unit, units, workers, "bucket"):
            yield before + i, aggregates
            done += some[i].n_connections * len(some[i].properties)
            if progress:
                n = len(spec.properties)
                progress("extract", done // n, total // n, "connections")
        before += len(some)


def _threads_beside(rows: RowSource | None, resources: Resources) -> int:
    """Return how many threads work on a bucket: one is busy where the next is read meanwhile."""
    return resources.threads - isinstance(rows, RowsAhead)


def bytes_at_once(buckets: Sequence[Bucket], dataset: Dataset, resources: Resources) -> int:
    """Return the bytes that a worker takes for the largest of some buckets, about."""
    plan = _Plan(dataset, (), of_each_worker(resources).threads, 0)
    per_connection = dataset.n_synapses / max(dataset.n_connections, 1)
    costs = (
        plan.cost(np.array([b.n_connections]), np.array([b.n_connections * per_connection]),
                  b.properties).sum()
        for b in buckets
    )  # fmt: skip
    return int(max(costs, default=0))


def _allowed(resources: Resources) -> int:
    """Return the bytes that a bucket may take."""
    return max(resources.memory // _SHARE_OF_BUCKET, _LEAST)


def _with_rows(
    dataset: Dataset,
    choices: Sequence[Choice],
    buckets: Sequence[Bucket],
    properties: Sequence[str],
    resources: Resources,
    workers: Workers,
) -> Iterator[tuple[Sequence[Bucket], RowSource | None]]:
    """Give the buckets with their rows: those of the dataset, or put in order on disk in between.

    Choices differ in the nodes that are selected; the rows are those of any of them.
    """
    groups = _any_of([choice.grouping(dataset).groups for choice in choices])
    by_range = [list(same) for _, same in groupby(buckets, key=lambda bucket: bucket.first)]
    one_pass = groups.is_pathway and _fits_one_pass(dataset, buckets, resources)
    in_place = groups.is_pathway and not _reads_too_often(dataset, len(by_range), resources)
    if workers is not None and (in_place or len(by_range) == 1):
        yield buckets, None
        return
    rows = DatasetRows(dataset, groups, resources.threads)
    if one_pass or in_place or len(by_range) == 1:
        with ExitStack() as stack:
            source: RowSource = rows
            together = [(b.first, b.stop, b.properties) for b in buckets if not b.on_disk]
            if one_pass:
                source = stack.enter_context(RowsInOrder(dataset, groups, together))
            if resources.threads > 1 and resources.memory >= _READ_AHEAD_FROM:
                source = stack.enter_context(RowsAhead(source, together))
            yield buckets, source
        return
    for at in range(0, len(by_range), _RANGES_AT_ONCE):
        some = by_range[at : at + _RANGES_AT_ONCE]
        ranges = [(same[0].first, same[0].stop) for same in some]
        with TemporaryDirectory(dir=resources.temp_dir, prefix="connprops-") as folder:
            spilled = SpilledRows(rows, groups, ranges, properties, Path(folder))
            yield [bucket for same in some for bucket in same], spilled


def _fits_one_pass(dataset: Dataset, buckets: Sequence[Bucket], resources: Resources) -> bool:
    """Return whether pathways can be read in one pass: what it keeps of each part fits in memory.

    Workers have no part in this: each would have to make a pass of its own.
    """
    properties = {bucket.properties for bucket in buckets if not bucket.on_disk}
    if resources.workers is not None or len(properties) != 1:
        return False
    row = _BYTES_OF_ENDS + 8 * len(*properties)
    kept = N_FILES * dataset.n_parts * ROW_GROUP * row
    return N_FILES * dataset.n_parts <= FILES_AT_MOST and kept <= _allowed(resources)


def _reads_too_often(dataset: Dataset, n_ranges: int, resources: Resources) -> bool:
    """Return whether reading ranges of pathways where they are takes many passes over all rows.

    A range takes at least one row group of each part. Workers elsewhere may not see what is put in
    order here, so theirs are read in place in any case.
    """
    if not (resources.workers is None or isinstance(resources.workers, int)):
        return False
    of_range = min(ROW_GROUP * dataset.n_parts, dataset.n_connections)
    return n_ranges * of_range > _PASSES_AT_MOST * dataset.n_connections


def _any_of(several: Sequence[Groups]) -> Groups:
    """Return the groups with the nodes that any of several select."""
    return replace(
        several[0],
        source_code=np.maximum.reduce([groups.source_code for groups in several]),
        target_code=np.maximum.reduce([groups.target_code for groups in several]),
    )


@dataclass(frozen=True)
class _Plan:
    """What decides how groups are cut into buckets."""

    dataset: Dataset
    properties: tuple[str, ...]
    threads: int
    allowed: int

    def buckets(self, sizes: pl.DataFrame, at_least: int) -> list[Bucket]:
        """Cut the groups into ranges whose rows fit into the memory allowed.

        The properties of a group that alone is too large are taken apart, as far as need be; where
        one of them is still too large, it is sorted on disk.
        """
        groups, n, n_synapses = (
            sizes[name].to_numpy() for name in ("group", "n_connections", "n_synapses")
        )
        cost = self.cost(n, n_synapses, self.properties)
        most = _MOST_PER_THREAD * max(self.threads, 2)
        share = min(self.allowed, max(_LEAST, min(most, int(cost.sum()) // at_least)))
        found: list[Bucket] = []
        first, spent = 0, 0
        for i in range(groups.size):
            if spent and spent + cost[i] > share:
                found += self._range(groups[first:i], n[first:i], n_synapses[first:i])
                first, spent = i, 0
            spent += int(cost[i])
        if groups.size:
            found += self._range(groups[first:], n[first:], n_synapses[first:])
        return found

    def _range(self, groups: Ints, n: Ints, n_synapses: Ints) -> list[Bucket]:
        """Return the buckets of one range of groups, with as many properties at once as fit."""
        at_once = len(self.properties)

        def fits(some: tuple[str, ...]) -> bool:
            return bool(self.cost(n, n_synapses, some).sum() <= self.allowed)

        while at_once > 1 and not fits(self.properties[:at_once]):
            at_once = (at_once + 1) // 2
        first, stop, size = int(groups[0]), int(groups[-1]) + 1, int(n.sum())
        parts = [self.properties[i : i + at_once] for i in range(0, len(self.properties), at_once)]
        return [Bucket(first, stop, part, not fits(part), size) for part in parts]

    def cost(self, n: Ints, n_synapses: Ints, properties: Sequence[str]) -> Ints:
        """Return the bytes that groups take while some of their properties are aggregated."""
        varying = sum(c.varies for c in self.dataset.columns if c.name in properties)
        at_work = _BYTES_PER_VALUE * min(self.threads, len(properties))
        cost = n * (_BYTES_OF_ENDS + 8 * len(properties) + at_work)
        if varying:
            cost = cost + n_synapses * (8 * varying + at_work)
        return np.asarray(cost)
