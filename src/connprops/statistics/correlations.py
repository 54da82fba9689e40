"""Correlations between the properties of pathways, from a dataset.

Properties that connections share are compared connection by connection, those that vary within
connections synapse by synapse, each synapse counting alike. The number of synapses of a connection
is not among them: it says how many values there are of the others.

A pathway's correlations rest on at most :data:`CONNECTIONS_AT_MOST` connections, those with the
smallest sampling keys, of which a standard error is below 0.004.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from connprops.arrays import Floats, Ints
from connprops.arrays.normal_scores import FEWEST, Scores, latent_correlations, normal_scores
from connprops.arrays.random_numbers import sampling_key
from connprops.arrays.runs import run_rows
from connprops.dataset.dataset import Dataset
from connprops.dataset.selection import Choice, Groups
from connprops.progress import Progress
from connprops.resources import Resources
from connprops.schema import N_SYN_PER_CONN
from connprops.statistics.rows import DatasetRows, Rows, RowSource, SpilledRows
from connprops.workers import number_of, of_each_worker, run_units

CONNECTIONS_AT_MOST = 100_000

_BYTES_PER_VALUE = 100
"""What a value costs: read, sorted, scored, and its part in a pair."""

_BYTES_PER_GROUP = 4096
"""What a group costs beside its values: coefficients and grids of some pairs at once."""

_SHARE = 8
"""A range of groups takes one part in so many of the memory: sizes are guesses."""

_LEAST = 1 << 25
"""Bytes that a range may always take."""

_UNITS_PER_WORKER = 4
"""Units for each worker, or some would wait for the last."""

_RANGES_AT_ONCE = 200
"""Ranges of groups that are put in order on disk in one pass: each takes two open files."""


@dataclass(frozen=True)
class CorrelationSpec:
    """Whose correlations to compute: how nodes form groups, of which properties, how sampled."""

    choice: Choice
    properties: tuple[str, ...]
    max_sample_size: int | None
    seed: int

    @property
    def at_most(self) -> int:
        """Return the number of connections that a group's correlations rest on at most."""
        return min(self.max_sample_size or CONNECTIONS_AT_MOST, CONNECTIONS_AT_MOST)


@dataclass(frozen=True)
class GroupRange:
    """A range of groups, how many connections it has, and how many of them are used."""

    first: int
    stop: int
    n_connections: int
    n_used: int


@dataclass(frozen=True)
class _Unit:
    """All that is needed to correlate a range of groups, wherever the dataset can be read."""

    folder: Path
    spec: CorrelationSpec
    range: GroupRange
    threads: int
    spilled: SpilledRows | None


def correlate_unit(unit: _Unit) -> pa.Table:
    """Return the correlations of a range of groups; Arrow crosses processes safely."""
    dataset = Dataset(unit.folder)
    groups = unit.spec.choice.grouping(dataset).groups
    rows = unit.spilled or DatasetRows(dataset, groups)
    chosen = _smallest_keys(rows, unit.range, unit.spec, groups)
    frames = [pl.DataFrame(schema=_FRAME)]
    if chosen is not None:
        with ThreadPoolExecutor(unit.threads) as pool:
            frames += _of_rows(chosen, unit.spec, groups, pool)
    return pl.concat(frames).to_arrow()


def correlations(
    dataset: Dataset,
    spec: CorrelationSpec,
    sizes: pl.DataFrame,
    resources: Resources,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Return the correlations of all pairs of properties in each group.

    Parameters
    ----------
    dataset
        Where the values come from.
    spec
        What to compute.
    sizes
        The groups, in order: ``group``, ``n_connections``, ``n_synapses``.
    resources
        What may be used, and where to work.
    progress
        Called as ranges of groups get done.

    Returns
    -------
    polars.DataFrame
        ``group`` and the columns of :data:`connprops.schema.CORRELATIONS` but the types. A pair has
        no row where one of the two has one value, or pairs of values are fewer than
        ``arrays.normal_scores.FEWEST``, or where one varies within connections and the
        other does not.
    """
    ranges = plan_ranges(dataset, spec, sizes, resources)
    found = dict(correlate(dataset, spec, ranges, resources, progress))
    return pl.concat([pl.DataFrame(schema=_FRAME), *(found[i] for i in range(len(ranges)))])


def plan_ranges(
    dataset: Dataset,
    spec: CorrelationSpec,
    sizes: pl.DataFrame,
    resources: Resources,
    n_shards: int = 1,
) -> list[GroupRange]:
    """Cut the groups into ranges whose sampled rows fit in a worker's memory.

    Parameters are those of :func:`correlations`; of ``n_shards``, each has as many workers.
    """
    told = sizes.filter(pl.col("n_synapses") >= FEWEST)
    at_least = _UNITS_PER_WORKER * number_of(resources.workers) * n_shards
    allowed = max(of_each_worker(resources).memory // _SHARE, _LEAST)
    return list(_ranges(dataset, spec, told, allowed, at_least))


def correlate(
    dataset: Dataset,
    spec: CorrelationSpec,
    ranges: Sequence[GroupRange],
    resources: Resources,
    progress: Progress | None = None,
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Correlate ranges of groups; give each one's number and its correlations, as they end.

    Parameters are those of :func:`correlations`.
    """
    resources, workers = of_each_worker(resources), resources.workers
    done, total, before = 0, sum(one.n_connections for one in ranges), 0
    for some, spilled in _with_rows(dataset, spec, ranges, resources):
        units = [_Unit(dataset.folder, spec, one, resources.threads, spilled) for one in some]
        for i, frame in run_units(correlate_unit, units, workers, "range of pathways"):
            yield before + i, pl.DataFrame(frame)
            done += some[i].n_connections
            if progress:
                progress("correlations", done, total, "connections")
        before += len(some)


_FRAME = {
    "group": pl.Int64(), "property": pl.String(), "other_property": pl.String(),
    "n": pl.Int64(), "r": pl.Float64(), "std_error": pl.Float64(),
}  # fmt: skip


def _ranges(
    dataset: Dataset, spec: CorrelationSpec, sizes: pl.DataFrame, allowed: int, at_least: int
) -> Iterator[GroupRange]:
    """Cut the groups into ranges of which the sampled rows fit into the memory allowed."""
    if sizes.is_empty():  # no pathway has connections enough
        return
    varying = sum(column.varies for column in dataset.columns if column.name in spec.properties)
    group, n = sizes["group"].to_numpy(), sizes["n_connections"].to_numpy()
    used = np.minimum(n, spec.at_most)
    per_connection = sizes["n_synapses"].to_numpy() / np.maximum(n, 1)
    values = used * (len(spec.properties) + 1 + per_connection * varying)
    cost = values * _BYTES_PER_VALUE + _BYTES_PER_GROUP
    if at_least > _UNITS_PER_WORKER:  # several workers share
        allowed = min(allowed, max(int(cost.sum()) // at_least, _LEAST))
    place = (np.cumsum(cost) - cost) // allowed
    edges = np.flatnonzero(np.diff(place, prepend=-1.0))
    for start, stop in zip(edges.tolist(), [*edges[1:].tolist(), group.size], strict=True):
        yield GroupRange(
            int(group[start]), int(group[stop - 1]) + 1,
            int(n[start:stop].sum()), int(used[start:stop].sum()),
        )  # fmt: skip


def _with_rows(
    dataset: Dataset, spec: CorrelationSpec, ranges: Sequence[GroupRange], resources: Resources
) -> Iterator[tuple[Sequence[GroupRange], SpilledRows | None]]:
    """Give the ranges with their rows: of the dataset, or put in order on disk in between."""
    groups = spec.choice.grouping(dataset).groups
    if groups.is_pathway or len(ranges) <= 1:
        yield ranges, None
        return
    rows = DatasetRows(dataset, groups)
    for at in range(0, len(ranges), _RANGES_AT_ONCE):
        some = ranges[at : at + _RANGES_AT_ONCE]
        places = [(one.first, one.stop) for one in some]
        with TemporaryDirectory(dir=resources.temp_dir, prefix="connprops-") as folder:
            yield some, SpilledRows(rows, groups, places, spec.properties, Path(folder))


def _smallest_keys(
    source: RowSource, wanted: GroupRange, spec: CorrelationSpec, groups: Groups
) -> Rows | None:
    """Return the sampled connections of a range of groups, in the order of group and key."""
    kept: list[Rows] = []
    n = 0
    for chunk in source.chunks(wanted.first, wanted.stop, spec.properties):
        kept.append(chunk)
        n += chunk.connections.num_rows
        if n > 2 * wanted.n_used:
            kept = [_sampled(kept, spec, groups)]
            n = kept[0].connections.num_rows
    return _sampled(kept, spec, groups) if kept else None


def _sampled(chunks: Sequence[Rows], spec: CorrelationSpec, groups: Groups) -> Rows:
    whole = Rows(
        pa.concat_tables([chunk.connections for chunk in chunks]),
        pa.concat_tables([chunk.synapses for chunk in chunks]),
    )
    group = groups.of(whole.connections)
    source, target = (
        whole.connections.column(f"{side}_node").to_numpy() for side in ("source", "target")
    )
    order = np.lexsort((target, source, sampling_key(spec.seed, source, target), group))
    in_order = group[order]
    starts = np.flatnonzero(np.diff(in_order, prepend=-1))
    rank = np.arange(order.size) - np.repeat(starts, np.diff(starts, append=order.size))
    return whole.sort(order[rank < spec.at_most])


@dataclass(frozen=True)
class _Layer:
    """Values of the same rows, connections or synapses, ordered by group.

    ``belongs`` tells for each property in which groups its values are such: (g,).
    """

    group: Ints
    counts: Ints
    values: dict[str, Floats]
    belongs: dict[str, NDArray[np.bool_]]


def _of_rows(
    rows: Rows, spec: CorrelationSpec, groups: Groups, pool: ThreadPoolExecutor
) -> list[pl.DataFrame]:
    """Return the correlations of the groups that rows are of."""
    found: list[pl.DataFrame] = []
    for layer in _layers(rows, spec, groups):
        found += _of_layer(layer, pool)
    return found


def _layers(rows: Rows, spec: CorrelationSpec, groups: Groups) -> Iterator[_Layer]:
    """Give the values of connections, then those of synapses, each where they are what varies."""
    of_row = groups.of(rows.connections)
    starts = np.flatnonzero(np.diff(of_row, prepend=-1))
    n_syn = rows.connections.column(N_SYN_PER_CONN).to_numpy().astype(np.int64)
    within = {
        name: np.logical_or.reduceat(column.is_null().to_numpy(), starts)
        for name in spec.properties
        if (column := rows.connections.column(name)).null_count
    }
    nowhere = np.zeros(starts.size, dtype=np.bool_)
    yield _Layer(
        of_row[starts],
        np.diff(starts, append=of_row.size),
        {
            name: rows.connections.column(name).fill_null(0).to_numpy().astype(np.float64)
            for name in spec.properties
        },
        {name: ~within.get(name, nowhere) for name in spec.properties},
    )
    several = np.sum(list(within.values()), axis=0) > 1 if within else nowhere
    if not several.any():
        return
    chosen = np.repeat(several, np.diff(starts, append=of_row.size))
    first = np.cumsum(n_syn) - n_syn
    at = run_rows(first[chosen], n_syn[chosen])
    yield _Layer(
        of_row[starts][several],
        np.add.reduceat(n_syn, starts)[several],
        {name: rows.synapses.column(name).to_numpy()[at].astype(np.float64) for name in within},
        {name: of_group[several] for name, of_group in within.items()},
    )


def _of_layer(layer: _Layer, pool: ThreadPoolExecutor) -> Iterable[pl.DataFrame]:
    """Return the correlations of the pairs of properties in a layer."""
    names = list(layer.values)
    known = {name: np.isfinite(values) for name, values in layer.values.items()}
    whole = [name for name in names if known[name].all()]
    scored = pool.map(lambda name: normal_scores(layer.values[name], layer.counts), whole)
    scores: dict[str, Scores] = dict(zip(whole, scored, strict=True))

    def pair(names: tuple[str, str]) -> pl.DataFrame:
        one, other = names
        both = layer.belongs[one] & layer.belongs[other]
        group, counts = layer.group, layer.counts
        if one in scores and other in scores:
            found = latent_correlations(scores[one], scores[other])
        else:
            complete = known[one] & known[other]
            starts = np.cumsum(counts) - counts
            counts = np.add.reduceat(complete.astype(np.int64), starts)
            has = counts > 0
            group, counts, both = group[has], counts[has], both[has]
            found = latent_correlations(
                *(normal_scores(layer.values[name][complete], counts) for name in names)
            )
        kept = both & np.isfinite(found.r)
        told = pl.DataFrame(
            {
                "group": group[kept], "n": counts[kept],
                "r": found.r[kept], "std_error": found.std_error[kept],
            }
        )  # fmt: skip
        return told.select(
            "group", pl.lit(one).alias("property"), pl.lit(other).alias("other_property"),
            "n", "r", pl.col("std_error").fill_nan(None),
        )  # fmt: skip

    return pool.map(pair, combinations(names, 2))
