"""Numbers of many sorted samples at once: moments, quantiles, distinct values, bins.

All follow from the sorted values alone, and all work is vectorised over the samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RANKS_AT_MOST = 256
"""Samples up to this size are kept whole as order statistics, larger ones thinned to about it."""

QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.50, "q75": 0.75, "q95": 0.95}

_LOOP_FROM = 48
"""Mean size of a sample from which one call of sort for each beats one sort of all."""


@dataclass(frozen=True)
class SortedSamples:
    """Finite values sorted within each group. ``groups`` are those that have any."""

    values: NDArray[Any]  # of the column's own type
    x: Floats  # the same as float64
    starts: Ints
    counts: Ints  # of all groups, zero included
    some: Ints  # the groups with at least one value

    @property
    def n(self) -> Ints:
        """Return the counts of the groups that have any value."""
        return self.counts[self.some]

    def spread(self, of_some: NDArray[Any], fill: float = np.nan) -> NDArray[Any]:
        """Return numbers of the groups with values as numbers of all groups."""
        if self.some.size == self.counts.size:
            return of_some
        full = np.full((self.counts.size, *of_some.shape[1:]), fill, dtype=np.float64)
        full[self.some] = of_some
        return full


def sort_samples(raw: NDArray[Any], counts: Ints) -> SortedSamples:
    """Leave out what is not finite, and sort each group's values."""
    values = raw
    if raw.dtype.kind == "f":
        finite = np.isfinite(raw)
        if not finite.all():
            starts = np.cumsum(counts) - counts
            counts = np.add.reduceat(finite.astype(np.int64), starts)
            values = raw[finite]
    some = np.flatnonzero(counts)
    n = counts[some]
    starts = np.cumsum(n) - n
    if n.size and values.size / n.size < _LOOP_FROM:
        values = values[np.lexsort((values, np.repeat(np.arange(n.size), n)))]
    else:
        values = values.copy() if values is raw else values
        for start, stop in zip(starts.tolist(), (starts + n).tolist(), strict=True):
            values[start:stop].sort()
    return SortedSamples(values, values.astype(np.float64), starts, counts, some)


def moments(sample: SortedSamples) -> dict[str, Floats]:
    """Return mean, std, min, max, skewness, kurtosis, mean_log, std_log of each group.

    Sums run pairwise over the sorted values; moments are those about the mean, with its
    rounding error taken out.
    """
    x, starts, n = sample.x, sample.starts, sample.n
    if not n.size:
        return {name: np.full(sample.counts.size, np.nan) for name in _MOMENTS}
    low, high = x[starts], x[starts + n - 1]
    # Powers of two keep squares of very large and very small numbers within range, exactly.
    scale = np.exp2(-np.frexp(np.maximum(np.abs(low), np.abs(high)))[1].astype(np.float64))
    extreme = ~((scale > 1e-60) & (scale < 1e60)) & (scale > 0)  # noqa: PLR2004
    if not extreme.any():
        scale = np.ones_like(scale)
        scaled = x
    else:
        scale = np.where(extreme, scale, 1.0)
        scaled = x * np.repeat(scale, n)
    mean = np.add.reduceat(scaled, starts) / n
    d = scaled - np.repeat(mean, n)
    shift = np.add.reduceat(d, starts) / n
    mean = np.clip((mean + shift) / scale, low, high)
    square = d * d
    m2 = np.maximum(np.add.reduceat(square, starts) / n - shift * shift, 0.0)
    m2[low == high] = 0.0
    d *= square
    m3 = np.add.reduceat(d, starts) / n - 3 * shift * m2
    square *= square
    m4 = np.add.reduceat(square, starts) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        skewness = np.where(m2 > 0, m3 / (m2 * np.sqrt(m2)), np.nan)
        kurtosis = np.where(m2 > 0, m4 / (m2 * m2) - 3.0, np.nan)
    mean_log, std_log = _log_moments(x, starts, n, low, high)
    found = (mean, np.sqrt(m2) / scale, low, high, skewness, kurtosis, mean_log, std_log)
    return {name: sample.spread(numbers) for name, numbers in zip(_MOMENTS, found, strict=True)}


_MOMENTS = ("mean", "std", "min", "max", "skewness", "kurtosis", "mean_log", "std_log")


def _log_moments(
    x: Floats, starts: Ints, n: Ints, low: Floats, high: Floats
) -> tuple[Floats, Floats]:
    """Return mean and std of the logarithms; NaN for groups with a value that has none."""
    positive = low > 0
    if not positive.any():
        return np.full(n.size, np.nan), np.full(n.size, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(x)
    logs[~np.isfinite(logs)] = 0.0
    mean = np.add.reduceat(logs, starts) / n
    logs -= np.repeat(mean, n)
    shift = np.add.reduceat(logs, starts) / n
    logs *= logs
    std = np.sqrt(np.maximum(np.add.reduceat(logs, starts) / n - shift * shift, 0.0))
    std[low == high] = 0.0
    return np.where(positive, mean + shift, np.nan), np.where(positive, std, np.nan)


def quantiles(sample: SortedSamples) -> dict[str, Floats]:
    """Return quantiles by linear interpolation (Hyndman and Fan 1996, definition 7)."""
    found = {}
    for name, q in QUANTILES.items():
        at = q * (sample.n - 1)
        below = np.floor(at).astype(np.int64)
        t = at - below
        a = sample.x[sample.starts + below]
        b = sample.x[sample.starts + np.minimum(below + 1, sample.n - 1)]
        # From the nearer end, so that equal neighbours give their value exactly.
        found[name] = sample.spread(np.where(t < 0.5, a + (b - a) * t, b - (b - a) * (1 - t)))  # noqa: PLR2004
    return found


def count_distinct(sample: SortedSamples) -> Ints:
    """Return the number of distinct values of each sample, 0 for an empty one."""
    counts = np.zeros(sample.counts.size, dtype=np.int64)
    if sample.some.size:
        counts[sample.some] = np.add.reduceat(is_new(sample).astype(np.int64), sample.starts)
    return counts


def is_new(sample: SortedSamples) -> NDArray[np.bool_]:
    """Return whether each sorted value differs from the one before in its group."""
    new = np.ones(sample.values.size, dtype=np.bool_)
    new[1:] = sample.values[1:] != sample.values[:-1]
    new[sample.starts] = True
    return new


def histogram_edges(low: NDArray[Any], high: NDArray[Any], bins: int) -> Floats:
    """Return the edges that ``numpy.histogram`` gives each group's values, of their own type.

    Shape (groups, bins + 1). Where the values lie so close that their type has no room for the
    edges (numpy gives up there), the edges are float64 ones and reach as far as they need.
    """
    if low.dtype.kind != "f":
        low, high = low.astype(np.float64), high.astype(np.float64)
    constant = low == high
    half = low.dtype.type(0.5)
    first, last = np.where(constant, low - half, low), np.where(constant, high + half, high)
    edges = np.full((low.size, bins + 1), np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        # A step of zero would make linspace compute the edges of all groups in another way.
        steps = (last - first) / low.dtype.type(bins) != 0
        edges[steps] = np.linspace(first[steps], last[steps], bins + 1, axis=1, dtype=low.dtype)
        crowded = ~(np.diff(edges, axis=1) > 0).all(axis=1) | ~np.isfinite(edges).all(axis=1)
    for i in np.flatnonzero(crowded).tolist():
        edges[i] = _roomy_edges(float(low[i]), float(high[i]), bins)
    return edges


def _roomy_edges(low: float, high: float, bins: int) -> Floats:
    t = np.linspace(0.0, 1.0, bins + 1)
    edges = low * (1 - t) + high * t  # halves first: the range itself may be infinite
    edges[-1] = high
    if (np.diff(edges) > 0).all():
        return edges
    step = max(np.spacing(max(abs(low), abs(high))), np.finfo(np.float64).tiny)
    roomy: Floats = low + step * (np.arange(bins + 1) - bins // 2)
    return roomy


def count_below(x: Floats, starts: Ints, n: Ints, edges: Floats) -> Ints:
    """Return how many sorted values of each group lie below each edge; the last edge is closed.

    Shape as ``edges``. A binary search for all groups and edges at once.
    """
    edges = edges.copy()
    edges[:, -1] = np.nextafter(edges[:, -1], np.inf)
    low = np.repeat(starts[:, None], edges.shape[1], axis=1)
    high = low + n[:, None]
    while (open_ := low < high).any():
        middle = (low + high) >> 1
        below = open_ & (x[np.minimum(middle, x.size - 1)] < edges)
        low = np.where(below, middle + 1, low)
        high = np.where(open_ & ~below, middle, high)
    return low - starts[:, None]


@lru_cache(maxsize=4096)
def ranks(n: int) -> Ints:
    """Return the ranks that order statistics of a sample of size n are kept at.

    All of them up to :data:`RANKS_AT_MOST`; else evenly spaced ones, with more towards both
    ends, whose distance doubles from the extremes inwards.
    """
    if n <= RANKS_AT_MOST:
        return np.arange(n)
    even = np.round(np.linspace(0, n - 1, RANKS_AT_MOST // 2 + 1)).astype(np.int64)
    tail = 2 ** np.arange(int(np.log2(n / (RANKS_AT_MOST // 2))) + 1, dtype=np.int64)
    return np.unique(np.concatenate([even, tail, n - 1 - tail]))
