"""Model beside data: the numbers that charts and the report show of both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops import schema
from connprops.schema import N_SYN_PER_CONN

if TYPE_CHECKING:
    from connprops.model.model import Model
    from connprops.schema import Property

QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}

_BARS_AT_MOST = 100

_TAILS = (0.001, 0.999)
"""Quantiles that bins reach to: about the least and the largest of 1,000 draws."""

_BEYOND_AT_MOST = 1000


def rows_of(frame: pl.DataFrame, **of: str) -> pl.DataFrame:
    """Return the rows whose columns have given values; a value unknown to an Enum finds none."""
    return frame.filter(*(pl.col(name).cast(pl.String) == value for name, value in of.items()))


def whole_numbers(properties: Iterable[Property]) -> set[str]:
    """Return the names of the properties whose values are whole numbers by their type."""
    return {one.name for one in properties if np.issubdtype(np.dtype(one.dtype), np.integer)}


def model_statistics(model: Model) -> pl.DataFrame:
    """Return what a model says of each pathway and property, named as the statistics are.

    Returns
    -------
    polars.DataFrame
        One row per pathway and property: level, distribution, shared_within; mean and std of
        the distribution; its quantiles q05 to q95 within the bounds of drawn values.
    """
    keys = [*schema.PATHWAY, "property"]
    one = model.marginals.select(*keys, "level", "distribution", "shared_within").unique(
        keys, keep="first", maintain_order=True
    )
    place = pl.col("source_type").to_physical().cast(pl.Int64) * len(model.target_types)
    place = (place + pl.col("target_type").to_physical()).alias("place")
    found = []
    for name in model.properties:
        for distributions in model.distributions(name):
            quantiles = distributions.ppf(
                np.tile(list(QUANTILES.values()), (distributions.pathway.size, 1))
            )
            found.append(
                pl.DataFrame(
                    {
                        "place": distributions.pathway,
                        "mean": np.broadcast_to(
                            distributions.family.mean(distributions.parameters),
                            distributions.pathway.shape,
                        ),
                        "std": np.broadcast_to(
                            distributions.family.std(distributions.parameters),
                            distributions.pathway.shape,
                        ),
                        **dict(zip(QUANTILES, quantiles.T, strict=True)),
                    }
                ).with_columns(pl.lit(name).cast(one.schema["property"]).alias("property"))
            )
    if not found:
        return one.with_columns(
            pl.lit(None, dtype=pl.Float64).alias(c) for c in ("mean", "std", *QUANTILES)
        )
    numbers = pl.concat(found).with_columns(
        pl.when(pl.col(pl.Float64).is_finite()).then(pl.col(pl.Float64))
    )
    return (
        one.with_columns(place)
        .join(numbers, on=["place", "property"], how="left", maintain_order="left")
        .drop("place")
    )


def quantile_pairs(
    order_statistics: pl.DataFrame, model: Model, *, at_most: int = 200
) -> pl.DataFrame:
    """Return quantiles of data and model at the same probabilities.

    Of n values, min(n, ``at_most``) quantiles, m, are taken, at the probabilities (i + 1/2) / m
    (Hazen 1914, Trans. ASCE 77:1539); the data's is the order statistic whose own probability
    is nearest.

    Parameters
    ----------
    order_statistics
        :data:`connprops.schema.ORDER_STATISTICS`. The largest value is among them, so its rank
        tells n.

    Returns
    -------
    polars.DataFrame
        One row per row of ``order_statistics`` that the model knows: source_type, target_type,
        property, and the lists p, data, model.
    """
    parts = []
    source, target = (
        pl.col(column).cast(pl.String).cast(pl.Enum(types), strict=False).to_physical()
        for column, types in zip(
            schema.PATHWAY, (model.source_types, model.target_types), strict=True
        )
    )
    place = source.cast(pl.Int64) * len(model.target_types) + target
    placed = order_statistics.with_columns(place=place)
    for name in model.properties:
        rows = rows_of(placed, property=name)
        for distributions in model.distributions(name):
            index = pl.DataFrame({"place": distributions.pathway}).with_row_index("distribution")
            parts.append(
                _pairs(rows.join(index, on="place", maintain_order="left"), distributions, at_most)
            )
    lists = dict.fromkeys(("p", "data", "model"), pl.List(pl.Float64))
    if not parts:
        keys = order_statistics.head(0).select(*schema.PATHWAY, "property")
        return keys.with_columns(pl.lit(None, dtype=t).alias(c) for c, t in lists.items())
    return pl.concat(parts)


def _pairs(rows: pl.DataFrame, distributions: Any, at_most: int) -> pl.DataFrame:
    """Return quantiles of pathways that have distributions of one family."""
    sizes = rows["rank"].list.len().to_numpy()
    n = (rows["rank"].list.last() + 1).to_numpy()
    m = np.minimum(n, at_most)
    column = np.arange(int(m.max(initial=1)))
    p = (np.minimum(column, m[:, None] - 1) + 0.5) / m[:, None]
    fitted = distributions.take(rows["distribution"].to_numpy()).ppf(p) if len(rows) else p
    some = column < m[:, None]
    rank = rows["rank"].explode(empty_as_null=False).to_numpy()
    value = rows["value"].explode(empty_as_null=False).to_numpy()
    data = value[_nearest(rank, sizes, n, p)] if value.size else p
    lists = {
        name: pl.Series(name, array[some]).reshape((-1,))
        for name, array in (("p", p), ("data", data), ("model", fitted))
    }
    of_row = np.repeat(np.arange(len(rows)), m)
    long = pl.DataFrame({"row": of_row, **lists}).group_by("row", maintain_order=True).agg(pl.all())
    return pl.concat([rows.select(*schema.PATHWAY, "property"), long.drop("row")], how="horizontal")


def _nearest(
    rank: NDArray[Any], sizes: NDArray[Any], n: NDArray[Any], p: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Return for each row the places, in ``rank``, of the ranks nearest to probabilities.

    ``rank`` holds the increasing ranks of one row after those of another, ``sizes`` how many.
    """
    wanted = np.rint(p * n[:, None] - 0.5)
    # One search for all rows: ranks of a row lie in a range of their own.
    base = np.cumsum(n) - n
    whole = rank + np.repeat(base, sizes)
    sought = wanted + base[:, None]
    above = np.clip(np.searchsorted(whole, sought), 0, whole.size - 1)
    below = np.maximum(above - 1, 0)
    nearer_below = np.abs(whole[below] - sought) < np.abs(whole[above] - sought)
    found: NDArray[np.intp] = np.where(nearer_below, below, above)
    return found


def whole_bins(bins: pl.DataFrame) -> pl.DataFrame:
    """Return histograms of whole numbers with one bin about each number.

    Bins narrower than 1 hold a whole number or none: those nearest to it become a bin from 1/2
    below to 1/2 above it, and a number that is alone has an empty bin on either side. Histograms
    of wider bins stay as they are.

    Parameters
    ----------
    bins
        :data:`connprops.schema.HISTOGRAMS`, with ``expected``.
    """
    keys = [*schema.PATHWAY, "property"]
    narrow = (pl.col("right") - pl.col("left")).max().over(keys) < 1
    number = ((pl.col("left") + pl.col("right")) / 2).round(mode="half_away_from_zero")
    expected = pl.when(pl.col("expected").is_not_null().any()).then(pl.col("expected").sum())
    found = (
        bins.with_columns(
            pl.when(narrow).then(number + half).otherwise(edge).alias(edge)
            for edge, half in (("left", -0.5), ("right", 0.5))
        )
        .group_by(*keys, "left", "right", maintain_order=True)
        .agg(pl.col("bin").first(), pl.col("count").sum(), expected.alias("expected"))
    )
    alone = found.filter(pl.len().over(keys) == 1)
    beside = [
        alone.with_columns(pl.col("left", "right", "bin") + step, pl.col("count", "expected") * 0)
        for step in (-1, 1)
    ]
    together = pl.concat([beside[0], found, beside[1]], how="vertical_relaxed")
    return together.select(bins.columns)


def widened(bins: pl.DataFrame, model: Model) -> pl.DataFrame:
    """Return a histogram with bins beyond it too, where the model has values and data have none.

    They are as wide as the narrowest bin, or wider where there would be more than 1,000 a side,
    and reach to the model's quantiles 0.001 and 0.999; what lies further is in the outermost ones.

    Parameters
    ----------
    bins
        :data:`connprops.schema.HISTOGRAMS` of one pathway and property.

    Returns
    -------
    polars.DataFrame
        left, right, count and expected, of which both have the same sum.
    """
    keys = [*schema.PATHWAY, "property"]
    source, target, name = bins.select(pl.col(keys).cast(pl.String)).row(0)
    distribution = model.distribution(name, source, target)
    tails = distribution.ppf(np.array([_TAILS]))[0]
    bins = bins.sort("bin")
    edges = np.append(bins["left"].to_numpy(), bins["right"][-1])
    width = float(np.diff(edges).min())
    beyond = (edges[0] - tails[0], tails[1] - edges[-1])
    below, above = (
        np.linspace(0.0, gap, 1 + min(int(np.ceil(gap / width)), _BEYOND_AT_MOST))[1:]
        if gap > 0 else np.empty(0)
        for gap in beyond
    )  # fmt: skip
    wide = np.concatenate([edges[0] - below[::-1], edges, edges[-1] + above])
    counts = np.concatenate([np.zeros(below.size), bins["count"].to_numpy(), np.zeros(above.size)])
    before, upto = distribution.cdf_sides(wide[None, :])
    ends = before[0].copy()  # a bin holds its left edge, the data's last one its right edge too
    last = below.size + edges.size - 1
    ends[last] = upto[0, last]
    ends[0], ends[-1] = 0.0, 1.0
    return pl.DataFrame(
        {
            "left": wide[:-1],
            "right": wide[1:],
            "count": counts,
            "expected": np.diff(ends) * counts.sum(),
        }
    )


def synapse_counts(
    values: pl.DataFrame, order_statistics: pl.DataFrame, model: Model
) -> pl.DataFrame:
    """Return how many connections have how many synapses, of all pathways together.

    Parameters
    ----------
    values, order_statistics
        :data:`connprops.schema.VALUES` and ``ORDER_STATISTICS``: the latter counts for pathways
        that are not in the former; where it is thinned, each rank for those about it.

    Returns
    -------
    polars.DataFrame
        left, right, count and expected of bins that are one synapse wide, or several where
        there would be more than 100 of them.
    """
    keys = [*schema.PATHWAY, "property"]
    listed = rows_of(values, property=N_SYN_PER_CONN).select(*keys, "value", count="count")
    rest = (
        rows_of(order_statistics, property=N_SYN_PER_CONN)
        .join(listed, on=keys, how="anti")
        .select(
            *keys, "value",
            count=(pl.col("rank").list.last() + 1) / pl.col("rank").list.len(),
        )
        .explode("value", empty_as_null=False)
    )  # fmt: skip
    counts = pl.concat([listed.cast({"count": pl.Float64}), rest.cast({"count": pl.Float64})])
    if counts.is_empty():
        return pl.DataFrame(schema=dict.fromkeys(("left", "right", "count", "expected"),
                                                 pl.Float64))  # fmt: skip
    first, last = float(counts["value"].min()), float(counts["value"].max())  # type: ignore[arg-type]
    width = float(np.ceil((last - first + 1) / _BARS_AT_MOST))
    n_bins = int((last - first) // width) + 1
    bin_of = ((pl.col("value") - first) // width).cast(pl.Int32).alias("bin")
    grid = counts.select(keys).unique(maintain_order=True).join(
        pl.DataFrame({"bin": pl.Series(range(n_bins), dtype=pl.Int32)}), how="cross"
    )  # fmt: skip
    binned = (
        grid.join(counts.group_by(*keys, bin_of).agg(pl.col("count").sum()),
                  on=[*keys, "bin"], how="left")
        .with_columns(
            pl.col("count").fill_null(0.0),
            left=first - 0.5 + width * pl.col("bin"),
            right=first - 0.5 + width * (pl.col("bin") + 1),
        )
    )  # fmt: skip
    return (
        model.expected(binned)
        .group_by("left", "right")
        .agg(pl.col("count", "expected").sum())
        .sort("left")
    )
