"""Model beside data: the numbers that charts and the report show of both."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from connprops import schema
from connprops.arrays import Floats, Ints
from connprops.distributions.distributions import Distributions
from connprops.distributions.table import ModelTable
from connprops.pathways import Pathways
from connprops.schema import N_SYN_PER_CONN, Property

_KEYS = [*schema.PATHWAY, "property"]
_ENDS, _CURVE = (0.002, 0.998), 40
"""Quantiles between which a distribution is drawn by itself, and in how many bins."""

_SAME = 1e-3
"""Relative difference up to which widths of bins are the same, but for rounding."""

_TAILS = (0.001, 0.999)
"""Quantiles that bins reach to: about the least and the largest of 1,000 draws."""


def rows_of(frame: pl.DataFrame, **values: str) -> pl.DataFrame:
    """Return the rows whose columns have given values; a value unknown to an Enum has no rows."""
    return frame.filter(*(pl.col(name).cast(pl.String) == v for name, v in values.items()))


def is_whole(of: Property) -> bool:
    """Return whether a property's values are whole numbers by their type, or codes."""
    return of.labels is not None or np.issubdtype(np.dtype(of.dtype), np.integer)


def quantile_pairs(
    order_statistics: pl.DataFrame, model: ModelTable, *, at_most: int = 200
) -> pl.DataFrame:
    """Return quantiles of data and model at the same probabilities, as lists p, data, model.

    Of n values, m = min(n, ``at_most``) at the probabilities (i + 1/2) / m (Hazen 1914, Trans. ASCE
    77:1539): the data's is the order statistic whose own probability is nearest.
    """
    empty = order_statistics.head(0).select(_KEYS)
    lists = dict.fromkeys(("p", "data", "model"), pl.List(pl.Float64))
    parts = [empty.with_columns(pl.lit(None, dtype=t).alias(c) for c, t in lists.items())]
    pathways = Pathways(model.source_types, model.target_types)
    numbered = order_statistics.with_columns(pathway=pathways.number_of_row)
    for name in model.properties:
        rows = rows_of(numbered, property=name)
        for distributions in model.distributions(name):
            place = pl.DataFrame({"pathway": distributions.pathway}).with_row_index("place")
            matched = rows.join(place, on="pathway", maintain_order="left")
            if len(matched):
                parts.append(
                    _pairs(matched, distributions.take(matched["place"].to_numpy()), at_most)
                )
    return pl.concat(parts)


def _pairs(rows: pl.DataFrame, distributions: Distributions, at_most: int) -> pl.DataFrame:
    """Return quantiles of pathways whose distributions, of one family, are in the rows' order."""
    n = (rows["rank"].list.last() + 1).to_numpy()
    m = np.minimum(n, at_most)
    column = np.arange(int(m.max()))
    inside = column < m[:, None]
    p = (np.minimum(column, m[:, None] - 1) + 0.5) / m[:, None]
    value = rows["value"].explode(empty_as_null=False).to_numpy()
    data = value[_nearest_ranks(rows["rank"], n, np.rint(p * n[:, None] - 0.5))]
    columns = {"p": p, "data": data, "model": distributions.ppf(p)}
    long = pl.DataFrame({name: values[inside] for name, values in columns.items()})
    row = pl.Series("row", np.nonzero(inside)[0])
    lists = long.group_by(row, maintain_order=True).agg(pl.all()).drop("row")
    return pl.concat([rows.select(_KEYS), lists], how="horizontal")


def _nearest_ranks(ranks: pl.Series, n: Ints, sought: Floats) -> NDArray[np.intp]:
    """Return the places, among the exploded ranks, of those nearest to the sought of each row.

    One search for all rows: the ranks of a row, below its ``n``, are moved to a range of its own.
    """
    base = np.cumsum(n) - n
    rank = ranks.explode(empty_as_null=False).to_numpy()
    rank = rank + np.repeat(base, ranks.list.len().to_numpy())
    sought = sought + base[:, None]
    above = np.clip(np.searchsorted(rank, sought), 0, rank.size - 1)
    below = np.maximum(above - 1, 0)
    return np.where(np.abs(rank[below] - sought) < np.abs(rank[above] - sought), below, above)


def whole_bins(bins: pl.DataFrame) -> pl.DataFrame:
    """Return histograms of whole numbers with one bin about each number, 1/2 below to 1/2 above.

    A number that is alone has an empty bin on either side. Histograms of bins of 1 or wider, which
    hold several numbers, stay as they are.
    """
    narrow = (pl.col("right") - pl.col("left")).max().over(_KEYS) < 1
    number = ((pl.col("left") + pl.col("right")) / 2).round(mode="half_away_from_zero")
    expected = pl.when(pl.col("expected").is_not_null().any()).then(pl.col("expected").sum())
    merged = (
        bins.with_columns(
            pl.when(narrow).then(number + half).otherwise(edge).alias(edge)
            for edge, half in (("left", -0.5), ("right", 0.5))
        )
        .group_by(*_KEYS, "left", "right", maintain_order=True)
        .agg(pl.col("bin").first(), pl.col("count").sum(), expected.alias("expected"))
    )
    alone = merged.filter(pl.len().over(_KEYS) == 1)
    before, after = (
        alone.with_columns(pl.col("left", "right", "bin") + step, pl.col("count", "expected") * 0)
        for step in (-1, 1)
    )
    return pl.concat([before, merged, after], how="vertical_relaxed").select(bins.columns)


def following(bins: pl.DataFrame) -> pl.DataFrame:
    """Return histograms whose bins follow the number of values: neighbours merged where it is few.

    There are about 2 n^(1/3) bins for n values (the Rice rule), all of one width: the last may
    reach beyond the data. Bins of different widths, which were asked for, stay as they are.
    """
    width, n = pl.col("right") - pl.col("left"), pl.col("count").sum()
    even = width.max() <= (1 + _SAME) * width.min()
    asked = (pl.len() / (2 * n.cast(pl.Float64).pow(1 / 3))).ceil().clip(1, pl.len())
    merged = pl.when(even & (n > 0)).then(asked).otherwise(1).cast(pl.Int64)
    each = bins.group_by(_KEYS).agg(merged=merged, width=width.max())
    place = pl.int_range(pl.len()).over(_KEYS) // pl.col("merged")
    last = pl.col("left").first() + pl.col("merged").first() * pl.col("width").first()
    grown = pl.len() < pl.col("merged").first()
    right = pl.when(grown).then(last).otherwise(pl.col("right").last())
    return (
        bins.sort(*_KEYS, "bin")
        .join(each, on=_KEYS, maintain_order="left")
        .with_columns(place=place)
        .group_by(*_KEYS, "place", maintain_order=True)
        .agg(pl.col("bin", "left").first(), right.alias("right"), pl.col("count").sum())
        .select(name for name in bins.columns if name != "expected")
    )


def extended(
    edges: Floats, counts: ArrayLike, low: float, high: float, at_most: int = 1000
) -> tuple[Floats, Floats, int]:
    """Return edges and counts of bins, with more to ``low`` and ``high``, and how many in front.

    Added bins are as wide as the narrowest, or wider where they would be more than ``at_most``.
    """
    width = np.diff(edges).min()
    below, above = (
        np.linspace(end, far, 1 + int(np.clip(np.ceil(gap / width), 0, at_most)))[1:]
        for end, far, gap in ((edges[0], low, edges[0] - low), (edges[-1], high, high - edges[-1]))
    )
    padded = np.pad(np.asarray(counts, dtype=np.float64), (below.size, above.size))
    return np.concatenate([below[::-1], edges, above]), padded, below.size


def widened(bins: pl.DataFrame, model: ModelTable) -> pl.DataFrame:
    """Return a pathway's histogram with bins beyond it too, where only the model has values.

    They reach to its quantiles 0.001 and 0.999; what lies further is in the outermost ones. The
    sums of count and expected are the same.
    """
    source, target, name = bins.select(pl.col(_KEYS).cast(pl.String)).row(0)
    distribution = model.distribution(name, source, target)
    bins = bins.sort("bin")
    edges = np.append(bins["left"].to_numpy(), bins["right"][-1])
    low, high = distribution.ppf(np.array([_TAILS]))[0]
    wide, counts, n_below = extended(edges, bins["count"], low, high)
    before, up_to = distribution.cdf_sides(wide[None, :])
    ends = before[0].copy()  # a bin holds its left edge, the data's last one its right edge too
    ends[n_below + len(bins)] = up_to[0, n_below + len(bins)]
    ends[0], ends[-1] = 0.0, 1.0
    expected = np.diff(ends) * counts.sum()
    return pl.DataFrame(
        {"left": wide[:-1], "right": wide[1:], "count": counts, "expected": expected}
    )


def curves(distributions: Distributions, *, whole: bool) -> list[tuple[float, float, list[float]]]:
    """Return the shares of drawn values of each distribution in bins of equal width.

    They come after the first bin's left edge and the width; the bins reach to the quantiles 0.002
    and 0.998.
    """
    ends = np.nan_to_num(distributions.ppf(np.tile(_ENDS, (len(distributions), 1))))
    bins = [_bins_between(low, high, whole=whole) for low, high in ends.tolist()]
    most = max((edges.size for edges, _ in bins), default=1)
    wide = [np.pad(edges, (0, most - edges.size), "edge") for edges, _ in bins]
    shares = np.diff(distributions.cdf(np.reshape(wide, (-1, most))))
    return [
        (float(edges[0]), width, share[: edges.size - 1].tolist())
        for (edges, width), share in zip(bins, shares, strict=True)
    ]


def _bins_between(low: float, high: float, *, whole: bool) -> tuple[Floats, float]:
    """Return the edges of bins of equal width, and this."""
    edges: Floats
    if whole:
        low, count = math.floor(low), math.ceil(high) - math.floor(low) + 1
        width = float(max(1, math.ceil(count / _CURVE)))
        edges = low - 0.5 + width * np.arange(math.ceil(count / width) + 1.0)
    elif high > low:
        width = high / _CURVE - low / _CURVE  # what is between them may be beyond all floats
        place = np.arange(_CURVE + 1) / _CURVE
        edges = low * (1 - place) + high * place
    else:  # a point: as narrow as its size tells
        width = abs(low) / _CURVE or 1 / _CURVE
        with np.errstate(over="ignore"):
            edges = np.nan_to_num(low + width * (np.arange(4) - 1.5))
    return edges, width


_DIGITS = 12


def synapse_counts(
    values: pl.DataFrame, order_statistics: pl.DataFrame, model: ModelTable, *, at_most: int = 100
) -> pl.DataFrame:
    """Return how many connections have how many synapses, of all pathways together.

    Bins are one synapse wide, or several where they would be more than ``at_most``. Pathways that
    are not in ``values`` count by order statistics: of a thinned sample, each for those about it.
    """
    listed = rows_of(values, property=N_SYN_PER_CONN).select(*_KEYS, "value", "count")
    thinned = rows_of(order_statistics, property=N_SYN_PER_CONN).join(listed, on=_KEYS, how="anti")
    weight = (pl.col("rank").list.last() + 1) / pl.col("rank").list.len()
    rest = thinned.select(*_KEYS, "value", count=weight).explode("value", empty_as_null=False)
    counts = pl.concat([part.cast({"count": pl.Float64}) for part in (listed, rest)])
    if counts.is_empty():
        columns = ("left", "right", "count", "expected")
        return pl.DataFrame(schema=dict.fromkeys(columns, pl.Float64))
    first, last = counts.select(first=pl.col("value").min(), last=pl.col("value").max()).row(0)
    width = np.ceil((last - first + 1) / at_most)
    numbers = np.arange(int((last - first) // width) + 1)
    edges = pl.DataFrame({"bin": numbers, "left": first - 0.5 + width * numbers})
    bin_of = ((pl.col("value") - first) // width).cast(pl.Int64).alias("bin")
    binned = (
        counts.select(_KEYS)
        .unique(maintain_order=True)
        .join(edges.with_columns(right=pl.col("left") + width), how="cross")
        .join(counts.group_by(*_KEYS, bin_of).agg(pl.col("count").sum()), [*_KEYS, "bin"], "left")
        .with_columns(pl.col("count").fill_null(0.0), pl.col("bin").cast(pl.Int32))
    )
    by_bin = model.expected(binned).group_by("left", "right")
    # To fewer digits than depend on the order in which they are added.
    sums = pl.col("count", "expected").sum().round_sig_figs(_DIGITS)
    return by_bin.agg(sums).sort("left")
