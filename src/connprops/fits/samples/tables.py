"""The tables of statistics, the rows of one property at a time; and ranges of their pathways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops import schema
from connprops.arrays import Ints
from connprops.arrays.random_numbers import bits
from connprops.arrays.sorted_samples import RANKS_AT_MOST
from connprops.families.sample import POINTS
from connprops.pathways import Pathways
from connprops.resources import Resources
from connprops.schema import N_SYN_PER_CONN, Property
from connprops.statistics.statistics import Statistics

_THREADS = 4
"""Properties that are fitted at once, at most: more are no faster."""

_BYTES_OF_BLOCKS, _BYTES_PER_PATHWAY, _BYTES_PER_POINT = 100_000_000, 3_000, 80
"""What fitting a property takes: for a block, and for the samples of all pathways, each with room
for up to twice its points, of which there are several at times."""

_SHARE_OF_FITS, _SHARE_OF_RANGES, _SHARE_OF_TABLES = 0.5, 0.9, 0.1
"""Shares of the memory for properties being fitted, for ranges of one, whose finished fits are
packed, and for whole tables: finished fits have the rest."""

_BYTES_PER_ROW, _BYTES_PER_RANK = 400, 32
"""What tables take in memory, at most."""

_NOT_FITTED = ("q05", "q25", "q50", "q75", "q95", "connection_mean", "connection_std")
"""Columns that say nothing to fits."""

_TABLES = ("table", "values", "order_statistics")

_ALL = pl.lit(value=True)

LARGE = 20_000
"""Pathways, those of most values, on which families are chosen: more say no more."""


@dataclass(frozen=True)
class Ranges:
    """How a property of very many pathways is fitted: by ranges of source types.

    Attributes
    ----------
    numbers
        Pathways that have values, increasing.
    reference
        Those that each range is fitted with: of most values, by chance, and with the extremes.
    bounds
        The first number of each range, and that of the next: (start, stop).
    """

    numbers: Ints
    reference: Ints
    bounds: list[tuple[int, int]]


@dataclass(frozen=True)
class StatisticsTables:
    """The statistics tables, of which the rows of one property at a time are in memory.

    All properties of many pathways are more than their fits take. Where they have ``room``, in
    bytes, they are read once: files are in the order of pathways.

    Attributes
    ----------
    further
        Numbers of pathways that have values and no rows here: they do not borrow.
    lends
        Whether pathways without data borrow from these here.
    at_once, in_range, reference
        Number of pathways up to which a property is fitted at once; of more, ranges of so many are,
        each together with so many others.
    """

    stats: Statistics
    source: pl.DataFrame
    target: pl.DataFrame
    pathways: Pathways
    room: int = 0
    further: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    lends: bool = True
    at_once: int = 1_000_000
    in_range: int = 200_000
    reference: int = 2 * LARGE

    @classmethod
    def of(cls, stats: Statistics, resources: Resources | None = None) -> StatisticsTables:
        """Open the tables of statistics; those that must be computed are, all in one pass."""
        source, target = (
            stats.types.filter(pl.col("side") == side).sort("code") for side in ("source", "target")
        )
        for name in _TABLES:
            getattr(stats, name).select(pl.len()).collect()
        pathways = Pathways(source["type"].to_list(), target["type"].to_list())
        room = int((resources or Resources()).memory * _SHARE_OF_TABLES)
        return cls(stats, source, target, pathways, room)

    @cached_property
    def _sizes(self) -> pl.Series:
        """Return the numbers of synapses of the pathways that have statistics."""
        rows = self.stats.pathways.filter(pl.col("n_sampled") > 0)
        return rows.select("n_synapses").collect().to_series()

    @property
    def n_pathways(self) -> int:
        """Return the number of pathways that have statistics."""
        return len(self._sizes)

    def fits_at_once(self, n_properties: int, resources: Resources) -> int:
        """Return how many properties are fitted at once, by threads or processes."""
        workers = resources.workers
        most = workers if isinstance(workers, int) else min(resources.threads, _THREADS)
        allowed = int(resources.memory * _SHARE_OF_FITS) // self._bytes_of(self._sizes)
        return max(1, min(most, n_properties, allowed))

    def ranges_at_once(self, ranges: Ranges, resources: Resources) -> int:
        """Return how many ranges of a property are fitted at once, by processes."""
        largest = self._sizes.top_k(ranges.reference.size + self.in_range)
        allowed = int(resources.memory * _SHARE_OF_RANGES) // self._bytes_of(largest)
        workers = resources.workers if isinstance(resources.workers, int) else 1
        return max(1, min(workers, len(ranges.bounds), allowed))

    def _bytes_of(self, sizes: pl.Series) -> int:
        """Return what a fit of pathways takes that have so many synapses."""
        n_points = int(2 * sizes.clip(upper_bound=POINTS).sum())
        return _BYTES_OF_BLOCKS + _BYTES_PER_PATHWAY * len(sizes) + _BYTES_PER_POINT * n_points

    @cached_property
    def synapses_of_connection(self) -> pl.DataFrame:
        """Return, by ``pathway``, the mean ``size`` of the connection that a synapse is of."""
        mean, std = pl.col("mean"), pl.col("std")
        counts = self.statistics(N_SYN_PER_CONN)
        return counts.select("pathway", (mean + std**2 / mean).alias("size"))

    def statistics(self, name: str) -> pl.DataFrame:
        """Return the statistics of a property: :data:`connprops.schema.STATISTICS`, ``pathway``.

        They have ``n_sampled``, the number of connections that they rest on, too.
        """
        sampled = self.stats.pathways.select(*schema.PATHWAY, "n_sampled")
        rows = self._of_property("table", name)
        return rows.join(sampled.collect(), on=schema.PATHWAY, maintain_order="left")

    def values(self, name: str) -> pl.DataFrame:
        """Return the distinct values: :data:`connprops.schema.VALUES`, ``pathway``."""
        return self._of_property("values", name)

    def order_statistics(self, name: str) -> pl.DataFrame:
        """Return the thinned samples: :data:`connprops.schema.ORDER_STATISTICS`, ``pathway``."""
        return self._of_property("order_statistics", name)

    def of_property(self, name: str, which: pl.Expr = _ALL) -> dict[str, pl.DataFrame]:
        """Return all that the fit of a property takes, as rows of the tables of statistics.

        ``which`` of them may be said by their types.
        """
        rows = {table: self._own(table, name, which) for table in _TABLES}
        if name != N_SYN_PER_CONN:
            counts = self._own("table", N_SYN_PER_CONN, which)
            rows["table"] = pl.concat([rows["table"], counts])
        pathways = self.stats.pathways.filter(which).collect()
        return {"pathways": pathways, "statistics": rows.pop("table"), **rows}

    def _own(self, table: str, name: str, which: pl.Expr = _ALL) -> pl.DataFrame:
        """Return rows of a property."""
        if self._has_room:
            rows = self._parts[table].get((name,), self._parts[table][()])
            return rows if which is _ALL else rows.filter(which)
        own = self._rows(table).filter(pl.col("property") == name, which)
        return own.collect(engine="streaming")

    @property
    def is_divided(self) -> bool:
        """Return whether pathways are so many that they are not fitted at once."""
        return self.n_pathways > self.at_once

    def ranges(self, prop: Property) -> Ranges | None:
        """Return the ranges that a property is fitted by; None where it is fitted at once."""
        rows = self._rows("table").filter(pl.col("property") == prop.name, pl.col("n") > 0)
        number = self.pathways.number_of_row.alias("pathway")
        told = rows.select(number, "n", "min", "max").collect(engine="streaming")
        told = told.sort("pathway")
        if len(told) <= self.at_once:
            return None
        numbers = told["pathway"].to_numpy()
        reference = [_reference(told, self.reference), self._not_whole(prop)]
        return Ranges(numbers, np.unique(np.concatenate(reference)), self._bounds(numbers))

    def _not_whole(self, prop: Property) -> Ints:
        """Return a pathway that has a value which is no whole number, if there is one."""
        none: Ints = np.empty(0, dtype=np.int64)
        if not prop.dtype.startswith("float"):
            return none
        for table in ("values", "order_statistics"):
            rows = self._rows(table).filter(pl.col("property") == prop.name)
            if table == "order_statistics":
                rows = rows.select(*schema.PATHWAY, "value").explode("value")
            first = rows.filter(pl.col("value") != pl.col("value").floor()).head(1)
            number = first.select(self.pathways.number_of_row).collect().to_series()
            if len(number):
                return number.to_numpy()
        return none

    def _bounds(self, numbers: Ints) -> list[tuple[int, int]]:
        """Return ranges of about so many pathways, each with all those of its source types."""
        width = len(self.target)
        firsts = np.unique(numbers[:: self.in_range] // width * width)
        firsts[0] = 0
        return list(pairwise([*firsts.tolist(), len(self.pathways)]))

    def _of_property(self, table: str, name: str) -> pl.DataFrame:
        """Return rows of a property with the number of their ``pathway``, in that order."""
        own = self._own(table, name)
        numbered = own.with_columns(self.pathways.number_of_row.alias("pathway"))
        if numbered["pathway"].is_sorted():  # as files are: a copy of all columns less
            return numbered
        return numbered.sort("pathway", maintain_order=True)

    def _rows(self, table: str) -> pl.LazyFrame:
        """Return what fits read of a table."""
        rows: pl.LazyFrame = getattr(self.stats, table)
        return rows.drop(_NOT_FITTED, strict=False)

    @property
    def _has_room(self) -> bool:
        """Return whether the tables of all properties may stay in memory."""
        ranks = int(self._sizes.clip(upper_bound=RANKS_AT_MOST).sum())
        of_one = _BYTES_PER_ROW * self.n_pathways + _BYTES_PER_RANK * ranks
        return of_one * len(self.stats.properties) <= self.room

    @cached_property
    def _parts(self) -> Mapping[str, Mapping[tuple[Any, ...], pl.DataFrame]]:
        """Return the rows of each property, by table; none at all are those of no property."""
        whole = {name: self._rows(name).collect() for name in _TABLES}
        return {
            name: {(): rows.clear(), **rows.partition_by("property", as_dict=True)}
            for name, rows in whole.items()
        }


def largest_first(n: NDArray[Any]) -> NDArray[np.intp]:
    """Return the order of groups by their number of values, of equal ones by chance.

    Chance here is a hash of their place: their values must not decide, or the smallest would stand
    for all.
    """
    return np.lexsort((bits(np.arange(n.size, dtype=np.uint64)), -n))


def _reference(told: pl.DataFrame, size: int) -> Ints:
    """Return pathways that stand for all: those of most values, others by chance, extremes."""
    number, n, least, most = (told[name].to_numpy() for name in told.columns)
    largest = largest_first(n)[: size // 2]
    by_chance = np.argsort(bits(number.astype(np.uint64)), kind="stable")[: size // 2]
    return np.asarray(number[[*largest, *by_chance, least.argmin(), most.argmax()]])
