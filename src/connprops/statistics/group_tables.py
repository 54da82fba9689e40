"""The tables of one property, from the sorted values of its pathways."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from connprops.arrays import Bools, Floats, Ints
from connprops.arrays.arrow import to_arrow
from connprops.arrays.histogram import histograms
from connprops.arrays.sorted_samples import (
    MOMENTS,
    OF_LOGS,
    QUANTILES,
    SortedSamples,
    distinct_values,
    moments,
    quantiles,
    ranks,
)

OF_CONNECTIONS = ("connection_mean", "connection_std", "icc", "icc_error")
"""Statistics that need the means of connections, or how alike their synapses are."""

VALUES_AT_MOST = 100
"""A table of distinct values is kept for at most so many of them."""


@dataclass(frozen=True)
class Gathered:
    """One property of several groups: its sorted values, and what they do not tell.

    ``n_values`` counts what is not finite too; ``constant`` says that all synapses, sampled or not,
    have one value; ``means`` are those of connections, and ``sample`` itself where each gives one
    value.
    """

    group: Ints
    sample: SortedSamples
    means: SortedSamples
    n_values: Ints
    n_null: Ints  # synapses whose value is not finite
    n_connections: Ints
    n_synapses: Ints
    n_multi: Ints  # connections of two synapses or more
    n_shared: Ints  # connections of these that have one finite value
    per_synapse: Bools  # whether some connection has several values
    constant: Bools
    icc: Floats  # correlation within connections and its standard error, (2, g)


def statistics_of(
    gathered: Gathered,
    n: Ints,
    n_unique: Ints,
    unknown: Bools,
    asks: Callable[[Iterable[str]], bool] = lambda _: True,
) -> dict[str, pa.Array]:
    """Return the statistics; where it is ``unknown`` whether connections share values, null.

    What nobody ``asks`` for is not computed, but null.
    """
    sample, none = gathered.sample, np.full(gathered.group.size, np.nan)
    numbers = dict.fromkeys((*MOMENTS, *QUANTILES, *OF_CONNECTIONS), none)
    if asks(MOMENTS):
        numbers |= moments(sample, of_logs=asks(OF_LOGS))
    if asks(QUANTILES):
        numbers |= quantiles(sample)
    if asks(OF_CONNECTIONS):
        whole = gathered.means is sample and asks(MOMENTS)
        of_means = numbers if whole else moments(gathered.means, of_logs=False)
        mean, std, icc = of_means["mean"], of_means["std"], gathered.icc
        numbers |= dict(zip(OF_CONNECTIONS, (mean, std, *icc), strict=True))
    return {
        "group": to_arrow(gathered.group),
        "n": to_arrow(n),
        "n_null": to_arrow(gathered.n_null),
        "n_multi": to_arrow(gathered.n_multi),
        "n_shared": to_arrow(gathered.n_shared),
        "shared_within": to_arrow(~gathered.per_synapse, unknown),
        "n_unique": to_arrow(n_unique),
        **{key: to_arrow(values, np.isnan(values)) for key, values in numbers.items()},
    }


def histograms_of(
    gathered: Gathered, bins: int | tuple[float, ...], only: Ints, least: int
) -> dict[str, pa.Array]:
    """Return counts by bin, for groups of at least so many values.

    ``only`` is how often a constant group's value counts, else 0.
    """
    sample = gathered.sample.of_at_least(least)
    edges, counts = histograms(sample, bins)
    of_one = only[sample.filled, None]
    counts = np.where(of_one > 0, (counts > 0) * of_one, counts)
    n_bins = counts.shape[1]
    return {
        "group": to_arrow(np.repeat(gathered.group[sample.filled], n_bins)),
        "bin": to_arrow(np.tile(np.arange(n_bins, dtype=np.int32), sample.filled.size)),
        "left": to_arrow(edges[:, :-1].ravel()),
        "right": to_arrow(edges[:, 1:].ravel()),
        "count": to_arrow(counts.ravel()),
    }


def distinct_values_of(
    gathered: Gathered, n_unique: Ints, n: Ints, only: Ints, *, whole: bool
) -> dict[str, pa.Array]:
    """Return distinct values and their counts, for groups where these are few, or the ``whole``."""
    sample = gathered.sample
    n_unique = n_unique[sample.filled]
    few = whole | (n_unique == 1) | ((n_unique <= VALUES_AT_MOST) & (n_unique < sample.n))
    of_some, values, counts = distinct_values(sample, few)
    of_value = sample.filled[of_some]
    counts = np.where(only[of_value] > 0, only[of_value], counts)
    return {
        "group": to_arrow(gathered.group[of_value]),
        "value": to_arrow(values),
        "count": to_arrow(counts),
        "p": to_arrow(counts / n[of_value]),
    }


def order_statistics_of(gathered: Gathered) -> dict[str, pa.Array]:
    """Return the thinned, sorted values."""
    sample = gathered.sample
    kept = [ranks(n) for n in sample.n.tolist()]
    sizes = np.array([r.size for r in kept], dtype=np.int64)
    rank = np.concatenate([np.empty(0, dtype=np.int64), *kept])
    value = sample.at(np.repeat(np.arange(sizes.size), sizes), rank)
    offsets = to_arrow(np.concatenate([[0], np.cumsum(sizes)]))
    return {
        "group": to_arrow(gathered.group[sample.filled]),
        "rank": pa.LargeListArray.from_arrays(offsets, to_arrow(rank)),
        "value": pa.LargeListArray.from_arrays(offsets, to_arrow(value)),
    }
