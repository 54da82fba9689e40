"""The pathways' samples of one property, put together from the statistics tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops.arrays import Bools, Floats, Ints
from connprops.arrays.histogram import column_edges, normals_through_histograms
from connprops.arrays.sorted_samples import RANKS_AT_MOST
from connprops.errors import OptionError
from connprops.families.composed import other_values
from connprops.families.sample import BLOCK, POINTS, Known, Moments, Sample, weighted_points
from connprops.fits.samples.levels import Levels, Places, borrowed_levels
from connprops.fits.samples.tables import LARGE, StatisticsTables, largest_first
from connprops.pathways import Pathways
from connprops.schema import N_SYN_PER_CONN, Property
from connprops.statistics.statistics import Statistics


@dataclass(frozen=True)
class Samples(Moments):
    """Samples in parts, each as wide as its own points: pools have many, most pathways few.

    What is computed of each group alone is computed of :meth:`blocks`, whose arrays are small.

    Attributes
    ----------
    parts
        The samples of all groups, part behind part.
    place
        Where among these each group is, (g,).
    """

    parts: tuple[Sample, ...]
    place: Places

    @classmethod
    def of(cls, *parts: Sample, place: Places | None = None) -> Self:
        """Put samples of one property behind each other, or in their place."""
        if place is None:
            place = np.arange(sum(len(part) for part in parts))
        moments = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts])[place]
            for field in fields(Moments)
        }
        return cls(**moments, parts=parts, place=place)

    def with_pools(self, pools: Sample, which: Places) -> Samples:
        """Return these groups, as pools of their own, and then others: those of some pools."""
        place = np.append(self.place, which + len(self))
        return Samples.of(*(part.alone() for part in self.parts), pools, place=place)

    @property
    def known(self) -> Known:
        """Return what is known of all values."""
        return self.parts[0].known

    @property
    def is_integer(self) -> bool:
        """Return whether the values come from an integer column."""
        return self.parts[0].is_integer

    @property
    def whole(self) -> bool:
        """Return whether all values are whole numbers."""
        return all(part.whole.all() for part in self.parts)

    @property
    def exact(self) -> Bools:
        """Return whether a group's points are its distinct values, (g,)."""
        return np.concatenate([part.exact for part in self.parts])[self.place]

    @property
    def width(self) -> Places:
        """Return how many points a group's part has room for, (g,)."""
        of_parts = [np.full(len(part), part.value.shape[1]) for part in self.parts]
        return np.concatenate(of_parts)[self.place]

    def with_known(self, known: Known) -> Samples:
        """Return these samples with something else known of them."""
        return replace(self, parts=tuple(replace(part, known=known) for part in self.parts))

    def largest(self, among: Bools | None = None) -> Places:
        """Return the groups of most values, ascending: all, unless there are very many.

        With ``among``, of all groups, (g,), they are among those alone.
        """
        rows = np.arange(len(self)) if among is None else np.flatnonzero(among)
        if rows.size <= LARGE:
            return rows
        return np.sort(rows[largest_first(self.n[rows])[:LARGE]])

    def samples(self, rows: Places) -> Sample:
        """Return some groups, by index, as samples of one width."""
        part, row = self._parts_of(rows)
        used = np.unique(part) if rows.size else [0]
        width = max(self.parts[i].value.shape[1] for i in used)
        arrays: dict[str, Any] = {}
        for i in used:
            places = np.flatnonzero(part == i)
            own = self.parts[i].take(row[places])
            if len(used) == 1 and own.value.shape[1] == width:
                return own
            beyond = ((0, 0), (0, width - own.value.shape[1]))
            own = replace(
                own, value=np.pad(own.value, beyond, "edge"), weight=np.pad(own.weight, beyond)
            )
            for field in fields(own):
                if isinstance(column := getattr(own, field.name), np.ndarray):
                    whole = arrays.setdefault(
                        field.name, np.empty((rows.size, *column.shape[1:]), column.dtype)
                    )
                    whole[places] = column
        return replace(self.parts[0], **arrays)

    def moments(self, rows: Places) -> Sample:
        """Return some groups, by index, with no points but their extremes: for what needs none."""
        return _without_points(self.take(rows), self.parts[0])

    def other_moments(self, rows: Places) -> Sample:
        """Return the same of their values beside the point, of groups in ascending order."""
        blocks, others = [], []
        for block, part in self.blocks(rows):
            blocks.append(block)
            others.append(_without_points(other_values(part), part))
        order = np.argsort(np.concatenate(blocks))
        return Samples.of(*others, place=order).moments(np.arange(rows.size))

    def blocks(self, rows: Places) -> Iterator[tuple[Places, Sample]]:
        """Give groups, by index, part by part, and their samples, as many as there is room for.

        How groups are divided depends on nothing but the samples. What compares them with
        distributions takes as much for each as :data:`POINTS`, however few it has.
        """
        part, _ = self._parts_of(rows)
        width = np.array([max(each.value.shape[1], POINTS) for each in self.parts])
        if rows.size * width.max() <= BLOCK:
            yield rows, self.samples(rows)
            return
        for i in np.unique(part):
            own, size = rows[part == i], max(BLOCK // int(width[i]), 1)
            for start in range(0, own.size, size):
                block = own[start : start + size]
                yield block, self.samples(block)

    def _parts_of(self, rows: Places) -> tuple[Places, Places]:
        """Return the part that each group is in, and its row there."""
        first = np.cumsum([0, *(len(part) for part in self.parts[:-1])])
        place = self.place[rows]
        part = np.searchsorted(first, place, side="right") - 1
        return part, place - first[part]


def _without_points(moments: Moments, like: Sample) -> Sample:
    """Return samples with no points but their extremes."""
    own = {field.name: getattr(moments, field.name) for field in fields(Moments)}
    ends = np.stack([moments.min, moments.max], axis=1)
    half = np.stack([moments.n, moments.n], axis=1) / 2
    return replace(like, **own, value=ends, weight=half, exact=np.zeros(len(moments), dtype=bool))


@dataclass(frozen=True)
class PropertySamples:
    """The samples of one property in all pathways."""

    tables: StatisticsTables
    prop: Property

    @cached_property
    def rows(self) -> pl.DataFrame:
        """Return the statistics of the pathways that have values.

        A constant pathway counts its value once per synapse, for it cannot tell whether connections
        share it. Where the other pathways tell that they do, it is one value per connection.
        """
        rows = self.tables.statistics(self.prop.name).filter(pl.col("n") > 0)
        shared = pl.col("shared_within")
        if self.prop.name == N_SYN_PER_CONN or not rows.select(overall_shared()).item():
            return rows
        constant = shared.is_null() & (pl.col("n_unique") == 1) & (pl.col("n_null") == 0)
        connections = pl.when(constant).then(pl.col("n_sampled")).otherwise(pl.col("n"))
        return rows.with_columns(connections.alias("n"))

    @cached_property
    def observed(self) -> Samples:
        """Return the samples of these pathways."""
        return _samples_of(self.rows, self.tables, self.prop)

    @cached_property
    def levels(self) -> Levels:
        """Return from which of these pathways the others borrow."""
        tables = self.tables
        return borrowed_levels(tables.source, tables.target, self.rows["pathway"].to_numpy())

    @cached_property
    def all(self) -> Samples:
        """Return the observed samples, then those pooled for pathways without data."""
        levels, observed = self.levels, self.observed
        if not levels.n_pools:
            return observed
        pools = self._pooled().samples(np.arange(levels.n_samples))
        return observed.with_pools(pools, levels.sample_of_pool)

    def _pooled(self) -> Samples:
        """Return the samples of pools, made of as many points at once as a block has room for."""
        levels, observed = self.levels, self.observed
        order = np.argsort(levels.pool, kind="stable")
        member, pool = levels.member[order], levels.pool[order]
        ends = np.cumsum(np.bincount(pool, observed.width[member], levels.n_samples))
        of_samples, start = [], 0
        while start < levels.n_samples:
            room = BLOCK + (ends[start - 1] if start else 0)
            stop = max(start + 1, int(np.searchsorted(ends, room, side="right")))
            own = slice(*np.searchsorted(pool, [start, stop]))
            part = observed.samples(member[own])
            of_samples.append(part.pool(pool[own] - start, stop - start))
            start = stop
        return Samples.of(*of_samples)


def overall_shared() -> pl.Expr:
    """Return whether connections share a property, by the votes of all that can tell.

    A pathway has as many votes as connections of two synapses or more; a tie means no, and no
    vote at all yes.
    """
    votes = pl.when(pl.col("shared_within")).then(pl.col("n_multi")).otherwise(-pl.col("n_multi"))
    tells = pl.col("shared_within").is_not_null()
    return pl.when(tells.any()).then(votes.filter(tells).sum() > 0).otherwise(pl.lit(value=True))


def _samples_of(rows: pl.DataFrame, tables: StatisticsTables, prop: Property) -> Samples:
    """Return the samples of the pathways in ``rows``: moments, and weighted points.

    The points are the distinct values where these were few, else the order statistics, each
    with the ranks nearest to it. Pathways of about as many points make a part.
    """
    groups = rows.select("pathway", "n", "n_unique", pl.int_range(pl.len()).alias("group"))
    values, ranked = (
        frame.join(groups, on="pathway", maintain_order="left")
        for frame in (tables.values(prop.name), tables.order_statistics(prop.name))
    )
    ranked = ranked.join(values, on="group", how="anti", maintain_order="left")
    n_ranks = ranked["rank"].list.len().to_numpy().astype(np.intp)
    times = values.select(pl.when(pl.col("n_unique") == 1).then(pl.col("n")).otherwise("count"))
    group = np.concatenate(
        [values["group"].to_numpy(), np.repeat(ranked["group"].to_numpy(), n_ranks)]
    ).astype(np.intp)
    value = np.concatenate(
        [values["value"].to_numpy(), ranked["value"].explode(empty_as_null=False).to_numpy()]
    )
    weight = np.concatenate(
        [times.to_series().to_numpy().astype(np.float64), _rank_weights(ranked, n_ranks)]
    )
    whole = np.zeros(len(rows), dtype=np.bool_)
    whole[values["group"].unique().to_numpy()] = True
    n = rows["n"].to_numpy().astype(np.float64)
    known = whole | (n <= RANKS_AT_MOST)
    moments: dict[str, Any] = {
        name: rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        for name in ("mean", "std", "min", "max", "mean_log", "std_log", "skewness", "kurtosis")
    }
    points_at_most = max(POINTS, len(prop.labels or ()))  # codes are not thinned
    count = np.bincount(group, minlength=len(rows))
    wide = np.ceil(np.log2(np.clip(count, 1, POINTS))).astype(np.intp)
    parts, members = [], []
    for each in np.unique(wide) if len(rows) else [0]:
        member, own = np.flatnonzero(wide == each), wide[group] == each
        number = np.searchsorted(member, group[own])
        points, weights, few = weighted_points(
            number, value[own], weight[own], member.size, points_at_most
        )
        parts.append(
            Sample(
                n=n[member],
                **{name: moment[member] for name, moment in moments.items()},
                value=points,
                weight=weights,
                exact=few & known[member],
                is_integer=prop.dtype.startswith(("int", "uint")),
                points_at_most=points_at_most,
            )
        )
        members.append(member)
    return Samples.of(*parts, place=np.argsort(np.concatenate(members)))


def _rank_weights(ranked: pl.DataFrame, n_ranks: NDArray[np.intp]) -> Floats:
    """Return how many values each order statistic stands for: half way to its neighbours."""
    if not n_ranks.size:
        return np.empty(0)
    rank = ranked["rank"].explode(empty_as_null=False).to_numpy().astype(np.float64)
    last = np.cumsum(n_ranks) - 1
    upper = np.empty(rank.size)
    upper[:-1] = (rank[:-1] + rank[1:]) / 2 + 0.5
    upper[last] = ranked["n"].to_numpy()
    lower = np.empty(rank.size)
    lower[1:] = upper[:-1]
    lower[last - n_ranks + 1] = 0.0
    return upper - lower


def histograms_of(
    stats: Statistics, prop: Property, pathways: Pathways, numbers: NDArray[np.intp]
) -> list[tuple[Ints, NDArray[Any]]]:
    """Return counts and edges of the histograms of some pathways, in their order."""
    histograms = (
        stats.histograms.filter(pl.col("property") == prop.name)
        .group_by(pathways.number_of_row.alias("pathway"))
        .agg(pl.col("left", "count").sort_by("bin"), pl.col("right").sort_by("bin").last())
        .collect()
    )
    of_numbers = pl.DataFrame({"pathway": numbers.astype(np.int64)}).join(
        histograms, on="pathway", maintain_order="left"
    )
    if len(of_numbers) < len(numbers):
        raise OptionError.of(
            "Truncated normals through histograms need one of each pathway",
            found=f"none of {len(numbers) - len(of_numbers):,} pathways of {prop.name!r}",
            hint="fit them to the values (truncnorm='mle')",
        )
    return [
        (np.array(row["count"]), column_edges(row["left"], row["right"], prop.dtype))
        for row in of_numbers.iter_rows(named=True)
    ]


def truncnorms_through_histograms(
    sample: Sample, histograms: Sequence[tuple[NDArray[Any], NDArray[Any]]]
) -> dict[str, Floats]:
    """Return the parameters of truncated normal distributions as connectome-manipulator has them.

    Histograms are counts and edges; the samples' ranges are the supports.
    """
    normals = normals_through_histograms(histograms)
    moments = np.stack([sample.mean, sample.std], axis=1)
    location, scale = np.where(np.isnan(normals), moments, normals).T
    return {"norm_loc": location, "norm_scale": scale, "min": sample.min, "max": sample.max}
