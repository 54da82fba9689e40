"""Correlations between the properties of pathways, from a dataset.

Properties that connections share are compared connection by connection, those that vary within
connections synapse by synapse, each synapse counting alike. The number of synapses of a connection
is not among them: it says how many values there are of the others.

A pathway's correlations rest on at most :data:`~connprops.statistics.units.CONNECTIONS_AT_MOST`
connections.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np
import polars as pl

from connprops import schema
from connprops.arrays import Bools, Floats, Ints
from connprops.arrays.gather import run_rows, run_starts
from connprops.arrays.normal_scores import FEWEST, Scores, latent_correlations, normal_scores
from connprops.arrays.random_numbers import sampling_key
from connprops.dataset.dataset import Dataset
from connprops.dataset.selection import Groups
from connprops.resources import Resources
from connprops.statistics.rows import Rows, RowSource
from connprops.statistics.units import CONNECTIONS_AT_MOST, GroupTables, Unit, UnitSpec

_BYTES_PER_VALUE = 100
"""What a value costs: read, sorted, scored, and its part in a pair."""

_BYTES_PER_GROUP = 4096
"""What a group costs beside its values: coefficients and grids of some pairs at once."""

_LAYOUT = {
    "group": pl.Int64(), "property": pl.String(), "other_property": pl.String(),
    "n": pl.Int64(), "r": pl.Float64(), "std_error": pl.Float64(),
}  # fmt: skip


@dataclass(frozen=True)
class CorrelationSpec(UnitSpec):
    """Whose correlations to compute: how nodes form groups, of which properties, how sampled.

    Of all pairs of properties; but a pair has no row where one of the two has one value, or pairs
    of values are fewer than :data:`FEWEST`, or where one varies within connections and the other
    does not.
    """

    connections_at_most: int = CONNECTIONS_AT_MOST

    kind: ClassVar[str] = "ranges"
    unit_name: ClassVar[str] = "range of pathways"
    step: ClassVar[str] = "correlations"
    in_memory: ClassVar[bool] = False
    fewest: ClassVar[int] = FEWEST

    @property
    def sample_size(self) -> int:
        """Return the number of connections that a group's correlations rest on at most."""
        return min(self.max_sample_size or self.connections_at_most, self.connections_at_most)

    def bytes_of(
        self, dataset: Dataset, sizes: pl.DataFrame, properties: Sequence[str], threads: int
    ) -> Ints:
        """Return the bytes that groups take while they are correlated; threads share them."""
        del threads
        varying = sum(column.varies for column in dataset.columns if column.name in properties)
        n = sizes["n_connections"].to_numpy()
        per_connection = sizes["n_synapses"].to_numpy() / np.maximum(n, 1)
        values = np.minimum(n, self.sample_size) * (len(properties) + 1 + per_connection * varying)
        return np.asarray(values * _BYTES_PER_VALUE + _BYTES_PER_GROUP, dtype=np.int64)

    def compute(
        self, rows: RowSource, groups: Sequence[Groups], unit: Unit, resources: Resources
    ) -> list[GroupTables]:
        """Return the correlations of a range of groups, for each way in which nodes form them."""
        tables = []
        for of_choice in groups:
            frames = [pl.DataFrame(schema=_LAYOUT)]
            sample = _smallest_keys(rows, unit, self, of_choice)
            if sample is not None:
                with ThreadPoolExecutor(resources.threads) as pool:
                    for layer in _layers(sample, self, of_choice):
                        frames += _of_layer(layer, pool)
            tables.append({schema.CORRELATIONS.name: pl.concat(frames).to_arrow()})
        return tables


def _smallest_keys(
    source: RowSource, unit: Unit, spec: CorrelationSpec, groups: Groups
) -> Rows | None:
    """Return the sampled connections of a range of groups, in the order of group and key."""
    kept: list[Rows] = []
    n = n_sampled = 0
    for chunk in source.chunks(unit.first, unit.stop, unit.properties):
        kept.append(chunk)
        n += chunk.connections.num_rows
        if n > 2 * max(n_sampled, spec.sample_size):
            kept = [_sampled(kept, spec, groups)]
            n = n_sampled = kept[0].connections.num_rows
    return _sampled(kept, spec, groups) if kept else None


def _sampled(chunks: Sequence[Rows], spec: CorrelationSpec, groups: Groups) -> Rows:
    whole = Rows.concat(chunks)
    group = groups.of(whole.connections)
    source, target = (
        whole.connections.column(f"{side}_node").to_numpy() for side in ("source", "target")
    )
    order = np.lexsort((target, source, sampling_key(spec.seed, source, target), group))
    in_order = group[order]
    starts = run_starts(in_order)
    rank = np.arange(order.size) - np.repeat(starts, np.diff(starts, append=order.size))
    return whole.sort(order[rank < spec.sample_size])


@dataclass(frozen=True)
class _Layer:
    """Values of the same rows, connections or synapses, ordered by group.

    ``belongs`` tells for each property in which groups its values are such: (g,).
    """

    group: Ints
    counts: Ints
    values: dict[str, Floats]
    belongs: dict[str, Bools]


def _layers(rows: Rows, spec: CorrelationSpec, groups: Groups) -> Iterator[_Layer]:
    """Give the values of connections, then those of synapses, each where they are what varies."""
    of_row = groups.of(rows.connections)
    starts = run_starts(of_row)
    counts, n_syn = np.diff(starts, append=of_row.size), rows.n_syn
    within = {
        name: np.logical_or.reduceat(column.is_null().to_numpy(), starts)
        for name in spec.properties
        if (column := rows.connections.column(name)).null_count
    }
    nowhere = np.zeros(starts.size, dtype=np.bool_)
    values = {
        name: rows.connections.column(name).fill_null(0).to_numpy().astype(np.float64)
        for name in spec.properties
    }
    belongs = {name: ~within.get(name, nowhere) for name in spec.properties}
    yield _Layer(of_row[starts], counts, values, belongs)
    several = np.sum(list(within.values()), axis=0) > 1 if within else nowhere
    if not several.any():
        return
    chosen = np.repeat(several, counts)
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
    finite = {name: np.isfinite(values) for name, values in layer.values.items()}
    complete_names = [name for name in names if finite[name].all()]
    scored = pool.map(lambda name: normal_scores(layer.values[name], layer.counts), complete_names)
    scores: dict[str, Scores] = dict(zip(complete_names, scored, strict=True))

    def correlate(pair_: tuple[str, str]) -> pl.DataFrame:
        property_, other = pair_
        both = layer.belongs[property_] & layer.belongs[other]
        group, counts = layer.group, layer.counts
        if property_ in scores and other in scores:
            latent = latent_correlations(scores[property_], scores[other])
        else:
            complete = finite[property_] & finite[other]
            starts = np.cumsum(counts) - counts
            counts = np.add.reduceat(complete.astype(np.int64), starts)
            has = counts > 0
            group, counts, both = group[has], counts[has], both[has]
            latent = latent_correlations(
                *(normal_scores(layer.values[name][complete], counts) for name in pair_)
            )
        kept = both & np.isfinite(latent.r)
        columns = {
            "group": group[kept], "property": property_, "other_property": other, "n": counts[kept],
            "r": latent.r[kept], "std_error": latent.std_error[kept],
        }  # fmt: skip
        return pl.DataFrame(columns, schema=_LAYOUT).with_columns(
            pl.col("std_error").fill_nan(None)
        )

    return pool.map(correlate, combinations(names, 2))
