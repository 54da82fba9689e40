"""From the correlations of pathways to the copulas of a model: borrowed, and positive definite.

docs/numbers.md, "Correlations in the model", says how.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from connprops import schema
from connprops.arrays import Bools, Floats, Ints
from connprops.distributions.copula import nearest_correlations
from connprops.fits.levels import borrowed_levels
from connprops.fits.samples import StatisticsTables
from connprops.schema import N_SYN_PER_CONN
from connprops.statistics.statistics import Statistics

_SPARE = 2
"""A pathway has a matrix of its own if its pairs of values outnumber the properties by more."""

_STRONGEST = 0.99
"""Correlations beyond it count as it where they are averaged: Fisher's z has no bounds."""


Pairs = Floats
"""Correlations, their standard errors and numbers of values, as matrices of pathways: (3, g, d, d).

They are NaN where there is no correlation.
"""


def copula_rows(
    correlations: pl.DataFrame, stats: Statistics, tables: StatisticsTables, marginals: pl.DataFrame
) -> pl.DataFrame:
    """Return the rows of a model's copulas, with the columns of ``marginals``.

    ``marginals`` are the rows of the properties' own distributions: which properties are shared is
    taken from there. ``correlations`` are :data:`connprops.schema.CORRELATIONS`.
    """
    names = [p.name for p in stats.properties if p.name != N_SYN_PER_CONN and p.labels is None]
    n_pathways = len(tables.pathways)
    own = marginals.filter(pl.col("property").is_in(names)).unique(
        ["pathway", "property"], keep="first", maintain_order=True
    )
    pairs = _pairs(correlations.with_columns(tables.pathways.number_of_row.alias("pathway")),
                   names, n_pathways)  # fmt: skip
    sampled = (
        stats.pathways.filter(pl.col("n_sampled") > 0)
        .with_columns(tables.pathways.number_of_row.alias("pathway"))
        .collect()
    )
    pieces = []
    for shared, count in ((True, "n_sampled"), (False, "n_synapses")):
        n_values = np.zeros(n_pathways, dtype=np.int64)
        n_values[sampled["pathway"].to_numpy()] = sampled[count].to_numpy()
        alike = own.filter(pl.col("shared_within") == shared)
        flags = np.zeros((n_pathways, len(names)), dtype=np.bool_)
        flags[alike["pathway"].to_numpy(), _places(alike["property"], names)] = True
        allowed = flags[:, :, None] & flags[:, None, :]
        pieces.append(_rows(np.where(allowed, pairs, np.nan), allowed, n_values, names, tables))
    columns = ("shared_within", "dtype", "lower_bound", "upper_bound")
    about = own.select("pathway", "property", *columns)
    return (
        pl.concat(pieces)
        .join(about, on=["pathway", "property"], maintain_order="left")
        .select(marginals.columns)
    )


def _places(properties: pl.Series, names: list[str]) -> Ints:
    return properties.cast(pl.String).cast(pl.Enum(names)).to_physical().cast(pl.Int64).to_numpy()


def _pairs(frame: pl.DataFrame, names: list[str], n_pathways: int) -> Pairs:
    """Return the correlations of all pathways as symmetric matrices."""
    pathway = frame["pathway"].to_numpy()
    i, j = (_places(frame[column], names) for column in ("property", "other_property"))
    matrices = np.full((3, n_pathways, len(names), len(names)), np.nan)
    for matrix, name in zip(matrices, ("r", "std_error", "n"), strict=True):
        values = frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        matrix[pathway, i, j] = matrix[pathway, j, i] = values
    return matrices


def _rows(
    pairs: Pairs, allowed: Bools, n_values: Ints, names: list[str], tables: StatisticsTables
) -> pl.DataFrame:
    """Return the rows of the properties that are shared, or of those that are not."""
    exists = ~np.isnan(pairs[0])
    fewest = np.where(exists, pairs[2], np.inf).min(axis=(1, 2), initial=np.inf)
    correlated = exists.any(axis=(1, 2))
    enough = np.where(correlated, fewest, n_values) > len(names) + _SPARE
    levels = borrowed_levels(tables.source, tables.target, np.flatnonzero(correlated & enough))
    n = levels.observed.size
    pooled = _pooled(pairs, levels.observed[levels.member], levels.pool, levels.n_pools)
    # Pathways whose own values show no correlation borrow none.
    kept = np.concatenate([np.ones(n, dtype=np.bool_), ~enough[levels.missing]])
    pathway, sample, level = levels.pathway[kept], levels.sample[kept], levels.level[kept]
    r, std_error = (
        np.where(allowed[pathway], np.concatenate([own[levels.observed], lent])[sample], np.nan)
        for own, lent in zip(pairs[:2], pooled, strict=True)
    )
    matrices = np.nan_to_num(r)
    diagonal = np.arange(len(names))
    matrices[:, diagonal, diagonal] = 1.0
    # Properties correlated with no other stay so, but for rounding.
    estimated = ~np.isnan(r)
    linked: Bools = np.asarray(estimated.any(axis=2))
    nearest = nearest_correlations(matrices) * (linked[:, :, None] & linked[:, None, :])
    upper = np.triu(np.ones((len(names), len(names)), dtype=np.bool_), 1)
    of, i, j = np.nonzero((estimated | (nearest != 0)) & upper)
    properties = pl.Series(names, dtype=pl.String)
    return pl.DataFrame(
        {
            "pathway": pathway[of],
            "property": properties.gather(i),
            "other_property": properties.gather(j),
            "distribution": pl.repeat(schema.COPULA, of.size, eager=True),
            "parameter": pl.repeat(schema.CORRELATION, of.size, eager=True),
            "position": np.zeros(of.size, dtype=np.int32),
            "value": nearest[of, i, j],
            "std_error": pl.Series(std_error[of, i, j], dtype=pl.Float64).fill_nan(None),
            "level": level[of],
        }
    )


def _pooled(pairs: Pairs, member: Ints, pool: Ints, n_pools: int) -> tuple[Floats, Floats]:
    """Return the mean Fisher z of each pair over the members of pools, weighed by n, as r."""
    r, std_error, n = pairs[:, member]
    r, n = np.clip(r, -_STRONGEST, _STRONGEST), np.nan_to_num(n)
    total, z, variance = np.zeros((3, n_pools, *r.shape[1:]))
    np.add.at(total, pool, n)
    np.add.at(z, pool, n * np.nan_to_num(np.arctanh(r)))
    np.add.at(variance, pool, (n * np.nan_to_num(std_error / (1 - r**2))) ** 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.tanh(z / total)
        return mean, np.sqrt(variance) / total * (1 - mean**2)
