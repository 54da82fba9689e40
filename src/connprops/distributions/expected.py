"""How many values of each bin of a histogram a model expects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from connprops.arrays import Floats
from connprops.arrays.gather import run_starts
from connprops.distributions.distributions import Distributions
from connprops.pathways import Pathways


def with_expected(
    histograms: pl.DataFrame,
    distributions_of: Mapping[str, Sequence[Distributions]],
    pathways: Pathways,
) -> pl.DataFrame:
    """Return histograms with ``expected``, the counts by the model with as many values."""
    rows = histograms.with_columns(
        pathways.number_of_row.alias("_pathway"), pl.int_range(pl.len()).alias("_row")
    )
    expected = np.full(len(rows), np.nan)
    for name, of_name in distributions_of.items():
        of_property = rows.filter(pl.col("property") == name)
        for distributions in of_name:
            _expect(of_property, distributions, expected)
    return histograms.with_columns(pl.Series("expected", expected).fill_nan(None))


def _expect(rows: pl.DataFrame, distributions: Distributions, expected: Floats) -> None:
    """Fill in the expected counts of the histograms that are of these distributions."""
    places = pl.DataFrame(
        {"_pathway": distributions.pathway, "_distribution": np.arange(distributions.pathway.size)}
    )
    bins = rows.join(places, on="_pathway").sort("_distribution", "bin")
    if bins.is_empty():
        return
    distribution, row = bins["_distribution"].to_numpy(), bins["_row"].to_numpy()
    left, right = bins["left"].to_numpy(), bins["right"].to_numpy()
    starts = run_starts(distribution)
    counts = np.diff(starts, append=distribution.size)
    total = np.add.reduceat(bins["count"].to_numpy(), starts)
    n_bins = int(counts.max())
    chosen = distributions.take(distribution[starts])
    # Histograms as rows of one matrix; shorter ones repeat their last edge, which is no bin.
    column = np.arange(distribution.size) - np.repeat(starts, counts)
    of_row = np.repeat(np.arange(starts.size), counts)
    edges = np.repeat(right[starts + counts - 1][:, None], n_bins + 1, axis=1)
    edges[of_row, column] = left
    below, upto = chosen.cdf_sides(edges)
    last = np.take_along_axis(upto, counts[:, None], axis=1)[:, 0]
    mass = np.diff(below, axis=1)
    at_last = np.arange(starts.size)
    mass[at_last, counts - 1] = last - below[at_last, counts - 1]
    expected[row] = (mass * total[:, None])[of_row, column]
