"""From the correlations of pathways to the copulas of a model: borrowed, and positive definite."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from connprops import schema
from connprops.arrays import Bools, Floats, Ints
from connprops.distributions.copula import nearest_correlations
from connprops.fits.levels import OBSERVED, borrowed_levels
from connprops.fits.samples import Tables
from connprops.schema import N_SYN_PER_CONN
from connprops.statistics.statistics import Statistics

_SPARE = 2
"""A pathway has a matrix of its own if its pairs of values outnumber the properties by more."""

_STRONGEST = 0.99
"""Correlations beyond it count as it where they are averaged: Fisher's z has no bounds."""


@dataclass(frozen=True)
class _Pairs:
    """Correlations of pathways as matrices, each (g, d, d), NaN where there is none."""

    r: Floats
    std_error: Floats
    n: Floats

    def where(self, kept: Bools) -> _Pairs:
        """Return the pairs that are kept, (g, d, d)."""
        return _Pairs(*(np.where(kept, of, np.nan) for of in (self.r, self.std_error, self.n)))


def copula_rows(
    correlations: pl.DataFrame, stats: Statistics, tables: Tables, marginals: pl.DataFrame
) -> pl.DataFrame:
    """Return the rows of a model's copulas.

    A pathway whose pairs of values are no more than the number of properties and 2 counts as one
    without data. Those borrow, by the levels of ``fits.levels``: the mean of Fisher's z,
    weighed by n, of each pair over the pathways of the pool. Then each matrix becomes the nearest
    positive definite one.

    Parameters
    ----------
    correlations
        :data:`connprops.schema.CORRELATIONS`.
    stats
        The statistics that it is of.
    tables
        Their tables.
    marginals
        The rows of the properties' own distributions, with ``pathway``, ``property`` and what is
        the same on all rows of these: which properties are shared is taken from there.

    Returns
    -------
    polars.DataFrame
        The columns of ``marginals``.
    """
    names = [p.name for p in stats.properties if p.name != N_SYN_PER_CONN]
    n_pathways = tables.shape[0] * tables.shape[1]
    distributions = marginals.filter(pl.col("property").is_in(names)).unique(
        ["pathway", "property"], keep="first", maintain_order=True
    )
    pairs = _pairs(correlations, names, tables.shape)
    sampled = _numbers_of_values(stats, tables.shape)
    found = []
    for shared in (True, False):
        flags = np.zeros((n_pathways, len(names)), dtype=np.bool_)
        of_flag = distributions.filter(pl.col("shared_within") == shared)
        place = {name: i for i, name in enumerate(names)}
        column = of_flag["property"].replace_strict(place, return_dtype=pl.Int64).to_numpy()
        flags[of_flag["pathway"].to_numpy(), column] = True
        allowed = flags[:, :, None] & flags[:, None, :]
        found.append(_rows(pairs.where(allowed), allowed, sampled[shared], names, tables))
    correlated = pl.concat(found)
    about = distributions.select("pathway", "property", "shared_within", "dtype", "lower_bound",
                        "upper_bound")  # fmt: skip
    return correlated.join(about, on=["pathway", "property"], maintain_order="left").select(
        pl.lit(0).alias(name).cast(marginals.schema[name]) if name == "sample" else name
        for name in marginals.columns
    )


def _pairs(frame: pl.DataFrame, names: list[str], shape: tuple[int, int]) -> _Pairs:
    """Return the correlations of all pathways as symmetric matrices."""
    pathway = _pathway(frame, shape)
    of = {name: i for i, name in enumerate(names)}
    i, j = (
        frame[column].cast(pl.String).replace_strict(of, return_dtype=pl.Int64).to_numpy()
        for column in ("property", "other_property")
    )
    found = []
    for name in ("r", "std_error", "n"):
        matrix = np.full((shape[0] * shape[1], len(names), len(names)), np.nan)
        values = frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        matrix[pathway, i, j] = matrix[pathway, j, i] = values
        found.append(matrix)
    return _Pairs(*found)


def _pathway(frame: pl.DataFrame, shape: tuple[int, int]) -> Ints:
    source, target = (frame[side].to_physical().cast(pl.Int64) for side in schema.PATHWAY)
    return (source * shape[1] + target).to_numpy()


def _numbers_of_values(stats: Statistics, shape: tuple[int, int]) -> dict[bool, Ints]:
    """Return how many values pathways have of shared properties, and of others."""
    frame = stats.pathways.filter(pl.col("n_sampled") > 0).collect()
    found = {}
    for shared, column in ((True, "n_sampled"), (False, "n_synapses")):
        found[shared] = np.zeros(shape[0] * shape[1], dtype=np.int64)
        found[shared][_pathway(frame, shape)] = frame[column].to_numpy()
    return found


def _rows(
    pairs: _Pairs, allowed: Bools, sampled: Ints, names: list[str], tables: Tables
) -> pl.DataFrame:
    """Return the rows of the properties that are shared, or of those that are not."""
    some = ~np.isnan(pairs.r)
    fewest = np.where(some, pairs.n, np.inf).min(axis=(1, 2), initial=np.inf)
    any_ = some.any(axis=(1, 2))
    enough = np.where(any_, fewest, sampled) > len(names) + _SPARE
    levels = borrowed_levels(tables.source, tables.target, np.flatnonzero(any_ & enough))
    borrows = ~enough[levels.missing]
    missing = levels.missing[borrows]
    pooled = _pooled(pairs, levels.observed[levels.member], levels.pool, levels.n_pools)
    pool = levels.pool_of_missing[borrows]
    level = np.concatenate([
        np.full(levels.observed.size, OBSERVED),
        levels.level[levels.observed.size :][borrows],
    ])  # fmt: skip
    pathway = np.concatenate([levels.observed, missing])
    r, std_error = (
        np.where(allowed[pathway], np.concatenate([own[levels.observed], borrowed[pool]]), np.nan)
        for own, borrowed in ((pairs.r, pooled.r), (pairs.std_error, pooled.std_error))
    )
    matrices = np.nan_to_num(r)
    diagonal = np.arange(len(names))
    matrices[:, diagonal, diagonal] = 1.0
    # Properties correlated with no other stay so, but for rounding.
    known = ~np.isnan(r)
    linked: Bools = np.asarray(known.any(axis=2))
    nearest = nearest_correlations(matrices) * (linked[:, :, None] & linked[:, None, :])
    upper = np.triu(np.ones((len(names), len(names)), dtype=np.bool_), 1)
    of, i, j = np.nonzero((known | (nearest != 0)) & upper)
    text = np.array(names, dtype=object)
    return pl.DataFrame(
        {
            "pathway": pathway[of],
            "property": pl.Series(text[i], dtype=pl.String),
            "other_property": pl.Series(text[j], dtype=pl.String),
            "distribution": pl.repeat(schema.COPULA, of.size, eager=True),
            "parameter": pl.repeat(schema.CORRELATION, of.size, eager=True),
            "position": np.zeros(of.size, dtype=np.int32),
            "value": nearest[of, i, j],
            "std_error": pl.Series(std_error[of, i, j], dtype=pl.Float64).fill_nan(None),
            "level": level[of].astype(np.int8),
        }
    )


def _pooled(pairs: _Pairs, member: Ints, pool: Ints, n_pools: int) -> _Pairs:
    """Return the mean Fisher z of each pair over the members of pools, weighed by n, as r."""
    shape = (n_pools, *pairs.r.shape[1:])
    r = np.clip(pairs.r[member], -_STRONGEST, _STRONGEST)
    n = np.nan_to_num(pairs.n[member])
    total, z, variance = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    np.add.at(total, pool, n)
    np.add.at(z, pool, n * np.nan_to_num(np.arctanh(r)))
    np.add.at(variance, pool, (n * np.nan_to_num(pairs.std_error[member] / (1 - r**2))) ** 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.tanh(z / total)
        return _Pairs(mean, np.sqrt(variance) / total * (1 - mean**2), total)
