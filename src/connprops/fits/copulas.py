"""Dependence in a model: within connections, and between properties.

The correlations of pathways are moved towards those of their levels, borrowed where a pathway has
none, and made positive definite. docs/numbers.md, "Correlations in the model", says how.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import polars as pl
from scipy import special

from connprops import schema
from connprops.arrays import Bools, Floats, Ints
from connprops.arrays.hierarchy.posterior import Posterior, posterior
from connprops.arrays.normal_scores import latent_intraclass
from connprops.distributions.copula import nearest_correlations
from connprops.errors import OptionError
from connprops.fits.samples.levels import OBSERVED, Levels, Places, borrowed_levels, nested
from connprops.fits.samples.samples import Samples
from connprops.fits.samples.tables import StatisticsTables
from connprops.resources import Resources
from connprops.schema import N_SYN_PER_CONN
from connprops.statistics.statistics import Statistics

_SPARE = 2
"""A pathway has a matrix of its own if its pairs of values outnumber the properties by more."""

_STRONGEST = 0.99
"""Correlations beyond it count as it where they are averaged: Fisher's z has no bounds."""

_CHAIN = (0, 1, 3)
"""Levels that are nested, on which correlations are moved towards those of similar pathways."""

_CLEAR = 0.05
"""Probability, by chance, of any correlation in a model where there is none in truth."""

_MOST_ALIKE = 0.9999
"""Synapses that do not share a value are no more alike."""


Pairs = Floats
"""Correlations, their standard errors and numbers of values, as matrices of pathways: (3, g, d, d).

They are NaN where there is no correlation.
"""


def within_correlations(
    rows: pl.DataFrame, samples: Samples, levels: Levels, *, shrinkage: bool
) -> Floats:
    """Return how alike the synapses of a connection are, in observed pathways and in pools.

    ``rows`` are the statistics of a property, whose ``icc`` of 1 does not count: these pathways
    share it. Each is moved towards those of its level, or alone has its own if it has one; all are
    0 where chance explains them.
    """
    icc, error, n_multi, n_unique = (
        rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy().copy()
        for name in ("icc", "icc_error", "n_multi", "n_unique")
    )
    tied = np.flatnonzero(samples.exact & (n_unique < samples.n) & (n_unique > 1) & (icc < 1))
    if tied.size:
        part = samples.samples(tied)
        shares = part.weight / part.n[:, None]
        icc[tied], error[tied] = latent_intraclass(icc[tied], error[tied], shares)
    with np.errstate(invalid="ignore", divide="ignore"):
        z, variance = _fisher(np.where(icc < 1, icc, np.nan), error)
        # Fisher's z of few connections varies by more than its error for many.
        variance *= (n_multi - 1) / (n_multi - 1.5)
    if not _evident(z, variance, _CLEAR):
        return np.zeros(icc.size + levels.n_pools)
    moved = posterior(z, variance, nested(levels.keys, _CHAIN))
    own = moved.mean if shrinkage else np.where(np.isfinite(z), z, moved.mean)
    within: Floats = np.tanh(np.append(own, _of_pools(moved, levels)[0]))
    return np.clip(within, 0.0, _MOST_ALIKE)


def _fisher(r: Floats, error: Floats) -> tuple[Floats, Floats]:
    """Return Fisher's z of correlations, and its variance."""
    r = np.clip(r, -_STRONGEST, _STRONGEST)
    return np.arctanh(r), (error / (1 - r**2)) ** 2


def _of_pools(moved: Posterior, levels: Levels) -> tuple[Floats, Floats]:
    """Return mean and variance of what is new in each pool, by its level and its members."""
    return moved.new(np.searchsorted(_CHAIN, levels.level_of_pool), levels.member_of_pool)


_MATRICES = 12
"""Matrices of each pathway that are held at once, of pathways without correlations too."""


def check_room(statistics: Statistics, tables: StatisticsTables, resources: Resources) -> None:
    """Raise :class:`OptionError` where the matrices of all pathways are more than memory holds."""
    n_pathways, n = len(tables.pathways), len(_correlated(statistics))
    size = 8 * n_pathways * _MATRICES * n**2
    if size > resources.memory:
        raise OptionError.of(
            "There is no room for the correlations of all pathways",
            found=f"{n_pathways:,} pathways of {n} properties take about {size / 1e9:,.1f} GB",
            expected=f"at most {resources.memory / 1e9:,.1f} GB",
            hint="build without correlations, with more --memory, or select types",
        )


def _correlated(statistics: Statistics) -> list[str]:
    """Return the names of the properties that may be correlated."""
    return [p.name for p in statistics.properties if p.name != N_SYN_PER_CONN and p.labels is None]


def copula_rows(
    correlations: pl.DataFrame,
    statistics: Statistics,
    tables: StatisticsTables,
    marginals: pl.DataFrame,
    *,
    shrinkage: bool,
) -> pl.DataFrame:
    """Return the rows of a model's copulas, with the columns of ``marginals``.

    ``marginals`` are the rows of the properties' own distributions, by pathway: which properties
    are shared is taken from there. ``correlations`` are :data:`connprops.schema.CORRELATIONS`.
    """
    names = _correlated(statistics)
    n_pathways = len(tables.pathways)
    own = (
        marginals.filter(pl.col("property").is_in(names))
        .unique([*schema.PATHWAY, "property"], keep="first", maintain_order=True)
        .with_columns(tables.pathways.number_of_row.alias("pathway"))
    )
    pairs = _pairs(correlations.with_columns(tables.pathways.number_of_row.alias("pathway")),
                   names, n_pathways)  # fmt: skip
    sampled = (
        statistics.pathways.filter(pl.col("n_sampled") > 0)
        .with_columns(tables.pathways.number_of_row.alias("pathway"))
        .collect()
    )
    pieces = []
    for shared, count in ((True, "n_sampled"), (False, "n_synapses")):
        n_values = np.zeros(n_pathways, dtype=np.int64)
        n_values[sampled["pathway"].to_numpy()] = sampled[count].to_numpy()
        alike = own.filter(pl.col("shared_within") == shared)
        within = np.full((n_pathways, len(names)), np.nan)
        at = alike["pathway"].to_numpy(), _places(alike["property"], names)
        within[at] = alike["within_correlation"].to_numpy()
        allowed = ~np.isnan(within[:, :, None] + within[:, None, :])
        counted = np.where(allowed, pairs if shared else _clustered(pairs, within, tables), np.nan)
        pieces.append(_rows(counted, allowed, n_values, names, tables, shrinkage=shrinkage))
    columns = ("shared_within", "within_correlation", "dtype", "lower_bound", "upper_bound")
    about = own.select(*schema.ROW_KEYS, "pathway", "property", *columns)
    return (
        pl.concat(pieces)
        .cast({"property": about.schema["property"]})
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


def _clustered(pairs: Pairs, within: Floats, tables: StatisticsTables) -> Pairs:
    """Return correlations of synapses as those of both parts that their values have.

    Values of a connection that are alike tell less of correlations; and properties that are alike
    to different degrees have parts that are correlated more than they are.
    """
    r, std_error, n = pairs
    root, rest = np.sqrt(within), np.sqrt(1 - within)
    common = root[:, :, None] * root[:, None, :]
    parts = common + rest[:, :, None] * rest[:, None, :]
    size = np.ones(len(within))
    sizes = tables.synapses_of_connection
    size[sizes["pathway"].to_numpy()] = sizes["size"].to_numpy()
    design = 1 + (size - 1)[:, None, None] * common**2
    latent = np.clip(r / parts, -_STRONGEST, _STRONGEST)
    return np.stack([np.where(parts < 1, latent, r), std_error * np.sqrt(design) / parts, n])


def _rows(
    pairs: Pairs,
    allowed: Bools,
    n_values: Ints,
    names: list[str],
    tables: StatisticsTables,
    *,
    shrinkage: bool,
) -> pl.DataFrame:
    """Return the rows of the properties that are shared, or of those that are not."""
    exists = ~np.isnan(pairs[0])
    fewest = np.where(exists, pairs[2], np.inf).min(axis=(1, 2), initial=np.inf)
    correlated = exists.any(axis=(1, 2))
    enough = np.where(correlated, fewest, n_values) > len(names) + _SPARE
    levels = borrowed_levels(tables.source, tables.target, np.flatnonzero(correlated & enough))
    if shrinkage:
        values, pooled = _moved(pairs[:, levels.observed], levels)
    else:
        values = pairs[:2, levels.observed]
        pooled = _pooled(pairs, levels.observed[levels.member], levels.pool, levels.n_pools)
    pathway, sample, level = _with_borrowers(levels, ~enough)
    r, std_error = (
        np.where(allowed[pathway], np.concatenate([own, lent])[sample], np.nan)
        for own, lent in zip(values, pooled, strict=True)
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
            **dict(
                zip(
                    ("ci_low", "ci_high"),
                    _interval(nearest[of, i, j], std_error[of, i, j]),
                    strict=True,
                )
            ),
            "own_value": pl.repeat(None, of.size, dtype=pl.Float64, eager=True),
            "level": level[of],
        }
    )


def _with_borrowers(levels: Levels, borrows: Bools) -> tuple[Places, Places, Ints]:
    """Return pathways with their own correlations or a pool's, which these are, and their levels.

    Pathways whose own values show no correlation borrow none.
    """
    n, borrower = levels.observed.size, np.flatnonzero(borrows)
    pool = levels.pool_of(borrower)
    borrower, pool = borrower[pool >= 0], pool[pool >= 0]
    return (
        np.concatenate([levels.observed, borrower]),
        np.concatenate([np.arange(n), n + pool]),
        np.concatenate([np.full(n, OBSERVED), levels.level_of_pool[pool]]).astype(np.int8),
    )


def _moved(pairs: Pairs, levels: Levels) -> tuple[Floats, Floats]:
    """Return correlations moved towards their level's, and those of pools, with their errors.

    Pairs of properties of which no pathway, nor all together, shows a correlation have none: each
    (2, n, d, d) and (2, pools, d, d), NaN there.
    """
    r, std_error, n = pairs
    values, pooled = (
        np.full(pairs[:2].shape, np.nan),
        np.full((2, levels.n_pools, *r.shape[1:]), np.nan),
    )
    groups = nested(levels.keys, _CHAIN)
    upper = [(i, j) for i, j in combinations(range(r.shape[1]), 2) if np.isfinite(r[:, i, j]).any()]
    for i, j in upper:
        z, variance = _fisher(r[:, i, j], std_error[:, i, j])
        # The error of r says too little where n is small, and where r happens to be large.
        variance = np.fmax(variance, 1 / np.maximum(n[:, i, j] - 3, 1))
        if not _evident(z, variance, _CLEAR / len(upper)):
            continue
        moved = posterior(z, variance, groups)
        has = np.isfinite(z)
        for into, mean, square in (
            (values, np.where(has, moved.mean, np.nan), moved.variance),
            (pooled, *_of_pools(moved, levels)),
        ):
            into[:, :, i, j] = into[:, :, j, i] = _as_r(mean, square)
    return values, pooled


def _evident(z: Floats, variance: Floats, level: float) -> bool:
    """Return whether numbers normal about 0 would, with the probability ``level``, be so large.

    Either their mean or their squares.
    """
    known = np.isfinite(z) & np.isfinite(variance) & (variance > 0)
    if not known.any():
        return False
    z, weight = z[known], 1 / variance[known]
    of_mean = (weight @ z) ** 2 / weight.sum()
    p = min(special.chdtrc(1, of_mean), special.chdtrc(z.size, weight @ z**2))
    return bool(2 * p < level)


def _as_r(z: Floats, variance: Floats) -> Floats:
    """Return correlations and their standard errors from Fisher's z, (2, n)."""
    r = np.tanh(z)
    return np.stack([r, np.sqrt(variance) * (1 - r**2)])


def _interval(r: Floats, std_error: Floats) -> tuple[pl.Series, pl.Series]:
    """Return the ends of 95 % intervals of correlations, normal for Fisher's z."""
    z, variance = _fisher(r, std_error)
    half = special.ndtri(0.975) * np.sqrt(variance)
    low, high = (pl.Series(np.tanh(z + side * half)).fill_nan(None) for side in (-1, 1))
    return low, high


def _pooled(pairs: Pairs, member: Ints, pool: Ints, n_pools: int) -> Floats:
    """Return the mean Fisher z of each pair over the members of pools, weighed by n, as r."""
    r, std_error, n = pairs[:, member]
    r, n = np.clip(r, -_STRONGEST, _STRONGEST), np.nan_to_num(n)
    total, z, variance = np.zeros((3, n_pools, *r.shape[1:]))
    np.add.at(total, pool, n)
    np.add.at(z, pool, n * np.nan_to_num(np.arctanh(r)))
    np.add.at(variance, pool, (n * np.nan_to_num(std_error / (1 - r**2))) ** 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.tanh(z / total)
        return np.stack([mean, np.sqrt(variance) / total * (1 - mean**2)])
