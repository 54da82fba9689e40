"""The pathways' samples of one property, put together from the statistics tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops import schema
from connprops.arrays import Floats
from connprops.arrays.sorted_samples import RANKS_AT_MOST
from connprops.families.histogram import column_edges
from connprops.families.sample import Sample, weighted_points
from connprops.fits.levels import Levels
from connprops.schema import N_SYN_PER_CONN, Property
from connprops.statistics.statistics import Statistics


@dataclass(frozen=True)
class Tables:
    """The statistics tables, and the pathways by their place in the matrix of types."""

    statistics: pl.DataFrame
    values: pl.DataFrame
    order_statistics: pl.DataFrame
    source: pl.DataFrame
    target: pl.DataFrame
    observed: NDArray[np.intp]  # pathways with data: source index * number of targets + target

    @classmethod
    def of(cls, stats: Statistics) -> Tables:
        """Collect the tables of some statistics."""
        sides = {
            side: stats.types.filter(pl.col("side") == side).sort("code").with_row_index("index")
            for side in ("source", "target")
        }
        n_target = len(sides["target"])

        def placed(frame: pl.LazyFrame) -> pl.DataFrame:
            """Return a table with the pathways as numbers, in order."""
            place = pl.col("source_type").to_physical().cast(pl.Int64) * n_target
            return (
                frame.collect()
                .with_columns((place + pl.col("target_type").to_physical()).alias("pathway"))
                .sort("pathway", maintain_order=True)
            )

        sampled = stats.pathways.select(*schema.PATHWAY, "n_sampled")
        table = placed(stats.table.join(sampled, on=schema.PATHWAY, maintain_order="left"))
        return cls(
            table,
            placed(stats.values),
            placed(stats.order_statistics),
            sides["source"],
            sides["target"],
            table["pathway"].unique().sort().to_numpy().astype(np.intp),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of source and target types."""
        return len(self.source), len(self.target)


def observed_rows(tables: Tables, prop: Property) -> pl.DataFrame:
    """Return the statistics of one property, of the pathways that have values.

    A constant pathway counts its value once per synapse, for it cannot tell whether connections
    share it. Where the other pathways tell that they do, it is one value per connection.
    """
    rows = tables.statistics.filter((pl.col("property") == prop.name) & (pl.col("n") > 0))
    shared = pl.col("shared_within")
    if prop.name == N_SYN_PER_CONN or not rows.select(overall_shared()).item():
        return rows
    constant = shared.is_null() & (pl.col("n_unique") == 1) & (pl.col("n_null") == 0)
    connections = pl.when(constant).then(pl.col("n_sampled")).otherwise(pl.col("n"))
    return rows.with_columns(connections.alias("n"))


def overall_shared() -> pl.Expr:
    """Return whether connections share a property, by the votes of all that can tell.

    A pathway has as many votes as connections of two synapses or more; a tie means no, and no
    vote at all yes.
    """
    votes = pl.when(pl.col("shared_within")).then(pl.col("n_multi")).otherwise(-pl.col("n_multi"))
    known = pl.col("shared_within").is_not_null()
    return pl.when(known.any()).then(votes.filter(known).sum() > 0).otherwise(pl.lit(value=True))


def sample_of(rows: pl.DataFrame, tables: Tables, prop: Property) -> Sample:
    """Return the samples of the pathways in ``rows``: moments, and weighted points.

    The points are the distinct values where these were few, else the order statistics, each
    with the ranks nearest to it.
    """
    index = rows.select("pathway", pl.int_range(pl.len()).alias("group"))
    values = tables.values.filter(pl.col("property") == prop.name).join(
        index, on="pathway", maintain_order="left"
    )
    sorted_samples = (
        tables.order_statistics.filter(pl.col("property") == prop.name)
        .join(index, on="pathway", maintain_order="left")
        .join(values, on="group", how="anti", maintain_order="left")
        .join(rows.select("pathway", "n"), on="pathway", maintain_order="left")
    )
    kept = sorted_samples["rank"].list.len().to_numpy().astype(np.intp)
    weights = _rank_weights(sorted_samples, kept)
    group = np.concatenate([values["group"].to_numpy(),
                            np.repeat(sorted_samples["group"].to_numpy(), kept)])  # fmt: skip
    ordered = sorted_samples["value"].explode(empty_as_null=False)
    value = np.concatenate([values["value"].to_numpy(), ordered.to_numpy()])
    counts = values.join(
        rows.select("pathway", "n", "n_unique"), on="pathway", maintain_order="left"
    )
    times = counts.select(pl.when(pl.col("n_unique") == 1).then(pl.col("n")).otherwise("count"))
    weight = np.concatenate([times.to_series().to_numpy().astype(np.float64), weights])
    points, weights, few = weighted_points(group.astype(np.intp), value, weight, len(rows))
    whole = np.zeros(len(rows), dtype=np.bool_)
    whole[values["group"].unique().to_numpy()] = True
    n = rows["n"].to_numpy().astype(np.float64)
    moments = {
        name: rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        for name in ("mean", "std", "min", "max", "mean_log", "std_log", "skewness", "kurtosis")
    }
    return Sample(
        n=n,
        **moments,
        value=points,
        weight=weights,
        exact=few & (whole | (n <= RANKS_AT_MOST)),
        is_integer=prop.dtype.startswith(("int", "uint")),
    )


def _rank_weights(samples: pl.DataFrame, kept: NDArray[np.intp]) -> Floats:
    """Return how many values each order statistic stands for: half way to its neighbours."""
    if not kept.size:
        return np.empty(0)
    rank = samples["rank"].explode(empty_as_null=False).to_numpy().astype(np.float64)
    last = np.cumsum(kept) - 1
    upper = np.empty(rank.size)
    upper[:-1] = (rank[:-1] + rank[1:]) / 2 + 0.5
    upper[last] = samples["n"].to_numpy()
    lower = np.empty(rank.size)
    lower[1:] = upper[:-1]
    lower[last - kept + 1] = 0.0
    return upper - lower


def with_pools(observed: Sample, levels: Levels) -> Sample:
    """Return the observed samples, then those pooled for pathways without data."""
    if not levels.n_pools:
        return observed
    n = len(observed)
    members = np.concatenate([np.arange(n), levels.member])
    to = np.concatenate([np.arange(n), n + levels.pool])
    return observed.take(members).pool(to, n + levels.n_pools)


def histograms_of(
    stats: Statistics, prop: Property, tables: Tables, pathways: NDArray[np.intp]
) -> list[tuple[NDArray[np.int64], NDArray[Any]]]:
    """Return counts and edges of the histograms of some pathways, in their order."""
    n_target = tables.shape[1]
    frame = (
        stats.histograms.filter(pl.col("property") == prop.name)
        .with_columns(
            (
                pl.col("source_type").to_physical().cast(pl.Int64) * n_target
                + pl.col("target_type").to_physical()
            ).alias("pathway")
        )
        .group_by("pathway")
        .agg(pl.col("left", "count").sort_by("bin"), pl.col("right").sort_by("bin").last())
        .collect()
    )
    found = {row["pathway"]: row for row in frame.iter_rows(named=True)}
    rows = [found[pathway] for pathway in pathways.tolist()]
    return [
        (np.array(row["count"]), column_edges(row["left"], row["right"], prop.dtype))
        for row in rows
    ]
